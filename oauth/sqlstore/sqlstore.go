// Package sqlstore keeps the authorization server's users, clients, grants, tokens and sealed upstream credentials in
// SQLite or PostgreSQL.
//
// Schema and statements are the same for both. Three things differ: how a database is opened (sqlite.go, postgres.go),
// the lock against two migrations at the same time, and two words that let PostgreSQL's purge skip locked rows.
//
// Four rules let any number of processes share one database:
//
//   - A check and the change that depends on it are one statement. The UPDATE that redeems a code or spends a refresh
//     token changes nothing if the grant's counter is not the value that the caller saw.
//   - A transaction that writes a credential, binds a grant to one or removes a grant locks the user's row first.
//     Otherwise two sign-ins of one user would each seal to a list of grants that lacks the other's. Redeeming a code
//     counts too, because it removes the grants that it replaces.
//   - Any other transaction locks one grant, and then its code and tokens. So no two transactions can wait for each
//     other.
//   - A read is one statement, so it needs no transaction.
//
// On SQLite every transaction is a BEGIN IMMEDIATE, which alone satisfies the second and third rule.
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

// Store implements [store.Store]. Its errors wrap the driver's errors, and never contain a stored value.
type Store struct {
	read     *sql.DB
	write    *sql.DB // the same pool on PostgreSQL
	token    *sql.Stmt
	postgres bool
}

var _ store.Store = (*Store)(nil)

// Open opens the database at url, which is sqlite:PATH or postgres://..., and brings its schema up to date. Several
// processes may open a new database at the same time. Open returns an error if a newer version of this program has
// migrated the database.
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
		// The error does not quote the URL: it may contain a password.
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
	// Close the writer last: the last connection to an SQLite file merges the write-ahead log into it.
	return errors.Join(s.read.Close(), s.write.Close())
}

// Probe writes to the database. It returns an error if the database is unreachable or read-only, or its disk is full.
func (s *Store) Probe(ctx context.Context, at time.Time) error {
	_, err := s.write.ExecContext(ctx, `
		INSERT INTO probes (id, probed_at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at`,
		millis(at))
	if err != nil {
		return fmt.Errorf("write a probe: %w", err)
	}
	return nil
}

// tx runs do in a transaction and commits it if do returns nil. Errors start with name, the attempted operation.
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

// collect reads all rows of a query. dest returns the pointers that a row's columns are scanned into.
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

// found maps [sql.ErrNoRows] to [store.ErrNotFound]. Errors start with name, the attempted operation.
func found(name string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
