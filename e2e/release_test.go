package e2e

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/app"
)

// The database of an earlier release, as its binary left it, and the tokens of its clients. Never regenerate it: a
// change of the schema, or of the sealed data, has to open it.
const earlierRelease = "testdata/release-0.1"

// fakeGitHub answers, for any host, as github.com's API does for the only token that it knows.
type fakeGitHub struct{ token string }

func (g fakeGitHub) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.URL.Host != "api.github.com" || r.Header.Get("Authorization") != "Bearer "+g.token {
		w.WriteHeader(http.StatusUnauthorized)
	}
	body := map[string]string{"/user": `{"id":583231,"login":"octocat"}`, "/user/repos": `[{"full_name":"octocat/old"}]`}
	io.WriteString(w, body[r.URL.Path])
	return w.Result(), nil
}

// TestDatabaseOfAnEarlierRelease checks that every user who was signed in before an upgrade is signed in after it, and
// that their tools still act for them.
func TestDatabaseOfAnEarlierRelease(t *testing.T) {
	var held struct {
		At            time.Time
		Secret        string
		UpstreamToken string `json:"upstream_token"`
		Verifier      string
		Sessions      []struct {
			What            string
			ClientID        string `json:"client_id"`
			Code            string
			Access, Refresh []string
		}
	}
	if err := json.Unmarshal(readFile(t, filepath.Join(earlierRelease, "sessions.json")), &held); err != nil {
		t.Fatal(err)
	}
	network := http.DefaultTransport
	http.DefaultTransport = fakeGitHub{held.UpstreamToken} // no test runs beside this one
	t.Cleanup(func() { http.DefaultTransport = network })

	dir := t.TempDir()
	database := readFile(t, filepath.Join(earlierRelease, "server.db"))
	if err := os.WriteFile(filepath.Join(dir, "server.db"), database, 0o600); err != nil {
		t.Fatal(err)
	}
	const base = "https://mcp.example.com"
	env := map[string]string{"BASE_URL": base, "DATA_DIR": dir, "ALLOW": "anyone",
		"GITHUB_CLIENT_ID":     "Ov23liAbCdEfGhIjKlMn",
		"GITHUB_CLIENT_SECRET": "a-client-secret", "TOKEN_CACHE": "0"}
	s, err := app.ParseConfig(nil, func(name string) string { return env[name] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s.KeyRing = [][]byte{[]byte(held.Secret)}
	now := clock{t: held.At.Add(time.Minute)}
	a, err := app.Open(t.Context(), s, slog.New(slog.DiscardHandler), now.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)

	send := func(path string, header http.Header, body string) answer {
		r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		a.Handler.ServeHTTP(w, r)
		got := answer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
		json.Unmarshal(got.body, &got.json)
		return got
	}
	token := func(form url.Values) answer {
		return send("/token", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form.Encode())
	}
	works := func(what, access string) {
		t.Helper()
		got := send("/mcp", mcpHeader(access, "tools/call", "list_repositories"), `{"jsonrpc":"2.0","id":1,`+
			`"method":"tools/call","params":{"name":"list_repositories","arguments":{},"_meta":{`+
			`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
		if got.status != http.StatusOK || !strings.Contains(string(got.body), "octocat/old") {
			t.Errorf("%s: got status %d: %.300s", what, got.status, got.body)
		}
	}
	for _, session := range held.Sessions {
		t.Run(session.What, func(t *testing.T) {
			if session.Code != "" {
				got := token(url.Values{"grant_type": {"authorization_code"}, "client_id": {session.ClientID},
					"code": {session.Code}, "code_verifier": {held.Verifier}})
				assertJSONError(t, got, http.StatusOK, "")
				works("with the code's tokens", got.str("access_token"))
				return
			}
			newest := len(session.Refresh) - 1
			works("the newest access token", session.Access[newest])
			refresh := func(n int) answer {
				return token(url.Values{"grant_type": {"refresh_token"}, "client_id": {session.ClientID},
					"refresh_token": {session.Refresh[n]}})
			}
			if newest > 0 {
				got := refresh(newest - 1)
				assertJSONError(t, got, http.StatusOK, "")
				works("the last spent refresh token", got.str("access_token"))
			}
			got := refresh(newest)
			assertJSONError(t, got, http.StatusOK, "")
			works("the newest refresh token", got.str("access_token"))
			if newest > 1 {
				assertJSONError(t, refresh(0), http.StatusBadRequest, "invalid_grant") // long spent
				after := send("/mcp", mcpHeader(got.str("access_token"), "tools/list", ""), "{}")
				if after.status != http.StatusUnauthorized {
					t.Errorf("control: the grant goes on after an old token came back: status %d", after.status)
				}
			}
		})
	}
}
