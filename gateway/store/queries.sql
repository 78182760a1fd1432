-- Every statement under the name it is called by. `insert … VALUES` without a list takes many rows.
-- `numbers(?1)` and `texts(?1)` are what a JSON list holds, `digests(?1)` those that one after another
-- fill some bytes, said as each database reads it; what else PostgreSQL has to say in other words stands under the same name in queries.postgres.sql.
-- Children, claims, calls, packages, presence and notices are in queries.fleet.sql, certificates and
-- changes of credentials in queries.certificates.sql.

-- next_ids
UPDATE sequence SET last = last + ?2 WHERE name = ?1 RETURNING last;

-- probe
INSERT INTO sequence (name, last) VALUES ('probe', 1)
ON CONFLICT (name) DO UPDATE SET last = sequence.last + 1;

-- setting
SELECT value FROM setting WHERE name = ?1;

-- insert_setting
INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING;

-- ── tickets and profiles ────────────────────────────────────────────────────────────────────

-- find_fleet_ticket
SELECT t.id, p.revision
  FROM ticket t JOIN device_profile p ON p.id = t.profile_id
 WHERE t.digest = ?1 AND t.kind = 'fleet';

-- fleet_ticket
SELECT t.id, t.sealed_key, t.sealed_secret, t.label, t.created_at, t.not_before, t.expires_at,
       t.max_uses, t.uses, t.networks, t.derived, t.quarantined_since, t.revoked_at, t.last_used_at,
       p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default,
       p.info, p.created_at
  FROM ticket t JOIN device_profile p ON p.id = t.profile_id
 WHERE t.id = ?1;

-- fleet_ticket_of_profile
SELECT id FROM ticket WHERE profile_id = ?1 AND kind = 'fleet' AND label = 'default';

-- profiles
SELECT id, organisation_id, name, settings, revision, uuid, is_default,
       info, created_at
  FROM device_profile ORDER BY name;

-- profile
SELECT id, organisation_id, name, settings, revision, uuid, is_default,
       info, created_at
  FROM device_profile WHERE id = ?1;

-- profile_named
SELECT id, organisation_id, name, settings, revision, uuid, is_default,
       info, created_at
  FROM device_profile WHERE organisation_id = ?1 AND name = ?2;

-- insert_profile
INSERT INTO device_profile
    (id, organisation_id, name, settings, transport, created_at, uuid, info, provision_only)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (organisation_id, name) DO NOTHING
RETURNING id;

-- update_profile
UPDATE device_profile SET settings = ?2, transport = ?3, revision = revision + 1 WHERE id = ?1;

-- touch_profile
UPDATE device_profile SET revision = revision + 1 WHERE id = ?1;

-- remove_profile
-- Not while one of its fleet secrets is in quarantine: its devices may be of other profiles by now.
DELETE FROM device_profile
 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM device WHERE profile_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM ticket
                    WHERE profile_id = ?1 AND quarantined_since IS NOT NULL)
RETURNING id;

-- insert_ticket
INSERT INTO ticket
    (id, kind, organisation_id, profile_id, digest, sealed_key, sealed_secret, created_at)
VALUES (?1, 'fleet', ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (digest) DO NOTHING
RETURNING id;

-- update_ticket
UPDATE ticket
   SET digest = coalesce(?2, digest), sealed_key = coalesce(?3, sealed_key),
       sealed_secret = coalesce(?4, sealed_secret)
 WHERE profile_id = ?1 AND kind = 'fleet' AND label = 'default'
   AND NOT EXISTS (SELECT 1 FROM ticket other WHERE other.digest = ?2 AND other.id <> ticket.id)
RETURNING id;

-- ── devices ─────────────────────────────────────────────────────────────────────────────────

-- insert_devices
INSERT INTO device
    (id, uuid, organisation_id, profile_id, name, type, gateway, provision_state, created_at,
     customer_id, creator_id, ticket_id, expires_at)
VALUES (*)
ON CONFLICT DO NOTHING;

-- devices_after
SELECT id FROM device WHERE id > ?1;

-- insert_credentials
INSERT INTO credentials (device_id, generation, type, digest, sealed, created_at)
VALUES (*)
ON CONFLICT DO NOTHING;

-- credentials_after
SELECT device_id FROM credentials WHERE device_id > ?1;

-- delete_device
DELETE FROM device WHERE id = ?1 RETURNING name;

-- claim_device
-- With the digest of fresh credentials, or NULL for those it has, unless they were revoked. One that
-- is suspended stays so: whoever has its credentials came with a secret that is in quarantine. Its
-- time (burn-in) begins the first time alone: one that somebody keeps stays, however often it comes.
UPDATE device SET provision_state = 'provisioned', ticket_id = ?5, provisioned_at = ?6,
       expires_at = CASE WHEN ticket_id IS NULL AND provisioned_at IS NULL
                         THEN coalesce(?7, expires_at) ELSE expires_at END
 WHERE organisation_id = ?1 AND profile_id = ?2 AND name = ?3 AND provision_state IS NULL
   AND NOT EXISTS (SELECT 1 FROM credentials other
                    WHERE other.digest = ?4 AND other.device_id <> device.id)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other
                    WHERE other.digest = ?4 AND other.device_id <> device.id)
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = device.ticket_id
                      AND t.quarantined_since <= coalesce(device.provisioned_at,
                                                          device.created_at))
   AND (?4 IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM credentials own
                        WHERE own.device_id = device.id AND own.type = 'REVOKED'))
