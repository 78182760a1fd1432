-- The statements of queries.sql, continued: organisations, users, roles, sessions, keys.
-- `path LIKE` is given a pattern: the path of an organisation and `%` (at or below it), or `_%` (below).

-- ── outside names ───────────────────────────────────────────────────────────────────────────

-- unnamed_organisations
SELECT id FROM organisation WHERE uuid IS NULL ORDER BY id LIMIT ?1;

-- name_organisation
UPDATE organisation SET uuid = ?2 WHERE id = ?1 AND uuid IS NULL;

-- unnamed_users
SELECT id FROM user_account WHERE uuid IS NULL ORDER BY id LIMIT ?1;

-- name_user
UPDATE user_account SET uuid = ?2 WHERE id = ?1 AND uuid IS NULL;

-- unnamed_profiles
SELECT id FROM device_profile WHERE uuid IS NULL ORDER BY id LIMIT ?1;

-- name_profile
UPDATE device_profile SET uuid = ?2 WHERE id = ?1 AND uuid IS NULL;

-- ── organisations ───────────────────────────────────────────────────────────────────────────

-- organisation_by_uuid
SELECT id, uuid, name, path, parent_id, created_at, info, version FROM organisation WHERE uuid = ?1;

-- organisation_by_number
SELECT id, uuid, name, path, parent_id, created_at, info, version FROM organisation WHERE id = ?1;

-- organisations_named
SELECT id, uuid, name, path, parent_id, created_at, info, version FROM organisation
 WHERE name = ?1 AND path LIKE ?2
 ORDER BY length(path) - length(replace(path, '/', '')), id LIMIT ?3;

-- organisations
SELECT id, uuid, name, path, parent_id, created_at, info, version FROM organisation
 WHERE path LIKE ?1 AND lower(name) LIKE lower(?2) ESCAPE '\'
 ORDER BY CASE WHEN ?3 = 'name' THEN lower(name) END,
          CASE WHEN ?3 = 'name desc' THEN lower(name) END DESC,
          CASE WHEN ?3 = 'created' THEN created_at END,
          CASE WHEN ?3 = 'created desc' THEN created_at END DESC,
          CASE WHEN ?3 LIKE '% desc' THEN -id ELSE id END
 LIMIT ?4 OFFSET ?5;

-- count_organisations
SELECT count(*) FROM organisation WHERE path LIKE ?1 AND lower(name) LIKE lower(?2) ESCAPE '\';

-- organisation_beside
SELECT id FROM organisation WHERE parent_id = ?1 AND name = ?2;

-- insert_organisation
INSERT INTO organisation (id, uuid, parent_id, name, path, info, created_at)
SELECT ?1, ?2, p.id, ?4, ?5, ?6, ?7 FROM organisation p WHERE p.id = ?3
ON CONFLICT (parent_id, name) DO NOTHING
RETURNING id;

-- update_organisation
UPDATE organisation SET name = ?2, info = coalesce(?3, info), version = version + 1
 WHERE id = ?1 AND (version = ?4 OR ?4 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM organisation other
                    WHERE other.parent_id = organisation.parent_id AND other.name = ?2
                      AND other.id <> ?1)
RETURNING id;

-- remove_organisation
DELETE FROM organisation
 WHERE id = ?1 AND parent_id IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM organisation child WHERE child.parent_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM user_account WHERE organisation_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM device_profile WHERE organisation_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM device WHERE organisation_id = ?1)
   AND NOT EXISTS (SELECT 1 FROM device WHERE customer_id = ?1)
RETURNING id;

-- uses_of_organisation
SELECT EXISTS (SELECT 1 FROM organisation WHERE parent_id = ?1),
       EXISTS (SELECT 1 FROM user_account WHERE organisation_id = ?1),
       EXISTS (SELECT 1 FROM device_profile WHERE organisation_id = ?1),
       EXISTS (SELECT 1 FROM device WHERE organisation_id = ?1)
       OR EXISTS (SELECT 1 FROM device WHERE customer_id = ?1);

-- some_devices_of_customer
SELECT count(*) FROM (SELECT 1 FROM device WHERE customer_id = ?1 LIMIT ?2) AS found;

-- unassign_devices
UPDATE device SET customer_id = NULL, owner_id = NULL, version = version + 1
 WHERE customer_id = ?1
RETURNING id, name;

-- empty_groups_of_organisation
DELETE FROM device_group_member
 WHERE group_id IN (SELECT id FROM device_group WHERE organisation_id = ?1);

-- delete_groups_of_organisation
DELETE FROM device_group WHERE organisation_id = ?1;

-- delete_roles_of_organisation
DELETE FROM role WHERE organisation_id = ?1;

-- ── users ───────────────────────────────────────────────────────────────────────────────────

