package e2e

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestClientChangesItsDocument checks that a client's keys are those of its current document.
func TestClientChangesItsDocument(t *testing.T) {
	old, next := newSigner(t, jose.ES256, "old"), newSigner(t, jose.ES256, "next")
	// briefly publishes the old key, in a set whose copies expire before those of the document.
	briefly := func(h *documentHost) map[string]any {
		h.handle("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=1")
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(keySet(old))
		})
		return map[string]any{"jwks_uri": h.url + "/keys"}
	}
	for _, tt := range []struct {
		name          string
		before, after func(h *documentHost) map[string]any
	}{
		{"another key in it",
			func(*documentHost) map[string]any { return map[string]any{"jwks": keySet(old)} },
			func(*documentHost) map[string]any { return map[string]any{"jwks": keySet(next)} }},
		{"its keys moved to another address",
			func(h *documentHost) map[string]any { return map[string]any{"jwks_uri": h.put("/keys", keySet(old))} },
			func(h *documentHost) map[string]any {
				h.handle("/keys", http.NotFound)
				return map[string]any{"jwks_uri": h.put("/new-keys", keySet(next))}
			}},
		{"its keys moved, and the old address is the first to be looked at again",
			briefly,
			func(h *documentHost) map[string]any {
				h.handle("/keys", http.NotFound)
				return map[string]any{"jwks_uri": h.put("/new-keys", keySet(next))}
			}},
		{"its keys moved, and the old ones stand where they were",
			briefly,
			func(h *documentHost) map[string]any {
				return map[string]any{"jwks_uri": h.put("/new-keys", keySet(next))}
			}},
		{"its keys moved out of it",
			func(*documentHost) map[string]any { return map[string]any{"jwks": keySet(old)} },
			func(h *documentHost) map[string]any { return map[string]any{"jwks_uri": h.put("/keys", keySet(next))} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
			publish := func(members map[string]any) string {
				members["token_endpoint_auth_method"] = "private_key_jwt"
				return host.putClient("/client", members)
			}
			id := publish(tt.before(host))
			a := w.post("/token", asserted(codeForm(id, w.code(id)), old.sign(w.claims(id, nil), nil)))
			assertJSONError(t, a, http.StatusOK, "")
			c := &keyedClient{w: w, id: id, refresh: a.str("refresh_token")}
			publish(tt.after(host))
			w.clock.advance(16 * time.Minute)
			assertJSONError(t, c.present(next, nil), http.StatusOK, "")
			assertJSONError(t, c.present(old, nil), http.StatusUnauthorized, "invalid_client")
			w.clock.advance(30 * 24 * time.Hour)
			assertJSONError(t, c.present(old, nil), http.StatusUnauthorized, "invalid_client")
			assertJSONError(t, c.present(next, nil), http.StatusOK, "")
		})
	}
}

// TestWithdrawnKeyDoesNotLiveOn checks that copies from a host that is down are not used forever: a key may have been
// withdrawn because it was stolen.
func TestWithdrawnKeyDoesNotLiveOn(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w, host, key := newWorld(t, loopbackDocuments), newDocumentHost(t), newSigner(t, jose.ES256, "1")
		c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
		host.setDown(true)
		if restart {
			w.restart()
		}
		w.clock.advance(6 * 24 * time.Hour)
		assertJSONError(t, c.present(key, nil), http.StatusOK, "") // the valid request
		// A sign-in that fetches nothing new does not extend that time.
		w.code(c.id)
		w.clock.advance(2 * 24 * time.Hour)
		assertJSONError(t, c.present(key, nil), http.StatusServiceUnavailable, "temporarily_unavailable")
		host.setDown(false)
		w.clock.advance(time.Minute)
		assertJSONError(t, c.present(key, nil), http.StatusOK, "")
	}
}

// TestMovedKeysWhileTheDocumentIsOutOfReach checks that an assertion is not called forged if its key is unknowable.
func TestMovedKeysWhileTheDocumentIsOutOfReach(t *testing.T) {
	w, host, keyHost := newWorld(t, loopbackDocuments), newDocumentHost(t), newDocumentHost(t)
	old, next := newSigner(t, jose.ES256, "old"), newSigner(t, jose.ES256, "next")
	c := w.signInKeyed(host, "/client", keyHost.put("/keys", keySet(old)), old)
	host.setDown(true)
	w.clock.advance(2 * time.Hour)
	assertJSONError(t, c.present(next, nil), http.StatusServiceUnavailable, "temporarily_unavailable")
	assertJSONError(t, c.present(old, nil), http.StatusOK, "") // the valid request
}

// TestJunkAtAHostThatFails checks that a failing host is tried once a minute, and no ERROR is logged, whatever is sent.
func TestJunkAtAHostThatFails(t *testing.T) {
	w, host, key := newWorld(t, loopbackDocuments), newDocumentHost(t), newSigner(t, jose.ES256, "1")
	c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
	host.setDown(true)
	w.clock.advance(2 * time.Hour)
	for minute := range 3 {
		before := host.requests("/client") + host.requests("/keys")
		for range 5 {
			assertJSONError(t, c.present(newSigner(t, jose.ES256, "x"), nil), 503, "temporarily_unavailable")
		}
		if n := host.requests("/client") + host.requests("/keys") - before; n != 2 {
			t.Errorf("minute %d: the host was asked %d times, want twice: for the document, and for the keys", minute, n)
		}
		w.clock.advance(time.Minute)
	}
	if strings.Contains(w.logs.String(), "level=ERROR") {
		t.Errorf("the log calls it an error:\n%s", w.logs.String())
	}
}

