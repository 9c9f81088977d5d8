package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// Lease implements [store.Store].
func (s *Store) Lease(ctx context.Context, credential store.ID, version int64, owner string,
	at, until time.Time) error {
	return s.changeOne(ctx, "lease a credential", `
		UPDATE credentials SET lease_owner = $3, lease_until = $5
		WHERE id = $1 AND version = $2 AND lease_until <= $4`,
		credential[:], version, owner, millis(at), millis(until))
}

// Unlease implements [store.Store].
func (s *Store) Unlease(ctx context.Context, credential store.ID, owner string) error {
	err := s.changeOne(ctx, "give a lease back", `
		UPDATE credentials SET lease_owner = '', lease_until = 0 WHERE id = $1 AND lease_owner = $2`,
		credential[:], owner)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// JudgeCredential implements [store.Store].
func (s *Store) JudgeCredential(ctx context.Context, credential store.ID, version int64, deadAt time.Time) error {
	return s.changeOne(ctx, "judge a credential", `
		UPDATE credentials SET dead_at = $3, suspect_at = 0
		WHERE id = $1 AND version = $2`,
		credential[:], version, millis(deadAt))
}

// MarkAsked implements [store.Store].
func (s *Store) MarkAsked(ctx context.Context, credential store.ID, version int64, at, before time.Time) error {
	return s.changeOne(ctx, "note that a credential is asked about", `
		UPDATE credentials SET asked_at = $3 WHERE id = $1 AND version = $2 AND asked_at <= $4`,
		credential[:], version, millis(at), millis(before))
}

// changeOne runs a statement that changes or adds one row. It returns [store.ErrConflict] if no row was changed. It
// locks only that row.
func (s *Store) changeOne(ctx context.Context, name, statement string, args ...any) error {
	result, err := s.write.ExecContext(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n, err := result.RowsAffected(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	} else if n == 0 {
		return store.ErrConflict
	}
	return nil
}

// SuspectCredentials implements [store.Store].
func (s *Store) SuspectCredentials(ctx context.Context, user store.Hash, at time.Time) error {
	return s.userTx(ctx, "suspect a user's credentials", `$1`, user[:], func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE credentials SET suspect_at = $2 WHERE user_id = $1`, user[:], millis(at))
		return err
	})
}

// SaveCredential implements [store.Store].
func (s *Store) SaveCredential(ctx context.Context, credential store.ID, version int64, at time.Time,
	seal store.SealFunc) error {
	return s.tx(ctx, "save a credential", func(tx *sql.Tx) error {
		_, err := lockUser(ctx, tx, `SELECT user_id FROM credentials WHERE id = $1`, credential[:])
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		err = tx.QueryRowContext(ctx, `
			UPDATE credentials SET version = version + 1 WHERE id = $1 AND version = $2
			RETURNING version`, credential[:], version).Scan(&version)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrConflict
		}
		if err != nil {
			return fmt.Errorf("next version: %w", err)
		}
		return writeCredential(ctx, tx, credential, version, millis(at), seal)
	})
}

// writeCredential stores a credential's new content, sealed to every live grant that is bound to it. The caller has
// locked the user's row. It clears the lease on the old content, and the old content's dead and suspect marks.
func writeCredential(ctx context.Context, tx *sql.Tx, credential store.ID, version, at int64,
	seal store.SealFunc) error {
	to, err := recipients(ctx, tx, credential, at)
	if err != nil {
		return fmt.Errorf("recipients: %w", err)
	}
	sealed, err := seal(credential, version, to)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if len(sealed.Keys) != len(to) {
		return fmt.Errorf("sealed %d keys for %d grants", len(sealed.Keys), len(to))
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE credentials SET version = $2, ciphertext = $3, ring_key = $4, lease_owner = '', lease_until = 0,
			dead_at = 0, suspect_at = 0, asked_at = $5
		WHERE id = $1`, credential[:], version, sealed.Ciphertext, sealed.RingKey, at)
	if err != nil {
		return fmt.Errorf("write the credential: %w", err)
	}
	for i, r := range to {
		_, err := tx.ExecContext(ctx, `UPDATE grants SET sealed_key = $2 WHERE id = $1`, r.Grant[:], sealed.Keys[i])
		if err != nil {
			return fmt.Errorf("write a sealed key: %w", err)
		}
	}
	return nil
}

// recipients returns the live grants that are bound to the credential.
func recipients(ctx context.Context, tx *sql.Tx, credential store.ID, at int64) ([]store.Recipient, error) {
	rows, err := tx.QueryContext(ctx,
		`SELECT id, public_key FROM grants WHERE credential_id = $1 AND expires_at > $2`, credential[:], at)
	return collect(rows, err, func(r *store.Recipient) []any { return []any{scanBytes{r.Grant[:]}, &r.PublicKey} })
}
