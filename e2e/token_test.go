package e2e

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// code signs a user in and returns the client's code.
func (w *world) code(clientID string) string {
	w.t.Helper()
	return w.browser().signIn(w.authorizeURL(clientID, nil)).Get("code")
}

// codeForm returns a valid redemption, with some parameters changed: an empty value leaves one out.
func codeForm(clientID, code string, changed ...string) url.Values {
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {clientID}, "code": {code},
		"code_verifier": {testVerifier}, "redirect_uri": {callbackURI}}
	for i := 0; i < len(changed); i += 2 {
		form.Set(changed[i], changed[i+1])
		if changed[i+1] == "" {
			form.Del(changed[i])
		}
	}
	return form
}

// TestTokenRequest checks that a refused request consumes nothing: after each, the valid request with the same code
// works.
func TestTokenRequest(t *testing.T) {
	w := newWorld(t, nil)
	id, other := w.register(callbackURI), w.register(callbackURI)
	granted := w.signIn()
	with := func(changed ...string) func(string) string {
		return func(code string) string { return codeForm(id, code, changed...).Encode() }
	}
	form := "application/x-www-form-urlencoded"
	for _, test := range []struct {
		name, contentType string
		body              func(code string) string
		status            int
		code              string
	}{
		{"K2: wrong verifier", form, with("code_verifier", strings.ToLower(testVerifier)), 400, "invalid_grant"},
		{"K2: no verifier", form, with("code_verifier", ""), 400, "invalid_request"},
		{"K2: the challenge as the verifier", form, with("code_verifier", testChallenge), 400, "invalid_grant"},
		{"K2: another client", form, with("client_id", other), 400, "invalid_grant"},
		{"K3: another redirect_uri", form, with("redirect_uri", "http://127.0.0.1:10/callback"), 400, "invalid_grant"},
		{"K5: unknown client", form, with("client_id", flipped(id)), 401, "invalid_client"},
		{"K5: no client", form, with("client_id", ""), 401, "invalid_client"},
		{"P4: foreign resource", form, with("resource", "https://evil.example/mcp"), 400, "invalid_target"},
		{"P4: our resource and a foreign one", form, func(code string) string {
			return codeForm(id, code, "resource", w.base+"/mcp").Encode() + "&resource=https://evil.example/mcp"
		}, 400, "invalid_target"},
		{"no grant_type", form, with("grant_type", ""), 400, "invalid_request"},
		{"unknown grant_type", form, with("grant_type", "password"), 400, "unsupported_grant_type"},
		{"AZ1: code twice", form, func(code string) string {
			return codeForm(id, code).Encode() + "&code=" + code
		}, 400, "invalid_request"},
		{"AZ1: client_id twice", form, func(code string) string {
			return codeForm(id, code).Encode() + "&client_id=" + id
		}, 400, "invalid_request"},
		{"not a form", form, func(string) string { return "code=%zz" }, 400, "invalid_request"},
		{"JSON", "application/json", func(code string) string { return `{"code":"` + code + `"}` }, 400, "invalid_request"},
		{"no media type", "", with(), 400, "invalid_request"},
		{"5 MB", form, with("x", strings.Repeat("x", 5<<20)), 413, "invalid_request"},
		{"no code", form, with("code", ""), 400, "invalid_request"},
		{"garbage with the right prefix", form, with("code", "mcp_ac_"+strings.Repeat("A", 48)), 400, "invalid_grant"},
		{"an access token as a code", form, with("code", granted.access), 400, "invalid_grant"},
		{"a code as a refresh token", form, func(code string) string {
			return codeForm(id, code, "grant_type", "refresh_token", "refresh_token", code).Encode()
		}, 400, "invalid_grant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, header := w.code(id), http.Header{}
			if test.contentType != "" {
				header.Set("Content-Type", test.contentType)
			}
			bodies := []io.Reader{strings.NewReader(test.body(code)), io.MultiReader(strings.NewReader(test.body(code)))}
			for _, body := range bodies { // with and without Content-Length
				a := fetch(t, http.MethodPost, w.base+"/token", header, body)
				assertJSONError(t, a, test.status, test.code)
				if got := a.header.Get("WWW-Authenticate"); got != "" {
					t.Errorf("K5: got challenge %q to a request without Basic, want none", got)
				}
			}
			w.redeem(id, code)
		})
	}
	t.Run("parameters in the query", func(t *testing.T) {
		code := w.code(id)
		a := w.call(http.MethodPost, "/token?"+codeForm(id, code).Encode(), http.Header{"Content-Type": {form}}, "")
		assertJSONError(t, a, 401, "invalid_client")
		w.redeem(id, code)
	})
	for name, form := range map[string]url.Values{
		"K3: without redirect_uri":     codeForm(id, w.code(id), "redirect_uri", ""),
		"K13: unknown parameter":       codeForm(id, w.code(id), "foo", "1"),
		"P1: with our resource":        codeForm(id, w.code(id), "resource", w.base+"/mcp"),
		"P3: with an alias of it":      codeForm(id, w.code(id), "resource", w.base+"/"),
		"empty parameter is no client": codeForm(id, w.code(id), "client_secret", "unneeded"),
	} {
		t.Run("control: "+name, func(t *testing.T) {
			a := w.post("/token", form)
			assertJSONError(t, a, http.StatusOK, "")
			if a.str("scope") != githubScopes || a.str("token_type") != "Bearer" ||
				a.json["expires_in"] != 3600.0 {
				t.Errorf("K1: got scope %q, type %q, life %v", a.str("scope"), a.str("token_type"), a.json["expires_in"])
			}
		})
	}
}