// TestAssertionIsUsedUpLast checks that a failed request can be sent again unchanged, whatever it failed on, and that a
// request without a grant stores nothing.
func TestAssertionIsUsedUpLast(t *testing.T) {
	w, host, key := newWorld(t, loopbackDocuments), newDocumentHost(t), newSigner(t, jose.ES256, "1")
	c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
	form := asserted(c.form(), key.sign(w.claims(c.id, nil), nil))
	with := func(name, value string) url.Values {
		changed := asserted(form, form.Get("client_assertion"))
		changed.Set(name, value)
		return changed
	}
	db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rename := func(from, to string) {
		t.Helper()
		if _, err := db.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to); err != nil {
			t.Fatal(err)
		}
	}
	before := query[int](w, `SELECT count(*) FROM assertions`)
	rename("tokens", "gone")
	assertJSONError(t, w.post("/token", form), http.StatusServiceUnavailable, "temporarily_unavailable")
	rename("gone", "tokens")
	assertJSONError(t, w.post("/token", with("resource", "https://other.example")), 400, "invalid_target")
	assertJSONError(t, w.post("/token", with("grant_type", "password")), 400, "unsupported_grant_type")
	assertJSONError(t, w.post("/token", with("refresh_token", "mcp_rt_unknown")), 400, "invalid_grant")
	assertJSONError(t, w.post("/revoke", with("token", "mcp_at_unknown")), 200, "")
	if n := query[int](w, `SELECT count(*) FROM assertions`); n != before {
		t.Errorf("%d assertions were noted, want none", n-before)
	}
	assertJSONError(t, w.post("/token", form), http.StatusOK, "") // the valid request
	assertJSONError(t, w.post("/token", form), http.StatusUnauthorized, "invalid_client")
}

// TestSignInWhileTheKeysAreOutOfReach checks that the other grants keep the keys that they depend on.
func TestSignInWhileTheKeysAreOutOfReach(t *testing.T) {
	w, host, keyHost := newWorld(t, loopbackDocuments), newDocumentHost(t), newDocumentHost(t)
	key := newSigner(t, jose.ES256, "1")
	c := w.signInKeyed(host, "/client", keyHost.put("/keys", keySet(key)), key)
	w.restart()
	keyHost.setDown(true)
	w.code(c.id)
	assertJSONError(t, c.present(key, nil), http.StatusOK, "")
}

// TestBlockedClientHasNothingFetched checks that nothing is fetched for a blocked client: its host may be the reason
// for the block. The client is not told invalid_client.
func TestBlockedClientHasNothingFetched(t *testing.T) {
	w, host, key := newWorld(t, loopbackDocuments), newDocumentHost(t), newSigner(t, jose.ES256, "1")
	c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
	w.must("clients", "block", "127.0.0.1")
	w.clock.advance(25 * time.Hour)
	before := host.requests("/keys") + host.requests("/client")
	for _, s := range []signer{key, newSigner(t, jose.ES256, "x")} {
		assertJSONError(t, c.present(s, nil), http.StatusBadRequest, "invalid_grant")
	}
	if n := host.requests("/keys") + host.requests("/client") - before; n != 0 {
		t.Errorf("fetched %d times", n)
	}
}

// TestPinnedAndUnpinned checks that a client by document keeps working while the operator registers it, and after.
func TestPinnedAndUnpinned(t *testing.T) {
	w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
	id := host.putClient("/client", nil)
	held := w.redeem(id, w.code(id))
	w.env["CLIENTS"] = clientsFile(t, registeredBy(id))
	w.restart()
	w.redeem(id, w.code(id))
	delete(w.env, "CLIENTS")
	w.restart()
	if a := w.refresh(id, held.refresh); a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// TestStoredDocumentAfterARotation checks that a document stored under the old SECRET works while both secrets are set.
func TestStoredDocumentAfterARotation(t *testing.T) {
	const old, new = "qN6RsQDQI6L3MpdLrySB6vd6I04XGFX6IRzQIIlTkVg=", "tIbnKYHPArOfN68kWBo7yj7Qez4c0BD4BfU6A6jU42I="
	host := newDocumentHost(t)
	w := newWorld(t, map[string]string{"CLIENT_METADATA": "loopback", "SECRET": old})
	id := host.putClient("/client", nil)
	w.redeem(id, w.code(id))
	w.env["SECRET"] = new + "," + old
	w.restart()
	host.setDown(true)
	if p := w.browser().open(w.authorizeURL(id, nil)); p.status != http.StatusOK {
		t.Errorf("status %d:\n%s", p.status, p.text)
	}
}

// TestUnreadableStoredDocument checks a server-side failure: a newer release may parse documents more strictly.
func TestUnreadableStoredDocument(t *testing.T) {
	w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
	id := host.putClient("/client", nil)
	held := w.redeem(id, w.code(id))
	db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE clients SET document = CAST('{}' AS BLOB)`); err != nil {
		t.Fatal(err)
	}
	assertJSONError(t, w.refresh(id, held.refresh), http.StatusServiceUnavailable, "temporarily_unavailable")
}
