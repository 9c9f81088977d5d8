package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// atCallback walks a new browser to the point where the provider sends it back, and stops before our callback.
func (w *world) atCallback(clientID string) *page {
	w.t.Helper()
	b := w.browser()
	b.stopAt = "/callback/github"
	p := b.open(w.authorizeURL(clientID, nil)).press("Continue with GitHub", nil).press("Authorize", nil)
	b.stopAt = ""
	return p
}

// TestConsentForm checks that the consent form must come from our own page, in the browser of the user who was asked.
func TestConsentForm(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	good := w.browser().open(w.authorizeURL(id, nil)).forms[0].fields
	good.Set("provider", "github")
	toEvil := strings.ReplaceAll(good.Get("request"), url.QueryEscape(callbackURI),
		url.QueryEscape("https://evil.example/"))
	own := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"}}
	with := func(name, value string) http.Header {
		h := own.Clone()
		h.Del("Sec-Fetch-Site")
		h.Set(name, value)
		return h
	}
	changed := func(name, value string) string {
		form := maps.Clone(good)
		form.Set(name, value)
		return form.Encode()
	}
	for _, test := range []struct {
		name   string
		header http.Header
		body   string
		status int
	}{
		{"control", own, good.Encode(), 303},
		{"control: an old browser", with("Origin", w.base), good.Encode(), 303},
		{"S20: another site", with("Sec-Fetch-Site", "cross-site"), good.Encode(), 403},
		{"S20: another port of the host", with("Sec-Fetch-Site", "same-site"), good.Encode(), 403},
		{"S20: another origin", with("Origin", "https://evil.example"), good.Encode(), 403},
		{"S20: a sandboxed frame", with("Origin", "null"), good.Encode(), 403},
		{"S20: a program", with("Content-Type", own.Get("Content-Type")), good.Encode(), 403},
		{"5 MB", own, good.Encode() + "&x=" + strings.Repeat("x", 5<<20), 413},
		{"wrong media type", http.Header{"Content-Type": {"application/json"}, "Sec-Fetch-Site": {"same-origin"}}, "{}", 400},
		{"not a form", own, "request=%zz", 400},
		{"two requests", own, good.Encode() + "&request=x", 400},
		{"unknown provider", own, changed("provider", "gitlab"), 400},
		{"no provider", own, changed("provider", ""), 400},
		{"request swapped for another address", own, changed("request", toEvil), 400},
		{"no request", own, "provider=github", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := w.call(http.MethodPost, "/authorize", test.header, test.body)
			if a.status != test.status {
				t.Errorf("got status %d, want %d", a.status, test.status)
			}
			sent, cookie := a.header.Get("Location") != "", a.header.Get("Set-Cookie") != ""
			if good := test.status == 303; sent != good || cookie != good {
				t.Errorf("redirect: %t, cookie: %t, want %t", sent, cookie, good)
			}
		})
	}
	t.Run("S5: the cookie's flags", func(t *testing.T) {
		got := w.call(http.MethodPost, "/authorize", own, good.Encode()).header.Get("Set-Cookie")
		for _, want := range []string{"; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=600"} {
			if !strings.Contains(got, want) {
				t.Errorf("the cookie lacks %q", want)
			}
		}
		if strings.Contains(got, "Domain=") {
			t.Error("the cookie names a domain")
		}
	})
}

