-- A spent refresh token works until its successor is presented: then it retires. Those that have lost their wrap cannot.
ALTER TABLE tokens ADD COLUMN retired_at BIGINT NOT NULL DEFAULT 0;
UPDATE tokens SET retired_at = spent_at WHERE spent_at > 0
    AND (ring_key = '' OR n < (SELECT counter - 1 FROM grants WHERE id = grant_id));
DROP INDEX tokens_spent;
DROP INDEX tokens_unerased;
CREATE INDEX tokens_retired ON tokens (retired_at) WHERE retired_at > 0;
CREATE INDEX tokens_unerased ON tokens (retired_at) WHERE retired_at > 0 AND ring_key <> '';

ALTER TABLE grants ADD COLUMN reissued BIGINT NOT NULL DEFAULT 0; -- access tokens issued again with the newest pair

ALTER TABLE credentials ADD COLUMN asked_at BIGINT NOT NULL DEFAULT 0; -- when the provider was last asked whether it is alive

ALTER TABLE users ADD COLUMN former_logins TEXT NOT NULL DEFAULT '[]'; -- JSON

-- Written by /readyz, which must notice a full disk and a database that only reads.
CREATE TABLE probes (
    id        BIGINT NOT NULL PRIMARY KEY,
    probed_at BIGINT NOT NULL
);