RETURNING id;

-- device_named
SELECT id, profile_id, provision_state FROM device WHERE organisation_id = ?1 AND name = ?2;

-- rearm_device
UPDATE device SET provision_state = NULL WHERE id = ?1 RETURNING name;

-- known_by_digest
-- Whether its provisioning may still be repeated, with these credentials, comes last. Not of one
-- that is suspended.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, c.type, c.digest, c.sealed, r.until
  FROM credentials c
  JOIN device d ON d.id = c.device_id
  JOIN device_profile p ON p.id = d.profile_id
  LEFT JOIN retry_window r
    ON r.device_id = d.id AND r.closed = 0
   AND NOT EXISTS (SELECT 1 FROM pending_credentials x WHERE x.device_id = r.device_id)
 WHERE c.digest = ?1
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = d.ticket_id
                      AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at));

-- known_by_id
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, c.type, c.digest, c.sealed
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.id = ?1
 ORDER BY c.generation DESC LIMIT 1;

-- is_suspended
SELECT 1 FROM device d JOIN ticket t ON t.id = d.ticket_id
 WHERE d.id = ?1 AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at);

-- device_id_named
SELECT id FROM device WHERE name = ?1 OR uuid = ?2
 ORDER BY uuid = ?2 DESC, organisation_id LIMIT 1;

-- devices
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.name, c.type
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.id > ?1
   AND (?3 = '' OR replace(lower(d.name), lower(?3), '') <> lower(d.name))
 ORDER BY d.id LIMIT ?2;

-- devices_of_profile
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.name, c.type
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.profile_id = ?4 AND d.id > ?1
   AND (?3 = '' OR replace(lower(d.name), lower(?3), '') <> lower(d.name))
 ORDER BY d.id LIMIT ?2;

-- devices_online
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.name, c.type
  FROM presence r
  JOIN node n ON n.number = r.node
  JOIN device d ON d.id = r.device_id
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE r.online = 1 AND r.device_id > ?1 AND n.seen_at >= ?5
   AND (d.profile_id = ?4 OR ?4 IS NULL)
   AND (?3 = '' OR replace(lower(d.name), lower(?3), '') <> lower(d.name))
 ORDER BY r.device_id LIMIT ?2;

-- count_devices
SELECT count(*) FROM device;

-- devices_per_profile
SELECT profile_id, count(*) FROM device GROUP BY profile_id;

-- profile_of_device
SELECT profile_id FROM device WHERE id = ?1;

-- device_state
SELECT profile_id, provision_state, created_at FROM device WHERE id = ?1;

-- living
SELECT id FROM device WHERE id IN numbers(?1);

-- set_provision_state
UPDATE device SET provision_state = ?2 WHERE id = ?1;

-- clear_provision_state
UPDATE device SET provision_state = NULL WHERE id = ?1 AND provision_state IS NOT NULL
RETURNING id;

-- set_provision_state_of_profile
UPDATE device SET provision_state = ?2 WHERE profile_id = ?1;

-- count_devices_of_profile
SELECT count(*) FROM device WHERE profile_id = ?1;

-- delete_credentials
DELETE FROM credentials WHERE device_id = ?1;

-- delete_attributes
DELETE FROM attribute WHERE device_id = ?1;

-- delete_latest
DELETE FROM latest_reading WHERE device_id = ?1;

-- forget_device_readings
DELETE FROM reading
 WHERE device_id = ?1
   AND (key, ts) IN (SELECT key, ts FROM reading WHERE device_id = ?1 LIMIT ?2)
RETURNING 1;

-- ── readings and attributes ─────────────────────────────────────────────────────────────────

-- generations
SELECT device_id, generation FROM credentials
 WHERE device_id IN numbers(?1);

-- insert_readings
INSERT INTO reading (device_id, key, ts, kind, whole, real, text)
VALUES (*)
ON CONFLICT (device_id, key, ts) DO UPDATE
   SET kind = excluded.kind, whole = excluded.whole, real = excluded.real, text = excluded.text;

