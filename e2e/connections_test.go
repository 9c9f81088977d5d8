package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/mcpserver"
)

// Texts of the pages.
const (
	signedOut     = "Sign in to see what is connected"
	disconnectAll = "Disconnect everything"
	noConnection  = "No application is connected with this account."
)

// visit signs a user in to /connections, at the provider with that name, and returns the page they arrive at.
func (b *browser) visit(provider, login string) *page {
	b.w.t.Helper()
	p := b.open(b.w.base+"/connections").press("Continue with "+provider, nil)
	if len(p.forms) == 1 { // the provider does not know the browser yet
		p = p.press("Authorize", url.Values{"login": {login}})
	}
	if p.status != http.StatusOK || p.url.String() != b.w.base+"/connections" {
		b.w.t.Fatalf("the visit ended at %s with status %d:\n%s", p.url.Path, p.status, p.text)
	}
	return p
}

// connect signs octocat in with a new client of that name.
func (w *world) connect(name string, redirectURIs ...string) tokens {
	w.t.Helper()
	id := w.registration(map[string]any{"client_name": name, "redirect_uris": append(redirectURIs, callbackURI)}).
		str("client_id")
	return w.redeem(id, w.browser().signIn(w.authorizeURL(id, nil)).Get("code"))
}

func (w *world) works(t tokens) bool { return w.tool(t.access, "whoami").status == http.StatusOK }

func (w *world) grants() int { return query[int](w, `SELECT count(*) FROM grants`) }

// calls counts the requests to the development provider by method and the end of the path.
func (w *world) calls(method, pathEnd string) (n int) {
	for _, c := range w.app.DevIDP.Calls() {
		if c.Method == method && strings.HasSuffix(c.Path, pathEnd) {
			n++
		}
	}
	return n
}

func TestConnections(t *testing.T) {
	w := newWorld(t, map[string]string{"ACCESS_TOKEN_TTL": "24h"})
	if p := w.browser().open(w.base + "/"); !strings.Contains(strings.Join(p.links, " "), "/connections") {
		t.Error("the landing page does not lead there")
	}
	first := w.connect("First client", "https://client.example/callback", "cursor://callback")
	w.clock.advance(22 * time.Hour)
	second, other := w.connect("Second\u202e client"), w.signInWith("GitHub", "mallory")
	w.clock.advance(time.Hour)
	second.access = w.refresh(second.clientID, second.refresh).str("access_token")
	w.code(w.register(callbackURI)) // a sign-in whose code is never redeemed

	before, b := w.stored().rows, w.browser()
	p := b.visit("GitHub", "octocat")
	day := func(ago time.Duration) string { return w.clock.now().UTC().Add(-ago).Format("2 January 2006") }
	minute := func(ago time.Duration) string {
		return w.clock.now().UTC().Add(-ago).Format("2 January 2006, 15:04 UTC")
	}
	var words string
	for _, sc := range mcpserver.Scopes {
		if sc.AtSignIn && (sc.Provider == "" || sc.Provider == "github") {
			words += sc.Sentence + " "
		}
	}
	for _, want := range []string{"signed in as octocat with GitHub", "not verified",
		"Test client " + words + "Sends you to your own computer Connected " + day(0) + " Last renewed not yet",
		"Second client " + words + "Sends you to your own computer Connected " + day(time.Hour) + " Last renewed " +
			minute(0),
		"First client " + words + "Sends you to client. example , your own computer Connected " + day(23*time.Hour) +
			" Last renewed " + minute(23*time.Hour),
	} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page lacks %q:\n%s", want, p.text)
		}
	}
	if got := strings.Count(p.text, "Last renewed"); got != 3 {
		t.Errorf("got %d connections, want octocat's three:\n%s", got, p.text)
	}
	if diff := cmp.Diff(before, w.stored().rows); diff != "" || w.calls(http.MethodDelete, "/token") != 1 {
		t.Errorf("looking wrote rows (-before +after):\n%s\nor kept the token at the provider", diff)
	}

	p = p.press("Disconnect", nil).press("Disconnect", nil) // the newest two
	if !strings.Contains(p.text, "First client") || strings.Contains(p.text, "Second client") || w.grants() != 2 {
		t.Errorf("after disconnecting two, %d grants are left:\n%s", w.grants(), p.text)
	}
	if w.works(second) || !w.works(first) || !w.works(other) {
		t.Errorf("works: disconnected %t, own other %t, mallory's %t; want only the last two", w.works(second),
			w.works(first), w.works(other))
	}
	assertJSONError(t, w.refresh(second.clientID, second.refresh), http.StatusBadRequest, "invalid_grant")
	if got := w.repositories(first.access); !strings.HasPrefix(got, "octocat/") {
		t.Errorf("the provider's token of the other client: %s", got)
	}
	if p = p.press("Sign out", nil); !strings.Contains(p.text, signedOut) || !strings.Contains(
		b.open(w.base+"/connections").text, signedOut) {
		t.Errorf("after signing out:\n%s", p.text)
	}
}

