-- People: the tree of organisations, users, roles, keys for scripts, groups of devices; and the chain
-- that ties each event to the one before it. Where `uuid` is NULL, opening the store fills it in.

-- `path` is the numbers from the root down to it: what begins with it is at or below it.
ALTER TABLE organisation ADD COLUMN uuid BLOB;
ALTER TABLE organisation ADD COLUMN path TEXT NOT NULL DEFAULT '/1/';
ALTER TABLE organisation ADD COLUMN info TEXT NOT NULL DEFAULT '{}';
ALTER TABLE organisation ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
UPDATE organisation SET path = '/1/' || id || '/' WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX organisation_uuid ON organisation (uuid);
CREATE INDEX organisation_path ON organisation (path);

-- `role` is the name of a built-in one, or of one in `role`. `password_until`: an initial password is
-- good so long, NULL: for ever.
ALTER TABLE user_account ADD COLUMN uuid BLOB;
ALTER TABLE user_account ADD COLUMN first_name TEXT NOT NULL DEFAULT '';
ALTER TABLE user_account ADD COLUMN last_name TEXT NOT NULL DEFAULT '';
ALTER TABLE user_account ADD COLUMN role TEXT NOT NULL DEFAULT 'CUSTOMER_USER';
ALTER TABLE user_account ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE user_account ADD COLUMN password_until INTEGER;
ALTER TABLE user_account ADD COLUMN last_login_at INTEGER;
ALTER TABLE user_account ADD COLUMN info TEXT NOT NULL DEFAULT '{}';
ALTER TABLE user_account ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX user_uuid ON user_account (uuid);
CREATE INDEX user_of_organisation ON user_account (organisation_id, id);

CREATE TABLE user_session (
    id         BLOB    PRIMARY KEY,     -- a UUID, in the tokens of the session
    user_id    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX user_session_of_user ON user_session (user_id);
CREATE INDEX user_session_ends ON user_session (expires_at);

-- `permissions` is a JSON list, a subset of its user's; NULL: all of them.
CREATE TABLE api_key (
    id           INTEGER PRIMARY KEY,   -- from `sequence`, never used again
    uuid         BLOB    NOT NULL UNIQUE,
    user_id      INTEGER NOT NULL,
    label        TEXT    NOT NULL,
    digest       BLOB    NOT NULL UNIQUE,
    permissions  TEXT,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
);
CREATE INDEX api_key_of_user ON api_key (user_id);

CREATE TABLE role (
    id              INTEGER PRIMARY KEY,    -- from `sequence`, never used again
    uuid            BLOB    NOT NULL UNIQUE,
    organisation_id INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    permissions     TEXT    NOT NULL,       -- JSON list
    created_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL DEFAULT 1,
    UNIQUE (organisation_id, name)
);
CREATE INDEX role_named ON role (name);

-- `info` is what a profile, or a device, carries for its readers: JSON, unread by the core. A profile
-- that is `provision_only` admits devices of others and stands in no list of profiles.
ALTER TABLE device_profile ADD COLUMN uuid BLOB;
ALTER TABLE device_profile ADD COLUMN is_default INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device_profile ADD COLUMN info TEXT NOT NULL DEFAULT '{}';
ALTER TABLE device_profile ADD COLUMN provision_only INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX device_profile_uuid ON device_profile (uuid);
CREATE UNIQUE INDEX device_profile_default ON device_profile (organisation_id) WHERE is_default = 1;

ALTER TABLE device ADD COLUMN label TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN info TEXT NOT NULL DEFAULT '{}';
ALTER TABLE device ADD COLUMN owner_id INTEGER;     -- the user it belongs to
ALTER TABLE device ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
CREATE INDEX device_of_customer ON device (customer_id);
CREATE INDEX device_of_owner ON device (owner_id, id) WHERE owner_id IS NOT NULL;
-- Pages of devices in the order of labels, of profiles, of customers; and, below the root, of those
-- that an organisation has.
CREATE INDEX device_by_label ON device (label);
CREATE INDEX device_profile_by_name ON device_profile (name);
CREATE INDEX organisation_by_name ON organisation (name);
CREATE INDEX device_below_root ON device (coalesce(customer_id, organisation_id))
 WHERE coalesce(customer_id, organisation_id) <> 1;
CREATE INDEX device_below_root_by_name ON device (coalesce(customer_id, organisation_id), name)
 WHERE coalesce(customer_id, organisation_id) <> 1;

-- The trigrams of names and labels, filled behind the traffic: `sequence` says how far. A device that
-- is gone, or has another name by now, stays in it; who searches looks at the device itself.
CREATE VIRTUAL TABLE device_search USING fts5
    (words, content = '', columnsize = 0, detail = none, tokenize = 'trigram');
CREATE VIRTUAL TABLE device_search_term USING fts5vocab (device_search, row);
INSERT INTO sequence (name, last) VALUES ('search', 0);

CREATE TABLE device_group (
    id              INTEGER PRIMARY KEY,    -- from `sequence`, never used again
    uuid            BLOB    NOT NULL UNIQUE,
    organisation_id INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    UNIQUE (organisation_id, name)
);
CREATE TABLE device_group_member (
    group_id  INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    PRIMARY KEY (group_id, device_id)
) WITHOUT ROWID;
CREATE INDEX device_group_of_device ON device_group_member (device_id);

-- Files that are imported. `fingerprint` is of the content and of how it is read; `position` the number
-- of the last row that is done. `tally` and `pending` (what was rejected since the file of rejects had
-- `rejects_bytes`) are JSON. NULL in `ended_at`: it is under way, or was left.
CREATE TABLE import_job (
    id            INTEGER PRIMARY KEY,  -- from `sequence`, never used again
    fingerprint   BLOB    NOT NULL UNIQUE,
    source        TEXT    NOT NULL,
    position      INTEGER NOT NULL DEFAULT 0,
    tally         TEXT    NOT NULL DEFAULT '{}',
    rejects_bytes INTEGER NOT NULL DEFAULT 0,
    pending       TEXT    NOT NULL DEFAULT '[]',
    begun_at      INTEGER NOT NULL,
    ended_at      INTEGER
);

-- `previous` is the SHA-256 of the event before; NULL: it is older than the chain. `event_chain` has
-- one row: the newest event's number and digest, those of the last event that is no longer there (or
-- is older than the chain), and a keyed digest of all four. Numbers have no gaps.
ALTER TABLE event ADD COLUMN actor TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN object TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN previous BLOB;
CREATE INDEX event_of_actor ON event (actor, seq) WHERE actor <> '';
CREATE INDEX event_of_object ON event (object, seq) WHERE object <> '';
CREATE TABLE event_chain (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    seq          INTEGER NOT NULL,
    digest       BLOB NOT NULL,
    after_seq    INTEGER NOT NULL,
    after_digest BLOB NOT NULL,
    mac          BLOB NOT NULL
);

