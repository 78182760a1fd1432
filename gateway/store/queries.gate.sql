-- Who may come, on what terms, and whose answer may be repeated.

-- insert_retry_windows
INSERT INTO retry_window (device_id, digest, until)
VALUES (*)
ON CONFLICT DO NOTHING;

-- repeat_bound
-- The columns of `known_by_digest`.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, c.type, c.digest, c.sealed
  FROM retry_window r
  JOIN device d ON d.id = r.device_id
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE r.digest = ?1 AND r.until > ?2
 ORDER BY c.generation DESC LIMIT 1;

-- end_retries
DELETE FROM retry_window WHERE device_id IN numbers(?1);
