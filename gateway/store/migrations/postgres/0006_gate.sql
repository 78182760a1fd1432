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
-- and what binds it. `closed`: no more, since the credential was used or changed; until then the
-- same request gives birth to no other device either.
CREATE TABLE retry_window (
    device_id BIGINT   PRIMARY KEY,
    digest    BYTEA    NOT NULL UNIQUE,
    until     BIGINT   NOT NULL,
    closed    SMALLINT NOT NULL DEFAULT 0
);
CREATE INDEX retry_window_ends ON retry_window (until);

-- Devices that may be provisioned once more. `digest` is that of a claim code; NULL: an operator's
-- word is enough.
CREATE TABLE rearmed_device (
    device_id BIGINT PRIMARY KEY,
    digest    BYTEA,
    until     BIGINT NOT NULL
);
CREATE INDEX rearmed_device_ends ON rearmed_device (until);

-- How often a device was provisioned anew, for each period (ms) of its profile's rate: the GCRA's
-- theoretical arrival time.
CREATE TABLE reprovisioning (
    device_id BIGINT NOT NULL,
    period    BIGINT NOT NULL,
    due       BIGINT NOT NULL,
    PRIMARY KEY (device_id, period)
);
CREATE INDEX reprovisioning_due ON reprovisioning (due);

-- Devices whose readings up to `until` are being forgotten.
CREATE TABLE forgetting (
    device_id BIGINT PRIMARY KEY,
    until     BIGINT NOT NULL
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

-- How many devices there are in a profile or an organisation whose number is bounded: `devices` of
-- those numbered up to `up_to`. The younger are counted when one more is born.
CREATE TABLE counted_place (
    kind     TEXT   NOT NULL CHECK (kind IN ('profile', 'organisation')),
    place_id BIGINT NOT NULL,
    devices  BIGINT NOT NULL DEFAULT 0,
    up_to    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, place_id)
);
CREATE FUNCTION count_device_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE counted_place SET devices = devices - 1
     WHERE up_to >= old.id AND (kind = 'profile' AND place_id = old.profile_id
                                OR kind = 'organisation' AND place_id = old.organisation_id);
    RETURN NULL;
END $$;
CREATE FUNCTION count_device_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE counted_place SET devices = devices + 1
     WHERE up_to >= new.id AND (kind = 'profile' AND place_id = new.profile_id
                                OR kind = 'organisation' AND place_id = new.organisation_id);
    RETURN NULL;
END $$;
CREATE TRIGGER device_removed AFTER DELETE ON device
    FOR EACH ROW EXECUTE FUNCTION count_device_out();
CREATE TRIGGER device_moved_away AFTER UPDATE OF profile_id, organisation_id ON device
    FOR EACH ROW WHEN (old.profile_id <> new.profile_id
                       OR old.organisation_id <> new.organisation_id)
    EXECUTE FUNCTION count_device_out();
CREATE TRIGGER device_moved_here AFTER UPDATE OF profile_id, organisation_id ON device
    FOR EACH ROW WHEN (old.profile_id <> new.profile_id
                       OR old.organisation_id <> new.organisation_id)
    EXECUTE FUNCTION count_device_in();

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
CREATE INDEX approval_silent ON approval (last_at);

-- Profiles with an after-hook: up to which event they were told, or have it in `hook_delivery`.
-- `kinds` are those that they want, each between spaces. Written with the profile.
CREATE TABLE hook_place (
    profile_id BIGINT PRIMARY KEY REFERENCES device_profile (id) ON DELETE CASCADE,
    seq        BIGINT NOT NULL,
    kinds      TEXT   NOT NULL
);

-- Devices of such profiles that were removed: whose they were, for the events about them.
CREATE TABLE hook_removed (
    device_id  BIGINT PRIMARY KEY,
    profile_id BIGINT NOT NULL,
    uuid       BYTEA NOT NULL,
    name       TEXT   NOT NULL,
    at         BIGINT NOT NULL
);

-- Events that are still to be told to a profile's after-hook. `state`: 'waiting' or 'dead'; `body`
-- is the JSON that is sent. Who works on one has it alone until `taken_until`.
CREATE TABLE hook_delivery (
    profile_id  BIGINT NOT NULL REFERENCES device_profile (id) ON DELETE CASCADE,
    event_seq   BIGINT NOT NULL,
    device_id   BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('waiting', 'dead')),
    body        TEXT   NOT NULL,
    attempts    BIGINT NOT NULL DEFAULT 0,
    next_at     BIGINT NOT NULL,
    taken_until BIGINT NOT NULL DEFAULT 0,
    reason      TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (profile_id, event_seq)
);
CREATE INDEX hook_delivery_due ON hook_delivery (profile_id, state, next_at);
CREATE INDEX hook_delivery_of_device ON hook_delivery (device_id, state, event_seq);

INSERT INTO sequence (name, last) VALUES ('approval', 0);
