-- Every statement about events: what happened, who did it, and the chain that ties them together.

-- write_events
INSERT INTO event (seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor,
                   request, object, previous)
VALUES (*);

-- chain_head
SELECT seq, digest, after_seq, after_digest, mac FROM event_chain WHERE id = 1;

-- advance_chain
UPDATE event_chain SET seq = ?1, digest = ?2, mac = ?3 WHERE id = 1 AND mac = ?4 RETURNING id;

-- move_chain
INSERT INTO event_chain (id, seq, digest, after_seq, after_digest, mac)
VALUES (1, ?1, ?2, ?3, ?4, ?5)
ON CONFLICT (id) DO UPDATE
   SET seq = excluded.seq, digest = excluded.digest, after_seq = excluded.after_seq,
       after_digest = excluded.after_digest, mac = excluded.mac;

-- newest_event
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object, previous
  FROM event ORDER BY seq DESC LIMIT 1;

-- oldest_chained
-- The oldest event that there is, where it is chained.
SELECT seq, previous FROM (SELECT seq, previous FROM event ORDER BY seq LIMIT 1) AS oldest
 WHERE previous IS NOT NULL;

-- chained_events
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object, previous
  FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2;

-- events
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object
  FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2;

-- events_of_device
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object
  FROM event WHERE device_id = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2;

-- last_events
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object
  FROM event ORDER BY seq DESC LIMIT ?1;

-- last_events_of_device
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object
  FROM event WHERE device_id = ?2 ORDER BY seq DESC LIMIT ?1;

-- forget_events
-- Of the oldest, those in front of the first that is to be kept: what stays is one piece. One that
-- was written by a clock far ahead (later than ?3) holds up none. The newest always stays.
DELETE FROM event
 WHERE seq < coalesce((SELECT min(seq) FROM (SELECT seq, at FROM event ORDER BY seq LIMIT ?2) AS a
                        WHERE at >= ?1 AND at <= ?3),
                      (SELECT max(seq) FROM (SELECT seq FROM event ORDER BY seq LIMIT ?2) AS b))
RETURNING seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
          object, previous;

-- audit_user
SELECT email FROM user_account WHERE uuid = ?1;

-- audit_customer
SELECT path FROM organisation WHERE uuid = ?1;

-- audit_device
SELECT id FROM device WHERE uuid = ?1;

-- audit_named
-- The newest events of a name, whether or not it is a device's.
SELECT seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request,
       object
  FROM event WHERE subject = ?1 ORDER BY seq DESC LIMIT ?2;

-- audit_ticket
-- The device that a ticket was issued for; ?1 finds its number in the detail, which is JSON.
SELECT device_id FROM event
 WHERE kind = 'ticket:issue' AND detail LIKE ?1 AND device_id IS NOT NULL
 ORDER BY seq DESC LIMIT 1;

-- audit_like
-- Names of whom there is an event, that begin alike; of the newest.
SELECT DISTINCT subject FROM (SELECT subject FROM event ORDER BY seq DESC LIMIT ?1) AS recent
 WHERE subject <> '';

-- unchained_in_chain
-- What is older than the chain carries no digest.
SELECT seq FROM event WHERE seq <= ?1 AND previous IS NOT NULL ORDER BY seq LIMIT 1;

-- older_events
SELECT count(*) FROM event WHERE seq <= ?1;
