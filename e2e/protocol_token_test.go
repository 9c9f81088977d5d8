package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestProtocolTokenAnswer checks token responses as a whole, except the tokens themselves.
func TestProtocolTokenAnswer(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	code := w.browser().signIn(w.authorizeURL(id, func(q url.Values) { q.Del("scope") })).Get("code")
	first := w.post("/token", codeForm(id, code))
	for name, a := range map[string]answer{
		"K1, K8, K9: for a code":          first,
		"K1, K8, K9: for a refresh token": w.refresh(id, first.str("refresh_token")),
	} {
		t.Run(name, func(t *testing.T) {
			if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" ||
				a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %s, Cache-Control %q, want 200 application/json, no-store", a.status,
					a.header.Get("Content-Type"), a.header.Get("Cache-Control"))
			}
			members := []string{"access_token", "expires_in", "refresh_token", "scope", "token_type"}
			if diff := cmp.Diff(members, slices.Sorted(maps.Keys(a.json))); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			if a.json["expires_in"] != 3600.0 || a.str("token_type") != "Bearer" || a.str("scope") != githubScopes {
				t.Errorf("got life %v, type %q, scope %q, want an hour of Bearer with the scope named, though none was asked for",
					a.json["expires_in"], a.str("token_type"), a.str("scope"))
			}
			for _, member := range []string{"access_token", "refresh_token"} { // K9: every grant gets a refresh token
				if a.str(member) == "" {
					t.Errorf("no %s", member)
				}
			}
		})
	}
	t.Run("K10: a web page can read errors too", func(t *testing.T) {
		for _, path := range []string{"/token", "/register", "/revoke"} {
			a := w.call(http.MethodPost, path, http.Header{"Origin": {"https://app.example.com"}}, "")
			if got := a.header.Get("Access-Control-Allow-Origin"); a.status != http.StatusBadRequest || got != "*" {
				t.Errorf("%s: got %d for origin %q, want 400 for any", path, a.status, got)
			}
		}
	})
	t.Run("K11: entropy", func(t *testing.T) {
		for prefix, token := range map[string]string{"mcp_ac_": code, "mcp_at_": first.str("access_token"),
			"mcp_rt_": first.str("refresh_token")} {
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, prefix))
			const random, checksum = 32, 4 // bytes
			if err != nil || !strings.HasPrefix(token, prefix) || len(b) != random+checksum {
				t.Errorf("%s: got %d bytes (%v), want %d random ones and a checksum of %d", prefix, len(b), err, random, checksum)
			}
		}
	})
	t.Run("K12: at rest there are hashes", func(t *testing.T) {
		files := w.stored().files
		for name, token := range map[string]string{"code": code, "access token": first.str("access_token"),
			"refresh token": first.str("refresh_token")} {
			sum := sha256.Sum256([]byte(token))
			if !bytes.Contains(files, sum[:]) {
				t.Errorf("control: the hash of the %s is not in the database's files", name)
			}
			_, body, _ := strings.Cut(token[4:], "_")
			if raw, err := base64.RawURLEncoding.DecodeString(body); err != nil || bytes.Contains(files, raw[:32]) ||
				bytes.Contains(files, []byte(body)) {
				t.Errorf("the %s itself is in the database's files (or no base64url: %v)", name, err)
			}
		}
	})
}

// TestProtocolRefresh checks rotation, and the effect of a spent refresh token.
func TestProtocolRefresh(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	stranger := w.register(callbackURI)
	for _, test := range []struct {
		name    string
		after   time.Duration // between the first and the second use of the token
		retired bool          // its successor was presented in between
		as      string        // client_id of the second use; empty if its own
		same    bool          // the second use gets the newest refresh token
		ends    bool          // the grant ends
	}{
		{"K6 overruled: a retry within two minutes gets the same pair", 2 * time.Minute, false, "", true, false},
		{"K6 overruled: a retry gets the pair after that", 2 * time.Minute, true, "", true, false},
		{"K6 overruled: reuse before the successor is presented", 2*time.Minute + time.Millisecond, false, "", true, false},
		{"K6 overruled: the same after 80 days", 80 * 24 * time.Hour, false, "", true, false},
		{"K6: reuse after two minutes ends the grant", 2*time.Minute + time.Millisecond, true, "", false, true},
		{"K6: reuse after six days ends the grant", 6 * 24 * time.Hour, true, "", false, true},
		{"K7: reuse by another client ends nothing", 3 * time.Minute, true, stranger, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			mine := w.signIn()
			first := w.refresh(mine.clientID, mine.refresh)
			assertJSONError(t, first, http.StatusOK, "")
			if first.str("refresh_token") == mine.refresh || first.str("access_token") == mine.access {
				t.Fatal("the pair was not rotated")
			}
			if test.retired {
				first = w.refresh(mine.clientID, first.str("refresh_token"))
				assertJSONError(t, first, http.StatusOK, "")
			}
			w.clock.advance(test.after)
			as := mine.clientID
			if test.as != "" {
				as = test.as
			}
			second := w.refresh(as, mine.refresh)
			if test.same {
				assertJSONError(t, second, http.StatusOK, "")
			} else {
				assertJSONError(t, second, http.StatusBadRequest, "invalid_grant")
			}
			if same := second.str("refresh_token") == first.str("refresh_token"); same != test.same {
				t.Errorf("the same refresh token came: %t, want %t", same, test.same)
			}
			if alive := w.tool(second.str("access_token"), "whoami").status == http.StatusOK; alive != test.same {
				t.Errorf("the access token that came works: %t, want %t", alive, test.same)
			}
			// The newest pair shows whether the grant still works; after hours its access token has expired anyway.
			if got := w.tool(first.str("access_token"), "whoami").status; test.after < time.Hour && (got == 401) != test.ends {
				t.Errorf("the newest access token: got status %d, want it dead: %t", got, test.ends)
			}
			if got := w.refresh(mine.clientID, first.str("refresh_token")).status; (got == 400) != test.ends {
				t.Errorf("the newest refresh token: got status %d, want it dead: %t", got, test.ends)
			}
		})
	}
	t.Run("K7: a confidential client authenticates for a refresh too", func(t *testing.T) {
		reg := w.registration(map[string]any{"redirect_uris": []string{callbackURI},
			"token_endpoint_auth_method": "client_secret_post"})
		id, secret := reg.str("client_id"), reg.str("client_secret")
		a := w.post("/token", codeForm(id, w.code(id), "client_secret", secret))
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {id}, "refresh_token": {a.str("refresh_token")}}
		for _, bad := range []string{"", flipped(secret)} {
			form.Set("client_secret", bad)
			assertJSONError(t, w.post("/token", form), http.StatusUnauthorized, "invalid_client")
		}
		form.Set("client_secret", secret)
		assertJSONError(t, w.post("/token", form), http.StatusOK, "")
	})
	t.Run("K8: a refresh token dies of ninety days without use", func(t *testing.T) {
		const life = 90 * 24 * time.Hour
		used, unused := w.signIn(), w.signIn()
		w.clock.advance(life - time.Millisecond)
		next := w.refresh(used.clientID, used.refresh)
		assertJSONError(t, next, http.StatusOK, "")
		w.clock.advance(time.Millisecond)
		assertJSONError(t, w.refresh(unused.clientID, unused.refresh), http.StatusBadRequest, "invalid_grant")
		w.clock.advance(life - 2*time.Millisecond)
		assertJSONError(t, w.refresh(used.clientID, next.str("refresh_token")), http.StatusOK, "")
	})
}

