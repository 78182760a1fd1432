-- The statements of queries.sql, continued: devices as people see, search and change them; groups.
-- Those of a page of them are composed in listing.py.

-- ── records ─────────────────────────────────────────────────────────────────────────────────

-- device_records
SELECT * FROM device_record WHERE id IN numbers(?1);

-- device_record
SELECT * FROM device_record WHERE id = ?1;

-- device_record_at
SELECT * FROM device_record WHERE uuid = ?1;

-- device_records_named
-- Told which organisations there are, a name is a look-up in the index of each.
SELECT * FROM device_record
 WHERE organisation_id IN (SELECT id FROM organisation) AND name = ?1 ORDER BY organisation_id;

-- device_login
SELECT type, digest, sealed, generation, created_at FROM credentials WHERE device_id = ?1
 ORDER BY generation DESC LIMIT 1;

-- ── changes ─────────────────────────────────────────────────────────────────────────────────

-- visible_profile
SELECT p.id, p.organisation_id, p.name, p.provision_only
  FROM device_profile p JOIN organisation o ON o.id = p.organisation_id
 WHERE p.id = ?1 AND o.path LIKE ?2 || '%';

-- profile_with_name
SELECT id, organisation_id, name, provision_only
  FROM device_profile WHERE organisation_id = ?1 AND name = ?2;

-- visible_customer
SELECT id FROM organisation WHERE id = ?1 AND parent_id IS NOT NULL AND path LIKE ?2 || '%';

-- names_counted
-- What begins with ?2 and has a digit next: `:` comes after the digits.
SELECT name FROM device
 WHERE organisation_id = ?1 AND name >= ?2 || '0' AND name < ?2 || ':' LIMIT ?3;

-- dress_device
UPDATE device SET label = ?2, info = ?3 WHERE id = ?1;

-- change_device
-- Its owner's it stays where the same organisation has it.
UPDATE device
   SET name = ?2, organisation_id = ?3, profile_id = ?4, type = ?5, label = ?6, info = ?7,
       gateway = ?8, customer_id = ?9,
       owner_id = CASE WHEN customer_id = ?9 OR (organisation_id = ?3 AND customer_id IS NULL
                                                 AND ?9 IS NULL) THEN owner_id END,
       version = version + 1
 WHERE id = ?1 AND (version = ?10 OR ?10 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM device other
                    WHERE other.organisation_id = ?3 AND other.name = ?2 AND other.id <> ?1)
RETURNING version;

-- assign_device
UPDATE device
   SET customer_id = ?2,
       owner_id = CASE WHEN customer_id = ?2 OR (customer_id IS NULL AND ?2 IS NULL)
                       THEN owner_id END,
       version = version + 1
 WHERE id = ?1
RETURNING id;

-- renew_login
UPDATE credentials SET generation = generation + 1 WHERE device_id = ?1 RETURNING generation;

-- replace_login
UPDATE credentials
   SET generation = generation + 1, type = ?2, digest = ?3, sealed = ?4, created_at = ?5
 WHERE device_id = ?1 AND (generation = ?6 OR ?6 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM credentials other WHERE other.digest = ?3
                                                     AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM pending_credentials other WHERE other.digest = ?3
                                                             AND other.device_id <> ?1)
   AND NOT EXISTS (SELECT 1 FROM ticket t WHERE t.digest = ?3 AND t.kind <> 'fleet')
RETURNING generation;

-- ── groups ──────────────────────────────────────────────────────────────────────────────────

-- device_groups
SELECT g.id, g.uuid, g.organisation_id, g.name, g.created_at,
       (SELECT count(*) FROM device_group_member m WHERE m.group_id = g.id)
  FROM device_group g JOIN organisation o ON o.id = g.organisation_id
 WHERE o.path LIKE ?1 || '%'
 ORDER BY g.name, g.id;

-- take_out_of_group
DELETE FROM device_group_member WHERE group_id = ?1 AND device_id = ?2 RETURNING group_id;

-- leave_groups
DELETE FROM device_group_member WHERE device_id = ?1;

-- delete_group
DELETE FROM device_group WHERE id = ?1 RETURNING name;

-- members_leave
DELETE FROM device_group_member WHERE group_id = ?1;

-- ── what a page is found by ─────────────────────────────────────────────────────────────────

-- organisations_within
SELECT id FROM organisation WHERE path LIKE ?1 || '%' ORDER BY id LIMIT ?2;

-- next_organisation_with_devices
SELECT min(organisation_id) FROM device WHERE organisation_id > ?1;

-- profiles_with_text
SELECT id FROM device_profile WHERE name LIKE ?1 ESCAPE '\' LIMIT ?2;

-- some_with_text
-- How many of the newest; whether a text is rare.
SELECT count(*) FROM (SELECT name, label FROM device ORDER BY id DESC LIMIT ?2) AS newest
 WHERE name LIKE ?1 ESCAPE '\' OR label LIKE ?1 ESCAPE '\';

-- devices_found
SELECT rowid FROM device_search WHERE device_search MATCH ?1 LIMIT ?2;

-- trigrams_that_begin
-- U+10FFFF stands in no name.
SELECT term FROM device_search_term WHERE term >= ?1 AND term < ?1 || char(1114111) LIMIT ?2;

-- devices_not_indexed_with_text
SELECT id FROM device
 WHERE id > (SELECT last FROM sequence WHERE name = 'search')
   AND (name LIKE ?1 ESCAPE '\' OR label LIKE ?1 ESCAPE '\') LIMIT ?2;

-- devices_of_profiles
SELECT id FROM device WHERE profile_id IN numbers(?1) LIMIT ?2;

-- ── the index of names and labels (SQLite) ──────────────────────────────────────────────────

-- next_to_index
-- The number of the last of the next ?1 devices, and how many they are.
SELECT max(id), count(*)
  FROM (SELECT id FROM device WHERE id > (SELECT last FROM sequence WHERE name = 'search')
         ORDER BY id LIMIT ?1) AS upcoming;

-- index_devices
-- Two line feeds end each text, so that a trigram begins at its last characters too.
INSERT INTO device_search (rowid, words)
SELECT id, name || char(10, 10) || CASE label WHEN '' THEN '' ELSE label || char(10, 10) END
  FROM device
 WHERE id > (SELECT last FROM sequence WHERE name = 'search') AND id <= ?1 ORDER BY id;

-- indexed_to
UPDATE sequence SET last = ?1 WHERE name = 'search';

-- index_again
INSERT INTO device_search (rowid, words)
SELECT id, name || char(10, 10) || CASE label WHEN '' THEN '' ELSE label || char(10, 10) END
  FROM device
 WHERE id IN numbers(?1)
   AND id <= (SELECT last FROM sequence WHERE name = 'search') ORDER BY id;
