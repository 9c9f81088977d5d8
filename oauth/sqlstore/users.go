package sqlstore

import (
	"context"
	"fmt"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// User implements [store.Store].
func (s *Store) User(ctx context.Context, id store.Hash) (store.User, error) {
	var u store.User
	err := s.read.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, id[:]).
		Scan(scanUser(&u)...)
	return u, found("read a user", err)
}

// PinTaken implements [store.Store].
func (s *Store) PinTaken(ctx context.Context, issuer, login string) (bool, error) {
	var taken bool
	err := s.read.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM users WHERE issuer = $1 AND pinned = $2 AND pinned <> '')`, issuer, login).Scan(&taken)
	return taken, found("look for a pinned login", err)
}

// SaveUser implements [store.Store].
func (s *Store) SaveUser(ctx context.Context, u store.User, factsAt time.Time) error {
	_, err := s.write.ExecContext(ctx, `
		UPDATE users SET login = $3, name = $4, emails = $5, hosted_domain = $6, group_names = $7, memberships = $8,
			pinned = $9, facts_at = $10, unknown_since = $11, former_logins = $12
		WHERE id = $1 AND facts_at = $2`,
		u.ID[:], millis(factsAt), u.Login, u.Name, toJSON(u.Emails), u.HostedDomain, toJSON(u.Groups),
		toJSON(u.Memberships), u.Pinned, millis(u.FactsAt), millis(u.UnreachableSince), toJSON(u.FormerLogins))
	if err != nil {
		return fmt.Errorf("save a user: %w", err)
	}
	return nil
}