// TestProtocolResourceIndicator checks that a client's tokens are for the only resource, whatever the client calls it.
func TestProtocolResourceIndicator(t *testing.T) {
	w := newWorld(t, nil)
	id, endpoint := w.register(callbackURI), w.base+"/mcp"
	upper := strings.Replace(w.base, "http://localhost", "HTTP://LOCALHOST", 1)
	const absent = ""
	for _, test := range []struct{ name, authorize, token string }{
		{"P1: nowhere", absent, absent},
		{"P1: at the token endpoint only", absent, endpoint},
		{"P2: in both requests", endpoint, endpoint},
		{"P3: with a slash", endpoint + "/", endpoint + "/"},
		{"P3: origin", w.base, w.base},
		{"P3: origin with a slash", w.base + "/", w.base + "/"},
		{"P3: upper case", upper + "/mcp", upper + "/mcp"},
		{"P3: upper-case origin", upper, upper},
		{"P3: two names of the same", w.base + "/", endpoint},
		{"P3: with a query, as ChatGPT sends it", endpoint + "?kb_name=X", endpoint + "?kb_name=X"},
		{"P5: at the authorization endpoint only", endpoint, absent},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := w.browser().signIn(w.authorizeURL(id, func(q url.Values) { q.Set("resource", test.authorize) }))
			a := w.post("/token", codeForm(id, q.Get("code"), "resource", test.token))
			assertJSONError(t, a, http.StatusOK, "")
			if got := w.tool(a.str("access_token"), "whoami").status; got != http.StatusOK {
				t.Errorf("the token at /mcp: got status %d, want 200", got)
			}
			if got := query[string](w, `SELECT audience FROM grants ORDER BY rowid DESC LIMIT 1`); got != endpoint {
				t.Errorf("audience: got %q, want %q", got, endpoint)
			}
		})
	}
	for _, other := range []string{"https://evil.example", w.base + "/other", endpoint + "#x", w.base + "/other?x=/mcp",
		strings.Replace(w.base, "localhost", "127.0.0.1", 1) + "/mcp", "mcp", "::"} {
		t.Run("P4, P5: another at the token endpoint than at the authorization endpoint: "+other, func(t *testing.T) {
			code := w.code(id)
			assertJSONError(t, w.post("/token", codeForm(id, code, "resource", other)), 400, "invalid_target")
			w.redeem(id, code) // the valid request: nothing was consumed
		})
	}
}

// TestProtocolAudience checks that a token is valid only at the server that issued it, even if two servers share a
// database and a secret, as after a move to another URL.
func TestProtocolAudience(t *testing.T) {
	here := newWorld(t, nil)
	github, err := devidp.Start(devidp.Config{BaseURL: here.base, Log: slog.New(slog.DiscardHandler), Now: here.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { github.Close() })
	here.useGitHub(github.GitHub())
	mine := here.signIn()
	env := maps.Clone(here.env)
	delete(env, "BASE_URL")
	elsewhere := newWorld(t, env)
	t.Run("P6: minted for another resource", func(t *testing.T) {
		if got := here.tool(mine.access, "whoami").status; got != http.StatusOK {
			t.Fatalf("control: where it was made for: got status %d, want 200", got)
		}
		a := elsewhere.tool(mine.access, "whoami")
		if got := challengeOf(t, a)["error"]; a.status != http.StatusUnauthorized || got != "invalid_token" {
			t.Errorf("elsewhere: got %d %s, want 401 invalid_token", a.status, got)
		}
		const reason = "granted for another address of this server"
		if !strings.Contains(elsewhere.logs.String(), reason) {
			t.Errorf("the log does not say %q, so the token was refused for another reason", reason)
		}
	})
}
