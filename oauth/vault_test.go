package oauth_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// A vault is a server on a real database that the test can read and change, as a thief or a vandal would.
type vault struct {
	*oauth.Server
	t    *testing.T
	path string
	now  time.Time
	// configure changes the server's configuration; nil means no change.
	configure func(*oauth.Config)
}

func newVault(t *testing.T, configure ...func(*oauth.Config)) *vault {
	v := &vault{t: t, path: filepath.Join(t.TempDir(), "server.db"), now: time.Now().Truncate(time.Millisecond)}
	for _, c := range configure {
		v.configure = c
	}
	if err := v.open(secret); err != nil {
		t.Fatal(err)
	}
	return v
}

// open starts the server with these secrets.
func (v *vault) open(secrets ...[]byte) error {
	v.t.Helper()
	kept, err := sqlstore.Open(v.t.Context(), "sqlite:"+v.path)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { kept.Close() })
	github, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id", ClientSecret: "secret"})
	if err != nil {
		v.t.Fatal(err)
	}
	rules, err := upstream.ParseRules("anyone", "")
	if err != nil {
		v.t.Fatal(err)
	}
	c := oauth.Config{
		BaseURL: "https://mcp.example", Name: "Test", Secrets: secrets, Store: kept, Rules: rules,
		Providers:    []*upstream.Provider{github},
		Scopes:       []oauth.Scope{{Name: "account:read", Sentence: "See who you are", AtSignIn: true}},
		Registration: true, AccessTTL: time.Hour, RefreshTTL: 90 * 24 * time.Hour,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return v.now },
	}
	if v.configure != nil {
		v.configure(&c)
	}
	v.Server, err = oauth.New(v.t.Context(), c)
	return err
}

// signIn signs a user in with a client of that name, and returns its tokens.
func (v *vault) signIn(client string, id upstream.Identity, upstreamToken string) (access, refresh string) {
	v.t.Helper()
	c, code, err := v.SignInAs(v.t.Context(), client, id, &upstream.Token{Access: upstreamToken, Scopes: []string{"user"}})
	if err != nil {
		v.t.Fatal(err)
	}
	access, refresh, err = v.Redeem(v.t.Context(), c, code)
	if err != nil {
		v.t.Fatal(err)
	}
	return access, refresh
}

// exec runs a statement directly on the database file.
func (v *vault) exec(statement string, args ...any) {
	v.t.Helper()
	db, err := sql.Open("sqlite", "file:"+v.path+"?_busy_timeout=10000") // the server might be writing
	if err != nil {
		v.t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec(statement, args...)
	if err != nil {
		v.t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		v.t.Fatalf("%s: changed %d rows, %v", statement, n, err)
	}
}

// A loot is everything in a stolen database.
type loot struct {
	values      [][]byte                                      // every value of every column
	wraps       []func(oauth.Ring, [32]byte) ([32]byte, bool) // each tries to open one with a key
	credentials []sealed
}

type sealed struct {
	grant      store.Grant
	credential store.Credential
}

func (v *vault) steal() (l loot) {
	v.t.Helper()
	db, err := sql.Open("sqlite", "file:"+v.path+"?_busy_timeout=10000") // the server might be writing
	if err != nil {
		v.t.Fatal(err)
	}
	defer db.Close()
	for _, table := range column[string](v, db, "SELECT name FROM sqlite_master WHERE type = 'table'") {
		rows, err := db.Query("SELECT * FROM " + table)
		if err != nil {
			v.t.Fatal(err)
		}
		names, _ := rows.Columns()
		for rows.Next() {
			row := make([]any, len(names))
			for i := range row {
				row[i] = new([]byte)
			}
			if err := rows.Scan(row...); err != nil {
				v.t.Fatal(err)
			}
			for i := range row {
				l.values = append(l.values, bytes.Clone(*row[i].(*[]byte)))
			}
		}
		rows.Close()
	}
	kept, err := sqlstore.Open(v.t.Context(), "sqlite:"+v.path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer kept.Close()
	for _, hash := range column[[]byte](v, db, "SELECT hash FROM codes") {
		c, err := kept.Code(v.t.Context(), store.Hash(hash))
		if err != nil {
			v.t.Fatal(err)
		}
		l.wraps = append(l.wraps, func(r oauth.Ring, key [32]byte) ([32]byte, bool) { return r.OpenCode(key, &c) })
	}
	for _, hash := range column[[]byte](v, db, "SELECT hash FROM tokens") {
		t, err := kept.Token(v.t.Context(), store.Hash(hash))
		if err != nil {
			v.t.Fatal(err)
		}
		l.wraps = append(l.wraps, func(r oauth.Ring, key [32]byte) ([32]byte, bool) { return r.OpenToken(key, &t) })
		c, err := kept.Credential(v.t.Context(), t.Grant.ID)
		if err != nil {
			v.t.Fatal(err)
		}
		l.credentials = append(l.credentials, sealed{t.Grant, c})
	}
	return l
}

func column[T any](v *vault, db *sql.DB, query string) (all []T) {
	v.t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		v.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one T
		if err := rows.Scan(&one); err != nil {
			v.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// open tries every key that the loot, the ring and some tokens hold or lead to on everything that is locked, until it
// finds nothing new. It returns the upstream tokens that it found.
func (l loot) open(ring oauth.Ring, tokens ...string) (found []string) {
	known := map[[32]byte]bool{}
	var fresh [][32]byte
	learn := func(keys ...[32]byte) {
		for _, k := range keys {
			if !known[k] {
				known[k] = true
				fresh = append(fresh, k)
			}
		}
	}
	learn(ring.Derived()...)
	for _, value := range l.values {
		learn([32]byte(store.HashOf(string(value))))
		for i := 0; i+32 <= len(value); i++ { // every 32 bytes anywhere
			learn([32]byte(value[i:]))
		}
	}
	for _, t := range tokens {
		learn(oauth.SecretOf(t))
	}
	for len(fresh) > 0 {
		key := fresh[0]
		fresh = fresh[1:]
		for _, open := range l.wraps {
			if plain, ok := open(ring, key); ok {
				learn(plain)
				learn(oauth.FromSeed(plain, 3)...)
			}
		}
		for _, s := range l.credentials {
			if t, ok := ring.Open(key, &s.grant, &s.credential); ok && !slices.Contains(found, t.Access) {
				found = append(found, t.Access)
			}
		}
	}
	slices.Sort(found)
	return found
}
