package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream/devidp"
)

// refreshed presents the session's refresh token, which must work, and moves on to the new pair.
func (w *world) refreshed(s *tokens) {
	w.t.Helper()
	a := w.refresh(s.clientID, s.refresh)
	if a.status != http.StatusOK {
		w.t.Fatalf("refreshing: status %d: %s", a.status, a.body)
	}
	s.access, s.refresh = a.str("access_token"), a.str("refresh_token")
}

// signedOut asserts that the refresh token is refused permanently, and so is the access token.
func (w *world) signedOut(s tokens) {
	w.t.Helper()
	if a := w.refresh(s.clientID, s.refresh); a.status != http.StatusBadRequest || a.str("error") != "invalid_grant" {
		w.t.Errorf("refresh token: got status %d, %q, want 400 invalid_grant", a.status, a.str("error"))
	}
	if got := w.tool(s.access, "whoami").status; got != http.StatusUnauthorized {
		w.t.Errorf("access token: got status %d, want 401", got)
	}
}

// TestWhoMayStay changes a fact at the provider, and refreshes later.
func TestWhoMayStay(t *testing.T) {
	const acme = "github-org:acme"
	gone := func(w *world) { w.app.DevIDP.SetMember("octocat", "") }
	orgAccess := func(a devidp.OrgAccess) func(*world) { return func(w *world) { w.app.DevIDP.SetOrgAccess(a) } }
	for _, tt := range []struct {
		name, allow, deny, provider string
		change                      func(*world)
		later                       time.Duration
		stays                       bool
	}{
		{"nothing changes", acme, "", "GitHub", func(*world) {}, 6 * time.Minute, true},
		{"removed from the organization", acme, "", "GitHub", gone, 6 * time.Minute, false},
		{"removed, and asked again too soon to know", acme, "", "GitHub", gone, 4 * time.Minute, true},
		{"removed, but admitted by account", acme + ",github:octocat", "", "GitHub", gone, 6 * time.Minute, true},
		{"removed from the team", "github-team:acme/devs", "", "GitHub", gone, 6 * time.Minute, false},
		{"removed from the group", "oidc-group:acme", "", "Example ID", gone, 6 * time.Minute, false},
		{"in the group", "oidc-group:acme", "", "Example ID", func(*world) {}, 6 * time.Minute, true},
		{"invited anew", acme, "", "GitHub",
			func(w *world) { w.app.DevIDP.SetMember("octocat", "pending") }, time.Hour, false},
		{"the app's approval withdrawn", acme, "", "GitHub", orgAccess(devidp.OrgRestricted), time.Hour, false},
		{"the SSO session lapsed", acme, "", "GitHub", orgAccess(devidp.OrgNeedsSSO), time.Hour, false},
		{"member of what DENY names by now", "anyone", acme, "GitHub",
			func(w *world) { w.app.DevIDP.SetMember("mallory", "active") }, time.Hour, false},
		{"renamed", acme, "", "GitHub", func(w *world) { w.app.DevIDP.Rename("octocat", "octo") }, time.Hour, true},
		{"renamed, on a team", "github-team:acme/devs", "", "GitHub",
			func(w *world) { w.app.DevIDP.Rename("octocat", "octo") }, time.Hour, true},
		{"an address in place of the verified one", "email:octocat@example.com", "", "Example ID", func(w *world) {
			w.app.DevIDP.Lie(devidp.Userinfo, func(c map[string]any) { c["email"] = "octo@example.com" })
		}, 6 * time.Minute, false},
		{"an address that is not verified any more", "email:octocat@example.com", "", "Example ID", func(w *world) {
			w.app.DevIDP.Lie(devidp.Userinfo, func(c map[string]any) { c["email_verified"] = false })
		}, 6 * time.Minute, false},
		{"userinfo about somebody else", "email:octocat@example.com", "", "Example ID", func(w *world) {
			w.app.DevIDP.Lie(devidp.Userinfo, func(c map[string]any) { c["sub"] = "666" })
		}, 6 * time.Minute, false},
		{"userinfo that does not say whether the address is verified", "email:octocat@example.com", "", "Example ID",
			func(w *world) {
				w.app.DevIDP.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "email_verified") })
			}, 6 * time.Minute, true},
		{"a 401 of a replica that lags, for the membership", acme, "", "GitHub", func(w *world) {
			w.app.DevIDP.FailNext(acmeMembership, 1, devidp.Fault{Status: http.StatusUnauthorized})
		}, 6 * time.Minute, true},
		{"a firewall's 403", acme, "", "GitHub", func(w *world) {
			w.app.DevIDP.FailNext("/api/v3/user", 1, devidp.Fault{Status: http.StatusForbidden, Body: "<h1>Blocked</h1>"})
		}, 6 * time.Minute, true},
		{"hd", "google-domain:acme.example", "", "Google", func(*world) {}, 6 * time.Minute, true},
		{"moved to another hosted domain", "google-domain:acme.example", "", "Google", func(w *world) {
			w.app.DevIDP.Lie(devidp.Userinfo, func(c map[string]any) { c["hd"] = "other.example" })
		}, 6 * time.Minute, false},
		{"authorization revoked at GitHub", acme, "", "GitHub", func(w *world) {
			if err := w.app.DevIDP.RevokeTokens("octocat"); err != nil {
				w.t.Fatal(err)
			}
		}, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
			var idp *devidp.Server
			if tt.provider == "Example ID" {
				idp = w.standIn()
				w.useOIDC(idp.OIDC())
			}
			w.env["ALLOW"], w.env["DENY"] = tt.allow, tt.deny
			w.restart()
			if idp != nil {
				w.app.DevIDP = idp
			}
			login := "octocat"
			if tt.deny != "" {
				login = "mallory"
			}
			session, other := w.signInWith(tt.provider, login), w.signInWith(tt.provider, login)
			tt.change(w)
			w.clock.advance(tt.later)
			if !tt.stays {
				w.signedOut(session)
				w.signedOut(other)
				return
			}
			w.refreshed(&session)
			if got := w.tool(session.access, "whoami").status; got != http.StatusOK {
				t.Errorf("whoami: got status %d", got)
			}
			w.refreshed(&other)
		})
	}
}

