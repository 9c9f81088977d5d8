package e2e

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// failuresLogged returns the number of log lines with this text, and the number of failures that they stand for.
func (w *world) failuresLogged(text string) (lines, failures int) {
	w.t.Helper()
	leftOut := regexp.MustCompile(`left_out=(\d+)`)
	for line := range strings.Lines(w.logs.String()) {
		if !strings.Contains(line, text) {
			continue
		}
		lines, failures = lines+1, failures+1
		if found := leftOut.FindStringSubmatch(line); found != nil {
			n, err := strconv.Atoi(found[1])
			if err != nil {
				w.t.Fatal(err)
			}
			failures += n
		}
	}
	return lines, failures
}

// TestFailingStoreDoesNotFloodTheLog sends five hundred requests while the store fails.
func TestFailingStoreDoesNotFloodTheLog(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	held, strange := w.signIn(), newWorld(t, nil).register(callbackURI)
	w.app.Store.Close()

	// Single failures of different kinds are each logged immediately, that of a sign-in with its reference.
	w.browser().open(w.authorizeURL(strange, nil))
	w.refresh(held.clientID, held.refresh)
	for _, text := range []string{"path=/authorize", "path=/token"} {
		if lines, failures := w.failuresLogged("level=ERROR msg=refused " + text); lines != 1 || failures != 1 {
			t.Errorf("%s: %d lines for %d failures, want 1 and 1", text, lines, failures)
		}
	}
	if !regexp.MustCompile(`msg=refused path=/authorize .* ref=\w+`).MatchString(w.logs.String()) {
		t.Error("the refusal of a sign-in has no reference")
	}

	const text = "level=ERROR msg=refused path=/mcp"
	for i := range 500 {
		if i == 250 || i == 499 {
			w.clock.advance(time.Second)
		}
		if got := w.tool(held.access, "whoami").status; got != http.StatusServiceUnavailable {
			t.Fatalf("request %d: got status %d, want 503", i, got)
		}
	}
	// One line for each second, and perhaps one for failures that the second before had left out.
	if lines, failures := w.failuresLogged(text); lines > 5 || failures != 500 {
		t.Errorf("%d lines for %d failures, want at most 5 for 500", lines, failures)
	}
}

// TestFailingProviderDoesNotFloodTheLog refreshes while the provider cannot confirm that the user is still allowed.
func TestFailingProviderDoesNotFloodTheLog(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "email:octocat@example.com"})
	held := w.signIn()
	w.clock.advance(6 * time.Minute) // the known facts are no longer fresh
	const n, text = 20, "access not checked"
	w.app.DevIDP.FailNext("/api/v3/user", n, devidp.Fault{Status: http.StatusBadGateway})
	for i := range n {
		if i == n-1 {
			w.clock.advance(time.Second)
		}
		a := w.refresh(held.clientID, held.refresh)
		assertJSONError(t, a, http.StatusOK, "")
		held.refresh = a.str("refresh_token")
	}
	if lines, failures := w.failuresLogged(text); lines > 3 || failures != n {
		t.Errorf("%d lines for %d failures, want at most 3 for %d", lines, failures, n)
	}
}

// TestPanicsDoNotFloodTheLog checks that a handler which fails with every request has its stack logged once a second.
func TestPanicsDoNotFloodTheLog(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	h := w.app.Routes(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake") }))
	const n, text = 100, "msg=panic"
	for range n {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, w.base+"/mcp", strings.NewReader("{}"))
		r.RemoteAddr, r.Header = "127.0.0.1:1", mcpHeader(access, "tools/list", "")
		h.ServeHTTP(rec, r)
		if rec.Code != http.StatusInternalServerError {
			t.Fatalf("got status %d, want 500", rec.Code)
		}
	}
	if lines, _ := w.failuresLogged(text); lines != 1 || !strings.Contains(w.logs.String(), "storm_test.go") {
		t.Errorf("%d lines, want one, with the stack", lines)
	}
	w.app.OAuth.LogLeftOut()
	if lines, failures := w.failuresLogged(text); lines != 2 || failures != n {
		t.Errorf("at the end: %d lines for %d panics, want 2 for %d", lines, failures, n)
	}
}