-- Devices with what people see of them; `holder` is the organisation that has it now.
CREATE VIEW device_record AS
SELECT d.id, d.uuid, d.name, d.type, d.profile_id, d.organisation_id, d.gateway,
       d.provision_state, d.created_at, d.customer_id, d.creator_id, p.revision, c.generation,
       p.transport, p.name AS profile_name, p.uuid AS profile_uuid, c.type AS credentials_type,
       d.label, d.info, d.version, d.owner_id, o.uuid AS holder_uuid, o.name AS holder_name,
       o.path AS holder_path
  FROM device d
  JOIN credentials c ON c.device_id = d.id
  JOIN device_profile p ON p.id = d.profile_id
  JOIN organisation o ON o.id = coalesce(d.customer_id, d.organisation_id);

-- Events with what their readers want to know: the device and whose it is, the person and where it
-- stands. `word` is what is filtered by: the kind, the outcome, and whether a customer was given.
CREATE VIEW audit_entry AS
SELECT e.seq, e.at, e.kind, e.outcome, e.reason, e.device_id, e.subject, e.wire, e.address, e.detail,
       e.actor, e.request, e.object, d.uuid AS device_uuid, d.owner_id, o.path AS device_path,
       c.uuid AS customer_uuid, u.uuid AS user_uuid, u.first_name, u.last_name,
       p.path AS people_path, CASE WHEN p.parent_id IS NOT NULL THEN p.uuid END AS people_uuid,
       e.kind || ' ' || e.outcome ||
       CASE WHEN e.kind = 'device:assign' AND e.detail LIKE '%"customer":%'
                 AND e.detail NOT LIKE '%"customer":""%' THEN ' to' ELSE '' END AS word
  FROM event e
  LEFT JOIN device d ON d.id = e.device_id
  LEFT JOIN organisation o ON o.id = coalesce(d.customer_id, d.organisation_id)
  LEFT JOIN organisation c ON c.id = d.customer_id
  LEFT JOIN user_account u ON u.email = e.actor AND e.actor <> ''
  LEFT JOIN organisation p ON p.id = u.organisation_id;

INSERT INTO sequence (name, last)
VALUES ('organisation', (SELECT max(id) FROM organisation)),
       ('user', (SELECT coalesce(max(id), 0) FROM user_account)),
       ('api_key', 0), ('role', 0), ('group', 0), ('import', 0);
