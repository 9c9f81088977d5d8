package sqlstore

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// openPostgres prepares a pool; nothing is dialed yet.
func openPostgres(rawURL string) (*Store, error) {
	// A password with a bare @, / or # in it is cut in the wrong place, and what is cut off would show up in errors as
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
