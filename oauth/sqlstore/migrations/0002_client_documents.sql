-- Clients whose client_id is the address of their metadata.

ALTER TABLE clients ADD COLUMN document BYTEA; -- the metadata as last fetched; null: the client registered
ALTER TABLE clients ADD COLUMN client_keys BYTEA; -- its JSON Web Key Set
ALTER TABLE clients ADD COLUMN proof BYTEA;    -- that this server wrote the document

CREATE TABLE assertions (
    hash       BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of (client_id, jti) of a client's assertion that has been used
    expires_at BIGINT NOT NULL
);
CREATE INDEX assertions_expires ON assertions (expires_at);
