-- What the device API has beyond provisioning and telemetry: children of gateways, claims, calls,
-- packages, presence, and the notices by which running gateways hear of changes.

ALTER TABLE device ADD COLUMN customer_id BIGINT; -- the organisation it was claimed for
ALTER TABLE device ADD COLUMN creator_id BIGINT;  -- the gateway that first mentioned it

CREATE INDEX device_of_profile ON device (profile_id, id);
CREATE INDEX event_of_device ON event (device_id, seq);
CREATE UNIQUE INDEX organisation_named ON organisation (parent_id, name);

-- `seq` is from `sequence`, whose row is held until the commit: the order of the numbers is the
-- order of the commits, with any number of processes.
CREATE TABLE notice (
    seq        BIGINT PRIMARY KEY,
    at         BIGINT  NOT NULL,
    kind       TEXT    NOT NULL,
    device_id  BIGINT,
    profile_id BIGINT,
    body       TEXT    NOT NULL         -- JSON, or nothing
);

CREATE TABLE rpc_call (
    id         BIGINT PRIMARY KEY,      -- from `sequence`, never used again
    uuid       BYTEA   NOT NULL UNIQUE,
    device_id  BIGINT  NOT NULL,
    method     TEXT    NOT NULL,
    params     TEXT    NOT NULL,        -- JSON, as is `response`
    two_way    BIGINT  NOT NULL,
    persistent BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    retries    BIGINT  NOT NULL,
    state      TEXT    NOT NULL,
    response   TEXT
);
CREATE INDEX rpc_call_of_device ON rpc_call (device_id, id);
CREATE INDEX rpc_call_waiting ON rpc_call (device_id, id) WHERE state IN ('QUEUED', 'SENT');
CREATE INDEX rpc_call_open ON rpc_call (expires_at)
 WHERE state IN ('QUEUED', 'SENT', 'DELIVERED');
CREATE INDEX rpc_call_final ON rpc_call (persistent, expires_at)
 WHERE state NOT IN ('QUEUED', 'SENT', 'DELIVERED');

-- `digest` is keyed and bound to the device; the claim key itself is kept nowhere.
CREATE TABLE claim (
    device_id  BIGINT PRIMARY KEY,
    digest     BYTEA   NOT NULL,
    expires_at BIGINT  NOT NULL
);

CREATE TABLE package (
    id         BIGINT PRIMARY KEY,      -- from `sequence`, never used again
    kind       TEXT    NOT NULL CHECK (kind IN ('fw', 'sw')),
    title      TEXT COLLATE "C" NOT NULL,
    version    TEXT COLLATE "C" NOT NULL,
    tag        TEXT    NOT NULL,
    size       BIGINT  NOT NULL,
    checksum   TEXT    NOT NULL,
    algorithm  TEXT    NOT NULL,
    file_name  TEXT    NOT NULL,
    file       TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    UNIQUE (kind, title, version)
);

-- What a device, or all devices of a profile, are to run; a device's own stands above.
CREATE TABLE package_assignment (
    target      TEXT    NOT NULL CHECK (target IN ('device', 'profile')),
    target_id   BIGINT  NOT NULL,
    kind        TEXT    NOT NULL,
    package_id  BIGINT  NOT NULL,
    assigned_at BIGINT  NOT NULL,
    PRIMARY KEY (target, target_id, kind)
);
CREATE INDEX package_assignment_package ON package_assignment (package_id);

CREATE TABLE download (
    device_id  BIGINT  NOT NULL,
    kind       TEXT    NOT NULL,
    package_id BIGINT  NOT NULL,
    sent       BIGINT  NOT NULL,
    at         BIGINT  NOT NULL,
    PRIMARY KEY (device_id, kind)
);

-- NULL: not known. `node` is the process that holds the session, or held the last one.
CREATE TABLE presence (
    device_id       BIGINT PRIMARY KEY,
    node            BIGINT  NOT NULL,
    online          BIGINT,
    connected_at    BIGINT,
    disconnected_at BIGINT,
    active_at       BIGINT  NOT NULL,
    wire            TEXT,
    address         TEXT,
    gateway_id      BIGINT
);
CREATE INDEX presence_online ON presence (device_id) WHERE online = 1;

-- The gateway processes, and when each last said that it lives.
CREATE TABLE node (
    number  BIGINT PRIMARY KEY,         -- from `sequence`, never used again
    seen_at BIGINT  NOT NULL
);

INSERT INTO sequence (name, last) VALUES ('notice', 0), ('call', 0), ('package', 0), ('node', 0);
