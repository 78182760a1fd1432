-- Tickets of single devices.

-- find_ticket
SELECT t.id, t.kind, t.organisation_id, t.device_id, o.path, t.owner_id, t.profile_id, t.issuer,
       t.created_at, t.expires_at
  FROM ticket t JOIN organisation o ON o.id = t.organisation_id
 WHERE t.digest = ?1 AND t.kind <> 'fleet';

-- find_token
-- The columns of `known_by_digest` but for three before the last, else those of `find_ticket`, and
-- the last: what it is of at one moment.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, r.until
  FROM credentials c
  JOIN device d ON d.id = c.device_id
  JOIN device_profile p ON p.id = d.profile_id
  LEFT JOIN retry_window r
    ON r.device_id = d.id AND r.closed = 0
   AND NOT EXISTS (SELECT 1 FROM pending_credentials x WHERE x.device_id = r.device_id)
 WHERE c.digest = ?1 AND c.type = 'ACCESS_TOKEN'
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = d.ticket_id
                      AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at))
 UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       t.id, t.kind, t.organisation_id, t.device_id, o.path, t.owner_id, t.profile_id, t.issuer,
       t.created_at, t.expires_at, NULL
  FROM ticket t JOIN organisation o ON o.id = t.organisation_id
 WHERE t.digest = ?1 AND t.kind <> 'fleet';

-- insert_tickets
INSERT INTO ticket
    (id, kind, organisation_id, profile_id, device_id, owner_id, digest, sealed_key, expires_at,
     created_at, issuer)
VALUES (*);

-- living_organisations
SELECT id FROM organisation WHERE id IN numbers(?1);

-- living_users
SELECT id FROM user_account WHERE id IN numbers(?1);

-- take_tickets
-- Those of devices that are not born yet, and may be of this profile, less those whose token is
-- another device's. Whoever deletes one gives birth to its device.
DELETE FROM ticket
 WHERE digest IN digests(?1) AND kind = 'single' AND coalesce(expires_at, 9223372036854775807) > ?2
   AND coalesce(profile_id, ?3) = ?3
   AND NOT EXISTS (SELECT 1 FROM credentials other WHERE other.digest = ticket.digest)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other WHERE other.digest = ticket.digest)
RETURNING id, organisation_id, owner_id, device_id, digest, sealed_key;

-- take_rotation
-- Of a device that is still of that profile, and not suspended.
DELETE FROM ticket
 WHERE id = ?1 AND kind = 'rotate' AND (expires_at IS NULL OR expires_at > ?2)
   AND EXISTS (SELECT 1 FROM device d
                WHERE d.id = ticket.device_id AND d.profile_id = ?3
                  AND NOT EXISTS (SELECT 1 FROM ticket t
                                   WHERE t.id = d.ticket_id
                                     AND t.quarantined_since <= coalesce(d.provisioned_at,
                                                                         d.created_at)))
RETURNING device_id, digest, sealed_key;

-- waits_no_more
UPDATE device SET provision_state = 'provisioned' WHERE id = ?1 AND provision_state IS NULL;

-- living_profiles
SELECT id FROM device_profile WHERE id IN numbers(?1);

-- insert_reserved_devices
INSERT INTO device
    (id, uuid, organisation_id, profile_id, name, type, gateway, provision_state, created_at,
     customer_id, creator_id, owner_id)
VALUES (*)
ON CONFLICT DO NOTHING;

-- revoke_ticket
DELETE FROM ticket WHERE id = ?1 AND kind <> 'fleet' RETURNING device_id;

-- revoke_rotations
DELETE FROM ticket WHERE device_id = ?1 AND kind = 'rotate' RETURNING id;

-- expire_tickets
DELETE FROM ticket
 WHERE id IN (SELECT id FROM ticket WHERE expires_at <= ?1 AND kind <> 'fleet'
               ORDER BY expires_at LIMIT ?2)
RETURNING id, device_id, kind;

-- count_tickets
-- Less those of static tokens, which wait for as long as it takes.
SELECT count(*) FROM ticket
 WHERE organisation_id = ?1 AND kind <> 'fleet' AND coalesce(profile_id, 0) = 0;

-- waiting_tickets
-- In the order they were issued; of one device, or of all. Less those of static tokens.
SELECT t.id, t.kind, t.organisation_id, t.device_id, o.path, t.owner_id, t.profile_id, t.issuer,
       t.created_at, t.expires_at, o.name, u.email, d.name
  FROM ticket t
  JOIN organisation o ON o.id = t.organisation_id
  LEFT JOIN user_account u ON u.id = t.owner_id
  LEFT JOIN device d ON d.id = t.device_id
 WHERE t.kind <> 'fleet' AND t.profile_id IS NULL AND o.path LIKE ?1 AND t.id > ?2
   AND (?4 = 0 OR t.device_id = ?4)
 ORDER BY t.id LIMIT ?3;

-- waiting_ticket
SELECT t.id, t.kind, t.organisation_id, t.device_id, o.path, t.owner_id, t.profile_id, t.issuer,
       t.created_at, t.expires_at, o.name, u.email, d.name
  FROM ticket t
  JOIN organisation o ON o.id = t.organisation_id
  LEFT JOIN user_account u ON u.id = t.owner_id
  LEFT JOIN device d ON d.id = t.device_id
 WHERE t.id = ?1 AND t.kind <> 'fleet' AND t.profile_id IS NULL AND o.path LIKE ?2;

-- revoke_tickets_of_organisation
DELETE FROM ticket WHERE organisation_id = ?1 AND kind <> 'fleet' RETURNING id, device_id;
