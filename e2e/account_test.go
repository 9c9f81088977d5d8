package e2e

import (
	"net/http"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestRevokedAtTheProviderWithoutRulesThatAsk checks that a user who revokes the app at the provider, or loses the
// account there, is signed out within about an hour, even if no rule needs data and no tool calls the provider.
func TestRevokedAtTheProviderWithoutRulesThatAsk(t *testing.T) {
	const user = "/api/v3/user"
	revoke := func(w *world) {
		if err := w.app.DevIDP.RevokeTokens("octocat"); err != nil {
			w.t.Fatal(err)
		}
	}
	answers := func(f devidp.Fault) func(*world) {
		return func(w *world) { w.app.DevIDP.FailNext(user, 1000, f) }
	}
	for _, tt := range []struct {
		name, allow string
		change      func(*world)
		later       time.Duration
		stays       bool
	}{
		{"revoked", "anyone", revoke, time.Hour, false},
		{"revoked, and ALLOW names the account", "github:octocat", revoke, time.Hour, false},
		{"revoked, and asked about too recently", "anyone", revoke, 59 * time.Minute, true},
		{"suspended", "anyone", answers(devidp.Fault{Status: http.StatusForbidden,
			Body: `{"message":"Sorry. Your account was suspended."}`}), time.Hour, false},
		{"nothing has happened", "anyone", func(*world) {}, time.Hour, true},
		{"the provider is down", "anyone", answers(devidp.Fault{Status: http.StatusBadGateway}), time.Hour, true},
		{"the provider limits the rate", "anyone", answers(devidp.Fault{Status: http.StatusForbidden,
			Header: http.Header{"X-Ratelimit-Remaining": {"0"}}}), time.Hour, true},
		{"a firewall answers", "anyone", answers(devidp.Fault{Status: http.StatusForbidden, Body: "<h1>Blocked</h1>"}),
			time.Hour, true},
	} {
		t.Run("F3: "+tt.name, func(t *testing.T) {
			w := newWorld(t, map[string]string{"TOKEN_CACHE": "0", "ALLOW": tt.allow})
			one, two := w.signIn(), w.signIn() // both share a credential
			tt.change(w)
			w.clock.advance(tt.later)
			if !tt.stays {
				w.signedOut(one)
				w.signedOut(two)
				return
			}
			before := w.callsTo(user)
			for range 3 {
				w.refreshed(&one)
				w.refreshed(&two)
			}
			if tt.later < time.Hour {
				if got := w.callsTo(user) - before; got != 0 {
					t.Errorf("within the hour the provider was asked %d times", got)
				}
				return
			}
			if got := w.callsTo(user) - before; got != 1 {
				t.Errorf("six refreshes asked the provider %d times, want once", got)
			}
			w.clock.advance(time.Hour)
			if w.refreshed(&two); w.callsTo(user)-before != 2 {
				t.Error("an hour later the provider was not asked again")
			}
		})
	}
}

// callsTo counts the requests that the development provider got for a path.
func (w *world) callsTo(path string) (n int) {
	for _, c := range w.app.DevIDP.Calls() {
		if c.Path == path {
			n++
		}
	}
	return n
}

// TestAllowMeansTheLoginOfToday checks that ALLOW=github:octocat admits the account that has the login today, not one
// that had it when it signed in under another rule. DENY matches every login that an account had here.
func TestAllowMeansTheLoginOfToday(t *testing.T) {
	// The development provider still knows the accounts as octocat and mallory.
	restart := func(w *world, octocat, variable, value string) {
		w.env[variable] = value
		w.restart()
		w.app.DevIDP.Rename("octocat", octocat)
		w.app.DevIDP.Rename("mallory", "octocat")
	}
	start := func(t *testing.T, variable, value string) (w *world, former tokens) {
		w = newWorld(t, map[string]string{"TOKEN_CACHE": "0"}) // ALLOW=anyone
		former = w.signIn()
		restart(w, "octo", variable, value)
		return w, former
	}
	arrives := func(w *world, login string, status int) {
		w.t.Helper()
		if p := w.arrive(w.register(callbackURI), "GitHub", login); p.status != status {
			w.t.Errorf("%s: got status %d, want %d\n%s", login, p.status, status, p.text)
		}
	}
	const comesIn = 0 // the browser stops at the client's redirect URI
	t.Run("the former owner's tokens", func(t *testing.T) {
		w, former := start(t, "ALLOW", "github:octocat")
		w.clock.advance(time.Hour)
		w.signedOut(former)
	})
	t.Run("sign-ins", func(t *testing.T) {
		w, _ := start(t, "ALLOW", "github:octocat")
		arrives(w, "octocat", http.StatusForbidden)
		arrives(w, "mallory", comesIn)
		arrives(w, "octocat", http.StatusForbidden)
	})
	t.Run("the former owner under the new login", func(t *testing.T) {
		w, _ := start(t, "ALLOW", "github:octo")
		former := w.signInWith("GitHub", "octocat")
		arrives(w, "mallory", http.StatusForbidden)
		// The rule still means the account that it once matched, until the operator names another login.
		w.app.DevIDP.Rename("octocat", "octave")
		w.clock.advance(time.Hour)
		w.stillIn("renamed again", former)
		restart(w, "octave", "ALLOW", "github:octave")
		arrives(w, "octocat", comesIn)
	})
	t.Run("the provider cannot be asked", func(t *testing.T) {
		w, former := start(t, "ALLOW", "github:octocat")
		w.app.DevIDP.FailNext("/api/v3/user", 1, devidp.Fault{Status: http.StatusBadGateway})
		w.clock.advance(time.Hour)
		assertJSONError(t, w.refresh(former.clientID, former.refresh), http.StatusServiceUnavailable,
			"temporarily_unavailable")
	})
	t.Run("DENY remembers", func(t *testing.T) {
		w, former := start(t, "DENY", "github:octocat")
		w.signedOut(former)
		arrives(w, "octocat", http.StatusForbidden)
		arrives(w, "mallory", http.StatusForbidden)
		restart(w, "octo", "DENY", "github:somebody-else")
		arrives(w, "octocat", comesIn)
		restart(w, "octo", "DENY", "github:octocat")
		arrives(w, "octocat", http.StatusForbidden)
	})
}
