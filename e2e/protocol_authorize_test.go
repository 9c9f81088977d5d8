package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestProtocolAuthorize checks which authorization requests are valid, and when the browser is sent on.
func TestProtocolAuthorize(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	ask := func(change func(url.Values)) answer {
		return w.call(http.MethodGet, strings.TrimPrefix(w.authorizeURL(id, change), w.base), nil, "")
	}
	for name, want := range map[string]int{
		"redirect_uri": 200, "state": 200, "scope": 200, "resource": 200, "prompt": 200, "nonce": 200,
		"client_id": 400, "response_type": 400, "code_challenge": 400, "code_challenge_method": 400,
	} {
		t.Run("AZ1: empty "+name+" is an absent one", func(t *testing.T) {
			empty, absent := ask(func(q url.Values) { q.Set(name, "") }), ask(func(q url.Values) { q.Del(name) })
			if empty.status != want || absent.status != want {
				t.Errorf("got status %d if empty and %d if absent, want %d for both", empty.status, absent.status, want)
			}
		})
	}
	for _, test := range []struct {
		name   string
		change func(url.Values)
		status int
	}{
		{"an invalid scope on purpose", func(q url.Values) { q.Set("scope", "everything") }, 200},
		{"a foreign resource on purpose", func(q url.Values) { q.Set("resource", "https://evil.example") }, 400},
		{"a bad response_type on purpose", func(q url.Values) { q.Set("response_type", "token") }, 400},
		{"prompt=none on purpose", func(q url.Values) { q.Set("prompt", "none") }, 200},
	} {
		t.Run("AZ8, S11: nobody is redirected unasked by "+test.name, func(t *testing.T) {
			a := ask(test.change)
			if a.status != test.status || a.header.Get("Location") != "" || a.header.Get("Refresh") != "" {
				t.Errorf("got %d, Location %q, want a page with %d", a.status, a.header.Get("Location"), test.status)
			}
		})
	}
	t.Run("AZ8, S11: control: the person's own answer redirects", func(t *testing.T) {
		if p := w.browser().open(w.authorizeURL(id, nil)).press("Cancel", nil); p.status != 0 || !p.url.Query().Has("error") {
			t.Errorf("got status %d at %s, want to be sent to the client", p.status, p.url.Path)
		}
	})
	for asked, want := range map[string]string{
		"account:read everything":                  "account:read",
		"account:read account:read offline_access": "account:read",
		"repos:read account:read repos:read":       "account:read repos:read",
		"repos:read":                               "repos:read",
		"REPOS:READ":                               githubScopes, // another name, so the default scopes of a sign-in
		"*":                                        githubScopes,
	} {
		t.Run("AZ14: "+asked, func(t *testing.T) {
			q := w.browser().signIn(w.authorizeURL(id, func(q url.Values) { q.Set("scope", asked) }))
			if got := w.redeem(id, q.Get("code")).scope; got != want {
				t.Errorf("granted %q, want %q", got, want)
			}
		})
	}
}

// TestProtocolRedirects checks the raw responses that send the browser on. A 307 would make it post the form there.
func TestProtocolRedirects(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI + "?tenant=1")
	question := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Del("redirect_uri") })).forms[0].fields
	answered := func(name, value string) answer {
		form := maps.Clone(question)
		form.Set(name, value)
		return w.call(http.MethodPost, "/authorize", http.Header{"Sec-Fetch-Site": {"same-origin"},
			"Content-Type": {"application/x-www-form-urlencoded"}}, form.Encode())
	}
	atCallback := func(name, value string) answer {
		p := w.atCallback(w.register(callbackURI))
		q := p.url.Query()
		q.Set(name, value)
		cookie := p.b.client.Jar.Cookies(p.url)[0]
		return w.call(http.MethodGet, p.url.Path+"?"+q.Encode(), http.Header{"Cookie": {cookie.String()}}, "")
	}
	for _, test := range []struct {
		name string
		a    answer
		to   string
	}{
		{"consent to the provider", answered("provider", "github"), w.app.DevIDP.URL() + "/login/oauth/authorize?"},
		{"cancel to the client, with its own query", answered("decision", "cancel"), callbackURI + "?tenant=1&"},
		{"callback to the client", atCallback("more", "1"), callbackURI + "?"},
		{"denial to the client", atCallback("error", "access_denied"), callbackURI + "?"},
	} {
		t.Run("AZ11, S21: "+test.name, func(t *testing.T) {
			if got := test.a.header.Get("Location"); test.a.status != http.StatusSeeOther || !strings.HasPrefix(got, test.to) {
				got, _, _ = strings.Cut(got, "code=")
				t.Errorf("got %d to %s, want 303 to %s", test.a.status, got, test.to)
			}
			if got := test.a.header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("S21: Cache-Control: got %q, want no-store", got)
			}
		})
	}
	t.Run("S21: the provider is not asked to answer by form", func(t *testing.T) {
		to, err := url.Parse(answered("provider", "github").header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		// A form from another site would come without our cookie, which is Lax.
		if got := to.Query().Get("response_mode"); got != "" && got != "query" {
			t.Errorf("response_mode: got %q, want a query", got)
		}
	})
}
