package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

const (
	shownURI = "https://claude.example/api/mcp/auth_callback" // shown on the page
	evilURI  = "https://evil.example/steal"                   // in the client's document later
)

// askedByDocument opens the consent page of a client whose document names shownURI. With leaveOut the request does not
// name it, so that the document decides.
func askedByDocument(w *world, h *documentHost, leaveOut bool) (id string, p *page) {
	id = h.putClient("/client", shown)
	p = w.browser().open(w.authorizeURL(id, func(q url.Values) {
		q.Set("redirect_uri", shownURI)
		if leaveOut {
			q.Del("redirect_uri")
		}
	}))
	if p.status != http.StatusOK {
		w.t.Fatalf("the question is not asked: status %d:\n%s", p.status, p.text)
	}
	return id, p
}

// changeDocument publishes another document of the client, and makes the server forget its copy, as if another instance
// handled the next request.
func changeDocument(w *world, h *documentHost, members map[string]any) {
	h.putClient("/client", members)
	w.restart()
}

var (
	toEvil  = map[string]any{"redirect_uris": []string{evilURI}}
	renamed = map[string]any{"redirect_uris": []string{shownURI}, "client_name": "Bank of Example"}
	shown   = map[string]any{"redirect_uris": []string{shownURI}}
	logo    = map[string]any{"redirect_uris": []string{shownURI}, "logo_uri": "https://claude.example/logo.png"}
)

func TestDocumentThatChangesBetweenPageAndAnswer(t *testing.T) {
	for _, tt := range []struct {
		name     string
		leaveOut bool
		change   map[string]any
		press    string
		status   int    // 0 if the browser is redirected
		to       string // the redirect target, or a text of the page
	}{
		{"redirect URI left out, Continue", true, toEvil, "Continue with GitHub", 409, "Look again"},
		{"redirect URI left out, Cancel", true, toEvil, "Cancel", 0, shownURI},
		{"redirect URI given, Continue", false, toEvil, "Continue with GitHub", 400, "not one that the application"},
		{"redirect URI given, Cancel", false, toEvil, "Cancel", 0, shownURI},
		{"name, Continue", true, renamed, "Continue with GitHub", 409, "Bank of Example"},
		{"name, Cancel", true, renamed, "Cancel", 0, shownURI},
		{"control: what the page does not show, Continue", true, logo, "Continue with GitHub", 0, "/login/oauth/authorize"},
		{"control: what the page does not show, Cancel", true, logo, "Cancel", 0, shownURI},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, h := newDocumentWorld(t)
			_, p := askedByDocument(w, h, tt.leaveOut)
			changeDocument(w, h, tt.change)
			p.b.stopAt = "/login/oauth/authorize"
			p = p.press(tt.press, nil)
			switch {
			case p.status != tt.status:
				t.Errorf("got status %d at %s%s, want %d", p.status, p.url.Host, p.url.Path, tt.status)
			case tt.status == 0 && !strings.Contains(p.url.String(), tt.to):
				t.Errorf("the browser was sent to %s%s, want to %s", p.url.Host, p.url.Path, tt.to)
			case tt.status != 0 && !strings.Contains(p.text, tt.to):
				t.Errorf("the page does not say %q:\n%s", tt.to, p.text)
			}
			if own := p.header.Get("Set-Cookie"); tt.status != 0 && own != "" {
				t.Error("a sign-in has begun")
			}
			for _, link := range p.links {
				t.Errorf("the page links to %s", link)
			}
		})
	}
}

