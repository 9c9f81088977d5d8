package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// ringKeys says, for each table that needs ring keys, how to step to the next key's name, and whether a row with
// that key is alive. Both are one look-up in an index, so a start does not have to read a table of millions.
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
		// Erased rows have the empty name, and are stepped over by starting there.
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