-- insert_latest
INSERT INTO latest_reading (device_id, key, ts, kind, whole, real, text)
VALUES (*)
ON CONFLICT (device_id, key) DO UPDATE
   SET ts = excluded.ts, kind = excluded.kind, whole = excluded.whole,
       real = excluded.real, text = excluded.text
 WHERE excluded.ts >= latest_reading.ts;

-- insert_attributes
INSERT INTO attribute (device_id, scope, key, kind, whole, real, text, updated_at)
VALUES (*)
ON CONFLICT (device_id, scope, key) DO UPDATE
   SET kind = excluded.kind, whole = excluded.whole, real = excluded.real,
       text = excluded.text, updated_at = excluded.updated_at;

-- is_good_login
SELECT 1 FROM credentials WHERE device_id = ?1 AND generation = ?2;

-- attributes
SELECT key, kind, whole, real, text FROM attribute
 WHERE device_id = ?1 AND scope = ?2 ORDER BY key LIMIT ?3;

-- attributes_named
SELECT key, kind, whole, real, text FROM attribute
 WHERE device_id = ?1 AND scope = ?2 AND key IN texts(?3) ORDER BY key;

-- device_attributes
SELECT scope, key, updated_at, kind, whole, real, text FROM attribute
 WHERE device_id = ?1 ORDER BY scope, key LIMIT ?2;

-- delete_attributes_named
DELETE FROM attribute
 WHERE device_id = ?1 AND scope = ?2 AND key IN texts(?3)
RETURNING key;

-- set_attribute_of_profile
INSERT INTO attribute (device_id, scope, key, kind, whole, real, text, updated_at)
SELECT d.id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM device d WHERE d.profile_id = ?1
ON CONFLICT (device_id, scope, key) DO UPDATE
   SET kind = excluded.kind, whole = excluded.whole, real = excluded.real,
       text = excluded.text, updated_at = excluded.updated_at;

-- delete_attribute_of_profile
DELETE FROM attribute
 WHERE scope = ?2 AND key = ?3 AND device_id IN (SELECT id FROM device WHERE profile_id = ?1);

-- latest
SELECT ts, key, kind, whole, real, text FROM latest_reading WHERE device_id = ?1 ORDER BY key;

-- forget_latest_of
DELETE FROM latest_reading WHERE device_id = ?1 AND key IN texts(?2);

-- latest_of_keys
SELECT ts, key, kind, whole, real, text FROM latest_reading
 WHERE device_id = ?1 AND key IN texts(?2) ORDER BY key;

-- readings
SELECT ts, key, kind, whole, real, text FROM reading
 WHERE device_id = ?1 AND key = ?2 AND ts >= ?3 AND ts < ?4 ORDER BY ts DESC LIMIT ?5;

-- reading_intervals
-- Sums of whole numbers come as two halves, which cannot overflow.
SELECT (ts - ?3) / ?5 AS nth, count(*),
       count(CASE WHEN kind = 1 THEN 1 END), count(CASE WHEN kind = 2 THEN 1 END),
       min(CASE WHEN kind = 1 THEN whole END), max(CASE WHEN kind = 1 THEN whole END),
       sum(CASE WHEN kind = 1 THEN whole / 4294967296 END),
       sum(CASE WHEN kind = 1 THEN whole % 4294967296 END),
       min(CASE WHEN kind = 2 THEN real END), max(CASE WHEN kind = 2 THEN real END),
       sum(CASE WHEN kind = 2 THEN real END)
  FROM reading
 WHERE device_id = ?1 AND key = ?2 AND ts >= ?3 AND ts < ?4
 GROUP BY (ts - ?3) / ?5
HAVING ?6 = 0 OR count(CASE WHEN kind IN (1, 2) THEN 1 END) > 0
 ORDER BY nth DESC LIMIT ?7;

-- keys
SELECT key FROM latest_reading WHERE device_id = ?1 ORDER BY key;

-- series_after
SELECT l.device_id, l.key, d.profile_id
  FROM latest_reading l LEFT JOIN device d ON d.id = l.device_id
 WHERE (l.device_id, l.key) > (?1, ?2) ORDER BY l.device_id, l.key LIMIT ?3;

-- forget_readings
DELETE FROM reading
 WHERE device_id = ?1 AND key = ?2
   AND ts IN (SELECT ts FROM reading WHERE device_id = ?1 AND key = ?2 AND ts < ?3
               ORDER BY ts LIMIT ?4)
RETURNING 1;

-- forget_orphans
DELETE FROM latest_reading
 WHERE device_id = ?1 AND key = ?2 AND NOT EXISTS (SELECT 1 FROM device WHERE id = ?1)
   AND NOT EXISTS (SELECT 1 FROM reading WHERE device_id = ?1 AND key = ?2);
