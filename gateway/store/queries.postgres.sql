-- The statements of queries.sql that PostgreSQL needs in other words, and those it needs besides.

-- take_turn
SELECT last FROM sequence WHERE name = 'device' FOR UPDATE;

-- generations
SELECT device_id, generation FROM credentials
 WHERE device_id IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
   FOR KEY SHARE;

-- attributes_named
SELECT key, kind, whole, real, text FROM attribute
 WHERE device_id = ?1 AND scope = ?2
   AND key IN (SELECT value FROM json_array_elements_text(?3::json) AS listed (value))
 ORDER BY key;

-- has_versions
SELECT count(*) FROM information_schema.tables
 WHERE table_schema = current_schema() AND table_name = 'schema_version';

-- version
SELECT coalesce(max(version), 0) FROM schema_version;

-- insert_version
INSERT INTO schema_version (version) VALUES (?1);

-- server
SELECT current_setting('server_version'), current_setting('fsync'),
       current_setting('synchronous_commit'), pg_is_in_recovery();
