package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/mcp-federated-login/oauth/store"
)

var loopbackDocuments = map[string]string{"CLIENT_METADATA": "loopback"}

// TestClientAssertionWorksOnce checks that an assertion works once, so that it is useless to an eavesdropper.
func TestClientAssertionWorksOnce(t *testing.T) {
	host, key := newDocumentHost(t), newSigner(t, jose.ES256, "1")
	jwks := host.put("/keys", keySet(key))
	for _, arena := range arenas {
		t.Run("presented by forty at once, "+arena.name, func(t *testing.T) {
			w := newWorld(t, loopbackDocuments)
			c := w.signInKeyed(host, "/client", jwks, key)
			won := 0
			for _, a := range race(arena.setUp(w), asserted(c.form(), key.sign(w.claims(c.id, nil), nil))) {
				if a.status == http.StatusOK {
					won++
					continue
				}
				assertJSONError(t, a, http.StatusUnauthorized, "invalid_client")
			}
			if won != 1 {
				t.Errorf("%d of %d were let in, want 1", won, racers)
			}
			assertJSONError(t, c.present(key, nil), http.StatusOK, "")
		})
	}
	w := newWorld(t, loopbackDocuments)
	c := w.signInKeyed(host, "/client", jwks, key)
	other := w.signInKeyed(host, "/other", jwks, key)
	used := map[string]any{"jti": "used"}
	assertJSONError(t, c.present(key, used), http.StatusOK, "")
	w.restart()
	t.Run("a new one with the old jti", func(t *testing.T) {
		assertJSONError(t, c.present(key, map[string]any{"jti": "used", "aud": w.base}), 401, "invalid_client")
	})
	t.Run("at /revoke", func(t *testing.T) {
		form := url.Values{"client_id": {c.id}, "token": {c.refresh}}
		a := w.post("/revoke", asserted(form, key.sign(w.claims(c.id, used), nil)))
		assertJSONError(t, a, http.StatusUnauthorized, "invalid_client")
		assertJSONError(t, c.present(key, nil), http.StatusOK, "") // the valid request: the grant still works
	})
	t.Run("until the very end of its life", func(t *testing.T) {
		w.clock.advance(5*time.Minute + 29*time.Second)
		if _, err := w.app.Store.Purge(t.Context(), store.PurgeLimits{At: w.clock.now(), Limit: 100}); err != nil {
			t.Fatal(err)
		}
		exp := w.clock.now().Add(-29 * time.Second).Unix()
		assertJSONError(t, c.present(key, map[string]any{"jti": "used", "exp": exp}), 401, "invalid_client")
		assertJSONError(t, c.present(key, map[string]any{"jti": "unused", "exp": exp}), http.StatusOK, "")
	})
	t.Run("control: another client's jti is its own", func(t *testing.T) {
		assertJSONError(t, other.present(key, used), http.StatusOK, "")
	})
}

// TestClientAssertionForRevocation checks that /revoke authenticates as /token does, and that it can be the audience
// itself.
func TestClientAssertionForRevocation(t *testing.T) {
	w, host, key := newWorld(t, loopbackDocuments), newDocumentHost(t), newSigner(t, jose.RS256, "1")
	jwks := host.put("/keys", keySet(key))
	for _, test := range []struct {
		name   string
		signer signer
		aud    string
		status int
		code   string
	}{
		{"its own address", key, w.base + "/revoke", http.StatusOK, ""},
		{"token endpoint", key, w.base + "/token", http.StatusOK, ""},
		{"issuer", key, w.base, http.StatusOK, ""},
		{"another server", key, "https://other.example/revoke", http.StatusUnauthorized, "invalid_client"},
		{"wrong key", newSigner(t, jose.RS256, "1"), w.base, http.StatusUnauthorized, "invalid_client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.signInKeyed(host, "/client", jwks, key)
			claims := w.claims(c.id, map[string]any{"aud": test.aud})
			a := w.post("/revoke", asserted(url.Values{"token": {c.refresh}}, test.signer.sign(claims, nil)))
			assertJSONError(t, a, test.status, test.code)
			if alive := c.present(key, nil).status == http.StatusOK; alive == (test.status == http.StatusOK) {
				t.Errorf("the grant is alive: %t", alive)
			}
		})
	}
}

