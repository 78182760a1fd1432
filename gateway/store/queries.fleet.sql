-- The statements of queries.sql, continued: children, claims, calls, packages, presence, notices.

-- ── children of gateways ────────────────────────────────────────────────────────────────────

-- child_named
-- Whether it is suspended comes last.
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, p.settings,
       EXISTS (SELECT 1 FROM ticket t
                WHERE t.id = d.ticket_id
                  AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at))
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.organisation_id = ?1 AND d.name = ?2;

-- children_named
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, p.settings,
       EXISTS (SELECT 1 FROM ticket t
                WHERE t.id = d.ticket_id
                  AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at))
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
 WHERE d.organisation_id = ?1 AND d.name IN texts(?2);

-- ── claims ──────────────────────────────────────────────────────────────────────────────────

-- claiming
SELECT d.customer_id, p.settings
  FROM device d JOIN device_profile p ON p.id = d.profile_id
 WHERE d.id = ?1;

-- attribute
SELECT kind, whole, real, text FROM attribute WHERE device_id = ?1 AND scope = ?2 AND key = ?3;

-- delete_attribute
DELETE FROM attribute WHERE device_id = ?1 AND scope = ?2 AND key = ?3;

-- offer_claim
INSERT INTO claim (device_id, digest, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (device_id) DO UPDATE
   SET digest = excluded.digest, expires_at = excluded.expires_at
 WHERE claim.expires_at <= ?4
RETURNING device_id;

-- stored_claim
SELECT digest, expires_at FROM claim WHERE device_id = ?1;

-- delete_claim
DELETE FROM claim WHERE device_id = ?1;

-- forget_claims
DELETE FROM claim
 WHERE device_id IN (SELECT device_id FROM claim WHERE expires_at <= ?1 LIMIT ?2)
RETURNING device_id;

-- customer_name
SELECT name FROM organisation WHERE id = ?1;

-- give_to_customer
UPDATE device SET customer_id = ?2, owner_id = ?3, version = version + 1
 WHERE id = ?1 AND customer_id IS NULL
RETURNING id;

-- take_from_customer
UPDATE device SET customer_id = NULL, owner_id = NULL, version = version + 1
 WHERE id = ?1 AND customer_id IS NOT NULL
RETURNING id;

-- ── calls ───────────────────────────────────────────────────────────────────────────────────

-- insert_calls
INSERT INTO rpc_call
    (id, uuid, device_id, method, params, two_way, persistent, created_at, expires_at, retries,
     state, response)
VALUES (*);

-- has_waiting_call
SELECT 1 FROM rpc_call
 WHERE device_id = ?1 AND state IN ('QUEUED', 'SENT') AND expires_at > ?2
   AND persistent = 1 LIMIT 1;

-- waiting_calls
SELECT id, uuid, device_id, method, params, two_way, persistent, created_at, expires_at, retries,
       state, response
  FROM rpc_call
 WHERE device_id = ?1 AND state IN ('QUEUED', 'SENT') AND expires_at > ?2
   AND persistent = 1
 ORDER BY id LIMIT ?3;

-- stored_call
SELECT id, uuid, device_id, method, params, two_way, persistent, created_at, expires_at, retries,
       state, response
  FROM rpc_call WHERE id = ?1;

-- calls
SELECT id, uuid, device_id, method, params, two_way, persistent, created_at, expires_at, retries,
       state, response
  FROM rpc_call WHERE device_id = ?1 ORDER BY id DESC LIMIT ?2;

-- mark_call
UPDATE rpc_call SET state = ?2, response = coalesce(?4, response)
 WHERE id = ?1
   AND CASE state WHEN 'QUEUED' THEN 0 WHEN 'SENT' THEN 1 WHEN 'DELIVERED' THEN 2 ELSE 3 END < ?3
RETURNING id;

-- overdue_call
SELECT 1 FROM rpc_call
 WHERE state IN ('QUEUED', 'SENT', 'DELIVERED') AND expires_at <= ?1 LIMIT 1;

-- end_calls
UPDATE rpc_call SET state = CASE state WHEN 'DELIVERED' THEN 'TIMEOUT' ELSE 'EXPIRED' END
 WHERE id IN (SELECT id FROM rpc_call
               WHERE state IN ('QUEUED', 'SENT', 'DELIVERED') AND expires_at <= ?1
               ORDER BY expires_at LIMIT ?2)
RETURNING id;

-- forget_calls
DELETE FROM rpc_call
 WHERE id IN (SELECT id FROM rpc_call
               WHERE state NOT IN ('QUEUED', 'SENT', 'DELIVERED')
                 AND persistent = ?1 AND expires_at < ?2 LIMIT ?3)
RETURNING id;

-- delete_calls
DELETE FROM rpc_call WHERE device_id = ?1;

-- ── packages ────────────────────────────────────────────────────────────────────────────────

-- insert_packages
INSERT INTO package
    (id, kind, title, version, tag, size, checksum, algorithm, file_name, file, url, created_at)
VALUES (*)
ON CONFLICT (kind, title, version) DO NOTHING;

-- packages
SELECT id, kind, title, version, tag, size, checksum, algorithm, file_name, file, url, created_at
  FROM package ORDER BY kind, title, version;

-- remove_package
DELETE FROM package
 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM package_assignment WHERE package_id = ?1)
RETURNING id;

-- delete_downloads_of_package
DELETE FROM download WHERE package_id = ?1;

-- assign_package
INSERT INTO package_assignment (target, target_id, kind, package_id, assigned_at)
SELECT ?1, ?2, ?3, p.id, ?5 FROM package p WHERE p.id = ?4 AND p.kind = ?3
ON CONFLICT (target, target_id, kind) DO UPDATE
   SET package_id = excluded.package_id, assigned_at = excluded.assigned_at
