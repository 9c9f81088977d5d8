package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// Client implements [store.Store].
func (s *Store) Client(ctx context.Context, id store.Hash) (store.Client, error) {
	var c store.Client
	err := s.read.QueryRowContext(ctx, `
		SELECT document, client_keys, proof, `+clientColumns+` FROM clients c WHERE c.hash = $1`, id[:]).
		Scan(append([]any{&c.Document, &c.Keys, &c.Proof}, scanClient(&c)...)...)
	return c, found("read a client", err)
}

// putClient inserts or updates a client. If the operator registers a client that already has a metadata document, the
// row keeps the document, for use after that registration is removed.
func putClient(ctx context.Context, tx *sql.Tx, in store.SignIn) error {
	c := in.Grant.Client
	hash := store.HashOf(c.ID)
	_, err := tx.ExecContext(ctx, `
		INSERT INTO clients (hash, client_id, name, redirect_uris, auth_method, secret_hash, issued_at, seen_at,
			document, client_keys, proof)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (hash) DO UPDATE SET name = excluded.name, redirect_uris = excluded.redirect_uris,
			auth_method = excluded.auth_method, secret_hash = excluded.secret_hash,
			issued_at = excluded.issued_at, seen_at = excluded.seen_at, document = excluded.document,
			client_keys = excluded.client_keys, proof = excluded.proof
		WHERE excluded.document IS NOT NULL OR clients.document IS NULL`,
		hash[:], c.ID, c.Name, toJSON(c.RedirectURIs), c.AuthMethod, c.SecretHash, millis(c.IssuedAt), millis(in.At),
		c.Document, c.Keys, c.Proof)
	return err
}

// SaveDocument implements [store.Store]. If two instances save a document, the one that was fetched later wins.
func (s *Store) SaveDocument(ctx context.Context, c store.Client) error {
	hash := store.HashOf(c.ID)
	return s.changeOne(ctx, "save a client's document", `
		UPDATE clients SET name = $2, redirect_uris = $3, auth_method = $4, issued_at = $5, document = $6,
			client_keys = $7, proof = $8
		WHERE hash = $1 AND document IS NOT NULL AND issued_at < $5`,
		hash[:], c.Name, toJSON(c.RedirectURIs), c.AuthMethod, millis(c.IssuedAt), c.Document, c.Keys, c.Proof)
}

// UseAssertion implements [store.Store].
func (s *Store) UseAssertion(ctx context.Context, assertion store.Hash, expiresAt time.Time) error {
	return s.changeOne(ctx, "note an assertion", `
		INSERT INTO assertions (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`,
		assertion[:], millis(expiresAt))
}