-- known_user
SELECT u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       u.password_hash,
       (SELECT r.permissions FROM role r JOIN organisation a ON a.id = r.organisation_id
         WHERE r.name = u.role AND o.path LIKE a.path || '%' LIMIT 1)
  FROM user_account u JOIN organisation o ON o.id = u.organisation_id
 WHERE u.uuid = ?1;

-- device_path
SELECT o.path FROM device d
  JOIN organisation o ON o.id = COALESCE(d.customer_id, d.organisation_id) WHERE d.id = ?1;

-- owner_email
SELECT u.email FROM device d JOIN user_account u ON u.id = d.owner_id WHERE d.id = ?1;

-- known_by_email
SELECT u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       u.password_hash,
       (SELECT r.permissions FROM role r JOIN organisation a ON a.id = r.organisation_id
         WHERE r.name = u.role AND o.path LIKE a.path || '%' LIMIT 1)
  FROM user_account u JOIN organisation o ON o.id = u.organisation_id
 WHERE u.email = ?1;

-- user_by_number
SELECT id, uuid, organisation_id, email, role, first_name, last_name, enabled, password_until,
       last_login_at, created_at, info, version
  FROM user_account WHERE id = ?1;

-- users
SELECT u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version
  FROM user_account u JOIN organisation o ON o.id = u.organisation_id
 WHERE o.path LIKE ?1
   AND (lower(u.email) LIKE lower(?2) ESCAPE '\' OR lower(u.first_name) LIKE lower(?2) ESCAPE '\'
        OR lower(u.last_name) LIKE lower(?2) ESCAPE '\')
 ORDER BY CASE ?3 WHEN 'email' THEN u.email WHEN 'first_name' THEN lower(u.first_name)
                  WHEN 'last_name' THEN lower(u.last_name) WHEN 'role' THEN u.role END,
          CASE ?3 WHEN 'email desc' THEN u.email WHEN 'first_name desc' THEN lower(u.first_name)
                  WHEN 'last_name desc' THEN lower(u.last_name)
                  WHEN 'role desc' THEN u.role END DESC,
          CASE WHEN ?3 = 'created' THEN u.created_at END,
          CASE WHEN ?3 = 'created desc' THEN u.created_at END DESC,
          CASE WHEN ?3 LIKE '% desc' THEN -u.id ELSE u.id END
 LIMIT ?4 OFFSET ?5;

-- count_users
SELECT count(*)
  FROM user_account u JOIN organisation o ON o.id = u.organisation_id
 WHERE o.path LIKE ?1
   AND (lower(u.email) LIKE lower(?2) ESCAPE '\' OR lower(u.first_name) LIKE lower(?2) ESCAPE '\'
        OR lower(u.last_name) LIKE lower(?2) ESCAPE '\');

-- any_user
SELECT 1 FROM user_account LIMIT 1;

-- insert_user
INSERT INTO user_account
    (id, uuid, organisation_id, email, role, first_name, last_name, enabled, password_hash,
     password_until, info, created_at)
SELECT ?1, ?2, o.id, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM organisation o
 WHERE o.id = ?3
ON CONFLICT (email) DO NOTHING
RETURNING id;

-- insert_first_user
INSERT INTO user_account
    (id, uuid, organisation_id, email, role, first_name, last_name, enabled, password_hash,
     password_until, info, created_at)
SELECT ?1, ?2, o.id, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM organisation o
 WHERE o.id = ?3 AND NOT EXISTS (SELECT 1 FROM user_account)
ON CONFLICT (email) DO NOTHING
RETURNING id;

-- update_user
UPDATE user_account
   SET organisation_id = ?2, email = ?3, role = ?4, first_name = ?5, last_name = ?6, enabled = ?7,
       info = coalesce(?8, info), password_hash = coalesce(?9, password_hash),
       password_until = CASE WHEN ?9 IS NULL THEN password_until ELSE ?10 END,
       version = version + 1
 WHERE id = ?1 AND (version = ?11 OR ?11 IS NULL)
   AND NOT EXISTS (SELECT 1 FROM user_account other WHERE other.email = ?3 AND other.id <> ?1)
   AND EXISTS (SELECT 1 FROM organisation WHERE id = ?2)
RETURNING id;

-- remove_user
DELETE FROM user_account WHERE id = ?1 RETURNING id;

-- disown_devices
UPDATE device SET owner_id = NULL WHERE owner_id = ?1;

-- disown_tickets
UPDATE ticket SET owner_id = NULL WHERE owner_id = ?1;

-- set_password
UPDATE user_account SET password_hash = ?2, password_until = ?3 WHERE id = ?1 RETURNING id;

-- ── roles ───────────────────────────────────────────────────────────────────────────────────

-- roles
SELECT r.id, r.uuid, r.organisation_id, r.name, r.permissions, r.created_at, r.version
  FROM role r JOIN organisation o ON o.id = r.organisation_id
 WHERE o.path LIKE ?1 OR ?2 LIKE o.path || '%'
 ORDER BY r.name, o.path LIMIT ?3;

-- roles_named
SELECT r.id, r.uuid, r.organisation_id, r.name, r.permissions, r.created_at, r.version
  FROM role r JOIN organisation o ON o.id = r.organisation_id
 WHERE r.name = ?4 AND (o.path LIKE ?1 OR ?2 LIKE o.path || '%')
 ORDER BY length(o.path), r.id LIMIT ?3;

-- insert_role
INSERT INTO role (id, uuid, organisation_id, name, permissions, created_at)
SELECT ?1, ?2, o.id, ?4, ?5, ?6 FROM organisation o
 WHERE o.id = ?3
   AND NOT EXISTS (SELECT 1 FROM role r JOIN organisation other ON other.id = r.organisation_id
                    WHERE r.name = ?4 AND (other.path LIKE o.path || '%'
                                           OR o.path LIKE other.path || '%'))
RETURNING id;

-- update_role
UPDATE role SET permissions = ?2, version = version + 1
 WHERE id = ?1 AND (version = ?3 OR ?3 IS NULL)
RETURNING id, uuid, organisation_id, name, permissions, created_at, version;

-- remove_role
DELETE FROM role
 WHERE id = ?1
   AND NOT EXISTS (SELECT 1 FROM user_account u
                     JOIN organisation o ON o.id = u.organisation_id
                     JOIN organisation mine ON mine.id = role.organisation_id
                    WHERE u.role = role.name AND o.path LIKE mine.path || '%')
RETURNING id;

-- has_role
SELECT version FROM role WHERE id = ?1;

-- ── sessions ────────────────────────────────────────────────────────────────────────────────

-- enter_user
UPDATE user_account SET last_login_at = ?2
 WHERE id = ?1 AND enabled = 1 AND password_hash = ?3
RETURNING id;

-- insert_session
INSERT INTO user_session (id, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4);

-- end_oldest_sessions
DELETE FROM user_session
 WHERE user_id = ?1
   AND id NOT IN (SELECT id FROM user_session WHERE user_id = ?1
                   ORDER BY created_at DESC, id DESC LIMIT ?2);

-- forget_sessions
DELETE FROM user_session
 WHERE id IN (SELECT id FROM user_session WHERE expires_at <= ?1 LIMIT ?2);

-- session
SELECT u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       u.password_hash,
       (SELECT r.permissions FROM role r JOIN organisation a ON a.id = r.organisation_id
         WHERE r.name = u.role AND o.path LIKE a.path || '%' LIMIT 1),
       s.expires_at
  FROM user_session s
  JOIN user_account u ON u.id = s.user_id
  JOIN organisation o ON o.id = u.organisation_id
 WHERE s.id = ?1 AND s.expires_at > ?2 AND u.enabled = 1;

-- extend_session
UPDATE user_session SET expires_at = ?2 WHERE id = ?1 AND expires_at > ?3 RETURNING id;

-- end_session
DELETE FROM user_session WHERE id = ?1 RETURNING id;

-- end_sessions
DELETE FROM user_session WHERE user_id = ?1 AND id <> ?2 RETURNING id;

-- ── keys for scripts ────────────────────────────────────────────────────────────────────────

-- find_key
SELECT u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       u.password_hash,
       (SELECT r.permissions FROM role r JOIN organisation a ON a.id = r.organisation_id
         WHERE r.name = u.role AND o.path LIKE a.path || '%' LIMIT 1),
       k.id, k.uuid, k.user_id, k.label, k.permissions, k.created_at, k.expires_at, k.last_used_at
  FROM api_key k
  JOIN user_account u ON u.id = k.user_id
  JOIN organisation o ON o.id = u.organisation_id
 WHERE k.digest = ?1 AND (k.expires_at > ?2 OR k.expires_at IS NULL) AND u.enabled = 1;

-- touch_key
UPDATE api_key SET last_used_at = ?2
 WHERE id = ?1 AND (last_used_at < ?2 OR last_used_at IS NULL);

-- insert_key
INSERT INTO api_key (id, uuid, user_id, label, digest, permissions, created_at, expires_at)
SELECT ?1, ?2, u.id, ?4, ?5, ?6, ?7, ?8 FROM user_account u
 WHERE u.id = ?3 AND (SELECT count(*) FROM api_key k WHERE k.user_id = ?3) < ?9
RETURNING id;

-- keys_of_user
SELECT id, uuid, user_id, label, permissions, created_at, expires_at, last_used_at
  FROM api_key WHERE user_id = ?1 ORDER BY id;

-- remove_key
DELETE FROM api_key WHERE user_id = ?1 AND uuid = ?2 RETURNING label;

-- remove_keys
DELETE FROM api_key WHERE user_id = ?1;
