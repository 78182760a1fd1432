-- Conventions: times are milliseconds since the epoch, UTC; flags are 0 or 1; JSON is text.
-- A credential is looked up by a keyed digest and kept sealed; no column holds one in clear.

-- Values about the store itself.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE organisation (
    id         INTEGER PRIMARY KEY,
    parent_id  INTEGER REFERENCES organisation (id),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
);
INSERT INTO organisation (id, parent_id, name, created_at) VALUES (1, NULL, 'root', 0);

CREATE TABLE user_account (
    id              INTEGER PRIMARY KEY,
    organisation_id INTEGER NOT NULL REFERENCES organisation (id),
    email           TEXT    NOT NULL UNIQUE,
    password_hash   TEXT,
    created_at      INTEGER NOT NULL
);

CREATE TABLE device_profile (
    id              INTEGER PRIMARY KEY,        -- from `sequence`, never used again
    organisation_id INTEGER NOT NULL REFERENCES organisation (id),
    name            TEXT    NOT NULL,
    settings        TEXT    NOT NULL,           -- JSON of DeviceProfile, less what has a column
    transport       TEXT    NOT NULL,
    revision        INTEGER NOT NULL DEFAULT 1, -- grows with every change
    created_at      INTEGER NOT NULL,
    UNIQUE (organisation_id, name)
);

-- What admits an unknown device. 'fleet': the key and secret of a profile, for any number of
-- devices. The kinds 'single' and 'rotate' reserve or name one device.
CREATE TABLE ticket (
    id              INTEGER PRIMARY KEY,        -- from `sequence`, never used again
    kind            TEXT    NOT NULL CHECK (kind IN ('fleet', 'single', 'rotate')),
    organisation_id INTEGER NOT NULL REFERENCES organisation (id),
    profile_id      INTEGER REFERENCES device_profile (id) ON DELETE CASCADE,
    device_id       INTEGER,
    owner_id        INTEGER REFERENCES user_account (id),
    digest          BLOB    NOT NULL UNIQUE,    -- of the key, or of the token
    sealed_key      BLOB    NOT NULL,
    sealed_secret   BLOB,
    expires_at      INTEGER,
    created_at      INTEGER NOT NULL
);
CREATE INDEX ticket_profile ON ticket (profile_id);

CREATE TABLE device (
    id              INTEGER PRIMARY KEY,        -- its number; from `sequence`, never reused
    uuid            BLOB    NOT NULL UNIQUE,    -- version 7
    organisation_id INTEGER NOT NULL,
    profile_id      INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    gateway         INTEGER NOT NULL DEFAULT 0,
    provision_state TEXT,                       -- NULL: still waiting for its one claim
    created_at      INTEGER NOT NULL,
    UNIQUE (organisation_id, name)
);

-- `generation` grows with each change, so a session can tell that its login is of yesterday.
CREATE TABLE credentials (
    device_id  INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (device_id, generation)
) WITHOUT ROWID;

CREATE TABLE attribute (
    device_id  INTEGER NOT NULL,
    scope      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    kind       INTEGER NOT NULL,
    whole      INTEGER,
    real       REAL,
    text       TEXT,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (device_id, scope, key)
) WITHOUT ROWID;

CREATE TABLE latest_reading (
    device_id INTEGER NOT NULL,
    key       TEXT    NOT NULL,
    ts        INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    whole     INTEGER,
    real      REAL,
    text      TEXT,
    PRIMARY KEY (device_id, key)
) WITHOUT ROWID;

CREATE TABLE reading (
    device_id INTEGER NOT NULL,
    key       TEXT    NOT NULL,
    ts        INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    whole     INTEGER,
    real      REAL,
    text      TEXT,
    PRIMARY KEY (device_id, key, ts)
) WITHOUT ROWID;

-- What happened: audit log, feed and outbox in one. Written in the transaction it tells of.
CREATE TABLE event (
    seq       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    device_id INTEGER,
    subject   TEXT    NOT NULL,
    wire      TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    detail    TEXT    NOT NULL
);

CREATE TABLE sequence (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO sequence (name, last) VALUES ('device', 0), ('profile', 0), ('ticket', 0);
