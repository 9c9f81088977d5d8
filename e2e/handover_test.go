package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The registrations of Cursor and VS Code, verbatim. Refusing one URI loses the client (agent-connector-for-wp#111).
var (
	cursorURIs = []string{"cursor://anysphere.cursor-mcp/oauth/callback",
		"https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"}
	vscodeURIs = []string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/",
		"http://127.0.0.1:33418/"}
)

// TestHandOver checks that everything real clients register can be used, and that an application is opened by a page,
// not by a redirect.
func TestHandOver(t *testing.T) {
	w := newWorld(t, nil)
	for name, uris := range map[string][]string{"Cursor": cursorURIs, "VS Code": vscodeURIs} {
		id := w.register(uris...)
		for _, uri := range uris {
			t.Run(name+" "+uri, func(t *testing.T) {
				const state = "abc+/=&;'\"<>"
				private := strings.HasPrefix(uri, "cursor:")
				ask := w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", uri); q.Set("state", state) })
				answered := func(p *page, byItself bool) url.Values { // the query that the client gets
					t.Helper()
					to := p.url.String()
					if private {
						to = p.opens(t, byItself)
					}
					if p.status != map[bool]int{true: http.StatusOK, false: 0}[private] {
						t.Fatalf("got status %d, want a page for a private scheme, else a redirect", p.status)
					}
					sent, err := url.Parse(to)
					if err != nil || !strings.HasPrefix(to, uri+"?") {
						t.Fatalf("the browser is sent to another place than %s (%v)", uri, err)
					}
					if q := sent.Query(); q.Get("state") != state || q.Get("iss") != w.base {
						t.Errorf("got state %q and iss %q, want %q and %q", q.Get("state"), q.Get("iss"), state, w.base)
					}
					return sent.Query()
				}

				p := w.browser().open(ask)
				const place = "an application on this computer ( cursor://anysphere.cursor-mcp )"
				if strings.Contains(p.text, place) != private {
					t.Errorf("the consent page says that it leads to %s: %t, want %t", place, !private, private)
				}
				if got := answered(p.press("Cancel", nil), false); got.Get("error") != "access_denied" || got.Has("code") {
					t.Errorf("after Cancel the client got %q, want access_denied", got.Get("error"))
				}
				p = w.browser().open(ask).press("Continue with GitHub", nil)
				if got := answered(p.press("Deny", nil), false); got.Get("error") != "access_denied" || got.Has("code") {
					t.Errorf("after Deny the client got %q, want access_denied", got.Get("error"))
				}

				p = w.browser().open(ask).press("Continue with GitHub", nil).press("Authorize", nil)
				form := codeForm(id, answered(p, true).Get("code"), "redirect_uri", uri)
				assertJSONError(t, w.post("/token", form), http.StatusOK, "")

				p = w.browser().open(ask + "&scope=a&scope=b")
				assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
				if len(p.links) != 1 || !strings.HasPrefix(p.links[0], uri+"?error=invalid_request") {
					t.Errorf("the way back from an error leads to %q", p.links)
				}
			})
		}
	}
}

// opens returns where a hand-over page leads, in each of its ways, and checks that it protects the code as a redirect
// would. It leads there by itself only if the user is signed in: a user who refuses does not want a URL opened that a
// stranger has registered.
func (p *page) opens(t *testing.T, byItself bool) string {
	t.Helper()
	if len(p.links) != 1 || !strings.Contains(p.text, p.links[0]) {
		t.Fatalf("by its link and in letters, the page of status %d leads to different places", p.status)
	}
	to, want := p.links[0], ""
	if byItself {
		want = "0;url=" + to
	}
	if got := p.header.Get("Refresh"); got != want || strings.Contains(p.text, "Your browser opens") != byItself {
		t.Errorf("the page opens the application by itself: %t, want %t", got != "", byItself)
	}
	if cache, referrer := p.header.Get("Cache-Control"), p.header.Get("Referrer-Policy"); cache != "no-store" ||
		referrer != "same-origin" {
		t.Errorf("got Cache-Control %q, Referrer-Policy %q, want no-store, same-origin", cache, referrer)
	}
	return to
}

// TestRedirectSchemes checks that a scheme that is not listed is refused at each use, even if it was registered before.
func TestRedirectSchemes(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(append(cursorURIs, callbackURI)...)
	ask := w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", cursorURIs[0]) })
	old := w.browser().open(ask)
	if old.status != http.StatusOK {
		t.Fatalf("control: got status %d for a listed scheme", old.status)
	}
	w.env["REDIRECT_SCHEMES"] = "vscode"
	w.restart()
	for name, p := range map[string]*page{"asked": w.browser().open(ask),
		"asked before, answered now": old.press("Continue with GitHub", nil)} {
		assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
		if len(p.links) != 0 {
			t.Errorf("%s: the page links to %q, want to nowhere", name, p.links)
		}
	}
	if got := w.browser().signIn(w.authorizeURL(id, nil)); !got.Has("code") {
		t.Error("the client's other redirect URIs are refused as well")
	}
}
