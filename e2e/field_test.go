package e2e

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestLogTellsTheStage checks that the operator's log names the stage and the grant. Clients show their users one
// message for every failure (claude-ai-mcp#134), such as a proxy that dropped a header (claude-ai-mcp#872) or a token
// that was never stored (claude-code#66210). A stranger must not be told more.
func TestLogTellsTheStage(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	id, other := w.register(callbackURI), w.register(callbackURI)
	code := func(changed ...string) func() answer {
		return func() answer { return w.post("/token", codeForm(id, w.code(id), changed...)) }
	}
	old := w.signIn()
	w.refresh(old.clientID, w.refresh(old.clientID, old.refresh).str("refresh_token"))
	refresh := func(clientID string) func() answer {
		return func() answer { return w.refresh(clientID, old.refresh) }
	}
	call := func(authorization ...string) func() answer {
		return func() answer { return w.call(http.MethodPost, "/mcp", http.Header{"Authorization": authorization}, "") }
	}
	const grant = "grant[= ][0-9a-f]{32}"
	for _, test := range []struct {
		name   string
		after  time.Duration
		do     func() answer
		status int
		want   string // in a line of the log
	}{
		{"the proxy dropped the header", 0, call(), 401, "path=/mcp error=unauthorized"},
		{"a bad token", 0, call("Bearer x"), 401, "path=/mcp error=invalid_token"},
		{"wrong verifier", 0, code("code_verifier", strings.ToLower(testVerifier)), 400, grant + ": the code_verifier"},
		{"wrong address", 0, code("redirect_uri", "http://127.0.0.1:10/callback"), 400, grant + ": the redirect_uri"},
		{"registered twice", 0, code("client_id", other), 400, grant + ": the code is another client's"},
		{"no refresh", time.Hour, call("Bearer " + old.access), 401, grant + ": the access token has expired"},
		{"registered again", 0, refresh(other), 400, grant + ": the refresh token is another client's"},
		{"newer pairs not stored", 71 * time.Hour, refresh(old.clientID), 400, grant + ".*presented again after 72h0m0s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.clock.advance(test.after)
			before := len(w.logs.String())
			if got := test.do().status; got != test.status {
				t.Errorf("got status %d, want %d", got, test.status)
			}
			if log := w.logs.String()[before:]; !regexp.MustCompile(test.want).MatchString(log) {
				t.Errorf("no line of the log says %q:\n%s", test.want, log)
			}
		})
	}
	t.Run("one flow, by its reference", func(t *testing.T) {
		ask := w.authorizeURL(id, func(q url.Values) { q.Set("state", "reference") })
		before := len(w.logs.String())
		w.redeem(id, w.browser().signIn(ask).Get("code"))
		log := w.logs.String()[before:]
		_, ref, _ := strings.Cut(log, " ref=")
		ref, _, _ = strings.Cut(ref, "\n")
		grant := query[string](w, `SELECT lower(hex(id)) FROM grants ORDER BY rowid DESC LIMIT 1`)
		for stage, mark := range map[string]string{"asking for consent": " ref=" + ref, "consent given": " ref=" + ref,
			"signed in": " ref=" + ref, "code redeemed": grant} {
			_, line, _ := strings.Cut(log, stage)
			line, _, _ = strings.Cut(line, "\n")
			if ref == "" || !strings.Contains(line+"\n", mark) {
				t.Errorf("the stage %q lacks %q: %s", stage, mark, line)
			}
		}
	})
}
