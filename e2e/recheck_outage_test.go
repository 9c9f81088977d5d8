package e2e

import (
	"net/http"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestOrganizationOutage checks that GitHub's outages sign nobody out. The grace period is an hour and survives
// restarts.
func TestOrganizationOutage(t *testing.T) {
	down := func(w *world) { w.app.DevIDP.FailNext(orgPath, 1000, devidp.Fault{Status: http.StatusBadGateway}) }
	w := newWorld(t, map[string]string{"ALLOW": "github-org:acme", "TOKEN_CACHE": "0"})
	session := w.signIn()
	w.clock.advance(10 * time.Minute)
	down(w)
	w.refreshed(&session)
	w.clock.advance(30 * time.Minute)
	w.refreshed(&session)
	w.restart()
	down(w)
	w.clock.advance(29 * time.Minute)
	w.refreshed(&session)

	w.clock.advance(time.Minute)
	for range 2 {
		a := w.refresh(session.clientID, session.refresh)
		assertJSONError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if got := w.tool(session.access, "whoami").status; got != http.StatusOK {
		t.Errorf("the access token that is still good: got status %d", got)
	}

	w.restart() // GitHub is back
	w.refreshed(&session)
	w.clock.advance(time.Hour)
	down(w)
	w.refreshed(&session) // another outage gets a separate hour

	// A user who has left the organization is signed out as soon as GitHub is back.
	w.restart()
	w.app.DevIDP.SetMember("octocat", "")
	w.signedOut(session)
}

func TestOrganizationTimesOut(t *testing.T) {
	for _, fault := range []devidp.Fault{{Drop: true}, {Status: 429}, {Body: "<html>"},
		{Status: 403, Header: http.Header{"Retry-After": {"60"}}}, {Status: 500}} {
		w := newWorld(t, map[string]string{"ALLOW": "github-org:acme"})
		session := w.signIn()
		w.clock.advance(10 * time.Minute)
		w.app.DevIDP.FailNext(orgPath, 1, fault)
		w.refreshed(&session)
		if w.asked() < 2 {
			t.Errorf("%+v: GitHub was not asked", fault)
		}
	}
}

// TestFactsThatCannotBeAskedAgain checks sign-ins without a refresh token, and claims that are only in ID tokens.
func TestFactsThatCannotBeAskedAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		allow  string
		change func(*devidp.Server)
		first  time.Duration // when the first lookup fails
	}{
		{"the access token expires", "email:octocat@example.com", func(*devidp.Server) {}, 2 * time.Hour},
		{"groups in ID tokens alone", "oidc-group:acme", func(idp *devidp.Server) {
			idp.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "groups") })
		}, 10 * time.Minute},
		{"no userinfo", "oidc-group:acme", func(idp *devidp.Server) {
			idp.Lie(devidp.Metadata, func(m map[string]any) { delete(m, "userinfo_endpoint") })
		}, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
			idp := w.standIn()
			tt.change(idp)
			w.useOIDC(idp.OIDC())
			w.env["ALLOW"] = tt.allow
			w.restart()
			session := w.signInWith("Example ID", "octocat")
			w.clock.advance(tt.first)
			w.refreshed(&session)
			w.clock.advance(24*time.Hour - tt.first - time.Minute)
			w.refreshed(&session)
			w.clock.advance(time.Minute)
			w.signedOut(session)

			// A rule about the account itself needs only the account.
			w.env["ALLOW"] = "anyone"
			w.restart()
			session = w.signInWith("Example ID", "octocat")
			w.clock.advance(25 * time.Hour)
			w.refreshed(&session)
		})
	}
}
