-- Who may come, on what terms, and whose answer may be repeated.

-- insert_retry_windows
INSERT INTO retry_window (device_id, digest, until)
VALUES (*)
ON CONFLICT DO NOTHING;

-- repeat_bound
-- The columns of `known_by_id`. Credentials that are pending were given last: whatever else makes
-- some pending ends the window. Not of one that is suspended.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, coalesce(x.type, c.type), coalesce(x.digest, c.digest),
       coalesce(x.sealed, c.sealed)
  FROM retry_window r
  JOIN device d ON d.id = r.device_id AND d.provision_state = 'provisioned'
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
  LEFT JOIN pending_credentials x ON x.device_id = d.id
 WHERE r.digest = ?1 AND r.until > ?2 AND r.closed = 0
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = d.ticket_id
                      AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at));

-- retry_windows_among
SELECT device_id FROM retry_window WHERE device_id IN numbers(?1);

-- make_way_for_retry
-- For a window of that device and digest: an older one of the device, and one that is over.
DELETE FROM retry_window WHERE device_id = ?1 OR (digest = ?2 AND until <= ?3);

-- end_retry
UPDATE retry_window SET closed = 1 WHERE device_id = ?1;

-- delete_retry
DELETE FROM retry_window WHERE device_id = ?1;

-- end_retries
-- While credentials are pending the older ones are used on, and the window is that of the pending.
UPDATE retry_window SET closed = 1
 WHERE device_id IN numbers(?1)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials x
                    WHERE x.device_id = retry_window.device_id);

-- forget_retries
DELETE FROM retry_window
 WHERE device_id IN (SELECT device_id FROM retry_window WHERE until <= ?1 LIMIT ?2)
RETURNING 1;
