package e2e

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestWithoutALLOWOnlyThisMachineIsAnswered checks H2: a tunnel in front of a server with real credentials reaches
// nothing, unless ALLOW says who can sign in.
func TestWithoutALLOWOnlyThisMachineIsAnswered(t *testing.T) {
	w := newWorld(t, nil)
	github, err := devidp.Start(devidp.Config{BaseURL: w.base, Log: slog.New(slog.DiscardHandler), Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { github.Close() })
	w.useGitHub(github.GitHub())

	afar := map[string]func(*http.Request){
		"a peer on the network": func(r *http.Request) { r.RemoteAddr = "192.0.2.7:4711" },
		"a peer on IPv6":        func(r *http.Request) { r.RemoteAddr = "[2001:db8::7]:4711" },
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP",
		"CF-Connecting-IP", "ngrok-auth-user-id", "Via"} {
		afar[name] = func(r *http.Request) { r.Header.Set(name, "192.0.2.7") }
	}
	ask := func(path string, change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, w.base+path, nil)
		r.RemoteAddr = "127.0.0.1:4711"
		change(r)
		rec := httptest.NewRecorder()
		w.app.Handler.ServeHTTP(rec, r)
		return rec
	}
	const page = "/.well-known/oauth-authorization-server"
	for name, change := range afar {
		if rec := ask(page, change); rec.Code != http.StatusForbidden ||
			!strings.Contains(rec.Body.String(), "ALLOW=github:your-login") {
			t.Errorf("%s: got status %d: %s, want 403 and what to set", name, rec.Code, rec.Body)
		}
		if got := ask("/healthz", change).Code; got != http.StatusOK {
			t.Errorf("%s: /healthz: got status %d, want 200", name, got)
		}
	}
	if n := strings.Count(w.logs.String(), "request from another machine refused"); n != 1 {
		t.Errorf("the log says so %d times, want once", n)
	}
	if got := ask(page, func(*http.Request) {}).Code; got != http.StatusOK { // the valid request: from this machine
		t.Errorf("this machine: got status %d, want 200", got)
	}

	w.env["ALLOW"] = "github:octocat" // valid: the operator has set ALLOW
	w.restart()
	for name, change := range afar {
		if got := ask(page, change).Code; got != http.StatusOK {
			t.Errorf("%s, with ALLOW: got status %d, want 200", name, got)
		}
	}
}
