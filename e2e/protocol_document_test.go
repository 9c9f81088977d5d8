package e2e

import (
	"database/sql"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// newDocumentWorld is a world that takes documents from a host on this computer.
func newDocumentWorld(t *testing.T) (*world, *documentHost) {
	return newWorld(t, loopbackDocuments), newDocumentHost(t)
}

// Client ID metadata documents, as a client and a user meet them. Package oauth has its own tables for what is fetched,
// and for what is a valid document.
func TestProtocolDocumentClients(t *testing.T) {
	t.Run("C1, D15: advertised, and a client_id that is an address leads to the question", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		metadata := w.call(http.MethodGet, "/.well-known/oauth-authorization-server", nil, "")
		if metadata.json["client_id_metadata_document_supported"] != true {
			t.Errorf("the metadata does not say so: %s", metadata.body)
		}
		p := w.browser().open(w.authorizeURL(h.putClient("/oauth/client", nil), nil))
		if p.status != http.StatusOK || !strings.Contains(p.text, "Document client") {
			t.Errorf("status %d:\n%s", p.status, p.text)
		}
	})
	t.Run("D15: and where it is off, it is not", func(t *testing.T) {
		w := newWorld(t, map[string]string{"CLIENT_METADATA": "off"})
		h := newDocumentHost(t)
		metadata := w.call(http.MethodGet, "/.well-known/oauth-authorization-server", nil, "")
		if _, said := metadata.json["client_id_metadata_document_supported"]; said {
			t.Errorf("the metadata says so: %s", metadata.body)
		}
		p := w.browser().open(w.authorizeURL(h.putClient("/client", nil), nil))
		assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "")
		if n := h.requests("/client"); n != 0 {
			t.Errorf("fetched %d times", n)
		}
	})

	t.Run("C2: addresses that are none", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		h.putClient("/client", nil)
		for _, id := range []string{h.url, h.url + "/./client", h.url + "/x/../client", h.url + "/client#f",
			h.url + "/client#",
			strings.Replace(h.url, "https://", "https://user@", 1) + "/client", h.url + "/%2e%2e/client", h.url + "/cl ient",
			strings.Replace(h.url, "https", "HTTPS", 1) + "/client", "https:/client", "https://",
			"http://client.example/client"} {
			p := w.browser().open(w.authorizeURL(id, nil))
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_client")
		}
		for path, n := range h.asked {
			t.Errorf("%s was fetched %d times", path, n)
		}
	})
	t.Run("C3, C4, C6, C8, C9, C11: what is no document of the client's", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		put := func(status int, contentType, body string) string {
			h.handle("/client", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(status)
				io.WriteString(w, body)
			})
			return h.url + "/client"
		}
		target := h.putClient("/elsewhere", nil)
		for _, tt := range []struct {
			name   string
			id     func() string
			status int
			says   string
		}{
			{"C3: another client's", func() string {
				return h.putClient("/client", map[string]any{"client_id": target})
			}, 400, "its client_id is not the address"},
			{"C4: no name", func() string { return h.putClient("/client", map[string]any{"client_name": nil}) }, 400,
				"client_name"},
			{"C4: no redirect URIs", func() string {
				return h.putClient("/client", map[string]any{"redirect_uris": nil})
			}, 400, "redirect_uris"},
			{"C6: a secret", func() string { return h.putClient("/client", map[string]any{"client_secret": "x"}) }, 400,
				"client_secret"},
			{"C8: sent on", func() string {
				h.handle("/client", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
				return h.url + "/client"
			}, 400, "answers 302"},
			{"C9: nothing there", func() string { return h.url + "/nothing" }, 400, "answers 404"},
			{"C9: out of order", func() string { return put(500, "application/json", "{}") }, 503, "could not be verified"},
			{"C11: too long", func() string {
				return h.putClient("/client", map[string]any{"logo_uri": strings.Repeat("x", 5<<10)})
			}, 400, "longer than 5120 bytes"},
			{"C11: HTML", func() string { return put(200, "text/html", "{}") }, 400, "Content-Type"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				p := w.browser().open(w.authorizeURL(tt.id(), nil))
				assertErrorPage(t, p, tt.status, "/authorize", tt.says)
				if n := h.requests("/elsewhere"); n != 0 {
					t.Errorf("the target was fetched %d times", n)
				}
			})
		}
	})
	t.Run("C5: the redirect URI must be in the document", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", map[string]any{"redirect_uris": []string{"http://localhost/callback",
			"https://client.example/cb"}})
		for uri, want := range map[string]int{
			"http://localhost:58135/callback": 200, "https://client.example/cb": 200,
			"http://127.0.0.1:58135/callback": 400, "https://client.example:444/cb": 400, "https://evil.example/cb": 400, "": 400,
		} {
			p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", uri) }))
			if p.status != want {
				t.Errorf("%q: status %d, want %d", uri, p.status, want)
			}
		}
	})

	t.Run("C12, C13: fetched once, and a failure is not remembered", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.url + "/client"
		for _, step := range []struct {
			down            bool
			status, fetched int
		}{{true, 503, 1}, {false, 200, 2}, {false, 200, 2}, {true, 200, 2}} {
			if !step.down {
				h.putClient("/client", nil)
			}
			h.setDown(step.down)
			p := w.browser().open(w.authorizeURL(id, nil))
			if n := h.requests("/client"); p.status != step.status || n != step.fetched {
				t.Errorf("down %t: status %d after %d fetches, want %d after %d", step.down, p.status, n, step.status, step.fetched)
			}
		}
	})
	t.Run("C14: a changed document is what the person is asked about", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		w.redeem(id, w.code(id))
		h.putClient("/client", map[string]any{"client_name": "Renamed client",
			"redirect_uris": []string{"https://new.example/cb"}})
		w.clock.advance(25 * time.Hour)
		old := w.browser().open(w.authorizeURL(id, nil))
		assertErrorPage(t, old, http.StatusBadRequest, "/authorize", "not one that the application registered")
		p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", "https://new.example/cb") }))
		if p.status != http.StatusOK || !strings.Contains(p.text, "Renamed client") ||
			!strings.Contains(p.text, "new.example") {
			t.Errorf("status %d:\n%s", p.status, p.text)
		}
	})
	t.Run("C14: also if it changes while they look at the page", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		p := w.browser().open(w.authorizeURL(id, nil))
		h.putClient("/client", map[string]any{"client_name": "Renamed client"})
		w.clock.advance(25 * time.Hour)
		p = p.press("Continue with GitHub", nil)
		if p.status != http.StatusConflict || !strings.Contains(p.text, "Renamed client") ||
			!strings.Contains(p.text, "Look again") {
			t.Fatalf("status %d:\n%s", p.status, p.text)
		}
		if p = p.press("Continue with GitHub", nil); !strings.HasPrefix(p.url.String(), w.app.DevIDP.URL()) {
			t.Errorf("control: with the question asked anew it ends at %s", p.url.Path)
		}
	})
	t.Run("C14: but not for what the page does not show", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		p := w.browser().open(w.authorizeURL(id, nil))
		h.putClient("/client", map[string]any{"logo_uri": "https://client.example/logo.png"})
		w.restart() // as if on another instance, whose copy is newer
		if p = p.press("Continue with GitHub", nil); !strings.HasPrefix(p.url.String(), w.app.DevIDP.URL()) {
			t.Errorf("it ends at %s with status %d", p.url.Path, p.status)
		}
	})

	t.Run("C15, C16, C17: what the page says", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", map[string]any{"logo_uri": h.url + "/logo.png", "client_uri": "javascript:alert(1)",
			"redirect_uris": []string{callbackURI, "https://client.example/cb"}})
		publisher := strings.TrimPrefix(h.url, "https://")
		p := w.browser().open(w.authorizeURL(id, nil))
		for _, want := range []string{publisher, "an application on this computer",
			"Any program on this computer could be asking"} {
			if !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(p.text, ". ", ".")), " "), want) {
				t.Errorf("the page does not say %q:\n%s", want, p.text)
			}
		}
		p = w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", "https://client.example/cb") }))
		if strings.Contains(p.text, "Any program on this computer") {
			t.Errorf("control: the page of a client that is elsewhere warns of this computer:\n%s", p.text)
		}
		body := string(w.call(http.MethodGet, strings.TrimPrefix(w.authorizeURL(id, nil), w.base), nil, "").body)
		if strings.Contains(body, "logo.png") || strings.Contains(body, "javascript:") || h.requests("/logo.png") != 0 {
			t.Error("the page shows what the document points to")
		}
	})
	t.Run("C18: a host that the operator blocked is not even asked", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", map[string]any{"redirect_uris": []string{"https://client.example/cb"}})
		ask := func() *page {
			return w.browser().open(w.authorizeURL(id, func(q url.Values) {
				q.Set("redirect_uri",
					"https://client.example/cb")
			}))
		}
		w.must("clients", "block", "127.0.0.1")
		assertErrorPage(t, ask(), http.StatusForbidden, "/authorize", "blocked")
		if n := h.requests("/client"); n != 0 {
			t.Errorf("fetched %d times", n)
		}
		w.must("clients", "unblock", "127.0.0.1")
		if p := ask(); p.status != http.StatusOK {
			t.Errorf("control: unblocked, the status is %d", p.status)
		}
	})

	t.Run("C19: without its host a client goes on", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		code := w.code(id)
		h.setDown(true)
		w.restart() // this empties the memory
		tokens := w.redeem(id, code)
		if a := w.refresh(id, tokens.refresh); a.status != http.StatusOK {
			t.Errorf("refreshing: status %d: %s", a.status, a.body)
		}
		// It can also sign in again, with the newest document.
		if again := w.redeem(id, w.code(id)); !w.works(again) {
			t.Error("signed in again, it does not work")
		}
		if n := h.requests("/client"); n != 4 {
			t.Errorf("asked for %d times, want 4: once when it was up, and in vain at each step of the second sign-in", n)
		}
	})
	t.Run("C19: but not as what somebody else wrote into the database", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		w.code(id)
		h.setDown(true)
		w.restart()
		db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_, err = db.Exec(`UPDATE clients SET document =
			CAST(replace(CAST(document AS TEXT), '` + callbackURI + `', 'https://evil.example/cb') AS BLOB)`)
		if err != nil {
			t.Fatal(err)
		}
		p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", "https://evil.example/cb") }))
		assertErrorPage(t, p, http.StatusServiceUnavailable, "/authorize", "could not be verified")
	})
	t.Run("C19: a stranger's client_id at the token endpoint fetches nothing", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		assertJSONError(t, w.refresh(id, "mcp_rt_x"), http.StatusUnauthorized, "invalid_client")
		if n := h.requests("/client"); n != 0 {
			t.Errorf("fetched %d times", n)
		}
	})
	t.Run("one document, many installations: none replaces another", func(t *testing.T) {
		w, h := newDocumentWorld(t)
		id := h.putClient("/client", nil)
		laptop := w.redeem(id, w.code(id))
		desktop := w.redeem(id, w.code(id))
		if !w.works(laptop) || !w.works(desktop) {
			t.Error("one of two installations was signed out")
		}
	})
}
