-- Certificates: authorities of ours, what they signed, the keys that were certified, and credentials
-- that were given and not used yet.

-- The key is sealed and bound to the certificate; NULL: it is kept elsewhere.
CREATE TABLE authority (
    id          BIGINT PRIMARY KEY,    -- from `sequence`, never used again
    role        TEXT   NOT NULL CHECK (role IN ('root', 'issuing')),
    certificate BYTEA  NOT NULL,       -- DER
    sealed_key  BYTEA,
    active      BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX authority_active ON authority (role) WHERE active = 1;

-- `serial` is 20 bytes, written before anything is signed with it. `device_id` and `digest` (that of
-- the credentials) come when it is issued. `not_after` of a reservation is when it is forgotten.
-- `key_digest` NULL: its key was given back.
CREATE TABLE certificate (
    serial          BYTEA  PRIMARY KEY,
    authority_id    BIGINT NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('reserved', 'issued', 'revoked')),
    organisation_id BIGINT NOT NULL,
    name            TEXT   COLLATE "C" NOT NULL,
    key_digest      BYTEA,
    device_id       BIGINT,
    digest          BYTEA,
    created_at      BIGINT NOT NULL,
    not_after       BIGINT NOT NULL,
    revoked_at      BIGINT NOT NULL DEFAULT 0,
    reason          BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX certificate_reserved ON certificate (not_after) WHERE state = 'reserved';
CREATE INDEX certificate_issued ON certificate (not_after) WHERE state = 'issued';
CREATE INDEX certificate_revoked ON certificate (not_after) WHERE state = 'revoked';
CREATE INDEX certificate_of_device ON certificate (device_id, created_at)
 WHERE device_id IS NOT NULL;

-- Whose key it is, by SHA-256. `holds` is how many rows of `certificate` have it: with the last of
-- them it goes.
CREATE TABLE certified_key (
    digest          BYTEA  PRIMARY KEY,
    organisation_id BIGINT NOT NULL,
    name            TEXT   COLLATE "C" NOT NULL,
    holds           BIGINT NOT NULL
);

-- Those of a renewal: they become the device's with their first use.
CREATE TABLE pending_credentials (
    device_id  BIGINT PRIMARY KEY,
    type       TEXT   NOT NULL,
    digest     BYTEA  NOT NULL UNIQUE,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

-- The numbers of revocation lists are in `sequence` too, one row for each authority.
INSERT INTO sequence (name, last) VALUES ('authority', 0);