func TestDocumentThatChangesBetweenAnswerAndCallback(t *testing.T) {
	for _, leaveOut := range []bool{true, false} {
		name := map[bool]string{true: "redirect URI left out", false: "redirect URI given"}[leaveOut]
		for _, change := range []map[string]any{toEvil, renamed, logo} { // the last change is harmless
			t.Run(name, func(t *testing.T) {
				w, h := newDocumentWorld(t)
				// atProvider walks to the provider's page, and then changes the document.
				atProvider := func() (id string, p *page) {
					h.putClient("/client", shown)
					w.restart()
					id, p = askedByDocument(w, h, leaveOut)
					p = p.press("Continue with GitHub", nil)
					changeDocument(w, h, change)
					return id, p
				}

				id, p := atProvider()
				p = p.press("Authorize", nil)
				if !strings.HasPrefix(p.url.String(), shownURI+"?") || !p.url.Query().Has("code") {
					t.Fatalf("the browser ended at %s%s with status %d, want at the client with a code", p.url.Host, p.url.Path,
						p.status)
				}
				form := codeForm(id, p.url.Query().Get("code"), "redirect_uri", shownURI)
				assertJSONError(t, w.post("/token", form), http.StatusOK, "")

				_, p = atProvider()
				if p = p.press("Deny", nil); !strings.HasPrefix(p.url.String(), shownURI+"?error=access_denied") {
					t.Errorf("after Deny the browser ended at %s%s", p.url.Host, p.url.Path)
				}

				// If the provider fails, the user gets a page with a link.
				_, p = atProvider()
				p.b.stopAt = "/callback/github"
				p = p.press("Authorize", nil)
				p.b.stopAt = ""
				q := p.url.Query()
				q.Del("code")
				p = p.b.open(w.base + "/callback/github?" + q.Encode())
				if len(p.links) != 1 || !strings.HasPrefix(p.links[0], shownURI+"?error=server_error") {
					t.Errorf("the page with status %d links to %q", p.status, p.links)
				}
			})
		}
	}
}

// TestAnswerOfABlockedOrUnknownClient checks that the seal does not help a client that is no longer allowed to sign
// users in. A block of the redirect host counts even if the document no longer names it.
func TestAnswerOfABlockedOrUnknownClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		act    func(w *world, h *documentHost, id string)
		status int // status of the page; 0 if the browser is redirected as before
	}{
		{"control: nothing", func(*world, *documentHost, string) {}, 0},
		{"its client_id is blocked", func(w *world, h *documentHost, id string) { w.must("clients", "block", id) }, 403},
		{"its redirect host is blocked", func(w *world, h *documentHost, id string) {
			w.must("clients", "block", "claude.example")
		}, 403},
		{"the redirect host that the person saw is blocked", func(w *world, h *documentHost, id string) {
			w.must("clients", "block", "claude.example")
			changeDocument(w, h, toEvil)
		}, 403},
		{"its document is gone", func(w *world, h *documentHost, id string) {
			h.handle("/client", http.NotFound)
			w.restart()
		}, 400},
		{"documents are switched off", func(w *world, h *documentHost, id string) {
			w.env["CLIENT_METADATA"] = "off"
			w.restart()
		}, 400},
	} {
		for _, step := range []string{"Cancel", "Continue with GitHub", "Authorize", "Deny"} {
			t.Run(tt.name+", "+step, func(t *testing.T) {
				w, h := newDocumentWorld(t)
				id, p := askedByDocument(w, h, true)
				want := tt.status
				switch {
				case step == "Authorize" || step == "Deny":
					p = p.press("Continue with GitHub", nil)
				case step == "Continue with GitHub":
					p.b.stopAt = "/login/oauth/authorize"
					if strings.Contains(tt.name, "that the person saw") {
						want = http.StatusConflict // the current client is not blocked, but differs from the page
					}
				}
				tt.act(w, h, id)
				p = p.press(step, nil)
				if p.status != want || want != 0 && len(p.links) != 0 {
					t.Errorf("ended at %s%s with status %d and links %q, want %d and none", p.url.Host, p.url.Path, p.status,
						p.links, want)
				}
			})
		}
	}
}

