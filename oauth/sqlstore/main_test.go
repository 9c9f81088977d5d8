package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/mcp-federated-login/oauth/sqlstore"
)

// postgresSocket is the folder with the throwaway PostgreSQL cluster's socket; empty if there is none.
var postgresSocket string

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		os.Exit(child(url))
	}
	socket, stop, err := startPostgres()
	if err != nil && os.Getenv("CI") != "" {
		fmt.Fprintln(os.Stderr, "in CI the tests need PostgreSQL:", err)
		os.Exit(1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "without PostgreSQL:", err)
		stop = func() {}
	}
	postgresSocket = socket
	code := m.Run()
	stop()
	os.Exit(code)
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, sqliteURL(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t)) })
}

func sqliteURL(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "store #1?.db") }

var databases atomic.Int64

func newPostgres(t testing.TB) string {
	t.Helper()
	if postgresSocket == "" {
		t.Skip("no PostgreSQL here")
	}
	name := fmt.Sprintf("test%d", databases.Add(1))
	if _, err := database(t, postgresURL("postgres")).Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return postgresURL(name)
}

func postgresURL(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(postgresSocket)
}

func isPostgres(url string) bool { return strings.HasPrefix(url, "postgres") }

func open(t testing.TB, url string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// database opens the database that a store is on, to look at the rows behind the store's back.
func database(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, name := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, name = "sqlite", "file:"+strings.NewReplacer("?", "%3f", "#", "%23").Replace(path)
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// texts returns the first column of the query's rows.
func texts(t testing.TB, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// rows describes every row in the database, briefly.
func rows(t testing.TB, db *sql.DB) []string {
	t.Helper()
	return texts(t, db, `
		SELECT 'client ' || client_id AS row FROM clients
		UNION ALL SELECT 'code ' || challenge || CASE WHEN ring_key = '' THEN ' erased' ELSE '' END FROM codes
		UNION ALL SELECT 'credential ' || scopes || ' v' || version FROM credentials
		UNION ALL SELECT 'grant ' || audience || ' ' || counter FROM grants
		UNION ALL SELECT 'token ' || g.audience || ' ' || kind || n ||
			CASE WHEN spent_at > 0 THEN ' spent' ELSE '' END ||
			CASE WHEN ring_key = '' THEN ' erased' ELSE '' END FROM tokens t JOIN grants g ON g.id = t.grant_id
		UNION ALL SELECT 'user ' || login FROM users
		ORDER BY row`)
}
