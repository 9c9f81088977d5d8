package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// A rotator is a GitHub that revokes both tokens as soon as the refresh token is used, while several servers race.
type rotator struct {
	*httptest.Server
	t        *testing.T
	database string

	mu        sync.Mutex // guards the fields below
	renewals  int
	life      int         // seconds
	onRenewal func(n int) // called when the tokens have been rotated, before the response
}

func newRotator(t *testing.T) *rotator {
	r := &rotator{t: t, database: filepath.Join(t.TempDir(), "server.db"), life: 28800}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login/oauth/access_token", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		r.mu.Lock()
		if req.FormValue("refresh_token") != fmt.Sprint("r", r.renewals) {
			r.mu.Unlock()
			fmt.Fprint(w, `{"error":"bad_refresh_token"}`)
			return
		}
		r.renewals++
		n, life, then := r.renewals, r.life, r.onRenewal
		r.mu.Unlock()
		if then != nil {
			then(n)
		}
		fmt.Fprintf(w, `{"access_token":"a%d","refresh_token":"r%d","expires_in":%d,"token_type":"bearer"}`, n, n, life)
	})
	mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != fmt.Sprint("Bearer a", r.count()) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, "{}")
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *rotator) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renewals
}

// failingSaves is a store that fails to save a renewed credential the first few times.
type failingSaves struct {
	store.Store
	mu   sync.Mutex
	left int
}

func (f *failingSaves) SaveCredential(ctx context.Context, c store.ID, v int64, at time.Time,
	seal store.SealFunc) error {
	f.mu.Lock()
	f.left--
	fails := f.left >= 0
	f.mu.Unlock()
	if fails {
		return errors.New("the database is restarting")
	}
	return f.Store.SaveCredential(ctx, c, v, at, seal)
}

