-- Fleet secrets: kept, bounded, ended, and what they bore. `device.ticket_id` has no index: every
-- birth would write it, and what asks for it is an operator, who can wait for a scan.

-- use_ticket
-- So many of its uses, if they are left.
UPDATE ticket SET uses = uses + ?2
 WHERE id = ?1 AND (max_uses IS NULL OR uses + ?2 <= max_uses)
RETURNING id;

-- note_use
UPDATE ticket SET last_used_at = ?2 WHERE id = ?1 AND coalesce(last_used_at, 0) < ?2;

-- touch_profile_there
UPDATE device_profile SET revision = revision + 1 WHERE id = ?1 RETURNING id;

-- insert_fleet_ticket
INSERT INTO ticket
    (id, kind, organisation_id, profile_id, digest, sealed_key, sealed_secret, created_at, label,
     not_before, expires_at, max_uses, networks, derived)
VALUES (?1, 'fleet', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT DO NOTHING
RETURNING id;

-- fleet_label_taken
SELECT id FROM ticket WHERE profile_id = ?1 AND kind = 'fleet' AND label = ?2;

-- count_fleet_tickets
SELECT count(*) FROM ticket WHERE profile_id = ?1 AND kind = 'fleet' AND revoked_at IS NULL;

-- fleet_tickets
-- The columns of `fleet_ticket`.
SELECT t.id, t.sealed_key, t.sealed_secret, t.label, t.created_at, t.not_before, t.expires_at,
       t.max_uses, t.uses, t.networks, t.derived, t.quarantined_since, t.revoked_at, t.last_used_at,
       p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default,
       p.info, p.created_at
  FROM ticket t
  JOIN device_profile p ON p.id = t.profile_id
  JOIN organisation o ON o.id = p.organisation_id
 WHERE t.kind = 'fleet' AND o.path LIKE ?1
   AND t.profile_id = coalesce(?2, t.profile_id) AND t.label = coalesce(?3, t.label)
   AND t.id > ?4
 ORDER BY t.id LIMIT ?5;

-- fleet_ticket_numbered
-- The columns of `fleet_ticket`.
SELECT t.id, t.sealed_key, t.sealed_secret, t.label, t.created_at, t.not_before, t.expires_at,
       t.max_uses, t.uses, t.networks, t.derived, t.quarantined_since, t.revoked_at, t.last_used_at,
       p.id, p.organisation_id, p.name, p.settings, p.revision, p.uuid, p.is_default,
       p.info, p.created_at
  FROM ticket t
  JOIN device_profile p ON p.id = t.profile_id
  JOIN organisation o ON o.id = p.organisation_id
 WHERE t.id = ?1 AND t.kind = 'fleet' AND o.path LIKE ?2;

-- bound_fleet_ticket
UPDATE ticket SET not_before = ?2, expires_at = ?3, max_uses = ?4, networks = ?5
 WHERE id = ?1 AND kind = 'fleet' AND revoked_at IS NULL
RETURNING profile_id;

-- end_fleet_ticket
UPDATE ticket SET expires_at = CASE WHEN expires_at < ?2 THEN expires_at ELSE ?2 END
 WHERE id = ?1 AND kind = 'fleet' AND revoked_at IS NULL
RETURNING profile_id;

-- revoke_fleet_ticket
UPDATE ticket SET revoked_at = ?2
 WHERE id = ?1 AND kind = 'fleet' AND revoked_at IS NULL
RETURNING profile_id;

-- quarantine_fleet_ticket
UPDATE ticket SET quarantined_since = ?2
 WHERE id = ?1 AND kind = 'fleet'
RETURNING profile_id;

-- release_fleet_ticket
UPDATE ticket SET quarantined_since = NULL
 WHERE id = ?1 AND kind = 'fleet' AND quarantined_since IS NOT NULL
RETURNING profile_id;

-- ── what they bore ──────────────────────────────────────────────────────────────────────────

-- borne_devices
SELECT d.id, d.uuid, d.name, coalesce(d.provisioned_at, d.created_at), r.active_at,
       CASE WHEN t.quarantined_since <= coalesce(d.provisioned_at, d.created_at)
            THEN 1 ELSE 0 END
  FROM device d
  JOIN ticket t ON t.id = d.ticket_id
  LEFT JOIN presence r ON r.device_id = d.id
 WHERE d.ticket_id = ?1 AND coalesce(d.provisioned_at, d.created_at) >= ?2 AND d.id > ?3
 ORDER BY d.id LIMIT ?4;

-- count_borne_devices
SELECT count(*) FROM device
 WHERE ticket_id = ?1 AND coalesce(provisioned_at, created_at) >= ?2;

-- suspended_among
SELECT d.id
  FROM device d JOIN ticket t ON t.id = d.ticket_id
 WHERE d.id IN numbers(?1) AND t.id = ?2
   AND t.quarantined_since <= coalesce(d.provisioned_at, d.created_at);

-- device_lineage
SELECT t.label,
       CASE WHEN t.quarantined_since <= coalesce(d.provisioned_at, d.created_at)
            THEN 1 ELSE 0 END
  FROM device d JOIN ticket t ON t.id = d.ticket_id
 WHERE d.id = ?1 AND t.kind = 'fleet';
