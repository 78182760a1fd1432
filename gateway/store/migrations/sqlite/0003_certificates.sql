-- Certificates: authorities of ours, what they signed, the keys that were certified, and credentials
-- that were given and not used yet.

-- The key is sealed and bound to the certificate; NULL: it is kept elsewhere.
CREATE TABLE authority (
    id          INTEGER PRIMARY KEY,    -- from `sequence`, never used again
    role        TEXT    NOT NULL CHECK (role IN ('root', 'issuing')),
    certificate BLOB    NOT NULL,       -- DER
    sealed_key  BLOB,
    active      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
);
CREATE UNIQUE INDEX authority_active ON authority (role) WHERE active = 1;

-- `serial` is 20 bytes, written before anything is signed with it. `device_id` and `digest` (that of
-- the credentials) come when it is issued. `not_after` of a reservation is when it is forgotten.
-- `key_digest` NULL: its key was given back.
CREATE TABLE certificate (
    serial          BLOB    PRIMARY KEY,
    authority_id    INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('reserved', 'issued', 'revoked')),
    organisation_id INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    key_digest      BLOB,
    device_id       INTEGER,
    digest          BLOB,
    created_at      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    revoked_at      INTEGER NOT NULL DEFAULT 0,
    reason          INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX certificate_reserved ON certificate (not_after) WHERE state = 'reserved';
CREATE INDEX certificate_issued ON certificate (not_after) WHERE state = 'issued';
CREATE INDEX certificate_revoked ON certificate (not_after) WHERE state = 'revoked';
CREATE INDEX certificate_of_device ON certificate (device_id, created_at)
 WHERE device_id IS NOT NULL;

-- Whose key it is, by SHA-256. `holds` is how many rows of `certificate` have it: with the last of
-- them it goes.
CREATE TABLE certified_key (
    digest          BLOB    PRIMARY KEY,
    organisation_id INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    holds           INTEGER NOT NULL
) WITHOUT ROWID;

-- Those of a renewal: they become the device's with their first use.
CREATE TABLE pending_credentials (
    device_id  INTEGER PRIMARY KEY,
    type       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL
);

-- The numbers of revocation lists are in `sequence` too, one row for each authority.
INSERT INTO sequence (name, last) VALUES ('authority', 0);
