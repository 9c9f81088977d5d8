package e2e

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestWithdrawnKeyDoesNotComeBack checks that a key which the client's host was seen to have withdrawn is refused while
// that host is down, by the process that saw it and by the next one.
func TestWithdrawnKeyDoesNotComeBack(t *testing.T) {
	old, next := newSigner(t, jose.ES256, "old"), newSigner(t, jose.ES256, "next")
	gone := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }
	byAddress := func(h *documentHost) map[string]any { return map[string]any{"jwks_uri": h.put("/keys", keySet(old))} }
	inDocument := func(*documentHost) map[string]any { return map[string]any{"jwks": keySet(old)} }
	publish := func(h *documentHost, members map[string]any) string {
		members["token_endpoint_auth_method"] = "private_key_jwt"
		return h.putClient("/client", members)
	}
	for _, tt := range []struct {
		name     string
		before   func(h *documentHost) map[string]any
		withdraw func(h *documentHost)
		status   int // status for the old key, right after that
	}{
		{"control: it is not withdrawn", byAddress, func(*documentHost) {}, http.StatusOK},
		{"another key in the key set", byAddress, func(h *documentHost) { h.put("/keys", keySet(next)) }, 401},
		{"key set not found", byAddress, func(h *documentHost) { h.handle("/keys", http.NotFound) }, 401},
		{"key set without a key", byAddress, func(h *documentHost) { h.put("/keys", keySet()) }, 401},
		{"document gone", byAddress, func(h *documentHost) { h.handle("/client", gone) }, 401},
		{"another key in the document", inDocument,
			func(h *documentHost) { publish(h, map[string]any{"jwks": keySet(next)}) }, 401},
		{"document with the key not found", inDocument,
			func(h *documentHost) { h.handle("/client", http.NotFound) }, 401},
		{"keys moved to where they cannot be fetched", byAddress, func(h *documentHost) {
			h.handle("/new-keys", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
			publish(h, map[string]any{"jwks_uri": h.url + "/new-keys"})
		}, 503},
	} {
		for _, restart := range []bool{false, true} {
			name := tt.name
			if restart {
				name += ", with a restart"
			}
			t.Run(name, func(t *testing.T) {
				w, host := newWorld(t, loopbackDocuments), newDocumentHost(t)
				id := publish(host, tt.before(host))
				a := w.post("/token", asserted(codeForm(id, w.code(id)), old.sign(w.claims(id, nil), nil)))
				assertJSONError(t, a, http.StatusOK, "")
				c := &keyedClient{w: w, id: id, refresh: a.str("refresh_token")}
				rows := query[int](w, `SELECT count(*) FROM clients`)

				tt.withdraw(host)
				w.clock.advance(25 * time.Hour) // longer than any copy lives
				if got := c.present(old, nil).status; got != tt.status {
					t.Fatalf("when it was withdrawn: got status %d, want %d", got, tt.status)
				}
				host.setDown(true)
				if restart {
					w.restart()
				}
				w.clock.advance(25 * time.Hour)
				want := http.StatusServiceUnavailable // not invalid_client: the key may be published again
				if tt.status == http.StatusOK {
					want = http.StatusOK
				}
				if got := c.present(old, nil).status; got != want {
					t.Errorf("while the host is down: got status %d, want %d", got, want)
				}
				if got := query[int](w, `SELECT count(*) FROM clients`); got != rows {
					t.Errorf("%d rows of clients, want %d", got, rows)
				}

				host.setDown(false)
				publish(host, map[string]any{"jwks_uri": host.put("/keys", keySet(next))})
				w.clock.advance(25 * time.Hour)
				assertJSONError(t, c.present(next, nil), http.StatusOK, "")
				host.setDown(true)
				w.restart() // the last published version is stored
				assertJSONError(t, c.present(next, nil), http.StatusOK, "")
			})
		}
	}
}

