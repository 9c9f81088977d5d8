package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// makeRoom ends the grants that a newly redeemed grant replaces. See [store.Store]. Grants whose code has not been
// redeemed neither count nor end: they expire in minutes, or replace others themselves. The caller has locked the
// user's row.
func makeRoom(ctx context.Context, tx *sql.Tx, user, grant []byte, at time.Time, replaces bool) ([]store.ID, error) {
	surplus, err := surplusGrants(ctx, tx, user, grant, at, replaces)
	if err != nil {
		return nil, fmt.Errorf("find what it replaces: %w", err)
	}
	for _, id := range surplus {
		if _, err := removeGrant(ctx, tx, id[:], math.MaxInt64); err != nil {
			return nil, fmt.Errorf("end what it replaces: %w", err)
		}
	}
	return surplus, nil
}

func surplusGrants(ctx context.Context, tx *sql.Tx, user, grant []byte, at time.Time, replaces bool) (
	surplus []store.ID, err error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT id, client_hash = (SELECT client_hash FROM grants WHERE id = $2) FROM grants
		WHERE user_id = $1 AND id <> $2 AND counter > 0 AND expires_at > $3
		ORDER BY last_used_at DESC, created_at DESC`, user, grant, millis(at))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for kept := 1; rows.Next(); { // counts the new grant
		var id store.ID
		var sameClient bool
		if err := rows.Scan(scanBytes{id[:]}, &sameClient); err != nil {
			return nil, err
		}
		if sameClient && replaces || kept == store.MaxGrants {
			surplus = append(surplus, id)
		} else {
			kept++
		}
	}
	return surplus, rows.Err()
}
