-- What people do with what is kept of devices' past: readings that are forgotten, calls by their names.

-- readings_from
SELECT ts, key, kind, whole, real, text FROM reading
 WHERE device_id = ?1 AND key = ?2 AND ts >= ?3 AND ts < ?4 ORDER BY ts LIMIT ?5;

-- forget_span
DELETE FROM reading
 WHERE device_id = ?1 AND key = ?2
   AND ts IN (SELECT ts FROM reading WHERE device_id = ?1 AND key = ?2 AND ts >= ?3 AND ts < ?4
               ORDER BY ts LIMIT ?5)
RETURNING 1;

-- forget_latest
DELETE FROM latest_reading WHERE device_id = ?1 AND key = ?2 AND ts >= ?3 AND ts < ?4;

-- renew_latest
-- The newest that is left takes the place of a latest one that was forgotten.
INSERT INTO latest_reading (device_id, key, ts, kind, whole, real, text)
SELECT device_id, key, ts, kind, whole, real, text FROM reading
 WHERE device_id = ?1 AND key = ?2 ORDER BY ts DESC LIMIT 1
ON CONFLICT (device_id, key) DO NOTHING;

-- call_named
SELECT id, uuid, device_id, method, params, two_way, persistent, created_at, expires_at, retries,
       state, response
  FROM rpc_call WHERE uuid = ?1;

-- remove_call
DELETE FROM rpc_call WHERE id = ?1 RETURNING id;
