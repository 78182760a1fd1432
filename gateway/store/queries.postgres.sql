-- The statements of queries.sql that PostgreSQL needs in other words, and those it needs besides.

-- take_turn
SELECT last FROM sequence WHERE name = 'device' FOR UPDATE;

-- generations
SELECT device_id, generation FROM credentials
 WHERE device_id IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
   FOR KEY SHARE;

-- living
SELECT id FROM device
 WHERE id IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
   FOR KEY SHARE;

-- presence
SELECT r.device_id, r.online, n.seen_at, r.connected_at, r.disconnected_at, r.active_at, r.wire,
       r.address, r.gateway_id
  FROM presence r LEFT JOIN node n ON n.number = r.node
 WHERE r.device_id IN
       (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value));

-- children_named
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, p.settings
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.organisation_id = ?1
   AND d.name IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- delete_attributes_named
DELETE FROM attribute
 WHERE device_id = ?1 AND scope = ?2
   AND key IN (SELECT value FROM json_array_elements_text(?3::json) AS listed (value))
RETURNING key;

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
