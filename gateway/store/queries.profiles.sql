-- Device profiles as people list and change them, and what becomes of devices whose profile says more
-- of them than that they are born. `path` is that of the organisation at or below which things are.

-- profile_page
-- ?4: of that transport, or "" for all; ?5: 1 for those with devices alone.
SELECT p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default, p.info,
       p.created_at
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE o.path LIKE ?1 || '%' AND p.provision_only = ?2
   AND (?3 = '' OR replace(lower(p.name), lower(?3), '') <> lower(p.name))
   AND (?4 = '' OR p.transport = ?4)
   AND (?5 = 0 OR EXISTS (SELECT 1 FROM device d WHERE d.profile_id = p.id))
 ORDER BY CASE ?6 WHEN 'name' THEN lower(p.name) WHEN 'transport' THEN p.transport ELSE '' END, p.id
 LIMIT ?7 OFFSET ?8;

-- profile_page_descending
SELECT p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default, p.info,
       p.created_at
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE o.path LIKE ?1 || '%' AND p.provision_only = ?2
   AND (?3 = '' OR replace(lower(p.name), lower(?3), '') <> lower(p.name))
   AND (?4 = '' OR p.transport = ?4)
   AND (?5 = 0 OR EXISTS (SELECT 1 FROM device d WHERE d.profile_id = p.id))
 ORDER BY CASE ?6 WHEN 'name' THEN lower(p.name) WHEN 'transport' THEN p.transport ELSE '' END DESC,
          p.id DESC
 LIMIT ?7 OFFSET ?8;

-- count_profiles
SELECT count(*)
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE o.path LIKE ?1 || '%' AND p.provision_only = ?2
   AND (?3 = '' OR replace(lower(p.name), lower(?3), '') <> lower(p.name))
   AND (?4 = '' OR p.transport = ?4)
   AND (?5 = 0 OR EXISTS (SELECT 1 FROM device d WHERE d.profile_id = p.id));

-- profile_at
SELECT p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default, p.info,
       p.created_at
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE p.uuid = ?1 AND o.path LIKE ?2 || '%';

-- profile_numbered
SELECT p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default, p.info,
       p.created_at
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE p.id = ?1 AND o.path LIKE ?2 || '%';

-- profile_serves
-- An empty path is nowhere, and no person has the number NULL.
SELECT 1 FROM device_profile p
 WHERE p.uuid = ?1
   AND (EXISTS (SELECT 1 FROM organisation o JOIN device d ON d.customer_id = o.id
                 WHERE ?2 <> '' AND o.path LIKE ?2 || '%' AND d.profile_id = p.id)
        OR EXISTS (SELECT 1 FROM organisation o JOIN device d ON d.organisation_id = o.id
                    WHERE ?2 <> '' AND o.path LIKE ?2 || '%' AND d.profile_id = p.id
                      AND d.customer_id IS NULL)
        OR EXISTS (SELECT 1 FROM device d WHERE d.owner_id = ?3 AND d.profile_id = p.id));

-- change_profile
-- With another revision than ?6, or a name that is another's, nothing is changed.
UPDATE device_profile
   SET name = ?2, settings = ?3, transport = ?4, info = ?5, revision = revision + 1
 WHERE id = ?1 AND (revision = ?6 OR ?6 = 0)
   AND NOT EXISTS (SELECT 1 FROM device_profile other
                    WHERE other.organisation_id = device_profile.organisation_id
                      AND other.name = ?2 AND other.id <> ?1)
RETURNING id;

-- default_profile
SELECT id FROM device_profile WHERE organisation_id = ?1 AND is_default = 1;

-- unset_default_profile
UPDATE device_profile SET is_default = 0, revision = revision + 1
 WHERE is_default = 1 AND id <> ?1
   AND organisation_id = (SELECT organisation_id FROM device_profile WHERE id = ?1);

-- set_default_profile
UPDATE device_profile SET is_default = 1, revision = revision + 1
 WHERE id = ?1 AND provision_only = 0
RETURNING id;

-- retype_devices
UPDATE device SET type = ?2
 WHERE id IN (SELECT id FROM device WHERE profile_id = ?1 AND id > ?3 ORDER BY id LIMIT ?4)
RETURNING id;

-- ── devices that are born into more than a profile ──────────────────────────────────────────

-- organisation_lives
SELECT id, name FROM organisation WHERE id = ?1;

-- claim_any_device
-- As `claim_device`, of whichever profile where that (?2) is NULL. With a customer (?4) the device
-- must be theirs or nobody's, and is theirs then.
UPDATE device SET provision_state = 'provisioned', customer_id = coalesce(?4, customer_id),
       ticket_id = ?6, provisioned_at = ?7, expires_at = coalesce(?8, expires_at)
 WHERE organisation_id = ?1 AND (profile_id = ?2 OR ?2 IS NULL) AND name = ?3
   AND provision_state IS NULL
   AND (customer_id = ?4 OR customer_id IS NULL OR ?4 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM credentials other
                    WHERE other.digest = ?5 AND other.device_id <> device.id)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other
                    WHERE other.digest = ?5 AND other.device_id <> device.id)
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = device.ticket_id
                      AND t.quarantined_since <= coalesce(device.provisioned_at,
                                                          device.created_at))
   AND (?5 IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM credentials own
                        WHERE own.device_id = device.id AND own.type = 'REVOKED'))
RETURNING id;

-- device_group_named
SELECT id FROM device_group WHERE organisation_id = ?1 AND name = ?2;

-- insert_device_group
INSERT INTO device_group (id, uuid, organisation_id, name, created_at)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (organisation_id, name) DO NOTHING
RETURNING id;

-- insert_group_members
INSERT INTO device_group_member (group_id, device_id)
VALUES (*)
ON CONFLICT DO NOTHING;
