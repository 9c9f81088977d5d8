package e2e

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// useGitHub restarts the program with a configuration for GitHub that in fact points to this development provider.
func (w *world) useGitHub(github upstream.GitHubConfig) {
	w.t.Helper()
	w.env["GITHUB_CLIENT_ID"], w.env["GITHUB_CLIENT_SECRET"] = github.ClientID, github.ClientSecret
	w.env["GITHUB_URL"], w.env["GITHUB_API_URL"] = github.URL, github.APIURL
	w.provider = github.URL
	w.restart()
}

// TestStoreDown checks that a server-side failure never causes invalid_grant, invalid_client or 401, and consumes
// nothing. A client that gets one of these discards its tokens (metabase#80389).
func TestStoreDown(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	// A development provider outside of the program, which remembers its codes while the program restarts.
	github, err := devidp.Start(devidp.Config{BaseURL: w.base, Log: slog.New(slog.DiscardHandler), Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { github.Close() })
	w.useGitHub(github.GitHub())
	session, id := w.signIn(), w.register(callbackURI)
	code, atCallback := w.code(id), w.atCallback(id)
	strange := newWorld(t, nil).register(callbackURI) // only the store can tell whether this one is unknown

	w.app.Store.Close()
	for name, a := range map[string]answer{
		"code":                  w.post("/token", codeForm(id, code)),
		"refresh token":         w.refresh(session.clientID, session.refresh),
		"client not from here":  w.post("/token", codeForm(strange, code)),
		"revocation":            w.post("/revoke", url.Values{"client_id": {session.clientID}, "token": {session.refresh}}),
		"access token":          w.tool(session.access, "whoami"),
		"access token, for GET": w.call(http.MethodGet, "/mcp", legacyHeader(session.access), ""),
	} {
		t.Run(name, func(t *testing.T) {
			assertJSONError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
			if a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" {
				t.Errorf("Retry-After %q, challenge %q, want only the first", a.header.Get("Retry-After"),
					a.header.Get("WWW-Authenticate"))
			}
		})
	}
	for path, p := range map[string]*page{
		"/authorize":       w.browser().open(w.authorizeURL(strange, nil)),
		"/callback/github": atCallback.b.open(atCallback.url.String()),
	} {
		t.Run(path, func(t *testing.T) {
			assertErrorPage(t, p, http.StatusServiceUnavailable, path, "This server cannot answer right now")
			if p.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if got := w.call(http.MethodGet, path, nil, "").status; got != want {
			t.Errorf("%s: got status %d, want %d", path, got, want)
		}
	}

	// Everything works when the store is back, with the same code, tokens and callback from the provider.
	w.restart()
	w.redeem(id, code)
	if got := w.tool(session.access, "whoami").status; got != http.StatusOK {
		t.Errorf("access token after the outage: got status %d, want 200", got)
	}
	assertJSONError(t, w.refresh(session.clientID, session.refresh), http.StatusOK, "")
	back := atCallback.b.open(atCallback.url.String())
	if back.status != 0 {
		t.Fatalf("callback after the outage: got status %d:\n%s", back.status, back.text)
	}
	w.redeem(id, back.url.Query().Get("code"))
	p := w.browser().open(w.authorizeURL(strange, nil))
	assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "not known here")
}

// TestProviderDown checks that the user is told to try again, and that nothing is written.
func TestProviderDown(t *testing.T) {
	const tokenPath, userPath = "/login/oauth/access_token", "/api/v3/user"
	for _, test := range []struct {
		name   string
		path   string
		fault  devidp.Fault
		reload bool // reloading the page signs the user in, because the provider's code was not used
	}{
		{"control", "/elsewhere", devidp.Fault{}, false},
		{"error when redeeming the code", tokenPath, devidp.Fault{Status: 500}, true},
		{"connection lost before redeeming the code", tokenPath, devidp.Fault{Drop: true}, true},
		{"connection lost after redeeming the code", tokenPath, devidp.Fault{Drop: true, AfterCommit: true}, false},
		{"firewall's page when redeeming the code", tokenPath, devidp.Fault{Status: 200, Body: "<html>"}, true},
		{"error when asking who it is", userPath, devidp.Fault{Status: 502}, false},
		{"half an answer when asking who it is", userPath, devidp.Fault{Body: `{"id":583231,`}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.signIn()
			before := w.stored()
			p := w.atCallback(w.register(callbackURI))
			w.app.DevIDP.FailNext(test.path, 1, test.fault)
			end := p.b.open(p.url.String())
			if test.name == "control" {
				if end.status != 0 || cmp.Equal(before.rows, w.stored().rows) {
					t.Errorf("got status %d and rows %v, want a sign-in", end.status, w.stored().rows)
				}
				return
			}
			assertErrorPage(t, end, http.StatusServiceUnavailable, "/callback/github", "GitHub does not answer")
			if end.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if diff := cmp.Diff(before.rows, w.stored().rows); diff != "" || !bytes.Equal(before.files, w.stored().files) {
				t.Errorf("something was written; rows (-before +after):\n%s", diff)
			}
			if got := p.b.open(p.url.String()).status == 0; got != test.reload {
				t.Errorf("reloading the page signed the person in: %t, want %t", got, test.reload)
			}
		})
	}
}

// TestUnkeptTokensAreDeletedAtTheProvider checks that unused tokens are deleted: each would push a valid one out of
// GitHub's ten.
func TestUnkeptTokensAreDeletedAtTheProvider(t *testing.T) {
	for _, test := range []struct {
		name   string
		env    map[string]string
		fault  string
		status int // status of the page; 0 if the user is signed in
		want   int // deletions
	}{
		{"control: signed in", nil, "", 0, 0},
		{"refused by ALLOW", map[string]string{"ALLOW": "github:mallory"}, "", http.StatusForbidden, 1},
		{"nobody to be known from it", nil, "/api/v3/user", http.StatusServiceUnavailable, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.env)
			w.app.DevIDP.FailNext(test.fault, 1, devidp.Fault{Status: 502})
			p := w.atCallback(w.register(callbackURI))
			if end := p.b.open(p.url.String()); end.status != test.status {
				t.Fatalf("got status %d, want %d:\n%s", end.status, test.status, end.text)
			}
			deleted := 0
			for _, call := range w.app.DevIDP.Calls() {
				if call.Method == http.MethodDelete && strings.HasSuffix(call.Path, "/token") {
					deleted++
				}
			}
			if deleted != test.want {
				t.Errorf("%d tokens were deleted at the provider, want %d", deleted, test.want)
			}
		})
	}
}
