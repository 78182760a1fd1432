-- The statements of queries.sql that PostgreSQL needs in other words, and those it needs besides.

-- take_turn
SELECT last FROM sequence WHERE name = 'device' FOR UPDATE;

-- generations
SELECT device_id, generation FROM credentials
 WHERE device_id IN numbers(?1) FOR KEY SHARE;

-- living
SELECT id FROM device WHERE id IN numbers(?1) FOR KEY SHARE;

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

-- profiles_with_text
SELECT id FROM device_profile WHERE name ILIKE ?1 ESCAPE '\' LIMIT ?2;

-- index_again
-- There is no index of texts here.
SELECT 1 WHERE ?1::text IS NULL;

-- allowed_names
SELECT json_agg(value)::text FROM admission_entry
 WHERE profile_id = ?1 AND denied = 0 AND kind = 'name' AND value IN texts(?2);