// TestWithdrawnDocumentDoesNotComeBack checks that a document which was seen to be removed starts no sign-in while its
// host is down.
func TestWithdrawnDocumentDoesNotComeBack(t *testing.T) {
	w, host := newDocumentWorld(t)
	id := host.putClient("/client", nil)
	open := func() int { return w.browser().open(w.authorizeURL(id, nil)).status }
	if got := open(); got != http.StatusOK { // and nobody signs in, so that nothing is stored
		t.Fatalf("got status %d, want 200", got)
	}
	host.setDown(true)
	w.clock.advance(25 * time.Hour)
	if got := open(); got != http.StatusOK { // the document was not withdrawn
		t.Errorf("while the host is down: got status %d, want 200", got)
	}
	host.setDown(false)
	page := host.pages["/client"]
	host.handle("/client", http.NotFound)
	w.clock.advance(time.Minute)
	if got := open(); got != http.StatusBadRequest {
		t.Errorf("when it is gone: got status %d, want 400", got)
	}
	host.setDown(true)
	w.clock.advance(time.Minute)
	if got := open(); got != http.StatusServiceUnavailable {
		t.Errorf("while the host is down again: got status %d, want 503", got)
	}
	host.setDown(false)
	host.handle("/client", page)
	if got := open(); got != http.StatusOK {
		t.Errorf("when it is back: got status %d, want 200", got)
	}
}

// TestStoredKeysAreProven checks that a key is not used if somebody else wrote it into the database, or changed its
// age. A row is used if an earlier release wrote its proof, over the document alone.
func TestStoredKeysAreProven(t *testing.T) {
	const secret = "qN6RsQDQI6L3MpdLrySB6vd6I04XGFX6IRzQIIlTkVg="
	key, stranger := newSigner(t, jose.ES256, "1"), newSigner(t, jose.ES256, "1")
	strangers, err := json.Marshal(keySet(stranger))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(w *world, db *sql.DB, id string) (statement string, args []any)
		signer signer
		status int
	}{
		{"control: as it was written", nil, key, http.StatusOK},
		{"another's keys", func(*world, *sql.DB, string) (string, []any) {
			return `UPDATE clients SET client_keys = ?`, []any{strangers}
		}, stranger, http.StatusServiceUnavailable},
		{"a longer life", func(*world, *sql.DB, string) (string, []any) {
			return `UPDATE clients SET issued_at = issued_at + 1`, nil
		}, key, http.StatusServiceUnavailable},
		{"the proof of an earlier release", func(w *world, db *sql.DB, id string) (string, []any) {
			var document []byte
			if err := db.QueryRow(`SELECT document FROM clients`).Scan(&document); err != nil {
				t.Fatal(err)
			}
			return `UPDATE clients SET proof = ?`, []any{earlierProof(t, secret, w.base, id, document)}
		}, key, http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := newDocumentHost(t)
			w := newWorld(t, map[string]string{"CLIENT_METADATA": "loopback", "SECRET": secret})
			c := w.signInKeyed(host, "/client", host.put("/keys", keySet(key)), key)
			host.setDown(true)
			db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if tt.change != nil {
				statement, args := tt.change(w, db, c.id)
				if _, err := db.Exec(statement, args...); err != nil {
					t.Fatal(err)
				}
			}
			w.restart()
			if got := c.present(tt.signer, nil).status; got != tt.status {
				t.Errorf("got status %d, want %d", got, tt.status)
			}
		})
	}
}

// earlierProof computes what earlier releases wrote, from the description: HMAC-SHA256 of the client_id and the
// document, each with its length in front, under HKDF-SHA256 of SECRET for "client document" and BASE_URL.
func earlierProof(t *testing.T, secret, base, id string, document []byte) []byte {
	t.Helper()
	join := func(parts ...string) (joined []byte) {
		for _, p := range parts {
			joined = append(binary.BigEndian.AppendUint32(joined, uint32(len(p))), p...)
		}
		return joined
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, raw, nil, string(join("client document", base)), 32)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(join(id, string(document)))
	return h.Sum(nil)
}
