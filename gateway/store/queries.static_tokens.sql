-- Pairs of static tokens. The ticket that waits for the device of one has its number, and a profile.

-- insert_static_tokens
INSERT INTO static_token
    (id, organisation_id, profile_id, device_id, claim_digest, sealed_claim, digest, sealed,
     created_at)
VALUES (*);

-- has_organisation_and_profile
SELECT o.path FROM organisation o, device_profile p WHERE o.id = ?1 AND p.id = ?2;

-- claim_static_token
-- Unless its device was given away by other ways.
UPDATE static_token SET holder_id = ?2, owner_id = ?3, claimed_at = ?4
 WHERE claim_digest = ?1 AND claimed_at IS NULL
   AND EXISTS (SELECT 1 FROM organisation o WHERE o.id = ?2)
   AND (EXISTS (SELECT 1 FROM user_account u WHERE u.id = ?3) OR ?3 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM device d
                    WHERE d.id = static_token.device_id
                      AND coalesce(d.customer_id, d.organisation_id)
                          <> static_token.organisation_id)
RETURNING id, organisation_id, profile_id, device_id, holder_id, owner_id, claimed_at, created_at;

-- static_token_by_claim
SELECT id, organisation_id, profile_id, device_id, holder_id, owner_id, claimed_at, created_at
  FROM static_token WHERE claim_digest = ?1;

-- unclaim_static_token
-- As it was seen: of that holder, since that moment.
UPDATE static_token SET holder_id = NULL, owner_id = NULL, claimed_at = NULL
 WHERE id = ?1 AND holder_id = ?2 AND claimed_at = ?3
RETURNING device_id;

-- give_device_of_pair
-- From the organisation ?2 to ?3, and that person; unless it is elsewhere.
UPDATE device
   SET customer_id = CASE WHEN organisation_id = ?3 THEN NULL ELSE ?3 END, owner_id = ?4,
       version = version + 1
 WHERE id = ?1 AND coalesce(customer_id, organisation_id) = ?2
RETURNING name, gateway;

-- give_ticket_of_pair
UPDATE ticket SET organisation_id = ?2, owner_id = ?3
 WHERE device_id = ?1 AND kind = 'single'
RETURNING id;

-- revoke_static_token
DELETE FROM static_token WHERE id = ?1 RETURNING device_id;

-- revoke_ticket_of_pair
DELETE FROM ticket WHERE device_id = ?1 AND kind = 'single' RETURNING id;

-- ── when something else goes ────────────────────────────────────────────────────────────────

-- static_token_of_device
SELECT id, organisation_id, profile_id, digest, sealed, holder_id
  FROM static_token WHERE device_id = ?1;

-- renew_static_token
-- Nobody has claimed it, and its device is to be another one.
UPDATE static_token SET device_id = ?2, holder_id = NULL, owner_id = NULL, claimed_at = NULL
 WHERE id = ?1;

-- count_static_tokens_of_profile
SELECT count(*) FROM static_token WHERE profile_id = ?1;

-- static_tokens_held
-- By an organisation; without ?2 less those whose device is there with it.
SELECT id, organisation_id, profile_id, device_id, holder_id, owner_id, claimed_at, created_at
  FROM static_token
 WHERE holder_id = ?1
   AND (?2 = 1 OR NOT EXISTS (SELECT 1 FROM device d
                               WHERE d.id = static_token.device_id AND d.customer_id = ?1));

-- revoke_static_tokens_of_organisation
DELETE FROM static_token WHERE organisation_id = ?1 RETURNING id;

-- ── looking ─────────────────────────────────────────────────────────────────────────────────

-- static_tokens
SELECT * FROM static_token_record
 WHERE path LIKE ?1 AND (?2 = 0 OR profile_id = ?2)
   AND (?3 = '' OR (?3 = 'CLAIMED') = (claimed_at IS NOT NULL)) AND id > ?4
 ORDER BY id LIMIT ?5 OFFSET ?6;

-- count_static_tokens
SELECT count(*)
  FROM static_token s JOIN organisation o ON o.id = s.organisation_id
 WHERE o.path LIKE ?1 AND (?2 = 0 OR s.profile_id = ?2)
   AND (?3 = '' OR (?3 = 'CLAIMED') = (s.claimed_at IS NOT NULL)) AND s.id > ?4;

-- static_token_numbered
SELECT * FROM static_token_record WHERE id = ?1 AND path LIKE ?2;

-- static_token_claimed_by
SELECT * FROM static_token_record WHERE claim_digest = ?1;

-- static_token_for_device
SELECT * FROM static_token_record WHERE device_id = ?1;
