-- Tickets of single devices, OAuth clients and what they were given, and pairs of static tokens.

-- `sealed_key` of a ticket of one device is its token, sealed as credentials are: with the claim both
-- columns move there. `issuer` is who asked for it.
ALTER TABLE ticket ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
CREATE INDEX ticket_of_device ON ticket (device_id) WHERE device_id IS NOT NULL;
CREATE INDEX ticket_of_organisation ON ticket (organisation_id, id);
CREATE INDEX ticket_ends ON ticket (expires_at) WHERE expires_at IS NOT NULL;

-- `scopes` is a JSON list, `digest` that of the secret.
CREATE TABLE oauth_client (
    id              BIGINT PRIMARY KEY,     -- from `sequence`, never used again
    name            TEXT    NOT NULL UNIQUE,
    organisation_id BIGINT  NOT NULL,
    label           TEXT    NOT NULL,
    scopes          TEXT    NOT NULL,
    digest          BYTEA   NOT NULL,
    created_at      BIGINT  NOT NULL,
    last_used_at    BIGINT
);
CREATE INDEX oauth_client_of_organisation ON oauth_client (organisation_id);

-- Access that was given; `user_id` NULL: to the client itself. Refreshing takes the row away.
CREATE TABLE oauth_grant (
    id             BIGINT PRIMARY KEY,      -- from `sequence`, never used again
    client_id      BIGINT  NOT NULL,
    user_id        BIGINT,
    access_digest  BYTEA   NOT NULL UNIQUE,
    refresh_digest BYTEA   NOT NULL UNIQUE,
    created_at     BIGINT  NOT NULL,
    access_until   BIGINT  NOT NULL,
    refresh_until  BIGINT  NOT NULL
);
CREATE INDEX oauth_grant_of_client ON oauth_grant (client_id, id);
CREATE INDEX oauth_grant_of_user ON oauth_grant (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX oauth_grant_ends ON oauth_grant (refresh_until);

-- A claim token for people (`claim_digest`, `sealed_claim`) and the token its device was made with
-- (`digest`, `sealed`, as they are in its credentials). `device_id` is the number the device has, or
-- will have. `organisation_id` is who made it; `holder_id`, `owner_id` who claimed it, `claimed_at`
-- NULL: nobody.
CREATE TABLE static_token (
    id              BIGINT PRIMARY KEY,     -- from `sequence`, never used again
    organisation_id BIGINT  NOT NULL REFERENCES organisation (id) ON DELETE CASCADE,
    profile_id      BIGINT  NOT NULL REFERENCES device_profile (id) ON DELETE CASCADE,
    device_id       BIGINT  NOT NULL UNIQUE,
    claim_digest    BYTEA   NOT NULL UNIQUE,
    sealed_claim    BYTEA   NOT NULL,
    digest          BYTEA   NOT NULL UNIQUE,
    sealed          BYTEA   NOT NULL,
    holder_id       BIGINT  REFERENCES organisation (id),
    owner_id        BIGINT  REFERENCES user_account (id) ON DELETE SET NULL,
    claimed_at      BIGINT,
    created_at      BIGINT  NOT NULL
);
CREATE INDEX static_token_of_organisation ON static_token (organisation_id, id);
CREATE INDEX static_token_of_profile ON static_token (profile_id);
CREATE INDEX static_token_of_holder ON static_token (holder_id) WHERE holder_id IS NOT NULL;
CREATE INDEX static_token_of_owner ON static_token (owner_id) WHERE owner_id IS NOT NULL;

-- Pairs with what people see of them; `path` is of who made it, `holder_path` of who has it.
CREATE VIEW static_token_record AS
SELECT s.id, s.organisation_id, s.profile_id, s.device_id, s.holder_id, s.owner_id, s.claimed_at,
       s.created_at, s.claim_digest, s.sealed_claim, o.path, o.name AS organisation_name,
       p.name AS profile_name, h.path AS holder_path, h.name AS holder_name, u.email AS owner_email,
       d.name AS device_name
  FROM static_token s
  JOIN organisation o ON o.id = s.organisation_id
  JOIN device_profile p ON p.id = s.profile_id
  LEFT JOIN organisation h ON h.id = s.holder_id
  LEFT JOIN user_account u ON u.id = s.owner_id
  LEFT JOIN device d ON d.id = s.device_id;

INSERT INTO sequence (name, last)
VALUES ('oauth_client', 0), ('oauth_grant', 0), ('static_token', 0);
