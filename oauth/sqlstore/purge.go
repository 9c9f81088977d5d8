package sqlstore

import (
	"context"
	"fmt"

	"example.com/mcp-federated-login/oauth/store"
)

// A sweep removes or erases rows of one kind, oldest first. It finds them by an index on their time, so that a pass
// with nothing to do costs nothing on a table of any size. Purge adds the closing parenthesis.
type sweep struct {
	name      string
	statement string
	arguments func(store.PurgeLimits) []any // rows older than $1, at most $2 of them
}

func expired(p store.PurgeLimits) []any { return []any{millis(p.At), p.Limit} }
func retired(p store.PurgeLimits) []any { return []any{millis(p.RetiredBefore), p.Limit} }
func erased(p store.PurgeLimits) []any  { return []any{millis(p.EraseBefore), p.Limit} }
func unseen(p store.PurgeLimits) []any  { return []any{millis(p.SeenBefore), p.Limit} }
func seen(p store.PurgeLimits) []any    { return []any{millis(p.SeenBefore), p.Limit, millis(p.At)} }

var sweeps = []sweep{
	{"remove expired access tokens", `
		DELETE FROM tokens WHERE hash IN (
			SELECT hash FROM tokens WHERE kind = 'access' AND expires_at <= $1 ORDER BY expires_at LIMIT $2`, expired},
	{"remove expired codes", `
		DELETE FROM codes WHERE hash IN (
			SELECT hash FROM codes WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`, expired},
	{"remove expired assertions", `
		DELETE FROM assertions WHERE hash IN (
			SELECT hash FROM assertions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`, expired},
	{"remove retired refresh tokens", `
		DELETE FROM tokens WHERE hash IN (
			SELECT hash FROM tokens WHERE retired_at > 0 AND retired_at < $1 ORDER BY retired_at LIMIT $2`, retired},
	{"erase the wraps of retired refresh tokens", `
		UPDATE tokens SET wrap = substr(wrap, 1, 0), ring_key = '' WHERE hash IN (
			SELECT hash FROM tokens WHERE retired_at > 0 AND ring_key <> '' AND retired_at < $1
			ORDER BY retired_at LIMIT $2`, erased},

	// Users and clients that still have a grant count as seen. Otherwise every pass would read all the users who signed
	// in long ago and are still connected. A pinned login stays taken permanently.
	{"keep connected and pinned users", `
		UPDATE users SET seen_at = $3
		WHERE (pinned <> '' OR EXISTS (SELECT 1 FROM grants WHERE user_id = users.id)) AND id IN (
			SELECT id FROM users WHERE seen_at < $1 ORDER BY seen_at LIMIT $2`, seen},
	{"remove users", `
		DELETE FROM users
		WHERE pinned = '' AND NOT EXISTS (SELECT 1 FROM grants WHERE user_id = users.id) AND id IN (
			SELECT id FROM users WHERE seen_at < $1 ORDER BY seen_at LIMIT $2`, unseen},
	{"keep connected clients", `
		UPDATE clients SET seen_at = $3 WHERE EXISTS (SELECT 1 FROM grants WHERE client_hash = hash) AND hash IN (
			SELECT hash FROM clients WHERE seen_at < $1 ORDER BY seen_at LIMIT $2`, seen},
	{"remove clients", `
		DELETE FROM clients WHERE NOT EXISTS (SELECT 1 FROM grants WHERE client_hash = hash) AND hash IN (
			SELECT hash FROM clients WHERE seen_at < $1 ORDER BY seen_at LIMIT $2`, unseen},
}

// Purge implements [store.Store]. A row has expired if it expires at p.At or earlier. Each expired grant and each kind
// of row has a separate transaction, so that requests wait only briefly. A credential is removed with its last grant.
func (s *Store) Purge(ctx context.Context, p store.PurgeLimits) (int, error) {
	changed, err := s.purgeGrants(ctx, p)
	if err != nil {
		return changed, err
	}
	// A locked row is in use, or another transaction is removing it. Purge skips it, so it never waits for a lock while
	// it holds others, and cannot deadlock. SQLite has neither row locks nor this syntax.
	closing := ")"
	if s.postgres {
		closing = " FOR UPDATE SKIP LOCKED)"
	}
	for _, sw := range sweeps {
		done, err := s.write.ExecContext(ctx, sw.statement+closing, sw.arguments(p)...)
		if err != nil {
			return changed, fmt.Errorf("%s: %w", sw.name, err)
		}
		n, err := done.RowsAffected()
		if err != nil {
			return changed, fmt.Errorf("%s: %w", sw.name, err)
		}
		changed += int(n)
	}
	return changed, nil
}

func (s *Store) purgeGrants(ctx context.Context, p store.PurgeLimits) (ended int, err error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT id FROM grants WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`, expired(p)...)
	ids, err := collect(rows, err, func(id *[]byte) []any { return []any{id} })
	if err != nil {
		return 0, fmt.Errorf("find expired grants: %w", err)
	}
	for _, id := range ids {
		// endGrant checks the time again, because a refresh may have come first.
		ok, err := s.endGrant(ctx, id, millis(p.At))
		if err != nil {
			return ended, err
		}
		if ok {
			ended++
		}
	}
	return ended, nil
}