// server returns an instance on the shared database whose clock is ahead.
func (r *rotator) server(ahead time.Duration, failing int) *oauth.Server {
	r.t.Helper()
	store, err := sqlstore.Open(r.t.Context(), "sqlite:"+r.database)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { store.Close() })
	github, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id", ClientSecret: "secret", URL: r.URL})
	if err != nil {
		r.t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(ahead) }
	github.SetClock(now)
	rules, err := upstream.ParseRules("anyone", "")
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := oauth.New(r.t.Context(), oauth.Config{BaseURL: "https://mcp.example", Name: "Test",
		Secrets: [][]byte{secret}, Store: &failingSaves{Store: store, left: failing}, Rules: rules,
		Providers: []*upstream.Provider{github}, Registration: true, AccessTTL: 24 * time.Hour, RefreshTTL: 90 * 24 * time.Hour,
		Scopes: []oauth.Scope{{Name: "account:read", Sentence: "See who you are", AtSignIn: true}},
		Log:    slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// signIn signs a user in whose upstream token expires that long from now.
func (r *rotator) signIn(s *oauth.Server, client string, expires time.Duration) (c *store.Client, access,
	refresh string) {
	r.t.Helper()
	id := upstream.Identity{Provider: "github", Issuer: r.URL, Subject: "583231", Login: "octocat"}
	c, code, err := s.SignInAs(r.t.Context(), client, id, &upstream.Token{Access: "a0", Refresh: "r0",
		Expiry: time.Now().Add(expires), Scopes: []string{"user"}})
	if err != nil {
		r.t.Fatal(err)
	}
	if access, refresh, err = s.Redeem(r.t.Context(), c, code); err != nil {
		r.t.Fatal(err)
	}
	return c, access, refresh
}

func (r *rotator) exec(statement string, args ...any) {
	(&vault{t: r.t, path: r.database}).exec(statement, args...)
}

// wantToken checks that the access token leads to the newest upstream token.
func (r *rotator) wantToken(what string, s *oauth.Server, access string) {
	r.t.Helper()
	got, err := s.UpstreamToken(r.t.Context(), access)
	if want := fmt.Sprint("a", r.count()); err != nil || got.Access != want {
		r.t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

// TestTokenThatLivesForLessThanTheMargin checks tokens that live no longer than the margin for renewal. Keycloak's
// access tokens live for five minutes.
func TestTokenThatLivesForLessThanTheMargin(t *testing.T) {
	r := newRotator(t)
	r.life = 300
	s := r.server(0, 0)
	c, _, refresh := r.signIn(s, "Laptop", -time.Second)
	if _, _, err := s.Refresh(t.Context(), c, refresh); err != nil {
		t.Fatal(err)
	}
	if got := r.count(); got != 1 {
		t.Errorf("renewed %d times, want once", got)
	}
}

// TestLeaseOnAClockThatIsAhead checks an instance whose clock is ahead. A lease seems to it to have expired, and the
// refresh token that it then uses is spent.
// The user must not lose the token that the holder of the lease is about to save.
func TestLeaseOnAClockThatIsAhead(t *testing.T) {
	r := newRotator(t)
	s, ahead := r.server(0, 0), r.server(35*time.Second, 0)
	_, access, _ := r.signIn(s, "Laptop", -time.Second)
	r.onRenewal = func(n int) {
		if _, err := ahead.UpstreamToken(t.Context(), access); n == 1 && err == nil {
			t.Error("control: the other instance did not get in between")
		}
	}
	r.wantToken("holder of the lease", s, access)
	r.wantToken("instance ahead, afterwards", ahead, access)
	if got := r.count(); got != 1 {
		t.Errorf("renewed %d times, want once", got)
	}
}

// TestRenewedTokenIsSavedAtTheSecondAttempt checks a database that restarts between the renewal and the save.
func TestRenewedTokenIsSavedAtTheSecondAttempt(t *testing.T) {
	r := newRotator(t)
	s := r.server(0, 1)
	_, access, _ := r.signIn(s, "Laptop", -time.Second)
	r.wantToken("at once", s, access)
	r.wantToken("later", r.server(0, 0), access)
}

// TestSuspicionOfATokenThatCanBeRenewed checks that renewal clears the suspicion that a webhook, or a replay of one,
// put on a credential, also if its access token has only expired.
func TestSuspicionOfATokenThatCanBeRenewed(t *testing.T) {
	for name, expires := range map[string]time.Duration{"expired": -time.Second, "alive": time.Hour} {
		t.Run(name, func(t *testing.T) {
			r := newRotator(t)
			s := r.server(0, 0)
			_, access, _ := r.signIn(s, "Laptop", expires)
			r.exec("UPDATE credentials SET suspect_at = 1")
			r.wantToken("suspected", s, access)
			r.wantToken("afterwards", s, access)
			if got := r.count(); got != 1 {
				t.Errorf("renewed %d times, want once", got)
			}
		})
	}
}

// TestSuspicionDuringRenewal checks a suspicion that arrives while another instance is renewing.
func TestSuspicionDuringRenewal(t *testing.T) {
	r := newRotator(t)
	s, other := r.server(0, 0), r.server(0, 0)
	_, access, _ := r.signIn(s, "Laptop", time.Minute)
	var asking sync.WaitGroup
	r.onRenewal = func(n int) {
		if n == 1 {
			r.exec("UPDATE credentials SET suspect_at = 1")
			asking.Go(func() { r.wantToken("the other instance", other, access) })
		}
	}
	r.wantToken("who renews", s, access)
	asking.Wait()
	r.wantToken("afterwards", s, access)
}

// TestEndOfOneGrantIsNotTheOthers checks two grants of a user that wait for the same renewal while one of them ends.
func TestEndOfOneGrantIsNotTheOthers(t *testing.T) {
	r := newRotator(t)
	s, other := r.server(0, 0), r.server(0, 0)
	_, ending, _ := r.signIn(s, "Laptop", -time.Second)
	_, staying, _ := r.signIn(s, "Phone", -time.Second)
	var waiting sync.WaitGroup
	r.onRenewal = func(n int) { // another instance holds the lease
		waiting.Go(func() { s.UpstreamToken(t.Context(), ending) })
		waiting.Go(func() { r.wantToken("the grant that stays", s, staying) })
		r.exec("DELETE FROM grants WHERE id = (SELECT grant_id FROM tokens WHERE hash = ?)", hashBytes(ending))
	}
	if _, err := other.UpstreamToken(t.Context(), staying); err != nil {
		t.Error(err)
	}
	waiting.Wait()
}

func hashBytes(token string) []byte {
	h := store.HashOf(token)
	return h[:]
}
