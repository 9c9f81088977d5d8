package sqlstore

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// openPostgres returns a Store with a connection pool. It does not connect yet.
func openPostgres(rawURL string) (*Store, error) {
	// A password that contains a bare @, / or # is split in the wrong place. Errors would then show the rest of it as
	// part of the host or the port.
	_, err := url.Parse(rawURL)
	_, authority, _ := strings.Cut(rawURL, "://")
	authority, _, _ = strings.Cut(authority, "/")
	if err != nil || strings.Count(authority, "@") > 1 {
		return nil, errors.New("not a URL; special characters in the password must be percent-encoded, as in %40 for @")
	}
	config, err := pgx.ParseConfig(rawURL)
	if err != nil {
		return nil, err // pgx masks the password of a well-formed URL
	}
	db := stdlib.OpenDB(*config)
	// PostgreSQL allows a hundred connections by default, for all instances together.
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Store{read: db, write: db, postgres: true}, nil
}
