-- After-hooks: who follows, what is still to be told, and what could not be.

-- follow_events
-- A profile that begins to follow is told what happens from now on.
INSERT INTO hook_place (profile_id, seq, kinds)
VALUES (?1, (SELECT coalesce(max(seq), 0) FROM event), ?2)
ON CONFLICT (profile_id) DO UPDATE SET kinds = excluded.kinds;

-- unfollow_events
DELETE FROM hook_place WHERE profile_id = ?1;

-- keep_removed
-- A device that is about to be removed: whose it was, if its profile follows.
INSERT INTO hook_removed (device_id, profile_id, uuid, name, at)
SELECT d.id, d.profile_id, d.uuid, d.name, ?2
  FROM device d JOIN hook_place h ON h.profile_id = d.profile_id
 WHERE d.id = ?1
ON CONFLICT DO NOTHING;

-- forget_unfollowed
-- What was to be told to after-hooks that are no more. Some.
DELETE FROM hook_delivery
 WHERE (profile_id, event_seq) IN (
       SELECT profile_id, event_seq FROM hook_delivery
        WHERE profile_id IN (SELECT DISTINCT profile_id FROM hook_delivery
                              WHERE profile_id NOT IN (SELECT profile_id FROM hook_place))
        LIMIT ?1)
RETURNING 1;

-- forget_removed
DELETE FROM hook_removed WHERE at < ?1;

-- first_hook_place
SELECT 1 FROM hook_place LIMIT 1;

-- hook_places
SELECT h.profile_id, p.revision
  FROM hook_place h JOIN device_profile p ON p.id = h.profile_id ORDER BY h.profile_id;

-- hook_behind
SELECT 1 FROM hook_place WHERE seq < (SELECT max(seq) FROM event) LIMIT 1;

-- hook_begin
-- Where the next step begins for these profiles.
SELECT min(seq) FROM hook_place WHERE profile_id IN numbers(?1);