const acmeMembership = "/api/v3/user/memberships/orgs/acme"

// The operator adds a rule about an organization. A client that signed in before cannot see organizations, and has to
// sign in again; one that has signed in since goes on.
func TestNewRuleEndsOnlyTheGrantsThatCannotSee(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	before := w.signIn()
	w.env["ALLOW"] = "github-org:acme"
	w.restart()
	since := w.signIn()
	w.clock.advance(10 * time.Minute)
	w.signedOut(before)
	if got := w.tool(since.access, "whoami").status; got != http.StatusOK {
		t.Errorf("the client that signed in since: got status %d at the gate", got)
	}
	w.refreshed(&since)
}

// The grace period is for users who were known to be allowed. A rate limit is the user's own to use up.
func TestGraceIsNotForStrangersToANewRule(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0", "ALLOW": "github-org:acme,github:mallory"})
	mallory := w.signInWith("GitHub", "mallory")
	w.env["ALLOW"] = "github-org:acme"
	w.restart()
	w.app.DevIDP.FailNext(acmeMembership, 9, devidp.Fault{Status: http.StatusForbidden,
		Header: http.Header{"X-Ratelimit-Remaining": {"0"}}})
	w.clock.advance(10 * time.Minute)
	a := w.refresh(mallory.clientID, mallory.refresh)
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("got status %d, %q, want 503: nothing is known but that the rule is new", a.status, a.str("error"))
	}
}