// TestClientChangesItsKeys checks that a key that is new at the client's jwks_uri works, and that a removed key does
// not. Assertions that no key verifies make the server fetch the keys only once a minute.
func TestClientChangesItsKeys(t *testing.T) {
	w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
	a, b, stranger := newSigner(t, jose.ES256, "a"), newSigner(t, jose.RS256, "b"), newSigner(t, jose.ES256, "x")
	unnamed := newSigner(t, jose.ES256, "")
	c := w.signInKeyed(host, "/client", host.put("/keys", keySet(a)), a)
	present := func(what string, s signer, changed map[string]any, status, wantFetches int) {
		t.Helper()
		before := host.requests("/keys")
		if got := c.present(s, changed); got.status != status {
			t.Errorf("%s: got status %d %q, want %d", what, got.status, got.str("error_description"), status)
		}
		if got := host.requests("/keys") - before; got != wantFetches {
			t.Errorf("%s: the key set was fetched %d times, want %d", what, got, wantFetches)
		}
	}
	host.put("/keys", keySet(b, unnamed))
	w.clock.advance(time.Minute)
	present("control: old key, while the copy is fresh", a, nil, http.StatusOK, 0)
	for what, changed := range map[string]map[string]any{"expired": {"exp": 1}, "for another server": {"aud": "x"},
		"of nobody": {"iss": "x"}, "without a jti": {"jti": nil}} {
		present("junk: "+what, stranger, changed, http.StatusUnauthorized, 0)
	}
	present("new key", b, nil, http.StatusOK, 1)
	present("new key, again", b, nil, http.StatusOK, 0)
	present("new key without a name", unnamed, nil, http.StatusOK, 0)
	present("old key", a, nil, http.StatusUnauthorized, 0)
	for range 3 {
		present("junk", stranger, nil, http.StatusUnauthorized, 0)
	}
	w.clock.advance(59 * time.Second)
	present("junk within the minute, which may be signed with a newer key", stranger, nil, http.StatusServiceUnavailable,
		0)
	present("old key within the minute", a, nil, http.StatusServiceUnavailable, 0)
	present("not signed with the key that it names", newSigner(t, jose.ES256, "b"), nil, http.StatusUnauthorized, 0)
	w.clock.advance(time.Second)
	present("junk a minute later", stranger, nil, http.StatusUnauthorized, 1)
	present("junk right after that", stranger, nil, http.StatusUnauthorized, 0)
	present("new key, at last", b, nil, http.StatusOK, 0)
}