// TestCodeTwice checks that a second redemption is refused. It ends the grant only if it is a thief's or a victim's,
// not if it is the retry of a hasty client or the guess of somebody without the verifier.
func TestCodeTwice(t *testing.T) {
	w := newWorld(t, nil)
	for _, test := range []struct {
		name  string
		after time.Duration
		with  []string // changed parameters
		ends  bool
	}{
		{"AZ12, K4 overruled: within ten seconds", 10 * time.Second, nil, false},
		{"AZ12, K4: after ten seconds", 11 * time.Second, nil, true},
		{"K4: after the code's own life", 6 * time.Minute, nil, true},
		{"K4: after ten seconds, with a wrong verifier", 11 * time.Second,
			[]string{"code_verifier", strings.ToLower(testVerifier)}, false},
		{"K4: after ten seconds, by another client", 11 * time.Second, []string{"client_id", w.register(callbackURI)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := w.register(callbackURI)
			code := w.code(id)
			got := w.redeem(id, code)
			w.clock.advance(test.after)
			assertJSONError(t, w.post("/token", codeForm(id, code, test.with...)), 400, "invalid_grant")
			want := http.StatusOK
			if test.ends {
				want = http.StatusUnauthorized
			}
			if got := w.tool(got.access, "whoami").status; got != want {
				t.Errorf("whoami afterwards: got status %d, want %d", got, want)
			}
			if refreshed := w.refresh(id, got.refresh).status == http.StatusOK; refreshed == test.ends {
				t.Errorf("refresh afterwards worked: %t, want %t", refreshed, !test.ends)
			}
		})
	}
	t.Run("AZ12: first time, too late", func(t *testing.T) {
		id := w.register(callbackURI)
		late, inTime := w.code(id), w.code(id)
		w.clock.advance(5*time.Minute - time.Millisecond)
		w.redeem(id, inTime) // the valid request
		w.clock.advance(time.Millisecond)
		assertJSONError(t, w.post("/token", codeForm(id, late)), 400, "invalid_grant")
	})
}

