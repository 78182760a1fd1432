-- Devices that wait for an operator's word.

-- ask_again
-- Who has the place asks once more.
UPDATE approval SET tries = tries + 1, last_at = ?6, wire = ?7, address = ?8
 WHERE organisation_id = ?1 AND name = ?2 AND kind = ?3 AND profile_id = ?4
   AND (length(digest) = 0 OR digest = ?5)
RETURNING id, state, tries;

-- drop_silent_approval
-- Another's, who was not heard of for long, and about whom nobody decided.
DELETE FROM approval
 WHERE organisation_id = ?1 AND name = ?2 AND kind = ?3 AND state = 'waiting' AND last_at < ?4;

-- approvals_waiting
SELECT count(*) FROM (SELECT 1 FROM approval WHERE profile_id = ?1 AND state = 'waiting' LIMIT ?2)
    AS counted;

-- insert_approval
INSERT INTO approval
    (id, organisation_id, profile_id, name, kind, digest, state, wire, address, hardware, asked_at,
     last_at, tries)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', ?7, ?8, ?9, ?10, ?10, 1)
ON CONFLICT DO NOTHING
RETURNING id;

-- approval_state
SELECT state, tries FROM approval WHERE organisation_id = ?1 AND name = ?2 AND kind = ?3;

-- spend_approval
DELETE FROM approval WHERE id = ?1 AND state = 'approved' RETURNING id;

-- ── for operators ───────────────────────────────────────────────────────────────────────────

-- approvals
SELECT a.id, a.organisation_id, o.name, a.profile_id, p.name, a.name, a.kind, a.state,
       length(a.digest) > 0, a.wire, a.address, a.hardware, a.asked_at, a.last_at, a.tries,
       a.decided_by, a.decided_at
  FROM approval a
  JOIN organisation o ON o.id = a.organisation_id
  JOIN device_profile p ON p.id = a.profile_id
 WHERE o.path LIKE ?1 AND (?2 = '' OR a.state = ?2) AND (?3 = 0 OR a.profile_id = ?3)
   AND (?4 = '' OR a.name IN texts(?5)) AND a.id > ?6
 ORDER BY a.id LIMIT ?7 OFFSET ?8;

-- count_approvals
SELECT count(*)
  FROM approval a JOIN organisation o ON o.id = a.organisation_id
 WHERE o.path LIKE ?1 AND (?2 = '' OR a.state = ?2) AND (?3 = 0 OR a.profile_id = ?3)
   AND (?4 = '' OR a.name IN texts(?5)) AND a.id > ?6;

-- approvals_numbered
SELECT a.id, a.organisation_id, o.name, a.profile_id, p.name, a.name, a.kind, a.state,
       length(a.digest) > 0, a.wire, a.address, a.hardware, a.asked_at, a.last_at, a.tries,
       a.decided_by, a.decided_at
  FROM approval a
  JOIN organisation o ON o.id = a.organisation_id
  JOIN device_profile p ON p.id = a.profile_id
 WHERE a.id IN numbers(?1) AND o.path LIKE ?2
 ORDER BY a.id;

-- decide_approvals
UPDATE approval SET state = ?2, decided_by = ?3, decided_at = ?4
 WHERE id IN numbers(?1) AND state <> ?2
   AND organisation_id IN (SELECT id FROM organisation WHERE path LIKE ?5)
RETURNING id;

-- remove_approvals
DELETE FROM approval WHERE id IN numbers(?1);

-- forget_approvals
-- Those that were not heard of for long, and about whom nobody decided lately.
DELETE FROM approval
 WHERE id IN (SELECT id FROM approval
               WHERE last_at < ?1 AND coalesce(decided_at, 0) < ?1
               ORDER BY last_at LIMIT ?2)
RETURNING id;
