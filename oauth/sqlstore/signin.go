package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"slices"

	"example.com/mcp-federated-login/oauth/store"
)

// SignIn implements [store.Store]. The grant's creation time is in.At. Until the code is redeemed, the grant expires
// with the code.
func (s *Store) SignIn(ctx context.Context, in store.SignIn, seal store.SealFunc) error {
	return s.tx(ctx, "store a sign-in", func(tx *sql.Tx) error {
		if err := putUser(ctx, tx, in); err != nil { // first: it locks the user's row
			return fmt.Errorf("user: %w", err)
		}
		credential, version, err := putCredential(ctx, tx, in)
		if err != nil {
			return fmt.Errorf("credential: %w", err)
		}
		if err := putClient(ctx, tx, in); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		if err := addGrant(ctx, tx, in, credential); err != nil {
			return fmt.Errorf("grant: %w", err)
		}
		return writeCredential(ctx, tx, credential, version, millis(in.At), seal)
	})
}

func putUser(ctx context.Context, tx *sql.Tx, in store.SignIn) error {
	u := in.Grant.User
	_, err := tx.ExecContext(ctx, `
		INSERT INTO users (id, provider, issuer, subject, login, name, emails, created_at, seen_at, hosted_domain,
			group_names, memberships, pinned, former_logins, facts_at, unknown_since)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $8, 0)
		ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, login = excluded.login,
			name = excluded.name, emails = excluded.emails, seen_at = excluded.seen_at,
			hosted_domain = excluded.hosted_domain, group_names = excluded.group_names,
			memberships = excluded.memberships, pinned = excluded.pinned, former_logins = excluded.former_logins,
			facts_at = excluded.facts_at, unknown_since = excluded.unknown_since`,
		u.ID[:], u.Provider, u.Issuer, u.Subject, u.Login, u.Name, toJSON(u.Emails), millis(in.At),
		u.HostedDomain, toJSON(u.Groups), toJSON(u.Memberships), u.Pinned,
		toJSON(u.FormerLogins))
	return err
}

// putCredential returns the credential for the user and the upstream scopes, and the version to write next. A new
// credential is empty until writeCredential fills it in the same transaction.
func putCredential(ctx context.Context, tx *sql.Tx, in store.SignIn) (id store.ID, version int64, err error) {
	rand.Read(id[:])
	scopes := slices.Compact(slices.Sorted(slices.Values(in.UpstreamScopes)))
	err = tx.QueryRowContext(ctx, `
		INSERT INTO credentials (id, user_id, scopes, version, ciphertext, ring_key) VALUES ($1, $2, $3, 1, $4, '')
		ON CONFLICT (user_id, scopes) DO UPDATE SET version = credentials.version + 1
		RETURNING id, version`,
		id[:], in.Grant.User.ID[:], words(scopes), []byte{}).Scan(scanBytes{id[:]}, &version)
	return id, version, err
}

// addGrant inserts the grant with its code. It returns [store.ErrConflict] if the flow already has a grant.
func addGrant(ctx context.Context, tx *sql.Tx, in store.SignIn, credential store.ID) error {
	g, c, wrap := in.Grant, in.Code, in.WrapCode(credential)
	client := store.HashOf(g.Client.ID)
	inserted, err := tx.ExecContext(ctx, `
		INSERT INTO grants (id, user_id, client_hash, credential_id, flow_hash, scopes, audience, public_key,
			sealed_key, counter, created_at, last_used_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, 0, $11)
		ON CONFLICT (flow_hash) DO NOTHING`,
		g.ID[:], g.User.ID[:], client[:], credential[:], in.Flow[:], words(g.Scopes), g.Audience, g.PublicKey,
		[]byte{}, millis(in.At), millis(c.ExpiresAt))
	if err != nil {
		return err
	}
	if n, err := inserted.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return store.ErrConflict
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO codes (hash, grant_id, challenge, redirect_uri, wrap, ring_key, expires_at, redeemed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
		c.Hash[:], g.ID[:], c.Challenge, c.RedirectURI, wrap.Bytes, wrap.RingKey, millis(c.ExpiresAt))
	return err
}