// TestRefreshToken checks that a token that is not the client's own refresh token has no effect and does no harm.
func TestRefreshToken(t *testing.T) {
	w := newWorld(t, nil)
	mine, other := w.signIn(), w.signIn()
	for name, token := range map[string]string{
		"garbage with the right prefix": "mcp_rt_" + strings.Repeat("A", 48), "an access token": mine.access,
		"an access token with the other prefix": "mcp_rt_" + strings.TrimPrefix(mine.access, "mcp_at_"),
		"another client's":                      other.refresh, "a changed one": flipped(mine.refresh),
	} {
		t.Run("K7: "+name, func(t *testing.T) {
			assertJSONError(t, w.refresh(mine.clientID, token), 400, "invalid_grant")
			if got := w.tool(mine.access, "whoami").status; got != http.StatusOK {
				t.Errorf("my access token: got status %d, want 200", got)
			}
		})
	}
	assertJSONError(t, w.refresh(mine.clientID, ""), 400, "invalid_request")
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {other.clientID}, "refresh_token": {other.refresh},
		"scope": {"account:read everything"}}
	t.Run("K7: a scope beyond the grant's gets the grant's", func(t *testing.T) {
		a := w.post("/token", form) // this shows that the other client's refresh token was not spent
		assertJSONError(t, a, http.StatusOK, "")
		if got := a.str("scope"); got != other.scope {
			t.Errorf("got scope %q, want %q", got, other.scope)
		}
	})
	t.Run("K7, P4: foreign resource", func(t *testing.T) {
		form.Set("resource", "https://evil.example/")
		assertJSONError(t, w.post("/token", form), 400, "invalid_target")
	})
}

// TestConfidentialClient checks how a client with a secret authenticates. Some support only Basic (activepieces#14397).
func TestConfidentialClient(t *testing.T) {
	w := newWorld(t, nil)
	basic := func(user, password string) []string {
		return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
	}
	encoded := func(s string) string { // every character, as RFC 6749 section 2.3.1 allows
		var b strings.Builder
		for _, c := range []byte(s) {
			b.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15]))
		}
		return b.String()
	}
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		reg := w.registration(map[string]any{"redirect_uris": []string{callbackURI}, "token_endpoint_auth_method": method})
		id, secret := reg.str("client_id"), reg.str("client_secret")
		if expires, ok := reg.json["client_secret_expires_at"]; secret == "" || !ok || expires != 0.0 {
			t.Fatalf("R2: got a secret of %d characters, expiry %v, want one that never expires", len(secret), expires)
		}
		public := w.register(callbackURI)
		for _, test := range []struct {
			name          string
			authorization []string
			changed       []string
			status        int
			code          string
		}{
			{"R7: Basic", basic(id, secret), []string{"client_id", ""}, 200, ""},
			{"R7: Basic, form-encoded", basic(encoded(id), encoded(secret)), []string{"client_id", ""}, 200, ""},
			{"R7: Basic and the same client_id", basic(id, secret), nil, 200, ""},
			{"R7: body", nil, []string{"client_secret", secret}, 200, ""},
			{"R6: no secret", nil, nil, 401, "invalid_client"},
			{"R6: wrong secret", nil, []string{"client_secret", flipped(secret)}, 401, "invalid_client"},
			{"K5, R6: Basic, wrong secret", basic(id, flipped(secret)), nil, 401, "invalid_client"},
			{"K5, R6: Basic, empty secret", basic(id, ""), nil, 401, "invalid_client"},
			{"K5: Basic, unknown client", basic(flipped(id), secret), []string{"client_id", ""}, 401, "invalid_client"},
			{"K5: Basic, not base64", []string{"Basic ?"}, nil, 401, "invalid_client"},
			{"K5: Basic, bad encoding", basic("%zz", secret), nil, 401, "invalid_client"},
			{"Bearer", []string{"Bearer " + secret}, nil, 401, "invalid_client"},
			{"both ways at once", basic(id, secret), []string{"client_secret", secret}, 400, "invalid_request"},
			{"Basic and another client_id", basic(id, secret), []string{"client_id", public}, 400, "invalid_request"},
			{"two Basic headers", append(basic(id, secret), basic(public, "")...), nil, 400, "invalid_request"},
		} {
			t.Run(method+"/"+test.name, func(t *testing.T) {
				code := w.code(id)
				header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
				if test.authorization != nil {
					header["Authorization"] = test.authorization
				}
				a := w.call(http.MethodPost, "/token", header, codeForm(id, code, test.changed...).Encode())
				assertJSONError(t, a, test.status, test.code)
				if got := a.header.Get("WWW-Authenticate"); test.status == http.StatusUnauthorized &&
					strings.HasPrefix(got, "Basic ") != (test.authorization != nil) {
					t.Errorf("K5: got challenge %q", got)
				}
				if test.status != http.StatusOK { // the valid request: nothing was consumed
					assertJSONError(t, w.post("/token", codeForm(id, code, "client_secret", secret)), 200, "")
				}
			})
		}
	}
	t.Run("R12: a public client has no secret", func(t *testing.T) {
		reg := w.registration(map[string]any{"redirect_uris": []string{callbackURI}})
		_, secret := reg.json["client_secret"]
		if got := reg.str("token_endpoint_auth_method"); secret || got != "none" {
			t.Errorf("got a secret: %t, method %q, want none", secret, got)
		}
	})
}

