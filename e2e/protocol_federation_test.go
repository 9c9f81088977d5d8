package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestProtocolTwoTokens checks that clients get our tokens and the provider's API gets its own. Neither ever sees the
// other's.
func TestProtocolTwoTokens(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	first := w.post("/token", codeForm(id, w.code(id)))
	second := w.refresh(id, first.str("refresh_token"))
	t.Run("F1, S9: the provider knows none of our tokens", func(t *testing.T) {
		knows := func(token string) bool { // it keeps their hashes
			sum := sha256.Sum256([]byte(token))
			known := readFile(t, filepath.Join(w.env["DATA_DIR"], "devidp.json"))
			return strings.Contains(string(known), hex.EncodeToString(sum[:]))
		}
		for _, a := range []answer{first, second} {
			if knows(a.str("access_token")) || knows(a.str("refresh_token")) {
				t.Error("the client was given a token of the provider's")
			}
		}
		if !knows(w.upstreamToken().Access) {
			t.Error("control: the provider does not know its own token")
		}
	})
	t.Run("F7, S9: the client is given no token of the provider's", func(t *testing.T) {
		prefix := w.upstreamToken().Access[:8]
		for _, a := range []answer{first, second, w.tool(second.str("access_token"), "whoami"),
			w.tool(second.str("access_token"), "list_repositories")} {
			if a.status != http.StatusOK || strings.Contains(string(a.body), prefix) {
				t.Errorf("got %d, a token of the provider's inside: %t", a.status, strings.Contains(string(a.body), prefix))
			}
		}
	})
	t.Run("F7, S9: the provider's API is sent no token of the client's", func(t *testing.T) {
		var mu sync.Mutex
		var sent []*http.Request
		var bodies string
		api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			sent, bodies = append(sent, r), bodies+string(body)
			io.WriteString(rw, "[]")
		}))
		t.Cleanup(api.Close)
		github := w.app.DevIDP.GitHub()
		github.APIURL = api.URL
		w.useGitHub(github)
		access := second.str("access_token")
		if got := w.tool(access, "list_repositories").status; got != http.StatusOK {
			t.Fatalf("list_repositories: got status %d, want 200", got)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(sent) != 1 || !strings.HasPrefix(sent[0].Header.Get("Authorization"), "Bearer gho_") {
			t.Fatalf("control: the API got %d requests, want one with a token of the provider's", len(sent))
		}
		var all strings.Builder
		sent[0].Header.Write(&all)
		if strings.Contains(all.String()+sent[0].URL.String()+bodies, "mcp_at_") {
			t.Error("the API was sent the client's token")
		}
	})
}

// TestProtocolConsentComesFirst checks that each of our clients needs our own consent page first (the confused deputy):
// the provider knows one client, this server, and no longer asks users who have allowed it.
func TestProtocolConsentComesFirst(t *testing.T) {
	w := newWorld(t, nil)
	first, b := w.register(callbackURI), w.browser()
	b.signIn(w.authorizeURL(first, nil)) // from now on the provider sends this browser straight back
	for _, test := range []struct{ name, client string }{
		{"F6: a new client, in a browser that allowed another one", w.register(callbackURI)},
		{"S1 overruled: the same client again is asked about again", first},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(w.app.DevIDP.Calls())
			p := b.open(w.authorizeURL(test.client, nil))
			if p.status != http.StatusOK || p.url.Path != "/authorize" || len(p.forms) != 1 {
				t.Fatalf("got status %d at %s, want the question", p.status, p.url.Path)
			}
			if n := len(w.app.DevIDP.Calls()) - before; n != 0 {
				t.Errorf("the provider got %d requests before the person was asked", n)
			}
			if end := p.press("Continue with GitHub", nil); end.status != 0 || !end.url.Query().Has("code") { // valid
				t.Errorf("after the answer: got status %d, want to be sent straight through", end.status)
			}
		})
	}
}

// TestProtocolBinding checks whose upstream token a grant uses.
func TestProtocolBinding(t *testing.T) {
	w := newWorld(t, nil)
	people := []struct {
		owner string
		tokens
	}{{"octocat/", w.signIn()}, {"mallory/", w.signInAs("mallory")}, {"octocat/", w.signIn()}}
	for _, who := range people {
		t.Run("F2: each grant reaches its own person's: "+who.owner, func(t *testing.T) {
			refreshed := w.refresh(who.clientID, who.refresh).str("access_token")
			for _, access := range []string{who.access, refreshed} {
				if got := w.repositories(access); !strings.HasPrefix(got, who.owner) {
					t.Errorf("got %s, want a repository of %s", got, who.owner)
				}
			}
		})
	}
	t.Run("F2: a grant that is gone reaches nothing", func(t *testing.T) {
		w.post("/revoke", url.Values{"client_id": {people[0].clientID}, "token": {people[0].refresh}})
		if got := w.tool(people[0].access, "list_repositories").status; got != http.StatusUnauthorized {
			t.Errorf("got status %d, want 401", got)
		}
		if got := w.repositories(people[2].access); !strings.HasPrefix(got, "octocat/") {
			t.Errorf("control: the person's other client: got %s, want a repository of octocat's", got)
		}
	})
}
