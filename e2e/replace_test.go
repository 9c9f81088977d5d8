package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// alive reports, for each access token, whether the gate admits it.
func (w *world) alive(tokens ...tokens) (alive []bool) {
	w.t.Helper()
	for _, held := range tokens {
		status := w.tool(held.access, "whoami").status
		if status != http.StatusOK && status != http.StatusUnauthorized {
			w.t.Fatalf("whoami: got status %d", status)
		}
		alive = append(alive, status == http.StatusOK)
	}
	return alive
}

// redeemAs signs a user in with a client that is registered already.
func (w *world) redeemAs(login, clientID string) tokens {
	w.t.Helper()
	w.clock.advance(time.Second) // so that sign-ins have an order
	p := w.browser().open(w.authorizeURL(clientID, nil)).press("Continue with GitHub", nil).
		press("Authorize", url.Values{"login": {login}})
	return w.redeem(clientID, p.url.Query().Get("code"))
}

// TestReplacedGrants checks that a client's new sign-in ends its old grant when the client gets the new tokens, and not
// before.
func TestReplacedGrants(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "1m"})
	id, other := w.register(callbackURI), w.register(callbackURI)
	old, others, mallorys := w.redeemAs("octocat", id), w.redeemAs("octocat", other), w.redeemAs("mallory", id)
	want := func(when string, alive ...bool) {
		t.Helper()
		if diff := cmp.Diff(alive, w.alive(old, others, mallorys)); diff != "" {
			t.Errorf("%s: alive (-want +got):\n%s", when, diff)
		}
	}
	w.code(id) // abandoned: never redeemed
	code, late := w.code(id), w.code(id)
	want("signed in again, code not redeemed", true, true, true)
	a := w.post("/token", codeForm(id, code, "code_verifier", strings.Repeat("x", 43)))
	assertJSONError(t, a, http.StatusBadRequest, "invalid_grant")
	want("code refused", true, true, true)

	replacement := w.redeem(id, code)
	want("redeemed", false, true, true) // immediately, although the old token was cached
	assertJSONError(t, w.refresh(id, old.refresh), http.StatusBadRequest, "invalid_grant")
	if got := w.repositories(replacement.access); !strings.HasPrefix(got, "octocat/") {
		t.Errorf("list_repositories with the new token: got %q, want octocat's", got)
	}

	// A client that had two browsers open keeps the tokens that it got last.
	w.redeem(id, late)
	if w.alive(replacement)[0] {
		t.Error("two grants of one client")
	}
	want("two sign-ins at once", false, true, true)
	if n := query[int](w, `SELECT count(*) FROM grants WHERE counter > 0`); n != 3 {
		t.Errorf("%d redeemed grants, want three", n)
	}
}
