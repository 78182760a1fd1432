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

-- device_records
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, p.name, p.uuid, c.type, d.label, d.info, d.version, d.owner_id, o.uuid, o.name,
       o.path
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
  JOIN organisation o ON o.id = coalesce(d.customer_id, d.organisation_id)
 WHERE d.id IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value));

-- profiles_with_text
SELECT id FROM device_profile WHERE name ILIKE ?1 ESCAPE '\' LIMIT ?2;

-- ── importing and exporting ─────────────────────────────────────────────────────────────────

-- import_profiles
SELECT id, name, provision_only FROM device_profile
 WHERE organisation_id = ?1 AND name
       IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_customers
SELECT id, name FROM organisation
 WHERE parent_id = ?1 AND name
       IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_customers_below
SELECT id, name FROM organisation
 WHERE path LIKE ?1 || '_%' AND name
       IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_groups
SELECT id, name FROM device_group
 WHERE organisation_id = ?1 AND name
       IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_named
SELECT d.id, d.name, d.profile_id, d.type, d.gateway, d.customer_id, d.label, d.info,
       d.provision_state, c.type, c.digest, c.sealed
  FROM device d JOIN credentials c ON c.device_id = d.id
 WHERE d.organisation_id = ?1 AND d.name
       IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_attributes
SELECT device_id, scope, key, kind, whole, real, text FROM attribute
 WHERE device_id
       IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
   AND key IN (SELECT value FROM json_array_elements_text(?2::json) AS listed (value));

-- import_memberships
SELECT device_id, group_id FROM device_group_member
 WHERE device_id
       IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value));

-- export_attributes
SELECT device_id, scope, key, kind, whole, real, text FROM attribute
 WHERE device_id
       IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
   AND scope <> 'CLIENT_SCOPE';

-- export_groups
SELECT m.device_id, g.name
  FROM device_group_member m JOIN device_group g ON g.id = m.group_id
 WHERE m.device_id
       IN (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value))
 ORDER BY m.device_id, g.name;

-- export_devices
SELECT d.id, d.name, p.name, d.label, d.info, d.gateway, d.provision_state, o.name,
       c.type, c.digest, c.sealed
  FROM device d
  JOIN device_profile p ON p.id = d.profile_id
  JOIN credentials c ON c.device_id = d.id
  JOIN organisation own ON own.id = coalesce(d.customer_id, d.organisation_id)
  LEFT JOIN organisation o ON o.id = d.customer_id
 WHERE d.id > ?1 AND own.path LIKE ?3 || '%'
   AND (p.name = ?4::text OR ?4::text IS NULL)
   AND (o.name = ?5::text OR ?5::text IS NULL)
   AND (?6::text IS NULL OR d.id IN (SELECT m.device_id FROM device_group_member m
                                 JOIN device_group g ON g.id = m.group_id WHERE g.name = ?6::text))
 ORDER BY d.id LIMIT ?2;

-- index_again
-- There is no index of texts here.
SELECT 1 WHERE ?1::text IS NULL;

-- devices_of_profiles
SELECT id FROM device
 WHERE profile_id IN
       (SELECT value::bigint FROM json_array_elements_text(?1::json) AS listed (value)) LIMIT ?2;
