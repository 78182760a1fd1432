-- Who may come: allow-lists and deny-lists of profiles, and how many devices there may be.

-- look_up_entries
SELECT EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'name' AND value = ?2)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'serial' AND value = ?3)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'mac' AND value = ?4),
       EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 1 AND kind = 'name' AND value = ?2)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 1 AND kind = 'serial' AND value = ?3)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 1 AND kind = 'mac' AND value = ?4);

-- allows
-- The first half of it alone, for those whose name is not there: the first that is ends it.
SELECT 1
 WHERE EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'name' AND value = ?2)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'serial' AND value = ?3)
    OR EXISTS (SELECT 1 FROM admission_entry
                WHERE profile_id = ?1 AND denied = 0 AND kind = 'mac' AND value = ?4);

-- allowed_names
-- Those of the texts ?2 that are names in the allow-list, as a JSON list.
SELECT json_group_array(value) FROM admission_entry
 WHERE profile_id = ?1 AND denied = 0 AND kind = 'name' AND value IN texts(?2);

-- has_denied
SELECT 1 FROM admission_entry WHERE profile_id = ?1 AND denied = 1 LIMIT 1;

-- insert_admission_entries
INSERT INTO admission_entry (profile_id, denied, kind, value, added_at)
VALUES (*)
ON CONFLICT DO NOTHING;

-- delete_admission_entries
DELETE FROM admission_entry
 WHERE profile_id = ?1 AND denied = ?2 AND kind = ?3 AND value IN texts(?4)
RETURNING kind;

-- clear_admission_entries
DELETE FROM admission_entry
 WHERE profile_id = ?1 AND denied = ?2
   AND (kind, value) IN (SELECT kind, value FROM admission_entry
                          WHERE profile_id = ?1 AND denied = ?2 LIMIT ?3)
RETURNING kind;

-- admission_entries
SELECT kind, value, added_at
  FROM admission_entry
 WHERE profile_id = ?1 AND denied = ?2 AND (?3 = '' OR lower(value) LIKE ?3 ESCAPE '\')
 ORDER BY kind, value
 LIMIT ?4 OFFSET ?5;

-- admission_entries_after
SELECT kind, value, added_at
  FROM admission_entry
 WHERE profile_id = ?1 AND denied = ?2 AND (kind, value) > (?3, ?4)
 ORDER BY kind, value
 LIMIT ?5;

-- count_admission_entries
SELECT count(*) FROM admission_entry
 WHERE profile_id = ?1 AND denied = ?2 AND (?3 = '' OR lower(value) LIKE ?3 ESCAPE '\');

-- sum_admission_entries
SELECT denied, kind, count(*) FROM admission_entry WHERE profile_id = ?1
 GROUP BY denied, kind ORDER BY denied, kind;

-- living_profile
SELECT id FROM device_profile WHERE id = ?1;

-- forget_admission_entries
-- Of profiles that are no more.
WITH RECURSIVE listed (id) AS (
    SELECT min(profile_id) FROM admission_entry
    UNION ALL
    SELECT (SELECT min(profile_id) FROM admission_entry WHERE profile_id > listed.id)
      FROM listed WHERE listed.id IS NOT NULL
), orphan (id) AS (
    SELECT listed.id FROM listed
     WHERE listed.id IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM device_profile p WHERE p.id = listed.id)
     LIMIT 1
)
DELETE FROM admission_entry
 WHERE profile_id = (SELECT id FROM orphan)
   AND (denied, kind, value) IN (SELECT denied, kind, value FROM admission_entry
                                  WHERE profile_id = (SELECT id FROM orphan) LIMIT ?1)
RETURNING kind;

-- ── how many devices there may be ────────────────────────────────────────────────────────────

-- count_place
INSERT INTO counted_place (kind, place_id) VALUES (?1, ?2)
ON CONFLICT DO NOTHING;

-- devices_in_profile
UPDATE counted_place
   SET devices = devices + (SELECT count(*) FROM device d
                             WHERE d.profile_id = ?1 AND d.id > counted_place.up_to),
       up_to = (SELECT last FROM sequence WHERE name = 'device')
 WHERE kind = 'profile' AND place_id = ?1
RETURNING devices;

-- devices_in_organisation
-- By their numbers: of the organisation's other index all of its devices would be read.
UPDATE counted_place
   SET devices = devices + (SELECT count(*) FROM device d
                             WHERE d.organisation_id + 0 = ?1 AND d.id > counted_place.up_to),
       up_to = (SELECT last FROM sequence WHERE name = 'device')
 WHERE kind = 'organisation' AND place_id = ?1
RETURNING devices;

-- count_reserved
-- Devices whose numbers are older than their births.
UPDATE counted_place
   SET devices = devices + (SELECT count(*) FROM device d
                             WHERE d.id IN numbers(?1) AND d.id <= counted_place.up_to
                               AND (counted_place.kind = 'profile'
                                    AND d.profile_id = counted_place.place_id
                                 OR counted_place.kind = 'organisation'
                                    AND d.organisation_id = counted_place.place_id));
