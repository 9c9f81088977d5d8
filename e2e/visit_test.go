package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestVisitAndSignInStayApart checks that a sign-in to /connections leads only to a session, and a client's sign-in
// only to a grant, whatever is done to their responses and cookies.
func TestVisitAndSignInStayApart(t *testing.T) {
	const noFlow = "This sign-in cannot continue"
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	atCallback := func() *page { // of a visit
		b := w.browser()
		b.stopAt = "/callback/github"
		p := b.open(w.base+"/connections").press("Continue with GitHub", nil).press("Authorize", nil)
		b.stopAt = ""
		return p
	}
	again := func(p *page) *page { return p.b.open(p.url.String()) }
	cookies := func(p *page) []*http.Cookie { return p.b.client.Jar.Cookies(p.url) }
	// swapped puts the cookie of one flow under the name of another.
	swapped := func(to, from *page) *page {
		cookie := *cookies(to)[0]
		cookie.Value = cookies(from)[0].Value
		to.b.client.Jar.SetCookies(to.url, []*http.Cookie{&cookie})
		return again(to)
	}
	type outcome struct {
		Text            string // text of an error page
		Grants          int    // minted
		Session, Client bool   // signed in to /connections, sent to the client with a code
	}
	for _, tt := range []struct {
		name string
		do   func() *page
		want outcome
	}{
		{"control: a visit", func() *page { return again(atCallback()) }, outcome{Session: true}},
		{"control: a client's sign-in", func() *page { return again(w.atCallback(id)) }, outcome{Grants: 1, Client: true}},
		{"cookie of a visit for a client's sign-in", func() *page { return swapped(w.atCallback(id), atCallback()) },
			outcome{Text: noFlow}},
		{"cookie of a client's sign-in for a visit", func() *page { return swapped(atCallback(), w.atCallback(id)) },
			outcome{Text: noFlow}},
		{"flow cookie as the session", func() *page {
			p := atCallback()
			cookie := *cookies(p)[0]
			cookie.Name = "session_" + p.url.Port()
			p.b.client.Jar.SetCookies(p.url, []*http.Cookie{&cookie})
			return p.b.open(w.base + "/connections")
		}, outcome{}},
		{"the provider's code of a visit in a client's answer", func() *page {
			visit, p := atCallback(), w.atCallback(id)
			q := p.url.Query()
			q.Set("code", visit.url.Query().Get("code"))
			p.url.RawQuery = q.Encode()
			return again(p)
		}, outcome{Text: "This sign-in has expired"}},
		{"a visit without its cookie", func() *page { p := atCallback(); p.b = w.browser(); return again(p) },
			outcome{Text: noFlow}},
		{"a visit a second time", func() *page {
			p := atCallback()
			again(p)
			w.clock.advance(16 * time.Minute) // the first session has expired
			return again(p)
		}, outcome{Text: noFlow}},
		{"a visit a second time, with its cookie in another browser", func() *page {
			p := atCallback()
			kept := cookies(p)
			again(p)
			p.b = w.browser()
			p.b.client.Jar.SetCookies(p.url, kept)
			return again(p)
		}, outcome{Text: "This sign-in has expired"}},
		{"a visit that the person cancels", func() *page {
			return w.browser().open(w.base+"/connections").press("Continue with GitHub", nil).press("Deny", nil)
		}, outcome{Text: "Not allowed at GitHub"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := w.grants()
			p := tt.do()
			got := outcome{Grants: w.grants() - before, Client: p.status == 0 && p.url.Query().Has("code")}
			if p.status >= 400 {
				assertErrorPage(t, p, p.status, "/callback/github", tt.want.Text)
				got.Text = tt.want.Text
			}
			got.Session = !strings.Contains(p.b.open(w.base+"/connections").text, signedOut)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s\nat %s:\n%s", diff, p.url.Path, p.text)
			}
		})
	}
}

func TestSessionEnds(t *testing.T) {
	w := newWorld(t, nil)
	jar := func(b *browser) *http.Cookie {
		u, err := url.Parse(w.base)
		if err != nil {
			t.Fatal(err)
		}
		cookies := b.client.Jar.Cookies(u)
		if len(cookies) != 1 {
			t.Fatalf("got %d cookies, want the session's", len(cookies))
		}
		return cookies[0]
	}
	for _, tt := range []struct {
		name string
		do   func(*browser)
		want bool // still signed in
	}{
		{"after fourteen minutes", func(*browser) { w.clock.advance(14 * time.Minute) }, true},
		{"after sixteen minutes", func(*browser) { w.clock.advance(16 * time.Minute) }, false},
		{"the server restarted", func(*browser) { w.restart() }, true},
		{"SECRET rotated, the old one kept", func(*browser) { w.rotateSecret() }, true},
		{"SECRET rotated, the old one dropped", func(*browser) {
			w.rotateSecret()
			w.env["SECRET"], _, _ = strings.Cut(w.env["SECRET"], ",")
			w.restart()
		}, false},
		{"changed cookie", func(b *browser) {
			c := jar(b)
			c.Value = flipped(c.Value)
			b.client.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(w.base, "http://")}, []*http.Cookie{c})
		}, false},
	} {
		b := w.browser()
		b.visit("GitHub", "octocat")
		tt.do(b)
		p := b.open(w.base + "/connections")
		if got := strings.Contains(p.text, noConnection); got != tt.want || got == strings.Contains(p.text, signedOut) {
			t.Errorf("%s: signed in: %t, want %t:\n%s", tt.name, got, tt.want, p.text)
		}
		if tt.want {
			continue
		}
		header := http.Header{"Sec-Fetch-Site": {"same-origin"}}
		if p := b.post("/connections/disconnect-all", header, nil); !strings.Contains(p.text, signedOut) {
			t.Errorf("%s: the button works: %s", tt.name, p.text)
		}
	}
}

