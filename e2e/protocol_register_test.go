package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestProtocolRegistration compares whole responses: they contain the registered values and nothing else, because
// strict clients parse them against a schema.
func TestProtocolRegistration(t *testing.T) {
	w := newWorld(t, nil)
	clientID := regexp.MustCompile(`^mcp_ci_[A-Za-z0-9_-]+$`)
	type object = map[string]any
	// answered is the response to every registration, except for the client_id and the secret.
	answered := func(authMethod string, more object) object {
		o := object{"client_id_issued_at": float64(w.clock.now().Unix()), "redirect_uris": []any{callbackURI},
			"token_endpoint_auth_method": authMethod, "response_types": []any{"code"},
			"grant_types": []any{"authorization_code", "refresh_token"}}
		for name, value := range more {
			o[name] = value
		}
		return o
	}
	for _, test := range []struct {
		name   string
		send   object // in addition to the redirect_uris
		want   object
		secret bool
	}{
		{"R1, R2, R9: public client", object{"client_name": "Test", "token_endpoint_auth_method": "none"},
			answered("none", object{"client_name": "Test"}), false},
		{"R2, R6, R9: confidential client", object{"token_endpoint_auth_method": "client_secret_basic"},
			answered("client_secret_basic", object{"client_secret_expires_at": 0.0}), true},
		{"R2, R6: confidential client, by form", object{"token_endpoint_auth_method": "client_secret_post"},
			answered("client_secret_post", object{"client_secret_expires_at": 0.0}), true},
		{"R2: metadata that we do not use", object{"contacts": []string{"a@example.com"}, "software_version": "1"},
			answered("none", nil), false},
		{"R8: no application_type is not web", nil, answered("none", nil), false},
		{"R8: native", object{"application_type": "native"}, answered("none", object{"application_type": "native"}), false},
		{"R8: web", object{"application_type": "web"}, answered("none", object{"application_type": "web"}), false},
		{"R8: another", object{"application_type": "toaster"}, answered("none", nil), false},
		{"R12: native app with none", object{"application_type": "native", "token_endpoint_auth_method": "none"},
			answered("none", object{"application_type": "native"}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			send := object{"redirect_uris": []string{callbackURI}}
			for name, value := range test.send {
				send[name] = value
			}
			a := w.registration(send)
			if a.status != http.StatusCreated || a.header.Get("Content-Type") != "application/json" ||
				a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %s, Cache-Control %q, want 201 application/json, no-store", a.status,
					a.header.Get("Content-Type"), a.header.Get("Cache-Control"))
			}
			if id := a.str("client_id"); !clientID.MatchString(id) {
				t.Errorf("R9: got client_id %q, want %s: an https address means a metadata document", id, clientID)
			}
			if secret := a.str("client_secret"); (secret != "") != test.secret {
				t.Errorf("got a secret of %d characters, want one: %t", len(secret), test.secret)
			}
			delete(a.json, "client_id")
			delete(a.json, "client_secret")
			if diff := cmp.Diff(test.want, a.json); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	t.Run("R4 overruled: any private scheme can be registered, and is used only if it is listed", func(t *testing.T) {
		id := w.register("foo://callback", callbackURI)
		p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", "foo://callback") }))
		assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
		if len(p.links) != 0 {
			t.Errorf("the page links to %q, want to nowhere", p.links)
		}
		if got := w.browser().signIn(w.authorizeURL(id, nil)); !got.Has("code") { // the valid request
			t.Errorf("the client's other redirect URI: got %v, want a code", got)
		}
	})
	t.Run("R10: a registration outlives a restart", func(t *testing.T) {
		id := w.register(callbackURI)
		w.restart()
		if p := w.browser().open(w.authorizeURL(id, nil)); p.status != http.StatusOK || len(p.forms) != 1 {
			t.Errorf("after a restart: got status %d, want the question", p.status)
		}
		if got := w.browser().signIn(w.authorizeURL(id, nil)); !got.Has("code") {
			t.Errorf("after a restart: got %v, want a code", got)
		}
	})
}

// TestProtocolFlood checks that registration has no limit: a stranger could exhaust one and keep others out. A flood is
// harmless because it stores nothing, and because nothing can be guessed.
func TestProtocolFlood(t *testing.T) {
	w := newWorld(t, nil)
	id, before := w.register(callbackURI), w.stored()
	t.Run("R13 overruled: registrations", func(t *testing.T) {
		for i := range 200 {
			w.register(fmt.Sprintf("https://client.example/%d", i)) // fails unless it is a 201
		}
	})
	t.Run("S22 overruled: guesses at the token endpoint", func(t *testing.T) {
		for range 200 {
			assertJSONError(t, w.post("/token", codeForm(id, "mcp_ac_"+strings.Repeat("A", 48))), 400, "invalid_grant")
		}
	})
	after := w.stored()
	if diff := cmp.Diff(before.rows, after.rows); diff != "" || !bytes.Equal(before.files, after.files) {
		t.Errorf("the flood was stored; rows (-before +after):\n%s", diff)
	}
	w.redeem(id, w.code(id)) // other clients still get in
}