// TestCallback checks that a callback that is not of this browser's sign-in mints nothing, and that each has its page.
// In each case the same callback, unchanged, signs the user in.
func TestCallback(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	const noFlow, finished, foreign = "This sign-in cannot continue", "already complete", "could not be verified"
	reopen := func(p *page, change func(*url.URL, url.Values)) *page {
		u := *p.url
		q := u.Query()
		change(&u, q)
		u.RawQuery = q.Encode()
		return p.b.open(u.String())
	}
	same := func(*url.URL, url.Values) {}
	jarOf := func(p *page) []*http.Cookie { return p.b.client.Jar.Cookies(p.url) }
	for _, test := range []struct {
		name   string
		attack func(p *page) *page
		text   string // empty if the user is signed in
	}{
		{"control", func(p *page) *page { return reopen(p, same) }, ""},
		{"S6: no cookie", func(p *page) *page { p.b = w.browser(); return reopen(p, same) }, noFlow},
		{"S8: somebody else's browser, with a sign-in of its own", func(p *page) *page {
			p.b = w.atCallback(id).b
			return reopen(p, same)
		}, noFlow},
		{"S6: state of somebody else's sign-in", func(p *page) *page {
			return reopen(p, func(_ *url.URL, q url.Values) { q.Set("state", w.atCallback(id).url.Query().Get("state")) })
		}, noFlow},
		{"S6: cookie of somebody else's sign-in under our name", func(p *page) *page {
			other := w.atCallback(id)
			cookie := *jarOf(p)[0]
			cookie.Value = jarOf(other)[0].Value
			p.b.client.Jar.SetCookies(p.url, []*http.Cookie{&cookie})
			return reopen(p, same)
		}, noFlow},
		{"S6: tampered cookie", func(p *page) *page {
			cookie := *jarOf(p)[0]
			cookie.Value = flipped(cookie.Value)
			p.b.client.Jar.SetCookies(p.url, []*http.Cookie{&cookie})
			return reopen(p, same)
		}, noFlow},
		{"S6: no state", func(p *page) *page {
			return reopen(p, func(_ *url.URL, q url.Values) { q.Del("state") })
		}, noFlow},
		{"S6: after eleven minutes", func(p *page) *page {
			w.clock.advance(11 * time.Minute)
			return reopen(p, same)
		}, noFlow},
		{"control: after nine minutes", func(p *page) *page {
			w.clock.advance(9 * time.Minute)
			return reopen(p, same)
		}, ""},
		{"F8: another provider's path", func(p *page) *page {
			return reopen(p, func(u *url.URL, _ url.Values) { u.Path = "/callback/google" })
		}, noFlow},
		{"F8: answer of another issuer", func(p *page) *page {
			return reopen(p, func(_ *url.URL, q url.Values) { q.Set("iss", "https://issuer.example.com") })
		}, foreign},
		{"no code", func(p *page) *page { return reopen(p, func(_ *url.URL, q url.Values) { q.Del("code") }) }, foreign},
		{"S6: a second time", func(p *page) *page { reopen(p, same); return reopen(p, same) }, noFlow},
		{"S6: a second time, with the cookie put back", func(p *page) *page {
			cookies := jarOf(p)
			reopen(p, same)
			p.b.client.Jar.SetCookies(p.url, cookies)
			return reopen(p, same)
		}, finished},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := w.atCallback(id)
			grants, path := query[int](w, `SELECT count(*) FROM grants`), p.url.Path
			end := test.attack(p)
			minted := query[int](w, `SELECT count(*) FROM grants`) - grants
			if test.text == "" {
				if end.status != 0 || end.url.Query().Get("code") == "" || minted != 1 {
					t.Errorf("got status %d at %s and %d grants, want one", end.status, end.url.Path, minted)
				}
				return
			}
			if strings.HasPrefix(test.name, "F8: another provider's") {
				path = "/callback/google"
			}
			assertErrorPage(t, end, http.StatusBadRequest, path, test.text)
			if strings.Contains(test.name, "second time") {
				minted-- // do not count the first
			}
			if minted != 0 {
				t.Errorf("%d grants were minted, want none", minted)
			}
		})
	}
}

// TestCallbackIssuer checks the iss parameter, which GitHub began to send in 2026. A wrong iss means that the response
// is another server's, and its code must not be shown to anybody (RFC 9207).
func TestCallbackIssuer(t *testing.T) {
	for name, mode := range map[string]devidp.IssMode{"control: right": devidp.IssRight,
		"control: absent": devidp.IssAbsent, "wrong": devidp.IssWrong} {
		t.Run("F8, S17: "+name, func(t *testing.T) {
			good := mode != devidp.IssWrong
			w := newWorld(t, nil)
			w.app.DevIDP.SetIss(mode)
			p := w.browser().open(w.authorizeURL(w.register(callbackURI), nil)).press("Continue with GitHub", nil).
				press("Authorize", nil)
			exchanged := false
			for _, call := range w.app.DevIDP.Calls() {
				exchanged = exchanged || call.Path == "/login/oauth/access_token"
			}
			if exchanged != good || (p.status == 0) != good {
				t.Errorf("signed in: %t, code exchanged: %t, want %t", p.status == 0, exchanged, good)
			}
			own := &url.URL{Scheme: "http", Host: strings.TrimPrefix(w.base, "http://")}
			if n := len(p.b.client.Jar.Cookies(own)); n != 0 {
				t.Errorf("%d cookies are left, want none", n)
			}
		})
	}
}

