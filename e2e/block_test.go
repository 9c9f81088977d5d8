package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
)

const blockedTitle = "This application is blocked here"

// TestBlockedAtEachStep checks that, whichever step a client has reached when it is blocked, the next step fails, tells
// the truth and consumes nothing. The same step works once the block is lifted.
func TestBlockedAtEachStep(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	held := w.redeemAs("octocat", id)
	request := w.authorizeURL(id, nil)
	consent, callback, code := w.browser().open(request), w.atCallback(id), w.code(id)
	shortID := clients.ShortID(&store.Client{ID: id}).String()
	for _, block := range []string{shortID, "127.0.0.1"} {
		// Block only the row: the command would also end the grants.
		if err := w.app.Store.Block(t.Context(), block, w.clock.now()); err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]*page{
			"/authorize":            w.browser().open(request),
			"consent, asked before": consent.press("Continue with GitHub", nil),
			"cancel, asked before":  consent.press("Cancel", nil),
			"callback, sent to GitHub before": func() *page {
				cookies := callback.b.client.Jar.Cookies(callback.url)
				defer callback.b.client.Jar.SetCookies(callback.url, cookies) // for the valid request
				callback.b.stopAt = ""
				return callback.b.open(callback.url.String())
			}(),
		} {
			if p.status != http.StatusForbidden || !strings.Contains(p.text, blockedTitle) {
				t.Errorf("%s: got status %d, want 403:\n%s", name, p.status, p.text)
			}
			for _, link := range p.links {
				if strings.HasPrefix(link, callbackURI) {
					t.Errorf("%s: the page leads back to the blocked client", name)
				}
			}
		}
		for name, a := range map[string]answer{
			"code":          w.post("/token", codeForm(id, code)),
			"refresh token": w.refresh(id, held.refresh),
		} {
			assertJSONError(t, a, http.StatusBadRequest, "invalid_grant")
			if t.Failed() {
				t.Fatal(name)
			}
		}
		if err := w.app.Store.Unblock(t.Context(), block); err != nil {
			t.Fatal(err)
		}
	}
	if p := consent.press("Continue with GitHub", nil); strings.Contains(p.text, blockedTitle) || p.status == 403 {
		t.Errorf("unblocked: consent: got status %d", p.status)
	}
	if p := callback.b.open(callback.url.String()); p.status != 0 || p.url.Query().Get("code") == "" {
		t.Errorf("unblocked: callback: got status %d:\n%s", p.status, p.text)
	}
	a := w.refresh(id, held.refresh)
	w.assertWorks(id, a)
	w.redeem(id, code)
}

// TestOperatorBlocks uses the operator's commands, beside the running server.
func TestOperatorBlocks(t *testing.T) {
	const home = "https://sub.client.example/cb"
	w := newWorld(t, nil)
	id, other := w.register(callbackURI, home), w.register(callbackURI)
	all := []tokens{w.redeemAs("octocat", id), w.redeemAs("mallory", id), w.redeemAs("octocat", other)}
	type list struct {
		Clients []clientRecord `json:"clients"`
		Blocked []string       `json:"blocked"`
	}
	clients := listed[list](w, "clients", "list")
	if len(clients.Clients) != 2 || clients.Clients[0].ClientID != id || clients.Clients[0].Grants != 2 ||
		len(clients.Blocked) != 0 {
		t.Fatalf("got %+v", clients)
	}
	shortID := clients.Clients[0].ID

	for _, what := range []string{id, shortID, "client.example", "SUB.Client.Example."} {
		if diff := cmp.Diff([]bool{true, true, true}, w.alive(all...)); diff != "" {
			t.Fatalf("before %s: %s", what, diff)
		}
		out := w.must("clients", "block", what)
		if !strings.Contains(out, "Grants ended: 2\n") {
			t.Errorf("block %s says %q, want two grants", what, out)
		}
		w.clock.advance(5 * time.Second) // TOKEN_CACHE
		if diff := cmp.Diff([]bool{false, false, true}, w.alive(all...)); diff != "" {
			t.Errorf("block %s: alive (-want +got):\n%s", what, diff)
		}
		assertJSONError(t, w.refresh(id, all[0].refresh), http.StatusBadRequest, "invalid_grant")
		assertJSONError(t, w.refresh(other, "x"), http.StatusBadRequest, "invalid_grant")
		if p := w.browser().open(w.authorizeURL(id, nil)); p.status != http.StatusForbidden {
			t.Errorf("block %s: /authorize: got status %d, want 403", what, p.status)
		}
		if p := w.browser().open(w.authorizeURL(other, nil)); p.status != http.StatusOK {
			t.Errorf("block %s: /authorize of another client: got status %d, want 200", what, p.status)
		}
		if got := listed[list](w, "clients", "list"); len(got.Blocked) != 1 || len(got.Clients) != 1 ||
			!strings.Contains(w.must("clients", "list"), "Blocked: "+got.Blocked[0]) {
			t.Errorf("after block %s the list is %+v", what, got)
		}
		w.must("clients", "block", what) // again, for good measure
		w.must("clients", "unblock", what)
		if out, err := w.command("clients", "unblock", what); err == nil {
			t.Errorf("unblocked twice: %s", out)
		}
		all[0], all[1] = w.redeemAs("octocat", id), w.redeemAs("mallory", id)
	}

	for _, wrong := range []string{"https://client.example", "client.example/cb", "client.example:443", "", "*", "a b",
		"mcp_ci", "\x1b[2J"} {
		out, err := w.command("clients", "block", wrong)
		if err == nil || !strings.Contains(err.Error(), "for example client.example.com") {
			t.Errorf("block %q: got %q, %v, want an error with an example", wrong, out, err)
		}
	}
	if diff := cmp.Diff([]bool{true, true, true}, w.alive(all...)); diff != "" {
		t.Error(diff)
	}
}

// The rules themselves, where the way through the program would be long.
func TestWhatABlockCovers(t *testing.T) {
	client := &store.Client{ID: "mcp_ci_x", RedirectURIs: []string{"https://a.b.example./cb", "http://[::1]:80/cb",
		"cursor://app.cursor/cb", "com.example.app:/cb", "https://192.0.2.7:8443/"}}
	for name, want := range map[string]bool{
		"mcp_ci_x": true, "a.b.example": true, "b.example": true, "B.EXAMPLE.": true, "::1": true, "0:0::1": true,
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "b.example..": true, "app.cursor": true, "cursor": true,
		"mcp_ci_y": false, ".example": false, "xb.example": false, "c.a.b.example": false, "a.b": false, "cb": false,
		"2.7": false, "192.0.2": false, "::": false, "com.example.app": false,
	} {
		block, err := clients.BlockName(name)
		if got := err == nil && clients.BlockedBy(client, []string{"other.example", block}); got != want {
			t.Errorf("%s: got %t (%q, %v), want %t", name, got, block, err, want)
		}
	}
	if clients.BlockedBy(client, nil) || clients.BlockedBy(&store.Client{ID: "mcp_ci_x"}, []string{""}) {
		t.Error("blocked by nothing")
	}

	// The hosts that clients list shows for a client are those that the operator can block it by.
	described := &store.Client{ID: "https://App.example/client.json", RedirectURIs: []string{"http://localhost:80/cb",
		"http://localhost:81/cb", "com.example.app:/cb"}}
	if diff := cmp.Diff([]string{"app.example", "localhost"}, clients.Hosts(described)); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	for _, host := range clients.Hosts(described) {
		if !clients.BlockedBy(described, []string{host}) {
			t.Errorf("not blocked by %s", host)
		}
	}
}
