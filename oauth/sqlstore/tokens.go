package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// Code implements [store.Store].
func (s *Store) Code(ctx context.Context, code store.Hash) (store.Code, error) {
	c := store.Code{Hash: code}
	err := s.read.QueryRowContext(ctx, `
		SELECT x.challenge, x.redirect_uri, x.wrap, x.ring_key, x.expires_at, x.redeemed_at, `+grantColumns+`
		FROM codes x `+grantJoins+` WHERE x.hash = $1`, code[:]).
		Scan(append([]any{&c.Challenge, &c.RedirectURI, &c.Wrap.Bytes, &c.Wrap.RingKey,
			scanMillis{&c.ExpiresAt}, scanMillis{&c.RedeemedAt}}, scanGrant(&c.Grant)...)...)
	return c, found("read a code", err)
}

// selectToken is prepared once, because the gate waits for it and SQLite takes as long to parse it as to run it.
const selectToken = `SELECT x.kind, x.n, x.wrap, x.ring_key, x.expires_at, x.spent_at, x.retired_at, ` + grantColumns + `
	FROM tokens x ` + grantJoins + ` WHERE x.hash = $1`

// Token implements [store.Store].
func (s *Store) Token(ctx context.Context, token store.Hash) (store.Token, error) {
	t := store.Token{Hash: token}
	err := s.token.QueryRowContext(ctx, token[:]).
		Scan(append([]any{&t.Kind, &t.N, &t.Wrap.Bytes, &t.Wrap.RingKey,
			scanMillis{&t.ExpiresAt}, scanMillis{&t.SpentAt}, scanMillis{&t.RetiredAt}}, scanGrant(&t.Grant)...)...)
	return t, found("read a token", err)
}

// RedeemCode implements [store.Store]. A grant has one code, and its counter is 0 until the code is redeemed. So the
// counter decides which of two requests wins. The pair's fields and the counter set the tokens' kinds and numbers.
func (s *Store) RedeemCode(ctx context.Context, code store.Hash, at time.Time, pair store.Pair, replaces bool) (
	ended []store.ID, err error) {
	err = s.tx(ctx, "redeem a code", func(tx *sql.Tx) error {
		user, err := lockUser(ctx, tx,
			`SELECT user_id FROM grants g JOIN codes x ON x.grant_id = g.id WHERE x.hash = $1`, code[:])
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrConflict
		}
		if err != nil {
			return err
		}
		grant, err := advance(tx.QueryRowContext(ctx, `
			UPDATE grants SET counter = 1, last_used_at = $2, expires_at = $3
			WHERE counter = 0 AND id = (SELECT grant_id FROM codes WHERE hash = $1 AND redeemed_at = 0)
			RETURNING id`, code[:], millis(at), millis(pair.Refresh.ExpiresAt)))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE codes SET redeemed_at = $2, wrap = $3, ring_key = '' WHERE hash = $1`, code[:], millis(at), []byte{})
		if err != nil {
			return fmt.Errorf("mark it redeemed: %w", err)
		}
		if err := addPair(ctx, tx, grant, 1, pair); err != nil {
			return err
		}
		ended, err = makeRoom(ctx, tx, user, grant, at, replaces)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// Rotate implements [store.Store]. The pair's fields and the counter set the tokens' kinds and numbers.
func (s *Store) Rotate(ctx context.Context, refresh store.Hash, n int64, at time.Time, pair store.Pair) error {
	return s.tx(ctx, "rotate a refresh token", func(tx *sql.Tx) error {
		grant, err := advance(tx.QueryRowContext(ctx, `
			UPDATE grants SET counter = counter + 1, reissued = 0, last_used_at = $3, expires_at = $4
			WHERE counter = $2 AND id = (
				SELECT grant_id FROM tokens WHERE hash = $1 AND kind = 'refresh' AND n = $2 AND spent_at = 0)
			RETURNING id`, refresh[:], n, millis(at), millis(pair.Refresh.ExpiresAt)))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE tokens SET spent_at = $2 WHERE hash = $1`, refresh[:], millis(at))
		if err != nil {
			return fmt.Errorf("mark it spent: %w", err)
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE tokens SET retired_at = $3 WHERE grant_id = $1 AND kind = 'refresh' AND n = $2 AND retired_at = 0`,
			grant, n-1, millis(at))
		if err != nil {
			return fmt.Errorf("retire the one before it: %w", err)
		}
		return addPair(ctx, tx, grant, n+1, pair)
	})
}

// Reissue implements [store.Store].
func (s *Store) Reissue(ctx context.Context, grant store.ID, n, reissued int64, at time.Time,
	access store.Token) error {
	return s.tx(ctx, "issue an access token again", func(tx *sql.Tx) error {
		_, err := advance(tx.QueryRowContext(ctx, `
			UPDATE grants SET reissued = reissued + 1, last_used_at = $4 WHERE id = $1 AND counter = $2 AND reissued = $3
			RETURNING id`, grant[:], n, reissued, millis(at)))
		if err != nil {
			return err
		}
		return addTokens(ctx, tx, grant[:], n, access)
	})
}

// advance returns the id of the grant that a compare-and-swap changed. It returns [store.ErrConflict] if there is none.
func advance(row *sql.Row) (grant []byte, err error) {
	err = row.Scan(&grant)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrConflict
	}
	return grant, err
}

func addPair(ctx context.Context, tx *sql.Tx, grant []byte, n int64, pair store.Pair) error {
	pair.Access.Kind, pair.Refresh.Kind = store.Access, store.Refresh
	return addTokens(ctx, tx, grant, n, pair.Access, pair.Refresh)
}

func addTokens(ctx context.Context, tx *sql.Tx, grant []byte, n int64, tokens ...store.Token) error {
	for _, t := range tokens {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO tokens (grant_id, n, kind, hash, wrap, ring_key, expires_at, spent_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
			grant, n, t.Kind, t.Hash[:], t.Wrap.Bytes, t.Wrap.RingKey, millis(t.ExpiresAt))
		if err != nil {
			return fmt.Errorf("add a token: %w", err)
		}
	}
	return nil
}

// EndToken implements [store.Store].
func (s *Store) EndToken(ctx context.Context, token store.Hash) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM tokens WHERE hash = $1 AND kind = 'access'`, token[:])
	if err != nil {
		return fmt.Errorf("end a token: %w", err)
	}
	return nil
}
