// Package oauthtest runs an MCP endpoint as a made-up user, for tests of tools.
//
// Only the provider's API is made up. [As] writes a grant to a store of its own, as a sign-in does, and puts the
// endpoint behind the real gate. So a tool gets a real [oauth.Caller], and a call without its scope gets the real
// challenge. Package oauth has no other way to make a Caller, because production code could use that way too.
package oauthtest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// A Caller is the user and the client that a test calls tools as.
type Caller struct {
	Provider     string // github, google or oidc
	Subject      string // the provider's permanent id of the user; "1" if empty
	Login, Name  string
	Emails       []string // verified, lower-case, the primary one first
	HostedDomain string   // of a Google Workspace user
	Groups       []string // of an OpenID Connect user
	Client       string   // what the client calls itself; "Test client" if empty
	Scopes       []string // what the user allowed the client
	// API handles the requests to the provider's API. If it responds to a tool with 401, its GET /user decides
	// whether the user must sign in again, as at GitHub. Nil means that the tool makes no request; oidc has no API.
	API http.Handler
}

const (
	baseURL = "https://mcp.example.com"
	// nobody stands for the other URLs of a provider. Nothing listens there, so no test leaves this machine.
	nobody = "http://127.0.0.1:9"
)

// As returns the MCP endpoint behind the gate of a server that declares these scopes. A request to POST /mcp needs no
// token: it runs as the caller. The endpoint works until the test ends, and fails the test if a tool makes a request
// to the API without the user's token.
func As(t testing.TB, c Caller, scopes []oauth.Scope, mcp http.Handler) http.Handler {
	t.Helper()
	if !testing.Testing() {
		panic("oauthtest: not in a test") // a struct of any program can embed a testing.TB
	}
	apiToken := rand.Text()
	provider, err := c.provider(c.serveAPI(t, apiToken))
	if err == nil {
		err = c.checkScopes(scopes)
	}
	if err != nil {
		t.Fatalf("oauthtest.Caller: %v", err)
	}
	rows, err := sqlstore.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "server.db"))
	check(t, err)
	t.Cleanup(func() { rows.Close() })
	secret := seal.NewSecret()
	rules, err := upstream.ParseRules("anyone", "")
	check(t, err)
	client := store.Client{ID: "test", Name: cmp.Or(c.Client, "Test client"), AuthMethod: "none"}
	server, err := oauth.New(t.Context(), oauth.Config{BaseURL: baseURL, Name: "Test", Secrets: [][]byte{secret[:]},
		Store: rows, Providers: []*upstream.Provider{provider}, Rules: rules, Scopes: scopes,
		Clients: []store.Client{client}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	check(t, err)
	ring, err := seal.NewRing([][]byte{secret[:]})
	check(t, err)
	access := signIn(t, rows, ring, apiToken, store.Grant{
		ID: store.NewID(), Client: client, Scopes: c.Scopes, Audience: baseURL + "/mcp",
		User: store.User{Identity: upstream.Identity{
			Provider: provider.ID, Issuer: provider.IdentityIssuer, Subject: cmp.Or(c.Subject, "1"),
			Login: c.Login, Name: c.Name, Emails: c.Emails, HostedDomain: c.HostedDomain, Groups: c.Groups,
		}},
	})

	routes := chi.NewRouter()
	server.Routes(routes, mcp)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+access)
		routes.ServeHTTP(w, r)
	})
}

// signIn stores what a sign-in and the redemption of its code store, and returns the access token.
func signIn(t testing.TB, rows store.Store, ring seal.Ring, apiToken string, g store.Grant) string {
	t.Helper()
	now, seed := time.Now(), seal.NewSecret()
	expiry := now.Add(time.Hour)
	g.User.ID, g.User.FactsAt, g.CreatedAt = g.User.UserID(), now, now
	g.PublicKey = seal.PrivateKey(seed).PublicKey().Bytes()
	in := store.SignIn{Grant: g, Code: store.Code{ExpiresAt: expiry}, At: now}
	in.WrapCode = func(credential store.ID) store.Wrap {
		g.Credential = credential
		return ring.WrapCode(&in.Code, &g, seal.NewSecret(), seed)
	}
	token := &upstream.Token{Access: apiToken}
	check(t, rows.SignIn(t.Context(), in, ring.SealCredential(g.User.ID, token, seal.AnyRecipient)))
	_, err := rows.RedeemCode(t.Context(), in.Code.Hash, now, ring.NewPair(&g, seed, 1, expiry, expiry), false)
	check(t, err)
	return seal.AccessToken(seed, 1, 0).Format(seal.AccessPrefix)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("oauthtest: %v", err)
	}
}

// serveAPI starts the API and returns its URL.
func (c Caller) serveAPI(t testing.TB, token string) string {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + r.URL.Path
		t.Logf("request to the API: %s", what)
		switch {
		case c.API == nil:
			t.Errorf("%s: the tool makes a request to the API; set oauthtest.Caller.API", what)
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Bearer "+token:
			t.Errorf("%s: the request does not have the user's token; use oauth.Caller.HTTPClient", what)
			fallthrough
		default:
			c.API.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(api.Close)
	return api.URL
}

// provider returns the caller's provider, with the API at that URL.
func (c Caller) provider(api string) (p *upstream.Provider, err error) {
	const id, secret = "test.apps.googleusercontent.com", "test"
	switch c.Provider {
	case "github":
		return upstream.GitHub(upstream.GitHubConfig{ClientID: id, ClientSecret: secret, APIURL: api})
	case "google":
		p, err = upstream.Google(upstream.GoogleConfig{ClientID: id, ClientSecret: secret, Issuer: nobody,
			APIURL: api})
		if err == nil {
			p.IdentityIssuer = "https://accounts.google.com"
		}
		return p, err
	case "oidc":
		if c.API != nil {
			return nil, errors.New("the provider oidc has no API; remove the field API")
		}
		return upstream.OIDC(upstream.OIDCConfig{ClientID: id, ClientSecret: secret, Issuer: nobody})
	}
	return nil, fmt.Errorf("the provider is %q; use github, google or oidc", c.Provider)
}

// checkScopes returns an error if no sign-in with the caller's provider could grant the caller's scopes.
func (c Caller) checkScopes(declared []oauth.Scope) error {
	var names []string
	for _, sc := range declared {
		if sc.Provider == "" || sc.Provider == c.Provider {
			names = append(names, sc.Name)
		}
	}
	for _, sc := range c.Scopes {
		if !slices.Contains(names, sc) {
			return fmt.Errorf("no sign-in with %s grants scope %q; use one of %q", c.Provider, sc, names)
		}
	}
	return nil
}