// Entra leaves the groups claim out of large tokens; at other providers the user can untick it.
func TestDenyByGroupCannotBeHiddenFrom(t *testing.T) {
	for name, lie := range map[string]func(map[string]any){
		"in the group":         func(map[string]any) {},
		"not told of any":      func(c map[string]any) { delete(c, "groups") },
		"control, in no group": func(c map[string]any) { c["groups"] = []string{} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			idp := w.standIn()
			w.env["DENY"] = "oidc-group:acme"
			w.useOIDC(idp.OIDC())
			idp.Lie(devidp.IDToken, lie)
			idp.Lie(devidp.Userinfo, lie)
			p := w.browser().open(w.authorizeURL(w.register(callbackURI), nil)).press("Continue with Example ID", nil).
				press("Authorize", nil)
			if admitted := p.status == 0; admitted != strings.HasPrefix(name, "control") {
				t.Errorf("admitted %v:\n%s", admitted, p.text)
			}
		})
	}
}

// asked returns how many requests for a membership the provider got.
func (w *world) asked() (n int) {
	for _, call := range w.app.DevIDP.Calls() {
		if call.Path == orgPath {
			n++
		}
	}
	return n
}

// TestProviderIsNotAskedMoreThanNeeded checks the number of requests: GitHub's rate limit is per user, shared by all
// their apps.
func TestProviderIsNotAskedMoreThanNeeded(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github-org:acme"})
	one := w.signIn()
	two := w.signIn()
	before := w.asked()
	w.clock.advance(4 * time.Minute)
	w.refreshed(&one)
	if got := w.asked() - before; got != 0 {
		t.Errorf("within five minutes: asked %d times", got)
	}
	w.clock.advance(2 * time.Minute)
	w.refreshed(&one)
	w.refreshed(&two)
	w.refreshed(&one)
	if got := w.asked() - before; got != 1 {
		t.Errorf("after six minutes: asked %d times for the person's two clients, want once", got)
	}
	w.restart() // as another instance, with the same database
	w.refreshed(&two)
	if got := w.asked(); got != 0 {
		t.Errorf("another instance asked %d times again", got)
	}
	w.env["ALLOW"] = "github:octocat,github-org:acme"
	w.restart()
	w.clock.advance(time.Hour)
	w.refreshed(&one)
	if got := w.asked(); got != 0 {
		t.Errorf("for an account that ALLOW names the provider was asked about the membership %d times", got)
	}
}

// TestRenameAttack checks that mallory gains nothing by taking the login of octocat, whom ALLOW names and who renames.
func TestRenameAttack(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github:octocat"})
	session := w.signIn()
	w.app.DevIDP.Rename("octocat", "octo")
	w.app.DevIDP.Rename("mallory", "octocat")

	p := w.arrive(w.register(callbackURI), "GitHub", "mallory")
	if p.status != http.StatusForbidden || !strings.Contains(p.text, "This account does not have access") {
		t.Errorf("whoever took the login: got status %d:\n%s", p.status, p.text)
	}
	if !strings.Contains(w.logs.String(), "changed hands") {
		t.Error("the operator is not told")
	}
	if again := w.signInWith("GitHub", "octocat"); w.tool(again.access, "whoami").status != http.StatusOK {
		t.Error("the account is not known under its new login")
	}
	w.clock.advance(time.Hour)
	w.refreshed(&session)

	// Not even after the account has been deleted and forgotten.
	w.post("/revoke", url.Values{"client_id": {session.clientID}, "token": {session.refresh}})
	w.clock.advance(400 * 24 * time.Hour)
	now := w.clock.now()
	if _, err := w.app.Store.Purge(t.Context(), store.PurgeLimits{At: now, SeenBefore: now, Limit: 100}); err != nil {
		t.Fatal(err)
	}
	if p := w.arrive(w.register(callbackURI), "GitHub", "mallory"); p.status != http.StatusForbidden {
		t.Errorf("after a year: got status %d", p.status)
	}

	// Where nobody has signed in before, the login is now mallory's own.
	w = newWorld(t, map[string]string{"ALLOW": "github:octocat"})
	w.app.DevIDP.Rename("octocat", "octo")
	w.app.DevIDP.Rename("mallory", "octocat")
	w.signInWith("GitHub", "mallory")
}

