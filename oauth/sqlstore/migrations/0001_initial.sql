-- One schema for SQLite and PostgreSQL. Times are Unix milliseconds; 0 means "not yet" or "never".
-- Lists are space separated where their values cannot hold a space, and JSON otherwise.
--
-- Codes and tokens go with their grant. Nothing else cascades: a clean-up that tried to remove the user, the client or
-- the credential of a grant would fail, instead of signing somebody out.

CREATE TABLE users (
    id         BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of (issuer, subject)
    provider   TEXT   NOT NULL,
    issuer     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    login      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    emails     TEXT   NOT NULL,             -- verified ones, JSON: a quoted local part may hold a space
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,             -- last sign-in; moved on by Purge while there is a grant
    hosted_domain TEXT   NOT NULL,
    group_names   TEXT   NOT NULL,          -- JSON
    memberships   TEXT   NOT NULL,          -- JSON: what GitHub answered, by rule
    pinned        TEXT   NOT NULL,          -- the login that rules know the account by; empty: none
    facts_at      BIGINT NOT NULL,          -- when the provider last said what stands here
    unknown_since BIGINT NOT NULL           -- when it first did not answer after that
);
CREATE INDEX users_seen ON users (seen_at);
CREATE UNIQUE INDEX users_pinned ON users (issuer, pinned) WHERE pinned <> '';

CREATE TABLE clients (
    hash          BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of client_id
    client_id     TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    redirect_uris TEXT   NOT NULL,             -- JSON
    auth_method   TEXT   NOT NULL,
    secret_hash   BYTEA,                       -- SHA-256 of the client's secret
    issued_at     BIGINT NOT NULL,
    seen_at       BIGINT NOT NULL              -- as in users
);
CREATE INDEX clients_seen ON clients (seen_at);

-- One per person and set of upstream scopes that were really granted, shared by all grants with those scopes:
-- GitHub keeps only ten tokens per user, app and scope, and kills the oldest.
CREATE TABLE credentials (
    id          BYTEA  NOT NULL PRIMARY KEY,
    user_id     BYTEA  NOT NULL REFERENCES users (id),
    scopes      TEXT   NOT NULL,            -- upstream scopes, sorted, space separated
    version     BIGINT NOT NULL,            -- + 1 at every write
    ciphertext  BYTEA  NOT NULL,
    ring_key    TEXT   NOT NULL,
    lease_owner TEXT   NOT NULL DEFAULT '', -- who may renew it upstream
    lease_until BIGINT NOT NULL DEFAULT 0,
    dead_at     BIGINT NOT NULL DEFAULT 0,  -- when the provider refused it; the next sign-in heals it
    suspect_at  BIGINT NOT NULL DEFAULT 0,  -- since when the provider must be asked before it is used
    UNIQUE (user_id, scopes)
);
CREATE INDEX credentials_ring_key ON credentials (ring_key);

CREATE TABLE grants (
    id            BYTEA  NOT NULL PRIMARY KEY,
    user_id       BYTEA  NOT NULL REFERENCES users (id),
    client_hash   BYTEA  NOT NULL REFERENCES clients (hash),
    credential_id BYTEA  NOT NULL REFERENCES credentials (id),
    flow_hash     BYTEA  NOT NULL UNIQUE,   -- makes the callback work once
    scopes        TEXT   NOT NULL,          -- space separated
    audience      TEXT   NOT NULL,
    public_key    BYTEA  NOT NULL,
    sealed_key    BYTEA  NOT NULL,          -- the credential's content key, sealed to public_key
    counter       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL           -- of its code, later of its newest refresh token
);
CREATE INDEX grants_user ON grants (user_id);
CREATE INDEX grants_client ON grants (client_hash);
CREATE INDEX grants_credential ON grants (credential_id);
CREATE INDEX grants_expiry ON grants (expires_at);

CREATE TABLE codes (
    hash         BYTEA  NOT NULL PRIMARY KEY,
    grant_id     BYTEA  NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    challenge    TEXT   NOT NULL,
    redirect_uri TEXT   NOT NULL,
    wrap         BYTEA  NOT NULL,           -- empty once redeemed
    ring_key     TEXT   NOT NULL,           -- empty once redeemed
    expires_at   BIGINT NOT NULL,
    redeemed_at  BIGINT NOT NULL
);
CREATE INDEX codes_grant ON codes (grant_id);
CREATE INDEX codes_expiry ON codes (expires_at);
CREATE INDEX codes_ring_key ON codes (ring_key, expires_at);

CREATE TABLE tokens (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    grant_id   BYTEA  NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    kind       TEXT   NOT NULL,             -- access or refresh
    n          BIGINT NOT NULL,
    wrap       BYTEA  NOT NULL,             -- empty once erased
    ring_key   TEXT   NOT NULL,             -- empty once erased
    expires_at BIGINT NOT NULL,
    spent_at   BIGINT NOT NULL
);
CREATE INDEX tokens_grant ON tokens (grant_id);
CREATE INDEX tokens_ring_key ON tokens (ring_key, expires_at);
CREATE INDEX tokens_access_expiry ON tokens (expires_at) WHERE kind = 'access';
CREATE INDEX tokens_spent ON tokens (spent_at) WHERE spent_at > 0;
CREATE INDEX tokens_unerased ON tokens (spent_at) WHERE spent_at > 0 AND ring_key <> '';

-- What the operator has blocked: the id of a client, in hex, or a host that clients redirect to.
CREATE TABLE blocks (
    name       TEXT   NOT NULL PRIMARY KEY,
    blocked_at BIGINT NOT NULL
);