RETURNING package_id;

-- withdraw_package
DELETE FROM package_assignment WHERE target = ?1 AND target_id = ?2 AND kind = ?3
RETURNING package_id;

-- count_own_packages
SELECT count(*) FROM package_assignment a JOIN device d ON d.id = a.target_id
 WHERE a.target = 'device' AND a.kind = ?2 AND d.profile_id = ?1;

-- tell_of_package
INSERT INTO notice (seq, at, kind, device_id, body)
SELECT ?1 + row_number() OVER (ORDER BY d.id), ?2, 'package', d.id, ?3
  FROM device d
 WHERE d.profile_id = ?4
   AND NOT EXISTS (SELECT 1 FROM package_assignment a
                    WHERE a.target = 'device' AND a.target_id = d.id AND a.kind = ?5);

-- delete_assignments
DELETE FROM package_assignment WHERE target = ?1 AND target_id = ?2;

-- has_package
SELECT 1 FROM package_assignment
 WHERE (target = 'device' AND target_id = ?1) OR (target = 'profile' AND target_id = ?2) LIMIT 1;

-- packages_for
SELECT a.target, a.assigned_at,
       p.id, p.kind, p.title, p.version, p.tag, p.size, p.checksum, p.algorithm, p.file_name,
       p.file, p.url, p.created_at
  FROM package_assignment a JOIN package p ON p.id = a.package_id
 WHERE (a.target = 'device' AND a.target_id = ?1) OR (a.target = 'profile' AND a.target_id = ?2)
 ORDER BY a.target DESC;

-- package_for
-- Its own, else that of its profile.
SELECT p.id, p.kind, p.title, p.version, p.tag, p.size, p.checksum, p.algorithm, p.file_name,
       p.file, p.url, p.created_at
  FROM package p
 WHERE p.id = coalesce(
       (SELECT a.package_id FROM package_assignment a
         WHERE a.target = 'device' AND a.target_id = ?1 AND a.kind = ?3),
       (SELECT a.package_id FROM package_assignment a
         WHERE a.target = 'profile' AND a.target_id = ?2 AND a.kind = ?3));

-- insert_downloads
INSERT INTO download (device_id, kind, package_id, sent, at)
VALUES (*)
ON CONFLICT (device_id, kind) DO UPDATE
   SET package_id = excluded.package_id, sent = excluded.sent, at = excluded.at
 WHERE excluded.at >= download.at;

-- downloads
SELECT kind, package_id, sent, at FROM download WHERE device_id = ?1 ORDER BY kind;

-- delete_downloads
DELETE FROM download WHERE device_id = ?1;

-- ── presence ────────────────────────────────────────────────────────────────────────────────

-- insert_presence
-- That a session ended on one node says nothing about a newer one on another.
INSERT INTO presence
    (device_id, node, online, connected_at, disconnected_at, active_at, wire, address, gateway_id)
VALUES (*)
ON CONFLICT (device_id) DO UPDATE
   SET node = CASE WHEN excluded.online = 1 THEN excluded.node ELSE presence.node END,
       online = CASE WHEN excluded.online = 0 AND presence.node <> excluded.node
                     THEN presence.online ELSE coalesce(excluded.online, presence.online) END,
       connected_at = coalesce(excluded.connected_at, presence.connected_at),
       disconnected_at = CASE WHEN excluded.online = 0 AND presence.online = 1
                                   AND presence.node <> excluded.node
                              THEN presence.disconnected_at
                              ELSE coalesce(excluded.disconnected_at, presence.disconnected_at) END,
       active_at = CASE WHEN excluded.active_at > presence.active_at
                        THEN excluded.active_at ELSE presence.active_at END,
       wire = coalesce(excluded.wire, presence.wire),
       address = coalesce(excluded.address, presence.address),
       gateway_id = coalesce(excluded.gateway_id, presence.gateway_id);

-- presence
SELECT r.device_id, r.online, n.seen_at, r.connected_at, r.disconnected_at, r.active_at, r.wire,
       r.address, r.gateway_id
  FROM presence r LEFT JOIN node n ON n.number = r.node
 WHERE r.device_id IN numbers(?1);

-- elsewhere
SELECT 1 FROM presence r JOIN node n ON n.number = r.node
 WHERE r.device_id = ?1 AND r.online = 1 AND r.node <> ?2 AND n.seen_at >= ?3;

-- delete_presence
DELETE FROM presence WHERE device_id = ?1;

-- node_lives
INSERT INTO node (number, seen_at) VALUES (?1, ?2)
ON CONFLICT (number) DO UPDATE SET seen_at = excluded.seen_at WHERE excluded.seen_at > node.seen_at;

-- forget_nodes
DELETE FROM node WHERE seen_at < ?1 RETURNING number;

-- leave_nodes
UPDATE presence SET online = 0
 WHERE online = 1 AND NOT EXISTS (SELECT 1 FROM node WHERE number = presence.node);

-- ── notices ─────────────────────────────────────────────────────────────────────────────────

-- insert_notices
INSERT INTO notice (seq, at, kind, device_id, profile_id, body)
VALUES (*);

-- last_notice
SELECT last FROM sequence WHERE name = 'notice';

-- notices
SELECT seq, at, kind, device_id, profile_id, body
  FROM notice WHERE seq > ?1 ORDER BY seq LIMIT ?2;

-- forget_notices
-- The newest stays, so that who missed some sees that it did.
DELETE FROM notice
 WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM notice ORDER BY seq LIMIT ?2) AS oldest
                WHERE at < ?1)
   AND seq < (SELECT max(seq) FROM notice)
RETURNING seq;
