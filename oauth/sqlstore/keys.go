package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// ringKeys lists two queries for each table that uses ring keys: one for the next key's name, and one for whether a
// live row uses that key. Each is one index lookup, so a start does not have to read a table of millions.
var ringKeys = []struct{ next, alive string }{
	{
		`SELECT min(ring_key) FROM tokens WHERE ring_key > $1`,
		`SELECT EXISTS (SELECT 1 FROM tokens WHERE ring_key = $1 AND expires_at > $2)`,
	}, {
		`SELECT min(ring_key) FROM codes WHERE ring_key > $1`,
		`SELECT EXISTS (SELECT 1 FROM codes WHERE ring_key = $1 AND expires_at > $2)`,
	}, {
		`SELECT min(ring_key) FROM credentials WHERE ring_key > $1`,
		`SELECT EXISTS (SELECT 1 FROM credentials c JOIN grants g ON g.credential_id = c.id
			WHERE c.ring_key = $1 AND g.expires_at > $2)`,
	},
}

// KeysInUse implements [store.Store]. The names are sorted.
func (s *Store) KeysInUse(ctx context.Context, at time.Time) ([]string, error) {
	var names []string
	for _, table := range ringKeys {
		// Erased rows have the empty name. Starting with it skips them.
		for name := (sql.Null[string]{Valid: true}); ; {
			if err := s.read.QueryRowContext(ctx, table.next, name.V).Scan(&name); err != nil {
				return nil, fmt.Errorf("find the ring keys in use: %w", err)
			}
			if !name.Valid {
				break
			}
			var alive bool
			if err := s.read.QueryRowContext(ctx, table.alive, name.V, millis(at)).Scan(&alive); err != nil {
				return nil, fmt.Errorf("find the ring keys in use: %w", err)
			}
			if alive {
				names = append(names, name.V)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
