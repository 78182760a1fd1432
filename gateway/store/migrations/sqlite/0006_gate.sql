-- Fleet secrets as managed things, answers that may be repeated, and who may come.

-- A fleet's pair. `label` names it within its profile; `uses` are counted where `max_uses` bounds
-- them; `networks` is a JSON list; `derived`: `sealed_secret` is a group secret, of which devices
-- show keys of their own.
ALTER TABLE ticket ADD COLUMN label TEXT NOT NULL DEFAULT 'default';
ALTER TABLE ticket ADD COLUMN not_before INTEGER;
ALTER TABLE ticket ADD COLUMN max_uses INTEGER;
ALTER TABLE ticket ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ticket ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE ticket ADD COLUMN derived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ticket ADD COLUMN quarantined_since INTEGER;
ALTER TABLE ticket ADD COLUMN revoked_at INTEGER;
ALTER TABLE ticket ADD COLUMN last_used_at INTEGER;
CREATE UNIQUE INDEX ticket_label ON ticket (profile_id, label) WHERE kind = 'fleet';

-- Which ticket bore the device, or was its claim's; `provisioned_at` NULL: it was born then. When
-- `expires_at` is over it is removed.
ALTER TABLE device ADD COLUMN ticket_id INTEGER;
ALTER TABLE device ADD COLUMN provisioned_at INTEGER;
ALTER TABLE device ADD COLUMN expires_at INTEGER;
CREATE INDEX device_ends ON device (expires_at) WHERE expires_at IS NOT NULL;

-- Whose provisioning may be repeated, until when, by whoever makes the same digest of ticket, name
-- and what binds it. The row goes with the first use of the credential.
CREATE TABLE retry_window (
    device_id INTEGER PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    until     INTEGER NOT NULL
);
CREATE INDEX retry_window_ends ON retry_window (until);

-- Devices that may be provisioned once more. `digest` is that of a claim code; NULL: an operator's
-- word is enough.
CREATE TABLE rearmed_device (
    device_id INTEGER PRIMARY KEY,
    digest    BLOB,
    until     INTEGER NOT NULL
);

-- How often a device was provisioned anew: the GCRA's theoretical arrival time.
CREATE TABLE reprovisioning (
    device_id INTEGER PRIMARY KEY,
    due       INTEGER NOT NULL
);

-- Allow-lists and deny-lists of profiles. `kind`: 'name', 'serial' or 'mac'.
CREATE TABLE admission_entry (
    profile_id INTEGER NOT NULL,
    denied     INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (profile_id, denied, kind, value)
) WITHOUT ROWID;

-- Devices that wait for an operator's word. `kind`: 'birth' or 'reprovisioning'; `digest` is what
-- binds the request (empty: nothing does); `hardware` is JSON; `state`: 'waiting', 'approved' or
-- 'denied'.
CREATE TABLE approval (
    id              INTEGER PRIMARY KEY,    -- from `sequence`, never used again
    organisation_id INTEGER NOT NULL,
    profile_id      INTEGER NOT NULL REFERENCES device_profile (id) ON DELETE CASCADE,
    name            TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('birth', 'reprovisioning')),
    digest          BLOB    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'approved', 'denied')),
    wire            TEXT    NOT NULL,
    address         TEXT    NOT NULL,
    hardware        TEXT    NOT NULL,
    asked_at        INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    tries           INTEGER NOT NULL,
    decided_by      TEXT    NOT NULL DEFAULT '',
    decided_at      INTEGER,
    UNIQUE (organisation_id, name, kind)
);
CREATE INDEX approval_of_profile ON approval (profile_id, state, id);

-- Events that are still to be told to a profile's after-hook. `state`: 'waiting' or 'dead'; the
-- place the events were read up to is in `sequence`.
CREATE TABLE hook_delivery (
    profile_id INTEGER NOT NULL,
    event_seq  INTEGER NOT NULL,
    device_id  INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('waiting', 'dead')),
    body       TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER NOT NULL,
    taken_until INTEGER NOT NULL DEFAULT 0,
    reason     TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (profile_id, event_seq)
) WITHOUT ROWID;
CREATE INDEX hook_delivery_due ON hook_delivery (state, next_at);
CREATE INDEX hook_delivery_of_device ON hook_delivery (device_id, event_seq);

INSERT INTO sequence (name, last) VALUES ('approval', 0), ('hook', 0);