func TestFormThatNoPageOfOursWrote(t *testing.T) {
	newSecret := func() string {
		var b [32]byte
		rand.Read(b[:])
		return hex.EncodeToString(b[:])
	}
	w, h := newWorld(t, map[string]string{"CLIENT_METADATA": "loopback", "SECRET": newSecret()}), newDocumentHost(t)
	otherState := func(p *page) url.Values {
		request := strings.Replace(p.forms[0].fields.Get("request"), "state=xyz", "state=abc", 1)
		return url.Values{"request": {request}}
	}
	for _, tt := range []struct {
		name  string
		forge func(p *page) url.Values
		good  bool
	}{
		{"control", func(*page) url.Values { return nil }, true},
		{"control: another instance, with the secret rotated", func(*page) url.Values {
			w.env["SECRET"] = newSecret() + "," + w.env["SECRET"]
			w.restart()
			return nil
		}, true},
		{"stale: a secret that is gone", func(*page) url.Values {
			w.env["SECRET"] = newSecret()
			w.restart()
			return nil
		}, false},
		{"no seal", func(*page) url.Values { return url.Values{"seal": nil} }, false},
		{"changed seal", func(p *page) url.Values {
			return url.Values{"seal": {flipped(p.forms[0].fields.Get("seal"))}}
		}, false},
		{"another redirect URI", func(*page) url.Values { return url.Values{"redirect_uri": {evilURI}} }, false},
		{"another name", func(*page) url.Values { return url.Values{"name": {"Bank of Example"}} }, false},
		{"more scopes", func(*page) url.Values { return url.Values{"scopes": {"account:read issues:write"}} }, false},
		{"another request", otherState, false},
	} {
		for _, press := range []string{"Cancel", "Continue with GitHub"} {
			t.Run(tt.name+", "+press, func(t *testing.T) {
				_, p := askedByDocument(w, h, true)
				p.b.stopAt = "/login/oauth/authorize"
				p = p.press(press, tt.forge(p))
				if tt.good {
					if p.status != 0 {
						t.Errorf("got status %d, want a redirect:\n%s", p.status, p.text)
					}
					return
				}
				if p.status != http.StatusConflict || !strings.Contains(p.text, "Look again") {
					t.Fatalf("got status %d at %s%s, want the question again", p.status, p.url.Host, p.url.Path)
				}
				if again := p.press(press, nil); again.status != 0 {
					t.Errorf("asked again, and answered: got status %d, want a redirect", again.status)
				}
			})
		}
	}
}

func TestHandOverNamesTheClientAsThePageDid(t *testing.T) {
	w, h := newDocumentWorld(t)
	id := h.putClient("/client", map[string]any{"redirect_uris": cursorURIs[:1]})
	p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Del("redirect_uri") }))
	p = p.press("Continue with GitHub", nil)
	changeDocument(w, h, map[string]any{"redirect_uris": cursorURIs[1:2], "client_name": "Bank of Example"})
	p = p.press("Authorize", nil)
	if !strings.Contains(p.text, "Return to Document client") || strings.Contains(p.text, "Bank") {
		t.Errorf("the page with status %d says:\n%s", p.status, p.text)
	}
	if to := p.opens(t, true); !strings.HasPrefix(to, cursorURIs[0]+"?") {
		t.Error("the application is not opened by the redirect URI that the page named")
	}
}

// TestOperatorChangesAClientWhileThePersonAnswers checks the other ways to register a client. A restart can change a
// client in CLIENTS; a client's own registration cannot change.
func TestOperatorChangesAClientWhileThePersonAnswers(t *testing.T) {
	entry := func(name, uri string) string {
		return `[{"client_id":"notebook","client_name":"` + name + `","redirect_uris":["` + uri + `"]}]`
	}
	for _, tt := range []struct {
		name, changed string
		again         bool // the consent page is shown again
	}{
		{"redirect URI", entry("Notebook", evilURI), true},
		{"name", entry("Bank of Example", shownURI), true},
		{"control: nothing", entry("Notebook", shownURI), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			registered := w.register(shownURI)
			w.env["CLIENTS"] = filepath.Join(t.TempDir(), "clients.json")
			restart := func(clients string) {
				writeFile(t, w.env["CLIENTS"], clients, 0o600)
				w.restart()
			}
			ask := func(id string) *page {
				return w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Del("redirect_uri") }))
			}
			restart(entry("Notebook", shownURI))
			continued, cancelled, unchanged := ask("notebook"), ask("notebook"), ask(registered)
			atProvider := ask("notebook").press("Continue with GitHub", nil)
			restart(tt.changed)

			continued.b.stopAt, unchanged.b.stopAt = "/login/oauth/authorize", "/login/oauth/authorize"
			if p := continued.press("Continue with GitHub", nil); (p.status == http.StatusConflict) != tt.again {
				t.Errorf("Continue: got status %d, want the question again: %t", p.status, tt.again)
			}
			for step, p := range map[string]*page{"Cancel": cancelled, "Authorize": atProvider} {
				if p = p.press(step, nil); !strings.HasPrefix(p.url.String(), shownURI+"?") {
					t.Errorf("%s: the browser ended at %s%s with status %d, want at the client", step, p.url.Host, p.url.Path,
						p.status)
				}
			}
			if p := unchanged.press("Continue with GitHub", nil); p.status != 0 {
				t.Errorf("control: a client that registered itself: got status %d", p.status)
			}
		})
	}
}
