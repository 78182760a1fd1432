-- The statements of queries.sql, continued: logins that change, certificates and their authorities.

-- ── credentials that change, and those not used yet ─────────────────────────────────────────

-- replace_credentials
UPDATE credentials
   SET generation = generation + 1, type = ?2, digest = ?3, sealed = ?4, created_at = ?5
 WHERE device_id = ?1
   AND NOT EXISTS (SELECT 1 FROM credentials other WHERE other.digest = ?3
                                                     AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other WHERE other.digest = ?3
                                                             AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM ticket t WHERE t.digest = ?3 AND t.kind <> 'fleet')
RETURNING generation;

-- enter_by_chain
UPDATE credentials
   SET generation = generation + 1, digest = ?4, sealed = ?5, created_at = ?6
 WHERE device_id = (SELECT id FROM device
                     WHERE organisation_id = ?1 AND profile_id = ?2 AND name = ?3)
   AND type = 'X509_CERTIFICATE' AND digest <> ?4
   AND NOT EXISTS (SELECT 1 FROM credentials other WHERE other.digest = ?4)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other
                    WHERE other.digest = ?4 AND other.device_id <> credentials.device_id)
RETURNING device_id, generation;

-- revoke_credentials
UPDATE credentials
   SET generation = generation + 1, type = ?2, digest = ?3, sealed = ?4, created_at = ?5
 WHERE device_id = ?1 AND type <> 'REVOKED' AND (digest = ?6 OR ?6 IS NULL)
RETURNING generation;

-- insert_pending
INSERT INTO pending_credentials (device_id, type, digest, sealed, created_at)
SELECT c.device_id, ?2, ?3, ?4, ?5 FROM credentials c
 WHERE c.device_id = ?1
   AND NOT EXISTS (SELECT 1 FROM credentials other WHERE other.digest = ?3
                                                     AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other WHERE other.digest = ?3
                                                             AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM ticket t WHERE t.digest = ?3 AND t.kind <> 'fleet')
ON CONFLICT (device_id) DO UPDATE
   SET type = excluded.type, digest = excluded.digest, sealed = excluded.sealed,
       created_at = excluded.created_at
RETURNING device_id;

-- take_pending
DELETE FROM pending_credentials WHERE device_id = ?1 AND digest = ?2
RETURNING type, digest, sealed;

-- delete_pending
DELETE FROM pending_credentials WHERE device_id = ?1 RETURNING device_id;

-- delete_pending_with
DELETE FROM pending_credentials WHERE device_id = ?1 AND digest = ?2;

-- pending_of_device
SELECT type, digest, sealed FROM pending_credentials WHERE device_id = ?1;

-- pending_by_digest
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, x.type, x.digest, x.sealed
  FROM pending_credentials x
  JOIN device d ON d.id = x.device_id
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE x.digest = ?1
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = d.ticket_id
                      AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at));

-- credentials_pending_elsewhere
SELECT c.device_id FROM credentials c
 WHERE c.device_id > ?1
   AND (EXISTS (SELECT 1 FROM pending_credentials x WHERE x.digest = c.digest)
        OR EXISTS (SELECT 1 FROM ticket t WHERE t.digest = c.digest AND t.kind <> 'fleet'));

-- ── certificates ────────────────────────────────────────────────────────────────────────────

-- hold_keys
INSERT INTO certified_key (digest, organisation_id, name, holds)
VALUES (*)
ON CONFLICT (digest) DO UPDATE SET holds = certified_key.holds + excluded.holds
 WHERE certified_key.organisation_id = excluded.organisation_id
   AND certified_key.name = excluded.name;

-- key_owner
SELECT organisation_id, name FROM certified_key WHERE digest = ?1;

-- release_key
UPDATE certified_key SET holds = holds - ?2 WHERE digest = ?1;

-- delete_key
DELETE FROM certified_key WHERE digest = ?1 AND holds <= 0;

-- insert_reservations
INSERT INTO certificate
    (serial, authority_id, state, organisation_id, name, key_digest, created_at, not_after)
VALUES (*);

-- delete_reservation
DELETE FROM certificate WHERE serial = ?1 AND state = 'reserved' RETURNING key_digest;

-- insert_issued
-- The reservation is there; what was signed without one is written down all the same.
INSERT INTO certificate
    (serial, authority_id, state, organisation_id, name, device_id, digest, created_at, not_after)
