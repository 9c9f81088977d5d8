package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// A grant is always read with its user and its client, because the gate reports the caller and checks the binding of
// all three. The grant is joined to its code or token x. The columns are in the order of the scan functions.
const (
	userColumns = `u.id, u.provider, u.issuer, u.subject, u.login, u.name, u.emails, u.hosted_domain, u.group_names,
		u.memberships, u.pinned, u.former_logins, u.facts_at, u.unknown_since`
	clientColumns = `c.client_id, c.name, c.redirect_uris, c.auth_method, c.secret_hash, c.issued_at`
	grantColumns  = `g.id, g.credential_id, g.scopes, g.audience, g.public_key, g.counter, g.reissued, g.created_at,
		g.last_used_at, (SELECT dead_at FROM credentials WHERE id = g.credential_id), ` + userColumns + `,
		` + clientColumns
	ownerJoins = `JOIN users u ON u.id = g.user_id JOIN clients c ON c.hash = g.client_hash`
	grantJoins = `JOIN grants g ON g.id = x.grant_id ` + ownerJoins
)

func scanClient(c *store.Client) []any {
	return []any{&c.ID, &c.Name, scanJSON{&c.RedirectURIs}, &c.AuthMethod, &c.SecretHash, scanMillis{&c.IssuedAt}}
}

func scanUser(u *store.User) []any {
	return []any{
		scanBytes{u.ID[:]}, &u.Provider, &u.Issuer, &u.Subject, &u.Login, &u.Name, scanJSON{&u.Emails}, &u.HostedDomain,
		scanJSON{&u.Groups}, scanJSON{&u.Memberships}, &u.Pinned, scanJSON{&u.FormerLogins},
		scanMillis{&u.FactsAt}, scanMillis{&u.UnreachableSince},
	}
}

func scanGrant(g *store.Grant) []any {
	return slices.Concat([]any{
		scanBytes{g.ID[:]}, scanBytes{g.Credential[:]}, scanWords{&g.Scopes}, &g.Audience, &g.PublicKey, &g.Counter,
		&g.Reissued, scanMillis{&g.CreatedAt}, scanMillis{&g.LastUsedAt}, scanMillis{&g.DeadAt},
	}, scanUser(&g.User), scanClient(&g.Client))
}

// FlowUsed implements [store.Store].
func (s *Store) FlowUsed(ctx context.Context, flow store.Hash) (bool, error) {
	var used bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM grants WHERE flow_hash = $1)`, flow[:]).Scan(&used)
	return used, found("look for a flow", err)
}

const selectUserGrants = `SELECT ` + grantColumns + ` FROM grants g ` + ownerJoins + `
	WHERE g.user_id = $1 AND g.expires_at > $2 ORDER BY g.created_at DESC, g.id`

// UserGrants implements [store.Store].
func (s *Store) UserGrants(ctx context.Context, user store.Hash, at time.Time) ([]store.Grant, error) {
	rows, err := s.read.QueryContext(ctx, selectUserGrants, user[:], millis(at))
	grants, err := collect(rows, err, scanGrant)
	return grants, found("list a person's grants", err)
}

// Credential implements [store.Store].
func (s *Store) Credential(ctx context.Context, grant store.ID) (store.Credential, error) {
	var c store.Credential
	err := s.read.QueryRowContext(ctx, `
		SELECT c.id, c.version, c.dead_at, c.suspect_at, c.asked_at, c.ring_key, c.ciphertext, g.sealed_key
		FROM grants g JOIN credentials c ON c.id = g.credential_id WHERE g.id = $1`, grant[:]).
		Scan(scanBytes{c.ID[:]}, &c.Version, scanMillis{&c.DeadAt}, scanMillis{&c.SuspectAt}, scanMillis{&c.AskedAt},
			&c.RingKey, &c.Ciphertext, &c.Key)
	return c, found("read a credential", err)
}

// EndGrant implements [store.Store].
func (s *Store) EndGrant(ctx context.Context, grant store.ID) error {
	_, err := s.endGrant(ctx, grant[:], math.MaxInt64)
	return err
}

// EndGrants implements [store.Store].
func (s *Store) EndGrants(ctx context.Context, user store.Hash) error {
	return s.userTx(ctx, "end a user's grants", `$1`, user[:], func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM grants WHERE user_id = $1`, user[:]); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE user_id = $1`, user[:])
		return err
	})
}

// endGrant removes a grant that had expired at that time, with its dependent rows. It reports whether it did.
func (s *Store) endGrant(ctx context.Context, grant []byte, at int64) (ended bool, err error) {
	// If there is no user to lock, the grant does not exist.
	err = s.userTx(ctx, "end a grant", `SELECT user_id FROM grants WHERE id = $1`, grant, func(tx *sql.Tx) error {
		var err error
		ended, err = removeGrant(ctx, tx, grant, at)
		return err
	})
	return ended, err
}

// userTx runs do in a transaction that has locked the row of the user whose id the query returns. If there is no such
// user, userTx does nothing. A row that appears a moment later must not be changed, because it is not locked.
func (s *Store) userTx(ctx context.Context, name, query string, arg []byte, do func(*sql.Tx) error) error {
	return s.tx(ctx, name, func(tx *sql.Tx) error {
		_, err := lockUser(ctx, tx, query, arg)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// lockUser locks the row of the user whose id the query returns, and returns the id. See the package's second rule. It
// locks with an UPDATE that changes nothing, because both databases support that.
func lockUser(ctx context.Context, tx *sql.Tx, query string, args ...any) (user []byte, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE users SET seen_at = seen_at WHERE id = (`+query+`) RETURNING id`, args...).
		Scan(&user)
	if err != nil {
		return nil, fmt.Errorf("lock the user: %w", err)
	}
	return user, nil
}

// removeGrant is endGrant for a caller that has locked the user's row.
func removeGrant(ctx context.Context, tx *sql.Tx, grant []byte, at int64) (ended bool, err error) {
	var credential []byte
	err = tx.QueryRowContext(ctx, `
		DELETE FROM grants WHERE id = $1 AND expires_at <= $2
		RETURNING credential_id`, grant, at).Scan(&credential)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `
		DELETE FROM credentials WHERE id = $1
		AND NOT EXISTS (SELECT 1 FROM grants WHERE credential_id = $1)`, credential)
	if err != nil {
		return false, fmt.Errorf("delete its credential: %w", err)
	}
	return true, nil
}
