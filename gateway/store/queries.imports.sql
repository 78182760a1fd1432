-- Importing and exporting devices, in hundreds at a time.

-- ── what rows name: profiles, customers, groups ─────────────────────────────────────────────

-- import_neighbour
SELECT 1 FROM node WHERE seen_at >= ?1 LIMIT 1;

-- import_profiles
SELECT id, name, provision_only FROM device_profile
 WHERE organisation_id = ?1 AND name IN texts(?2);

-- import_default_profile
SELECT id, name FROM device_profile WHERE organisation_id = ?1 AND is_default = 1;

-- import_customers
SELECT id, name FROM organisation
 WHERE parent_id = ?1 AND name IN texts(?2);

-- import_customers_below
SELECT id, name FROM organisation
 WHERE path LIKE ?1 || '_%' AND name IN texts(?2);

-- import_insert_customers
INSERT INTO organisation (id, uuid, parent_id, name, path, created_at)
VALUES (*);

-- import_groups
SELECT id, name FROM device_group
 WHERE organisation_id = ?1 AND name IN texts(?2);

-- import_insert_groups
INSERT INTO device_group (id, uuid, organisation_id, name, created_at)
VALUES (*);

-- ── devices ─────────────────────────────────────────────────────────────────────────────────

-- import_devices
INSERT INTO device
    (id, uuid, organisation_id, profile_id, name, type, gateway, provision_state, created_at,
     customer_id, label, info)
VALUES (*)
ON CONFLICT DO NOTHING;

-- import_named
SELECT d.id, d.name, d.profile_id, d.type, d.gateway, d.customer_id, d.label, d.info,
       d.provision_state, c.type, c.digest, c.sealed
  FROM device d JOIN credentials c ON c.device_id = d.id
 WHERE d.organisation_id = ?1 AND d.name IN texts(?2);

-- import_update_device
UPDATE device
   SET profile_id = ?2, type = ?3, gateway = ?4, customer_id = ?5, label = ?6, info = ?7,
       provision_state = ?8, version = version + 1,
       owner_id = CASE WHEN customer_id = ?5 OR (customer_id IS NULL AND ?5 IS NULL)
                       THEN owner_id END
 WHERE id = ?1;

-- import_attributes
SELECT device_id, scope, key, kind, whole, real, text FROM attribute
 WHERE device_id IN numbers(?1) AND key IN texts(?2);

-- import_memberships
SELECT device_id, group_id FROM device_group_member
 WHERE device_id IN numbers(?1);

-- import_members
INSERT INTO device_group_member (group_id, device_id)
VALUES (*)
ON CONFLICT DO NOTHING;

-- ── jobs ────────────────────────────────────────────────────────────────────────────────────

-- import_job
SELECT id, source, position, tally, rejects_bytes, pending FROM import_job
 WHERE fingerprint = ?1 AND ended_at IS NULL;

-- import_begin
INSERT INTO import_job (id, fingerprint, source, begun_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (fingerprint) DO UPDATE
   SET id = excluded.id, source = excluded.source, begun_at = excluded.begun_at, position = 0,
       tally = '{}', rejects_bytes = 0, pending = '[]', ended_at = NULL;

-- import_move
UPDATE import_job SET position = ?3, tally = ?4, rejects_bytes = ?5, pending = ?6
 WHERE id = ?1 AND position = ?2 AND ended_at IS NULL
RETURNING id;

-- import_end
UPDATE import_job SET ended_at = ?2, pending = '[]' WHERE id = ?1 AND ended_at IS NULL
RETURNING id;

-- import_forget
DELETE FROM import_job WHERE id <= ?1;

-- ── exporting ───────────────────────────────────────────────────────────────────────────────

-- export_devices
SELECT d.id, d.name, p.name, d.label, d.info, d.gateway, d.provision_state, o.name,
       c.type, c.digest, c.sealed
  FROM device d
  JOIN device_profile p ON p.id = d.profile_id
  JOIN credentials c ON c.device_id = d.id
  JOIN organisation own ON own.id = coalesce(d.customer_id, d.organisation_id)
  LEFT JOIN organisation o ON o.id = d.customer_id
 WHERE d.id > ?1 AND own.path LIKE ?3 || '%'
   AND (p.name = ?4 OR CAST(?4 AS text) IS NULL)
   AND (o.name = ?5 OR CAST(?5 AS text) IS NULL)
   AND (CAST(?6 AS text) IS NULL OR d.id IN (SELECT m.device_id FROM device_group_member m
                                 JOIN device_group g ON g.id = m.group_id WHERE g.name = ?6))
 ORDER BY d.id LIMIT ?2;

-- export_keys
SELECT DISTINCT scope, key FROM attribute WHERE scope <> 'CLIENT_SCOPE' LIMIT ?1;

-- export_attributes
SELECT device_id, scope, key, kind, whole, real, text FROM attribute
 WHERE device_id IN numbers(?1) AND scope <> 'CLIENT_SCOPE';

-- export_groups
SELECT m.device_id, g.name
  FROM device_group_member m JOIN device_group g ON g.id = m.group_id
 WHERE m.device_id IN numbers(?1) ORDER BY m.device_id, g.name;
