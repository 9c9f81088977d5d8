package e2e

import (
	"net/http"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestForeignTextReachesNobodyRaw signs in a user whose provider sends odd texts about them, and checks each place that
// shows these: tools, the page of connections, the operator's list and the log.
func TestForeignTextReachesNobodyRaw(t *testing.T) {
	w := newWorld(t, nil)
	idp := w.standIn()
	c := idp.OIDC()
	c.GroupsClaim = "groups"
	w.env["ALLOW"] = "email:boss@acme.example,oidc-group:users"
	w.useOIDC(c)
	const login, name = "a\x00\x1b[31m\u202eb", "Zoë 李雷 🐙\x00\x1b[31m\u202e"
	idp.Lie(devidp.IDToken, func(c map[string]any) {
		c["preferred_username"], c["name"] = login, name
		c["email"], c["email_verified"] = "bo\u200bss@acme.example", true
		c["groups"] = []string{"users", "ad\u200bmins"}
	})
	session := w.signInWith("Example ID", "octocat")
	var who struct {
		Login, Name string
		Emails      []string
	}
	if problem := w.use(session.access, "whoami", nil, &who); problem != "" {
		t.Fatal(problem)
	}
	if who.Login != "a[31mb" || who.Name != "Zoë 李雷 🐙[31m" || who.Emails != nil {
		t.Errorf("whoami: got %+v", who)
	}
	for where, text := range map[string]string{
		"grants list":        w.must("grants", "list"),
		"grants list --json": w.must("grants", "list", "--json"),
		"/connections":       w.browser().visit("Example ID", "octocat").text,
	} {
		if !strings.Contains(text, "a[31mb") || strings.ContainsAny(text, "\x00\x1b\u202e") {
			t.Errorf("%s: got %q", where, text)
		}
	}
	log := w.logs.String()
	if n := strings.Count(log, "e-mail addresses that are malformed: 1"); n != 2 ||
		strings.ContainsAny(log, "\x00\x1b\u202e") {
		t.Errorf("the log says %d times what two sign-ins lost, want twice:\n%s", n, log)
	}
	idp.Lie(devidp.IDToken, func(c map[string]any) { c["groups"] = []string{"us\u200bers"} })
	p := w.browser().open(w.authorizeURL(w.register(callbackURI), nil)).press("Continue with Example ID", nil)
	p = p.press("Authorize", nil)
	assertErrorPage(t, p, http.StatusForbidden, "/callback/oidc", "This account does not have access")
}

// TestAPIErrorsReachModelsClean checks how a tool reports an error of the provider's API.
func TestAPIErrorsReachModelsClean(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	const forbidden = "github answered 403 Forbidden"
	for body, want := range map[string]string{
		`{"message":"Resource not accessible by integration"}`: forbidden + ": Resource not accessible by integration",
		`{"message":"a\u0000\u001b[31m\u202eb\nc"}`:            forbidden + ": a[31mb c",
		`{"error":{"message":"quota"}}`:                        forbidden + ": quota",
		`<html>`:                                               forbidden,
		`{"message":"` + strings.Repeat("é", 10_000) + `"}`:    forbidden + ": " + strings.Repeat("é", 484) + "…",
	} {
		w.app.DevIDP.FailNext("/api/v3/user/repos", 1, devidp.Fault{Status: http.StatusForbidden, Body: body})
		if got := w.use(access, "list_repositories", nil, nil); got != want {
			t.Errorf("%.60s: got %q, want %q", body, got, want)
		}
	}
	number := strings.Repeat("1", 10_000)
	w.app.DevIDP.FailNext("/api/v3/user/repos", 1, devidp.Fault{Body: `[{"full_name":` + number + `}]`})
	got := w.use(access, "list_repositories", nil, nil)
	if len(got) > 600 || !strings.Contains(got, "reading the answer") {
		t.Errorf("a number of ten thousand digits: got %.600q", got)
	}
}
