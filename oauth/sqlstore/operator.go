package sqlstore

import (
	"context"
	"fmt"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// These methods are for the operator's commands, in addition to [store.Store].

// Grants calls visit with each grant that is valid at that time, oldest first.
func (s *Store) Grants(ctx context.Context, at time.Time, visit func(store.Grant)) error {
	rows, err := s.read.QueryContext(ctx, `
		SELECT `+grantColumns+` FROM (SELECT id AS grant_id FROM grants WHERE expires_at > $1) x `+grantJoins+`
		ORDER BY g.created_at, g.id`, millis(at))
	if err != nil {
		return found("list the grants", err)
	}
	defer rows.Close()
	for rows.Next() {
		var g store.Grant
		if err := rows.Scan(scanGrant(&g)...); err != nil {
			return found("list the grants", err)
		}
		visit(g)
	}
	return found("list the grants", rows.Err())
}

// Block adds a name to [Store.Blocks]. It returns nil if the name is already there.
func (s *Store) Block(ctx context.Context, name string, at time.Time) error {
	_, err := s.write.ExecContext(ctx,
		`INSERT INTO blocks (name, blocked_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, millis(at))
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

// Unblock removes a name from [Store.Blocks]. It returns [store.ErrNotFound] if the name is not there.
func (s *Store) Unblock(ctx context.Context, name string) error {
	err := s.write.QueryRowContext(ctx, `DELETE FROM blocks WHERE name = $1 RETURNING name`, name).Scan(&name)
	return found("unblock", err)
}

// Blocks implements [store.Store].
func (s *Store) Blocks(ctx context.Context) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT name FROM blocks ORDER BY name`)
	names, err := collect(rows, err, func(name *string) []any { return []any{name} })
	return names, found("list the blocks", err)
}