// TestClientHostDown checks C19: if the keys cannot be fetched, those of the newest sign-in are used. An assertion that
// they do not verify may be signed with a new key. That is not the client's fault, and consumes nothing.
func TestClientHostDown(t *testing.T) {
	key, next := newSigner(t, jose.ES256, "1"), newSigner(t, jose.ES256, "2")
	for _, test := range []struct {
		name    string
		restart bool // the server's only copy is in its database
		signer  signer
		status  int
	}{
		{"key of the last copy", false, key, http.StatusOK},
		{"key of the newest sign-in", true, key, http.StatusOK},
		{"newer key than the last copy", false, next, http.StatusServiceUnavailable},
		{"newer key than the newest sign-in", true, next, http.StatusServiceUnavailable},
	} {
		t.Run("C19: "+test.name, func(t *testing.T) {
			w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
			c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
			host.put("/keys", keySet(key, next))
			host.setDown(true)
			w.clock.advance(25 * time.Hour) // longer than any copy lives
			if test.restart {
				w.restart()
			}
			jti := map[string]any{"jti": "the same"}
			a := c.present(test.signer, jti)
			if test.status == http.StatusOK {
				assertJSONError(t, a, http.StatusOK, "")
				return
			}
			assertJSONError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			host.setDown(false)
			w.clock.advance(time.Minute) // the host is not tried again before
			assertJSONError(t, c.present(test.signer, jti), http.StatusOK, "")
		})
	}
	t.Run("a key that was seen to be gone does not come back", func(t *testing.T) {
		w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
		c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
		host.put("/keys", keySet(next))
		w.clock.advance(time.Minute)
		assertJSONError(t, c.present(next, nil), http.StatusOK, "")
		host.setDown(true)
		w.clock.advance(25 * time.Hour)
		assertJSONError(t, c.present(key, nil), http.StatusServiceUnavailable, "temporarily_unavailable")
		assertJSONError(t, c.present(next, nil), http.StatusOK, "")
	})
	t.Run("CLIENT_METADATA=off: nothing is fetched, and what was stored goes on", func(t *testing.T) {
		w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
		c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
		before := host.requests("/keys")
		w.env["CLIENT_METADATA"] = "off"
		w.restart()
		assertJSONError(t, c.present(key, nil), http.StatusOK, "")
		assertJSONError(t, c.present(next, nil), http.StatusUnauthorized, "invalid_client")
		if got := host.requests("/keys") - before; got != 0 {
			t.Errorf("the key set was fetched %d times, want never", got)
		}
	})
	for name, page := range map[string]http.HandlerFunc{
		"gone": http.NotFound,
		"no key set": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"keys":[]}`))
		},
	} {
		t.Run("key set is "+name, func(t *testing.T) {
			w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
			c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
			host.handle("/keys", page)
			w.clock.advance(25 * time.Hour)
			a := c.present(key, nil)
			assertJSONError(t, a, http.StatusUnauthorized, "invalid_client")
			if !strings.Contains(a.str("error_description"), "jwks_uri") {
				t.Errorf("got %q, want it to name jwks_uri", a.str("error_description"))
			}
			host.put("/keys", keySet(key))
			assertJSONError(t, c.present(key, nil), http.StatusOK, "")
		})
	}
}

// TestAssertionOfAClientThatNeedsNone checks that such a client can leave out its assertion, but that one it sends must
// be valid if its keys are known here. They are not known if the operator registered the client as public although its
// own document does not: it goes on sending assertions.
func TestAssertionOfAClientThatNeedsNone(t *testing.T) {
	w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
	key, stranger := newSigner(t, jose.RS256, "1"), newSigner(t, jose.RS256, "1")
	either := host.putClient("/client", map[string]any{"token_endpoint_auth_method": "private_key_jwt",
		"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks": keySet(key)})
	pinned := host.putClient("/pinned", map[string]any{"token_endpoint_auth_method": "private_key_jwt",
		"jwks": keySet(key)})
	w.env["CLIENTS"] = filepath.Join(t.TempDir(), "clients.json")
	writeFile(t, w.env["CLIENTS"],
		`[{"client_id":"`+pinned+`","client_name":"Pinned","redirect_uris":["`+callbackURI+`"]}]`,
		0o600)
	w.restart()
	withSecret := w.registration(map[string]any{"redirect_uris": []string{callbackURI},
		"token_endpoint_auth_method": "client_secret_post"})
	for name, test := range map[string]struct {
		id     string
		signer *signer
		status int
	}{
		"altinity-mcp#118: none, by a client that can do both": {either, nil, http.StatusOK},
		"its own, by a client that can do both":                {either, &key, http.StatusOK},
		"forged, by a client that can do both":                 {either, &stranger, http.StatusUnauthorized},
		"by a client that registered itself as public":         {w.register(callbackURI), &key, http.StatusOK},
		"by a client that the operator registered as public":   {pinned, &key, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			form := codeForm(test.id, w.code(test.id))
			sent := form
			if test.signer != nil {
				sent = asserted(form, test.signer.sign(w.claims(test.id, nil), nil))
			}
			if a := w.post("/token", sent); test.status == http.StatusOK {
				assertJSONError(t, a, http.StatusOK, "")
			} else {
				assertJSONError(t, a, test.status, "invalid_client")
				assertJSONError(t, w.post("/token", form), http.StatusOK, "") // the valid request, without an assertion
			}
		})
	}
	t.Run("in the place of a secret", func(t *testing.T) {
		id := withSecret.str("client_id")
		form := codeForm(id, w.code(id))
		a := w.post("/token", asserted(form, key.sign(w.claims(id, nil), nil)))
		assertJSONError(t, a, http.StatusUnauthorized, "invalid_client")
		form.Set("client_secret", withSecret.str("client_secret"))
		assertJSONError(t, w.post("/token", form), http.StatusOK, "")
	})
}

// TestPrivateKeyJWTIsForDocuments checks that no client can register for private_key_jwt, and that it is offered only
// where it can be used.
func TestPrivateKeyJWTIsForDocuments(t *testing.T) {
	for policy, want := range map[string]bool{"off": false, "on": true, "loopback": true} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t, map[string]string{"CLIENT_METADATA": policy})
			document := w.call(http.MethodGet, "/.well-known/oauth-authorization-server", nil, "").json
			for member, value := range map[string]string{
				"token_endpoint_auth_methods_supported":                 "private_key_jwt",
				"revocation_endpoint_auth_methods_supported":            "private_key_jwt",
				"token_endpoint_auth_signing_alg_values_supported":      "RS256",
				"revocation_endpoint_auth_signing_alg_values_supported": "ES256",
			} {
				values, _ := document[member].([]any)
				if got := slices.Contains(values, any(value)); got != want {
					t.Errorf("%s has %s: %t, want %t", member, value, got, want)
				}
			}
			metadata := map[string]any{"redirect_uris": []string{callbackURI}, "jwks": keySet(newSigner(t, jose.ES256, "1"))}
			assertJSONError(t, w.registration(metadata), http.StatusCreated, "")
			metadata = maps.Clone(metadata)
			metadata["token_endpoint_auth_method"] = "private_key_jwt"
			a := w.registration(metadata)
			assertJSONError(t, a, http.StatusBadRequest, "invalid_client_metadata")
			if got := a.str("error_description"); !strings.Contains(got, "metadata document") {
				t.Errorf("got %q, want it to name the metadata document", got)
			}
		})
	}
}