// TestRenameAgainstDeny checks that nobody gets past DENY by taking another login.
func TestRenameAgainstDeny(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	session := w.signInWith("GitHub", "mallory")
	w.env["DENY"] = "github:mallory"
	w.restart()
	if got := w.tool(session.access, "whoami").status; got != http.StatusUnauthorized {
		t.Errorf("at the gate after the restart: got status %d, want 401", got)
	}
	w.app.DevIDP.Rename("mallory", "innocent")
	w.signedOut(session)
	if p := w.arrive(w.register(callbackURI), "GitHub", "mallory"); p.status != http.StatusForbidden {
		t.Errorf("under another login: got status %d, want 403", p.status)
	}
	w.signInWith("GitHub", "octocat") // without a rename, octocat can sign in
}

// TestRulesChange checks that removed access ends with the restart, and that no other user notices.
func TestRulesChange(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github:octocat,github:mallory,github-org:acme", // asks for read:org
		"TOKEN_CACHE": "0"})
	octocat, mallory := w.signInWith("GitHub", "octocat"), w.signInWith("GitHub", "mallory")
	for _, allow := range []string{"github-org:acme", "github:octocat", "email:octocat@example.com",
		"github-team:acme/devs"} {
		w.env["ALLOW"], w.env["DENY"] = allow, "email:mallory@example.com" // which has to be asked for
		w.restart()
		w.clock.advance(6 * time.Minute)
		w.refreshed(&octocat)
		if got := w.tool(octocat.access, "whoami").status; got != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", allow, got)
		}
	}
	w.signedOut(mallory)
}

// TestForeignTenant checks that other Entra tenants are refused. All tenants sign with the same keys, so only the
// issuer tells them apart.
func TestForeignTenant(t *testing.T) {
	w := newWorld(t, nil)
	idp := w.standIn()
	w.useOIDC(idp.OIDC())
	w.env["ALLOW"] = "email-domain:example.com"
	w.restart()
	const tenant = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"
	idp.Lie(devidp.IDToken, func(c map[string]any) { c["iss"], c["tid"] = tenant, "11111111-2222-3333-4444-555555555555" })
	p := w.arrive(w.register(callbackURI), "Example ID", "octocat")
	if p.status != http.StatusBadRequest || !strings.Contains(p.text, "could not be verified") {
		t.Errorf("somebody of another tenant: got status %d:\n%s", p.status, p.text)
	}
	idp.Lie(devidp.IDToken, nil)
	w.signInWith("Example ID", "octocat") // the valid request

	// The multi-tenant URLs have a document whose issuer is a template.
	const template = "https://login.microsoftonline.com/{tenantid}/v2.0"
	idp.Lie(devidp.Metadata, func(m map[string]any) { m["issuer"] = template })
	w.restart()
	p = w.browser().open(w.authorizeURL(w.register(callbackURI), nil)).press("Continue with Example ID", nil)
	if p.status == 0 || !strings.Contains(p.text, "does not work") {
		t.Errorf("an issuer for all tenants: got status %d:\n%s", p.status, p.text)
	}
}

// TestRenewsBeforeItAsks checks that an old token is renewed before use, even if GitHub rejects the new one at first.
func TestRenewsBeforeItAsks(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github-org:acme", "TOKEN_CACHE": "0"})
	w.app.DevIDP.SetAppKind(devidp.GitHubApp)
	session := w.signIn()
	w.clock.advance(9 * time.Hour)
	w.app.DevIDP.FailNext("/api/v3/user", 1, devidp.Fault{Status: http.StatusUnauthorized})
	w.refreshed(&session)
	w.clock.advance(9 * time.Hour)
	w.app.DevIDP.FailNext("/login/oauth/access_token", 1, devidp.Fault{Status: http.StatusBadGateway})
	a := w.refresh(session.clientID, session.refresh)
	assertJSONError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
	w.refreshed(&session)
	w.app.DevIDP.SetMember("octocat", "")
	w.clock.advance(9 * time.Hour)
	w.signedOut(session)
}