// TestRevoke checks RFC 7009: a token that is not the client's own valid token gets the same 200, without effect.
func TestRevoke(t *testing.T) {
	w := newWorld(t, nil)
	other := w.signIn()
	for _, test := range []struct {
		name    string
		token   func(mine tokens, newest string) string
		access  bool // afterwards the access token works
		refresh bool // afterwards the refresh token works
	}{
		{"unknown", func(tokens, string) string { return "mcp_rt_" + strings.Repeat("A", 48) }, true, true},
		{"not a token at all", func(tokens, string) string { return "x" }, true, true},
		{"of another client", func(tokens, string) string { return other.refresh }, true, true},
		{"access token: that one alone", func(mine tokens, _ string) string { return mine.access }, false, true},
		{"newest refresh token: the grant", func(_ tokens, newest string) string { return newest }, false, false},
		{"spent refresh token: the grant", func(mine tokens, _ string) string { return mine.refresh }, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			mine := w.signIn()
			newest := w.refresh(mine.clientID, mine.refresh).str("refresh_token")
			w.tool(mine.access, "whoami") // puts it into the cache
			a := w.post("/revoke", url.Values{"client_id": {mine.clientID}, "token": {test.token(mine, newest)},
				"token_type_hint": {"refresh_token"}}) // a wrong hint does not matter
			assertJSONError(t, a, http.StatusOK, "")
			if got := w.tool(mine.access, "whoami").status == http.StatusOK; got != test.access {
				t.Errorf("the access token works: %t, want %t", got, test.access)
			}
			if got := w.refresh(mine.clientID, newest).status == http.StatusOK; got != test.refresh {
				t.Errorf("the refresh token works: %t, want %t", got, test.refresh)
			}
			if got := w.tool(other.access, "whoami").status; got != http.StatusOK {
				t.Errorf("the other client's token: got status %d, want 200", got)
			}
		})
	}
	for name, form := range map[string]url.Values{
		"no token": {"client_id": {other.clientID}}, "token twice": {"client_id": {other.clientID}, "token": {"x", "y"}},
	} {
		t.Run(name, func(t *testing.T) { assertJSONError(t, w.post("/revoke", form), 400, "invalid_request") })
	}
	t.Run("unknown client", func(t *testing.T) {
		form := url.Values{"client_id": {"mcp_ci_x"}, "token": {other.refresh}}
		assertJSONError(t, w.post("/revoke", form), 401, "invalid_client")
	})
}