-- hook_end
-- Where a step of ?2 events ends.
SELECT max(seq) FROM (SELECT seq FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS step;

-- hook_events
-- What these profiles have not been told yet, of a step.
SELECT h.profile_id, e.seq, e.at, e.kind, e.device_id, e.detail, coalesce(d.uuid, r.uuid),
       coalesce(d.name, r.name), p.name
  FROM event e
  LEFT JOIN device d ON d.id = e.device_id
  LEFT JOIN hook_removed r ON r.device_id = e.device_id
  JOIN hook_place h ON h.profile_id = coalesce(d.profile_id, r.profile_id)
  JOIN device_profile p ON p.id = h.profile_id
 WHERE e.seq > ?1 AND e.seq <= ?2 AND e.seq > h.seq AND e.outcome = 'success'
   AND h.profile_id IN numbers(?3) AND h.kinds LIKE '% ' || e.kind || ' %'
 ORDER BY e.seq;

-- hook_events_again
-- What a profile was told before, of a step.
SELECT h.profile_id, e.seq, e.at, e.kind, e.device_id, e.detail, coalesce(d.uuid, r.uuid),
       coalesce(d.name, r.name), p.name
  FROM event e
  LEFT JOIN device d ON d.id = e.device_id
  LEFT JOIN hook_removed r ON r.device_id = e.device_id
  JOIN hook_place h ON h.profile_id = coalesce(d.profile_id, r.profile_id)
  JOIN device_profile p ON p.id = h.profile_id
 WHERE e.seq > ?1 AND e.seq <= ?2 AND e.seq <= h.seq AND e.outcome = 'success'
   AND h.profile_id = ?3 AND e.at >= ?4 AND h.kinds LIKE '% ' || e.kind || ' %'
 ORDER BY e.seq;

-- first_event_since
SELECT min(seq) FROM event WHERE at >= ?1;

-- move_hook_places
UPDATE hook_place SET seq = ?1 WHERE seq < ?1 AND profile_id IN numbers(?2);

-- insert_hook_deliveries
INSERT INTO hook_delivery (profile_id, event_seq, device_id, state, body, next_at)
VALUES (*)
ON CONFLICT (profile_id, event_seq) DO UPDATE
   SET state = 'waiting', attempts = 0, next_at = excluded.next_at, reason = ''
 WHERE hook_delivery.state = 'dead';

-- hook_due
SELECT 1 FROM hook_delivery
 WHERE profile_id = ?1 AND state = 'waiting' AND next_at <= ?2 AND taken_until <= ?2 LIMIT 1;

-- take_hook_deliveries
-- The oldest of each device alone: none goes before an older one. What is looked through is bounded.
UPDATE hook_delivery SET taken_until = ?3
 WHERE profile_id = ?1
   AND event_seq IN (
       SELECT c.event_seq
         FROM (SELECT event_seq, device_id FROM hook_delivery
                WHERE profile_id = ?1 AND state = 'waiting' AND next_at <= ?2 AND taken_until <= ?2
                ORDER BY next_at, event_seq LIMIT 2000) AS c
        WHERE NOT EXISTS (SELECT 1 FROM hook_delivery o
                           WHERE o.device_id = c.device_id AND o.event_seq < c.event_seq
                             AND +o.profile_id = ?1 AND o.state = 'waiting')
        ORDER BY c.event_seq LIMIT ?4)
RETURNING event_seq, device_id, body, attempts;

-- drop_delivered
DELETE FROM hook_delivery WHERE profile_id = ?1 AND event_seq IN numbers(?2);

-- put_back_delivery
UPDATE hook_delivery SET attempts = ?4, next_at = ?5, taken_until = 0, reason = ?6
 WHERE profile_id = ?1 AND event_seq = ?2 AND taken_until = ?3 AND state = 'waiting'
RETURNING device_id;

-- put_back_later
-- What waits behind one that was put back waits as long: it need not be looked at before. Some.
UPDATE hook_delivery SET next_at = ?4
 WHERE profile_id = ?1
   AND event_seq IN (SELECT event_seq FROM hook_delivery
                      WHERE device_id = ?2 AND event_seq > ?3 AND +profile_id = ?1
                        AND state = 'waiting' AND next_at < ?4 LIMIT ?5)
RETURNING event_seq;

-- bury_delivery
UPDATE hook_delivery SET state = 'dead', attempts = ?4, next_at = ?5, taken_until = 0, reason = ?6
 WHERE profile_id = ?1 AND event_seq = ?2 AND taken_until = ?3 AND state = 'waiting'
RETURNING device_id;

-- release_deliveries
UPDATE hook_delivery SET taken_until = 0
 WHERE profile_id = ?1 AND event_seq IN numbers(?2) AND taken_until = ?3 AND state = 'waiting';

-- hook_counts
SELECT profile_id, state, count(*) FROM hook_delivery GROUP BY profile_id, state;

-- last_hook_reason
SELECT reason FROM hook_delivery
 WHERE profile_id = ?1 AND reason <> '' ORDER BY next_at DESC LIMIT 1;

-- dead_deliveries
SELECT profile_id, event_seq, device_id, body, attempts, next_at, reason
  FROM hook_delivery
 WHERE state = 'dead' AND profile_id IN numbers(?1) AND event_seq > ?3
 ORDER BY profile_id, event_seq LIMIT ?2;

-- replay_dead
UPDATE hook_delivery
   SET state = 'waiting', attempts = 0, next_at = ?2, taken_until = 0, reason = ''
 WHERE profile_id = ?1
   AND event_seq IN (SELECT event_seq FROM hook_delivery
                      WHERE profile_id = ?1 AND state = 'dead' ORDER BY event_seq LIMIT ?3)
RETURNING event_seq;

-- replay_dead_one
UPDATE hook_delivery
   SET state = 'waiting', attempts = 0, next_at = ?3, taken_until = 0, reason = ''
 WHERE profile_id = ?1 AND event_seq = ?2 AND state = 'dead'
RETURNING event_seq;

-- drop_deliveries
-- The oldest in this state.
DELETE FROM hook_delivery
 WHERE profile_id = ?1
   AND event_seq IN (SELECT event_seq FROM hook_delivery
                      WHERE profile_id = ?1 AND state = ?2 ORDER BY event_seq LIMIT ?3)
RETURNING event_seq;
