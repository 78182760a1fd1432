-- What newborns begin with, and those that go by themselves.

-- ── what a newborn begins with ──────────────────────────────────────────────────────────────

-- insert_default_attributes
-- What is there already stays.
INSERT INTO attribute (device_id, scope, key, kind, whole, real, text, updated_at)
VALUES (*)
ON CONFLICT DO NOTHING;

-- device_place
SELECT organisation_id, name, customer_id FROM device WHERE id = ?1;

-- label_device
UPDATE device SET label = ?2 WHERE id = ?1 AND label = '' RETURNING id;

-- package_titled
SELECT id FROM package WHERE kind = ?1 AND title = ?2 AND version = ?3;

-- assign_first_package
-- One that somebody gave the device before stays.
INSERT INTO package_assignment (target, target_id, kind, package_id, assigned_at)
VALUES ('device', ?1, ?2, ?3, ?4)
ON CONFLICT (target, target_id, kind) DO NOTHING;

-- ── burn-in ─────────────────────────────────────────────────────────────────────────────────

-- take_expired_devices
-- Held until the commit: who would keep one of them comes too late.
UPDATE device SET expires_at = ?1
 WHERE expires_at <= ?1
   AND id IN (SELECT id FROM device WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
RETURNING id, name;

-- label_of_device
SELECT label FROM device WHERE id = ?1;

-- device_expires_at
SELECT expires_at FROM device WHERE id = ?1;

-- keep_device
UPDATE device SET expires_at = ?2 WHERE id = ?1 AND expires_at IS NOT NULL RETURNING id;
