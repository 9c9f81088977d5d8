// Package sqlstore keeps the authorization server's users, clients, grants, tokens and sealed upstream credentials in
// SQLite or PostgreSQL.
//
// Schema and statements are the same for both. What differs is how a database is opened (sqlite.go, postgres.go), how
// two processes are kept from migrating at once, and two words that let PostgreSQL's clean-up pass over locked rows.
//
// Four rules keep any number of processes on one database out of each other's way:
//
//   - A check and the act that depends on it are one statement: a code is redeemed, and a refresh token spent, by an
//     UPDATE that finds the grant's counter where the caller saw it, or changes nothing.
//   - Whoever writes a credential, binds a grant to one or removes a grant holds the user's row first. Otherwise two
//     sign-ins of one person would each seal to a list of grants that lacks the other's. To redeem a code is to remove
//     the grants that it replaces.
//   - Everybody else locks one grant and then what hangs on it, its code and its tokens. So no two transactions can
//     wait for each other.
//   - A read is one statement, and so needs no transaction.
//
// On SQLite every transaction is a BEGIN IMMEDIATE, which makes the second and third rule true by itself.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// Store implements [store.Store]. Its errors wrap what the driver said, and never hold a value that was stored.
type Store struct {
	read     *sql.DB
	write    *sql.DB // on PostgreSQL the same pool
	token    *sql.Stmt
	postgres bool
}

var _ store.Store = (*Store)(nil)

// Open opens the database at url, which is sqlite:PATH or postgres://..., and brings its schema up to date. Several
// processes may open a new database at once. A database that a newer version of this program has changed is refused.
func Open(ctx context.Context, url string) (*Store, error) {
	scheme, path, _ := strings.Cut(url, ":")
	var s *Store
	var err error
	switch scheme {
	case "sqlite":
		s, err = openSQLite(ctx, path)
	case "postgres", "postgresql":
		s, err = openPostgres(url)
	default:
		// The URL is not repeated: it may hold a password.
		err = errors.New("unknown kind of database")
	}
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w; "+
			"examples: sqlite:data/store.db, postgres://user:password@localhost:5432/mcp", err)
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.token, err = s.read.PrepareContext(ctx, selectToken); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a statement: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error {
	// The writer goes last, because the last connection to an SQLite file folds the write-ahead log back into it.
	return errors.Join(s.read.Close(), s.write.Close())
}

// Probe writes to the database, and returns why that does not work: it cannot be reached, its disk is full, or it only
// reads.
func (s *Store) Probe(ctx context.Context, at time.Time) error {
	_, err := s.write.ExecContext(ctx, `
		INSERT INTO probes (id, probed_at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at`,
		millis(at))
	if err != nil {
		return fmt.Errorf("write a probe: %w", err)
	}
	return nil
}

// tx runs do in a transaction and commits it if do returns nil. The name says what was attempted.
func (s *Store) tx(ctx context.Context, name string, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: begin: %w", name, err)
	}
	defer tx.Rollback() // does nothing after a commit
	if err := do(tx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", name, err)
	}
	return nil
}

// collect reads all rows of a query. The columns of one go to where dest points.
func collect[T any](rows *sql.Rows, err error, dest func(*T) []any) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var one T
		if err := rows.Scan(dest(&one)...); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// found translates the absence of a row. The name says what was looked for.
func found(name string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
