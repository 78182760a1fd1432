-- Devices that were provisioned before and get other credentials: by what proof, and how often.

-- device_to_reprovision
-- The columns of `known_by_id`. Not of one that waits, is blocked or suspended.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, c.type, c.digest, c.sealed
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.organisation_id = ?1 AND d.name = ?2 AND d.provision_state = 'provisioned'
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = d.ticket_id
                      AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at));

-- arm_device
-- One that waits needs no arming.
INSERT INTO rearmed_device (device_id, digest, until)
SELECT d.id, ?2, ?3 FROM device d WHERE d.id = ?1 AND d.provision_state IS NOT NULL
ON CONFLICT (device_id) DO UPDATE SET digest = excluded.digest, until = excluded.until
RETURNING device_id;

-- provision_state_stands
-- What blocked a device does so no more.
UPDATE device SET provision_state = 'provisioned' WHERE id = ?1 AND provision_state IS NOT NULL;

-- arming
SELECT digest FROM rearmed_device WHERE device_id = ?1 AND until > ?2;

-- spend_arming
-- An operator's word, or the claim code with that digest.
DELETE FROM rearmed_device
 WHERE device_id = ?1 AND until > ?2 AND (digest IS NULL OR digest = ?3)
RETURNING device_id;

-- disarm_device
DELETE FROM rearmed_device WHERE device_id = ?1 RETURNING device_id;

-- forget_armings
DELETE FROM rearmed_device
 WHERE device_id IN (SELECT device_id FROM rearmed_device WHERE until <= ?1 LIMIT ?2)
RETURNING 1;

-- take_reprovisioning
-- ?3: when the next would be due after one; now, and the end of a period that begins now; the time
-- one takes; the latest it may have been due. What is due later than a period has a clock that was
-- set back.
INSERT INTO reprovisioning (device_id, period, due) VALUES (?1, ?2, ?3)
ON CONFLICT (device_id, period) DO UPDATE
   SET due = CASE WHEN reprovisioning.due BETWEEN ?4 AND ?5 THEN reprovisioning.due + ?6
                  ELSE excluded.due END
 WHERE reprovisioning.due <= ?7 OR reprovisioning.due > ?5
RETURNING due;

-- reprovisioning_due
SELECT due FROM reprovisioning WHERE device_id = ?1 AND period = ?2;

-- forget_reprovisionings
DELETE FROM reprovisioning
 WHERE (device_id, period) IN (SELECT device_id, period FROM reprovisioning
                                WHERE due <= ?1 LIMIT ?2)
RETURNING 1;

-- forget_reprovisionings_of
DELETE FROM reprovisioning WHERE device_id = ?1;

-- mark_reprovisioned
-- One that is suspended stays so.
UPDATE device SET ticket_id = ?2, provisioned_at = ?3
 WHERE id = ?1
   AND NOT EXISTS (SELECT 1 FROM ticket t
                    WHERE t.id = device.ticket_id
                      AND t.quarantined_since <= coalesce(device.provisioned_at,
                                                          device.created_at))
RETURNING id;

-- take_latest
DELETE FROM latest_reading WHERE device_id = ?1 RETURNING ts;

-- delete_attributes_of
DELETE FROM attribute WHERE device_id = ?1 RETURNING scope, key;

-- begin_forgetting
INSERT INTO forgetting (device_id, until) VALUES (?1, ?2)
ON CONFLICT (device_id) DO UPDATE
   SET until = CASE WHEN excluded.until > forgetting.until THEN excluded.until
                    ELSE forgetting.until END;

-- forgetting
SELECT device_id, until FROM forgetting ORDER BY device_id LIMIT ?1;

-- forgetting_of
SELECT until FROM forgetting WHERE device_id = ?1;

-- forget_readings_until
DELETE FROM reading
 WHERE device_id = ?1
   AND (key, ts) IN (SELECT key, ts FROM reading WHERE device_id = ?1 AND ts <= ?2 LIMIT ?3)
RETURNING 1;

-- end_forgetting
DELETE FROM forgetting WHERE device_id = ?1;