// TestConnectionsForms checks that only our own page can press its buttons, and only those of the signed-in user.
func TestConnectionsForms(t *testing.T) {
	w := newWorld(t, nil)
	for _, path := range []string{"sign-in", "disconnect", "disconnect-all", "sign-out"} {
		for _, from := range []struct {
			name   string
			header http.Header
			own    bool
		}{
			{"control", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true},
			{"control: an old browser", http.Header{"Origin": {w.base}}, true},
			{"another site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
			{"another port of the host", http.Header{"Sec-Fetch-Site": {"same-site"}}, false},
			{"another origin", http.Header{"Origin": {"https://evil.example"}}, false},
			{"a sandboxed frame", http.Header{"Origin": {"null"}}, false},
			{"a program, which http.CrossOriginProtection would let pass", http.Header{}, false},
		} {
			t.Run(path+"/S20: "+from.name, func(t *testing.T) {
				w.clock.advance(time.Second) // the newest connection is the first
				session, b := w.signIn(), w.browser()
				form := url.Values{"provider": {"github"}}
				form.Set("grant", b.visit("GitHub", "octocat").grantID())
				p := b.post("/connections/"+path, from.header, form)
				if from.own == (p.status == http.StatusForbidden) {
					t.Errorf("got status %d", p.status)
				}
				if ended := !w.works(session); ended != (from.own && path == "disconnect") {
					t.Errorf("the connection has ended: %t", ended)
				}
				out := strings.Contains(b.open(w.base+"/connections").text, signedOut)
				if out != (from.own && path == "sign-out") {
					t.Errorf("the person has been signed out: %t", out)
				}
			})
		}
	}

	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	session := w.signInWith("GitHub", "mallory")
	mallory := w.browser()
	form := url.Values{"grant": {mallory.visit("GitHub", "mallory").grantID()}}
	for _, tt := range []struct {
		name string
		b    func() *browser
		form url.Values
	}{
		{"somebody else's connection", func() *browser { b := w.browser(); b.visit("GitHub", "octocat"); return b }, form},
		{"the same person at another provider", func() *browser { b := w.browser(); b.visit("Google", "mallory"); return b },
			form},
		{"nobody signed in", w.browser, form},
		{"no connection named", func() *browser { return mallory }, url.Values{}},
		{"a connection that is none", func() *browser { return mallory }, url.Values{"grant": {"xyz"}}},
	} {
		before := w.grants()
		if p := tt.b().post("/connections/disconnect", own, tt.form); p.status != http.StatusOK ||
			p.url.Path != "/connections" || w.grants() != before || !w.works(session) {
			t.Errorf("%s: got status %d at %s and %d grants, want %d", tt.name, p.status, p.url.Path, w.grants(), before)
		}
	}
	if mallory.post("/connections/disconnect", own, form); w.works(session) {
		t.Error("control: mallory cannot disconnect their own")
	}
}

// grantID returns the grant of the page's first Disconnect button.
func (p *page) grantID() string {
	p.b.w.t.Helper()
	for _, f := range p.forms {
		if f.fields.Has("grant") {
			return f.fields.Get("grant")
		}
	}
	p.b.w.t.Fatalf("nothing to disconnect:\n%s", p.text)
	return ""
}

// post sends a form with these headers, and the browser's cookies.
func (b *browser) post(path string, header http.Header, form url.Values) *page {
	b.w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

func TestConnectionsWithoutStore(t *testing.T) {
	w := newWorld(t, nil)
	b := w.browser()
	b.visit("GitHub", "octocat")
	w.app.Store.Close()
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	for path, p := range map[string]*page{
		"/connections":            b.open(w.base + "/connections"),
		"/connections/disconnect": b.post("/connections/disconnect", own, url.Values{"grant": {"x"}}),
		"/callback/github":        b.post("/connections/disconnect-all", own, nil).press("Authorize", nil),
	} {
		assertErrorPage(t, p, http.StatusServiceUnavailable, path, "This server cannot answer right now")
	}
}
