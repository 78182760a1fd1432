-- Fleet secrets as managed things, answers that may be repeated, and who may come.

-- A fleet's pair. `label` names it within its profile; `uses` are counted where `max_uses` bounds
-- them; `networks` is a JSON list; `derived`: `sealed_secret` is a group secret, of which devices
-- show keys of their own.
ALTER TABLE ticket ADD COLUMN label TEXT NOT NULL DEFAULT 'default';
ALTER TABLE ticket ADD COLUMN not_before BIGINT;
ALTER TABLE ticket ADD COLUMN max_uses BIGINT;
ALTER TABLE ticket ADD COLUMN uses BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ticket ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE ticket ADD COLUMN derived SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE ticket ADD COLUMN quarantined_since BIGINT;
ALTER TABLE ticket ADD COLUMN revoked_at BIGINT;
ALTER TABLE ticket ADD COLUMN last_used_at BIGINT;
CREATE UNIQUE INDEX ticket_label ON ticket (profile_id, label) WHERE kind = 'fleet';

-- Which ticket bore the device, or was its claim's; `provisioned_at` NULL: it was born then. When
-- `expires_at` is over it is removed.
ALTER TABLE device ADD COLUMN ticket_id BIGINT;
ALTER TABLE device ADD COLUMN provisioned_at BIGINT;
ALTER TABLE device ADD COLUMN expires_at BIGINT;
CREATE INDEX device_ends ON device (expires_at) WHERE expires_at IS NOT NULL;

-- Whose provisioning may be repeated, until when, by whoever makes the same digest of ticket, name
-- and what binds it. The row goes with the first use of the credential.
CREATE TABLE retry_window (
    device_id BIGINT PRIMARY KEY,
    digest    BYTEA    NOT NULL UNIQUE,
    until     BIGINT NOT NULL
);
CREATE INDEX retry_window_ends ON retry_window (until);

-- Devices that may be provisioned once more. `digest` is that of a claim code; NULL: an operator's
-- word is enough.
CREATE TABLE rearmed_device (
    device_id BIGINT PRIMARY KEY,
    digest    BYTEA,
    until     BIGINT NOT NULL
);

-- How often a device was provisioned anew: the GCRA's theoretical arrival time.
CREATE TABLE reprovisioning (
    device_id BIGINT PRIMARY KEY,
    due       BIGINT NOT NULL
);

-- Allow-lists and deny-lists of profiles. `kind`: 'name', 'serial' or 'mac'.
CREATE TABLE admission_entry (
    profile_id BIGINT NOT NULL,
    denied     SMALLINT NOT NULL,
    kind       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    added_at   BIGINT NOT NULL,
    PRIMARY KEY (profile_id, denied, kind, value)
);

-- Devices that wait for an operator's word. `kind`: 'birth' or 'reprovisioning'; `digest` is what
-- binds the request (empty: nothing does); `hardware` is JSON; `state`: 'waiting', 'approved' or
-- 'denied'.
CREATE TABLE approval (
    id              BIGINT PRIMARY KEY,    -- from `sequence`, never used again
    organisation_id BIGINT NOT NULL,
    profile_id      BIGINT NOT NULL REFERENCES device_profile (id) ON DELETE CASCADE,
    name            TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('birth', 'reprovisioning')),
    digest          BYTEA    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'approved', 'denied')),
    wire            TEXT    NOT NULL,
    address         TEXT    NOT NULL,
    hardware        TEXT    NOT NULL,
    asked_at        BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    tries           BIGINT NOT NULL,
    decided_by      TEXT    NOT NULL DEFAULT '',
    decided_at      BIGINT,
    UNIQUE (organisation_id, name, kind)
);
CREATE INDEX approval_of_profile ON approval (profile_id, state, id);

-- Events that are still to be told to a profile's after-hook. `state`: 'waiting' or 'dead'; the
-- place the events were read up to is in `sequence`.
CREATE TABLE hook_delivery (
    profile_id BIGINT NOT NULL,
    event_seq  BIGINT NOT NULL,
    device_id  BIGINT NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('waiting', 'dead')),
    body       TEXT    NOT NULL,
    attempts   BIGINT NOT NULL DEFAULT 0,
    next_at    BIGINT NOT NULL,
    taken_until BIGINT NOT NULL DEFAULT 0,
    reason     TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (profile_id, event_seq)
);
CREATE INDEX hook_delivery_due ON hook_delivery (state, next_at);
CREATE INDEX hook_delivery_of_device ON hook_delivery (device_id, event_seq);

INSERT INTO sequence (name, last) VALUES ('approval', 0), ('hook', 0);
