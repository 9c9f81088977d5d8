package oauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// ladder is three scopes, each included in the next, and some other scopes.
var ladder = []Scope{
	{Name: "account:read", Sentence: "See who you are", AtSignIn: true},
	{Name: "repos:read", Sentence: "See your repositories", IncludedIn: "repos:write"},
	{Name: "repos:write", Sentence: "Change your repositories", Upstream: []string{"repo"}, IncludedIn: "repos:admin"},
	{Name: "repos:admin", Sentence: "Delete your repositories", Upstream: []string{"repo", "delete_repo"}},
	{Name: "calendar:read", Sentence: "See your calendar", Provider: "google"},
}

// TestBroaderScopeSatisfiesNarrower checks whether a client with other scopes may call a tool that needs a scope.
func TestBroaderScopeSatisfiesNarrower(t *testing.T) {
	for _, tt := range []struct {
		name, granted, needed string
		challenge             string // the scopes that it names; empty if there is no challenge
		refused               bool
	}{
		{"control: itself", "repos:read", "repos:read", "", false},
		{"Q10: the next broader one", "repos:write", "repos:read", "", false},
		{"Q10: a broader one still", "repos:admin", "repos:read", "", false},
		{"AZ14: both", "repos:read repos:write", "repos:read", "", false},
		{"the narrower one is not enough", "repos:read", "repos:write", "repos:read repos:write", true},
		{"another one", "account:read", "repos:read", "account:read repos:read", true},
		{"what no sign-in of theirs can grant", "repos:admin", "calendar:read", "", true},
		{"what there is not", "repos:admin", "repos", "", true},
		{"nothing", "repos:admin", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, "https://mcp.example")
			s.scopes = ladder
			token := s.grantTo(t, strings.Fields(tt.granted))
			var err error
			tool := s.gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err = CallerFrom(r.Context()).Require(tt.needed)
				w.WriteHeader(http.StatusOK)
			}))
			r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			tool.ServeHTTP(w, r)
			if refused := err != nil; refused != tt.refused {
				t.Errorf("got error %v, want one: %t", err, tt.refused)
			}
			challenge, status := w.Header().Get("WWW-Authenticate"), http.StatusOK
			if tt.challenge != "" {
				status = http.StatusForbidden
			}
			if w.Code != status || strings.Contains(challenge, `scope="`+tt.challenge+`"`) != (tt.challenge != "") {
				t.Errorf("got %d with challenge %q, want %d with scopes %q", w.Code, challenge, status, tt.challenge)
			}
		})
	}
}

// TestIncludedScopesAreGrantedAsAsked checks that IncludedIn does not change which scopes are requested and granted.
func TestIncludedScopesAreGrantedAsAsked(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	s.scopes = ladder
	p := &upstream.Provider{ID: "github"}
	for _, tt := range []struct{ asked, upstream, granted string }{
		{"repos:read", "", "repos:read"},
		{"repos:write", "repo", "repos:write"},
		{"repos:read repos:write", "repo", "repos:read repos:write"},
		{"repos:write repos:read repos:write", "repo", "repos:read repos:write"},
	} {
		t.Run("AZ14: "+tt.asked, func(t *testing.T) {
			scopes := s.requestedScopes(tt.asked)
			asked := upstreamScopes(scopes, p)
			if got := strings.Join(asked, " "); got != tt.upstream {
				t.Errorf("the provider is asked for %q, want %q", got, tt.upstream)
			}
			if got := strings.Join(grantedScopes(scopes, p, &upstream.Token{Scopes: asked}), " "); got != tt.granted {
				t.Errorf("granted %q, want %q", got, tt.granted)
			}
		})
	}
}

func TestScopesThatCannotWork(t *testing.T) {
	if err := checkScopes(ladder); err != nil {
		t.Errorf("control: %v", err)
	}
	for want, bad := range map[string][]Scope{
		"scope a is included in itself":                {{Name: "a", IncludedIn: "a"}},
		"scope b is included in itself":                {{Name: "a", IncludedIn: "b"}, {Name: "b", IncludedIn: "a"}},
		"scope a is included in \"b\", which is not":   {{Name: "a", IncludedIn: "b"}},
		"scope a is declared twice":                    {{Name: "a"}, {Name: "a"}},
		"scope a has no sentence for the consent page": {{Name: "a"}},
		"scope name \"a b\": want letters":             {{Name: "a b"}},
		"no scope is asked for at every sign-in":       {{Name: "a", AtSignIn: true, Provider: "github"}},
	} {
		if err := checkScopes(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// oneToken is a store with one access token.
type oneToken struct {
	emptyStore
	token store.Token
}

func (o oneToken) Token(context.Context, store.Hash) (store.Token, error) { return o.token, nil }

// grantTo gives the server a grant with these scopes, and returns its access token.
func (s *Server) grantTo(t *testing.T, scopes []string) string {
	t.Helper()
	rules, err := upstream.ParseRules("anyone", "")
	if err != nil {
		t.Fatal(err)
	}
	id := upstream.Identity{Provider: "github", Subject: "1"}
	g := store.Grant{User: store.User{ID: id.UserID(), Identity: id}, Scopes: scopes, Audience: s.resource,
		Client: store.Client{ID: register(t, s, "https://a.example/cb")}}
	seed := seal.NewSecret()
	row := s.ring.NewAccess(&g, seed, 1, 0, s.now().Add(time.Hour))
	row.Grant = g
	s.grants = grants.New(grants.Config{Store: oneToken{token: row}, Ring: s.ring, Clients: s.clients,
		Providers: s.providers, Rules: rules, Resource: s.resource, Log: s.log, Now: s.now})
	return seal.AccessToken(seed, 1, 0).Format(seal.AccessPrefix)
}