func TestRefusedVisitor(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github:octocat"})
	b := w.browser()
	p := b.open(w.base+"/connections").press("Continue with GitHub", nil)
	p = p.press("Authorize", url.Values{"login": {"mallory"}})
	assertErrorPage(t, p, http.StatusForbidden, "/callback/github", "This account does not have access")
	if deleted := w.calls(http.MethodDelete, "/token"); p.links[0] != w.base+"/connections" || deleted != 1 {
		t.Errorf("got links %q, and %d tokens deleted; want the way back, and 1", p.links, deleted)
	}
	p = b.open(p.links[0]).press("Use another GitHub account", nil)
	if p = p.press("Authorize", url.Values{"login": {"octocat"}}); !strings.Contains(p.text, "signed in as octocat") {
		t.Errorf("control: the other account:\n%s", p.text)
	}
}

func TestDisconnectEverything(t *testing.T) {
	for _, tt := range []struct {
		name     string
		provider string
		fault    string // path that fails
		answer   url.Values
		button   string
		status   int
		text     string
		ended    bool // our grant
		revoked  bool // at the provider
	}{
		{"GitHub", "GitHub", "", nil, "Authorize", 200, "It has given up your permission at GitHub as well.", true, true},
		{"Google", "Google", "", nil, "Authorize", 200, "It has given up your permission at Google as well.", true, true},
		{"OpenID Connect, which has no way", "Example ID", "", nil, "Authorize", 200,
			"there is no way to withdraw it from here", true, false},
		{"GitHub cannot", "GitHub", "/grant", nil, "Authorize", 200, "withdrawing it did not work", true, false},
		{"GitHub does not say who it is", "GitHub", "/user", nil, "Authorize", 503, "GitHub does not answer", false, false},
		{"with another account", "GitHub", "", url.Values{"login": {"mallory"}}, "Authorize", 403,
			"You signed in with a different account", false, false},
		{"cancelled at the provider", "GitHub", "", nil, "Deny", 403, "Not allowed at GitHub", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			idp := w.app.DevIDP
			if tt.provider == "Example ID" {
				idp = w.standIn()
				w.useOIDC(idp.OIDC())
			}
			mine := []tokens{w.signInWith(tt.provider, "octocat"), w.signInWith(tt.provider, "octocat")}
			other, b := w.signInWith(tt.provider, "mallory"), w.browser()
			p := b.visit(tt.provider, "octocat").press(disconnectAll, nil)
			if !strings.Contains(p.text, "Who do you want to be?") {
				t.Fatalf("the provider does not ask who it is:\n%s", p.text)
			}
			switch tt.fault {
			case "/grant":
				idp.FailNext("/api/v3/applications/"+idp.GitHub().ClientID+"/grant", 1, devidp.Fault{Status: 500})
			case "/user":
				idp.FailNext("/api/v3/user", 1, devidp.Fault{Status: 500})
			}
			p = p.press(tt.button, tt.answer)
			assertErrorPage(t, p, tt.status, p.url.Path, tt.text)
			for _, session := range mine {
				if w.works(session) == tt.ended {
					t.Errorf("a connection works: %t", !tt.ended)
				}
			}
			if !w.works(other) {
				t.Error("mallory's connection has ended, too")
			}
			revocations := 0
			for _, c := range idp.Calls() {
				if strings.HasSuffix(c.Path, "/grant") || c.Path == "/google/revoke" {
					revocations++
				}
			}
			if got := revocations == 1 && tt.fault == ""; got != tt.revoked {
				t.Errorf("revoked at the provider: %t, want %t", got, tt.revoked)
			}
			if tt.ended && !strings.Contains(b.open(p.links[0]).text, noConnection) {
				t.Errorf("%s is not empty", p.links[0])
			}
		})
	}
}

// TestCodeEndsWithEverything checks that "disconnect everything" also ends a code that is on its way to its client.
func TestCodeEndsWithEverything(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	code, b := w.code(id), w.browser()
	b.visit("GitHub", "octocat").press(disconnectAll, nil).press("Authorize", nil)
	assertJSONError(t, w.post("/token", codeForm(id, code)), http.StatusBadRequest, "invalid_grant")
	if w.redeem(id, w.code(id)).access == "" {
		t.Error("control: connecting again does not work")
	}
}
