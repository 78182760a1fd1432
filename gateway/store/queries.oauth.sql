-- The programs of organisations, and the access they were given.

-- insert_oauth_client
INSERT INTO oauth_client (id, name, organisation_id, label, scopes, digest, created_at)
SELECT ?1, ?2, o.id, ?4, ?5, ?6, ?7 FROM organisation o
 WHERE o.id = ?3 AND (SELECT count(*) FROM oauth_client c WHERE c.organisation_id = ?3) < ?8
RETURNING id;

-- oauth_client_by_name
-- The digest of its secret comes last.
SELECT c.id, c.name, c.label, c.scopes, c.created_at, c.last_used_at,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       c.digest
  FROM oauth_client c JOIN organisation o ON o.id = c.organisation_id
 WHERE c.name = ?1 AND o.path LIKE ?2;

-- oauth_clients
SELECT c.id, c.name, c.label, c.scopes, c.created_at, c.last_used_at,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version
  FROM oauth_client c JOIN organisation o ON o.id = c.organisation_id
 WHERE c.id > ?2 AND o.path LIKE ?1 ORDER BY c.id LIMIT ?3;

-- use_oauth_client
UPDATE oauth_client SET last_used_at = ?2 WHERE id = ?1 RETURNING name;

-- remove_oauth_client
DELETE FROM oauth_client WHERE id = ?1 RETURNING id;

-- end_grants_of_client
DELETE FROM oauth_grant WHERE client_id = ?1;

-- insert_oauth_grant
INSERT INTO oauth_grant
    (id, client_id, user_id, access_digest, refresh_digest, created_at, access_until, refresh_until)
VALUES (*);

-- end_oldest_grants
DELETE FROM oauth_grant
 WHERE client_id = ?1
   AND id <= (SELECT g.id FROM oauth_grant g WHERE g.client_id = ?1
               ORDER BY g.id DESC LIMIT 1 OFFSET ?2);

-- take_grant
-- Whoever deletes it may have the next one.
DELETE FROM oauth_grant
 WHERE refresh_digest = ?1 AND client_id = ?2 AND refresh_until > ?3
RETURNING user_id;

-- find_grant
-- The columns of `oauth_clients`, when it ends, and those of `known_user`: NULL without a user.
SELECT c.id, c.name, c.label, c.scopes, c.created_at, c.last_used_at,
       co.id, co.uuid, co.name, co.path, co.parent_id, co.created_at, co.info, co.version,
       g.access_until,
       u.id, u.uuid, u.organisation_id, u.email, u.role, u.first_name, u.last_name, u.enabled,
       u.password_until, u.last_login_at, u.created_at, u.info, u.version,
       o.id, o.uuid, o.name, o.path, o.parent_id, o.created_at, o.info, o.version,
       u.password_hash,
       (SELECT r.permissions FROM role r JOIN organisation a ON a.id = r.organisation_id
         WHERE r.name = u.role AND o.path LIKE a.path || '%' LIMIT 1)
  FROM oauth_grant g
  JOIN oauth_client c ON c.id = g.client_id
  JOIN organisation co ON co.id = c.organisation_id
  LEFT JOIN user_account u ON u.id = g.user_id
  LEFT JOIN organisation o ON o.id = u.organisation_id
 WHERE g.access_digest = ?1 AND g.access_until > ?2 AND (g.user_id IS NULL OR u.enabled = 1);

-- end_grant
DELETE FROM oauth_grant
 WHERE client_id = ?1 AND (access_digest = ?2 OR refresh_digest = ?3)
RETURNING user_id;

-- end_grants_of_user
DELETE FROM oauth_grant WHERE user_id = ?1;

-- end_grants_of_organisation
DELETE FROM oauth_grant
 WHERE client_id IN (SELECT id FROM oauth_client WHERE organisation_id = ?1);

-- remove_oauth_clients_of_organisation
DELETE FROM oauth_client WHERE organisation_id = ?1 RETURNING id, name, label;

-- forget_grants
DELETE FROM oauth_grant
 WHERE id IN (SELECT id FROM oauth_grant WHERE refresh_until <= ?1 AND access_until <= ?1
               LIMIT ?2)
RETURNING id;