VALUES (*)
ON CONFLICT (serial) DO UPDATE
   SET state = 'issued', device_id = excluded.device_id, digest = excluded.digest,
       not_after = excluded.not_after
 WHERE certificate.state = 'reserved';

-- end_certificates
UPDATE certificate SET state = 'revoked', revoked_at = ?2, reason = ?3
 WHERE device_id = ?1 AND state = 'issued'
   AND NOT EXISTS (SELECT 1 FROM credentials c
                    WHERE c.device_id = ?1 AND c.digest = certificate.digest)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials x
                    WHERE x.device_id = ?1 AND x.digest = certificate.digest)
RETURNING serial;

-- revoke_certificate
UPDATE certificate SET state = 'revoked', revoked_at = ?2, reason = ?3
 WHERE serial = ?1 AND state = 'issued'
RETURNING authority_id, device_id, name, created_at, not_after, digest;

-- serial_of_login
SELECT serial FROM certificate WHERE device_id = ?1 AND digest = ?2 AND state = 'issued';

-- keys_of_device
SELECT key_digest, count(*) FROM certificate
 WHERE device_id = ?1 AND key_digest IS NOT NULL AND (state <> 'revoked' OR reason <> ?2)
 GROUP BY key_digest;

-- give_back_keys
UPDATE certificate SET key_digest = NULL
 WHERE device_id = ?1 AND key_digest IS NOT NULL AND (state <> 'revoked' OR reason <> ?2);

-- ban_keys
-- No device has no name, so that from now on they are nobody's.
UPDATE certified_key SET organisation_id = 0, name = ''
 WHERE digest IN (SELECT key_digest FROM certificate
                   WHERE device_id = ?1 AND state = 'revoked' AND reason = ?2);

-- certificate
SELECT serial, authority_id, state, device_id, name, created_at, not_after, revoked_at, reason
  FROM certificate WHERE serial = ?1;

-- certificates
SELECT serial, authority_id, state, device_id, name, created_at, not_after, revoked_at, reason
  FROM certificate WHERE state <> 'reserved' ORDER BY created_at DESC, serial LIMIT ?1;

-- certificates_of_device
SELECT serial, authority_id, state, device_id, name, created_at, not_after, revoked_at, reason
  FROM certificate WHERE device_id = ?2 AND state <> 'reserved'
 ORDER BY created_at DESC, serial LIMIT ?1;

-- certificates_since
SELECT count(*) FROM certificate WHERE device_id = ?1 AND created_at > ?2;

-- revoked_certificates
SELECT serial, authority_id, state, device_id, name, created_at, not_after, revoked_at, reason
  FROM certificate WHERE state = 'revoked' AND not_after >= ?2 AND authority_id = ?1;

-- forget_reservations
DELETE FROM certificate
 WHERE serial IN (SELECT serial FROM certificate
                   WHERE state = 'reserved' AND not_after < ?1 LIMIT ?2)
RETURNING key_digest;

-- forget_issued
DELETE FROM certificate
 WHERE serial IN (SELECT serial FROM certificate
                   WHERE state = 'issued' AND not_after < ?1 LIMIT ?2)
RETURNING key_digest;

-- forget_revoked
DELETE FROM certificate
 WHERE serial IN (SELECT serial FROM certificate
                   WHERE state = 'revoked' AND not_after < ?1 LIMIT ?2)
RETURNING key_digest;

-- ── authorities, and the profiles that trust others ─────────────────────────────────────────

-- insert_authority
INSERT INTO authority (id, role, certificate, sealed_key, active, created_at)
VALUES (?1, ?2, ?3, ?4, 1, ?5)
ON CONFLICT DO NOTHING
RETURNING id;

-- retire_authority
UPDATE authority SET active = 0 WHERE role = ?1 AND active = 1;

-- authorities
SELECT id, role, certificate, sealed_key, active, created_at FROM authority ORDER BY id DESC;

-- next_crl_number
INSERT INTO sequence (name, last) VALUES (?1, 1)
ON CONFLICT (name) DO UPDATE SET last = sequence.last + 1
RETURNING last;

-- chain_profiles
SELECT id, organisation_id, name, settings, revision, uuid, is_default,
       info, created_at
  FROM device_profile
 WHERE settings LIKE '%"X509_CERTIFICATE_CHAIN"%' ORDER BY name;