// TestAnswerToClient checks that the client gets its state back, unchanged (mcp-trino#155), and our issuer, whatever
// the user decides. A client that is not told of a refusal waits forever.
func TestAnswerToClient(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI + "?tenant=1")
	for _, state := range []string{"", "xyz", `a+b/c= &?#%"'<>\~`, strings.Repeat("x", 1024)} {
		request := w.authorizeURL(id, func(q url.Values) {
			q.Set("state", state)
			q.Set("redirect_uri", callbackURI+"?tenant=1")
		})
		for _, end := range []struct {
			name, param, value string
			page               func() *page
		}{
			{"allowed", "code", "", func() *page {
				return w.browser().open(request).press("Continue with GitHub", nil).press("Authorize", nil)
			}},
			{"cancelled", "error", "access_denied", func() *page { return w.browser().open(request).press("Cancel", nil) }},
			{"F5: denied at the provider", "error", "access_denied", func() *page {
				return w.browser().open(request).press("Continue with GitHub", nil).press("Deny", nil)
			}},
		} {
			t.Run("AZ9, AZ10, "+end.name+" with a state of "+strconv.Itoa(len(state)), func(t *testing.T) {
				p := end.page()
				got := p.url.Query()
				if p.status != 0 || len(got[end.param]) != 1 || end.value != "" && got.Get(end.param) != end.value {
					t.Errorf("got status %d at %s, want one %s=%s", p.status, p.url.Path, end.param, end.value)
				}
				if got.Get("state") != state || len(got["state"]) > 1 || got.Get("tenant") != "1" {
					t.Errorf("state %q came back as %q, with tenant %q", state, got["state"], got.Get("tenant"))
				}
				if iss := got["iss"]; len(iss) != 1 || iss[0] != w.base {
					t.Errorf("iss: got %q, want %s once", iss, w.base)
				}
			})
		}
	}
}

// TestUseAnotherAccount checks that a user can change accounts (google_workspace_mcp#693). A provider that knows the
// browser signs it in without a question.
func TestUseAnotherAccount(t *testing.T) {
	w := newWorld(t, nil)
	id, b := w.register(callbackURI), w.browser()
	b.signIn(w.authorizeURL(id, nil))
	if p := b.open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil); p.status != 0 {
		t.Fatalf("control: asked again:\n%s", p.text)
	}
	for _, provider := range []string{"GitHub", "Google"} {
		p := b.open(w.authorizeURL(id, nil)).press("Use another "+provider+" account", nil)
		p = p.press("Authorize", url.Values{"login": {"mallory"}})
		session := w.redeem(id, p.url.Query().Get("code"))
		who := map[string]any{}
		if problem := w.use(session.access, "whoami", nil, &who); problem != "" || who["subject"] != "666" {
			t.Errorf("%s: signed in as %v, want mallory: %s", provider, who["login"], problem)
		}
	}
}

// TestOneFlowTakesOnePlace checks that a provider gets one request at a time for a flow, however often its cookie is
// sent. Otherwise one consent would be enough to fill all the places that sign-ins have.
func TestOneFlowTakesOnePlace(t *testing.T) {
	w := newWorld(t, nil)
	p := w.atCallback(w.register(callbackURI))
	var second *page
	w.app.DevIDP.FailNext(tokenPath, 1, devidp.Fault{Status: http.StatusBadGateway, Then: func() {
		second = p.b.open(p.url.String()) // while the first request is running
	}})
	if first := p.b.open(p.url.String()); first.status != http.StatusServiceUnavailable {
		t.Errorf("first: got status %d, want 503", first.status)
	}
	if second == nil || second.status != http.StatusBadRequest || !strings.Contains(second.text, "already complete") {
		t.Errorf("second: got %+v", second)
	}
	asked := 0
	for _, c := range w.app.DevIDP.Calls() {
		if c.Path == tokenPath {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the provider was asked %d times, want once", asked)
	}
}
