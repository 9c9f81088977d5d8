package e2e

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestNoSecretReachesTheLog checks K12. It runs through everything that succeeds and fails, at LOG_LEVEL=debug, and
// then searches the log for every secret that was used.
func TestNoSecretReachesTheLog(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	secrets := map[string]string{
		"upstream token":        w.upstreamToken().Access,
		"SECRET":                strings.TrimSpace(string(readFile(t, filepath.Join(w.env["DATA_DIR"], "secret")))),
		"app's secret":          w.app.DevIDP.GitHub().ClientSecret,
		"client's state":        "client-state-that-is-easy-to-find-1",
		"verifier":              testVerifier,
		"code with no checksum": "mcp_ac_" + strings.Repeat("A", 48),
	}
	reg := w.registration(map[string]any{"redirect_uris": []string{callbackURI},
		"client_name": "Leak\nclient", "token_endpoint_auth_method": "client_secret_basic"})
	id := reg.str("client_id")
	secrets["client's secret"] = reg.str("client_secret")
	basic := base64.StdEncoding.EncodeToString([]byte(id + ":" + reg.str("client_secret")))
	secrets["client's secret, encoded"] = basic
	request := w.authorizeURL(id, func(q url.Values) { q.Set("state", secrets["client's state"]) })
	send := func(form url.Values) answer {
		return w.call(http.MethodPost, "/token", http.Header{"Content-Type": {"application/x-www-form-urlencoded"},
			"Authorization": {"Basic " + basic}}, form.Encode())
	}

	// The first sign-in records all secrets; the other one fails in every way.
	b := w.browser()
	b.stopAt = "/callback/github"
	p := b.open(request).press("Continue with GitHub", nil).press("Authorize", nil)
	b.stopAt = ""
	secrets["upstream code"], secrets["upstream state"] = p.url.Query().Get("code"), p.url.Query().Get("state")
	for _, cookie := range b.client.Jar.Cookies(p.url) {
		secrets["flow cookie"] = cookie.Value
	}
	secrets["code"] = b.open(p.url.String()).url.Query().Get("code")
	first := send(codeForm(id, secrets["code"]))
	secrets["access token"], secrets["refresh token"] = first.str("access_token"), first.str("refresh_token")
	second := send(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secrets["refresh token"]}})
	secrets["second access token"] = second.str("access_token")
	secrets["second refresh token"] = second.str("refresh_token")
	if got := w.repositories(secrets["second access token"]); !strings.HasPrefix(got, "octocat/") {
		t.Fatalf("list_repositories: got %q", got)
	}
	for name, secret := range secrets {
		if len(secret) < 8 {
			t.Fatalf("%s: got %d characters, want something to look for", name, len(secret))
		}
	}
	b.visit("GitHub", "octocat")
	for _, cookie := range b.client.Jar.Cookies(p.url) {
		secrets["session cookie"] = cookie.Value
	}
	grant := query[string](w, `SELECT lower(hex(id)) FROM grants`)

	// Secrets in wrong places, stale secrets, and failures on every side.
	for _, secret := range secrets {
		w.tool(secret, "whoami")
		w.refresh(secret, secret)
		send(codeForm(id, secret, "code_verifier", secret, "redirect_uri", secret))
		w.post("/revoke", url.Values{"client_id": {id}, "client_secret": {secret}, "token": {secret}})
		w.post("/token?code="+url.QueryEscape(secret), url.Values{"grant_type": {secret}, "client_id": {secret}})
		w.browser().open(w.authorizeURL(secret, nil))
		w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", secret) }))
		w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("resource", secret); q.Set("response_type", secret) }))
		forged := url.Values{"code": {secret}, "state": {secret}, "error": {secret}}
		w.browser().open(w.base + "/callback/github?" + forged.Encode())
		w.call(http.MethodPost, "/mcp", legacyHeader(secrets["second access token"]), `{"token":"`+secret)
		w.call(http.MethodPost, "/register", http.Header{"Content-Type": {"application/json"}}, `{"client_secret":"`+secret)
		failing := w.atCallback(id)
		failing.b.open(failing.url.String() + "&error=" + url.QueryEscape(secret))
	}
	for _, fault := range []devidp.Fault{{Drop: true}, {Drop: true, AfterCommit: true}, {Status: 500, Body: "gho_fake01"},
		{Status: 302, Header: http.Header{"Location": {"https://evil.example/?token=gho_fake01"}}},
		{Body: `{"access_token":"gho_fake01`}, {Body: `{"error":"gho_fake01"}`}} {
		for _, path := range []string{"/login/oauth/access_token", "/api/v3/user", "/api/v3/user/emails"} {
			w.app.DevIDP.FailNext(path, 1, fault)
			failing := w.atCallback(id)
			failing.b.open(failing.url.String())
		}
		w.app.DevIDP.FailNext("/api/v3/user/repos", 1, fault)
		w.tool(secrets["second access token"], "list_repositories")
	}
	failing := w.atCallback(id)
	send(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secrets["second refresh token"]}})
	w.clock.advance(3 * time.Minute)
	send(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secrets["refresh token"]}}) // ends the grant
	w.app.Store.Close()
	failing.b.open(failing.url.String())
	w.tool(secrets["second access token"], "whoami")
	w.refresh(id, secrets["second refresh token"])

	secrets["prefix of upstream tokens"] = "gho_fake" // their common prefix
	log := w.logs.String()
	for name, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret)} {
			if i := strings.Index(log, form); i >= 0 {
				line, _, _ := strings.Cut(log[strings.LastIndex(log[:i], "\n")+1:], form)
				t.Errorf("the log holds the %s: %s...", name, line)
				break
			}
		}
	}

	// The log does name the sign-in, the grant and the error.
	sum := sha256.Sum256([]byte(strings.TrimPrefix(request, w.base+"/authorize?")))
	for _, want := range []string{"ref=" + base32.StdEncoding.EncodeToString(sum[:5]), "grant=" + grant, "level=DEBUG",
		"spent refresh token presented again", "database is closed", "subject=583231"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log, "Leak\nclient") {
		t.Error("a client's name broke a line of the log in two")
	}
}
