package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestProtocolPageHeaders requests every page, including those that refuse.
func TestProtocolPageHeaders(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	query := func(change func(url.Values)) string { return strings.TrimPrefix(w.authorizeURL(id, change), w.base) }
	own := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"}}
	foreign := http.Header{"Content-Type": own["Content-Type"], "Sec-Fetch-Site": {"cross-site"}}
	atCallback := w.atCallback(id)
	cookie := http.Header{"Cookie": {atCallback.b.client.Jar.Cookies(atCallback.url)[0].String()}}
	for _, page := range []struct {
		name, method, path string
		header             http.Header
		body               string
		status             int
	}{
		{"landing", "GET", "/", nil, "", 200},
		{"landing on /mcp", "GET", "/mcp", http.Header{"Accept": {"text/html"}}, "", 200},
		{"consent", "GET", query(nil), nil, "", 200},
		{"bad request", "GET", query(func(q url.Values) { q.Set("response_type", "token") }), nil, "", 400},
		{"unknown client", "GET", query(func(q url.Values) { q.Set("client_id", "x") }), nil, "", 400},
		{"foreign redirect URI", "GET", query(func(q url.Values) { q.Set("redirect_uri", "https://evil.example") }), nil, "",
			400},
		{"answer from another site", "POST", "/authorize", foreign, "", 403},
		{"answer that is too large", "POST", "/authorize", own, strings.Repeat("x", 1<<20), 413},
		{"answer to nothing", "POST", "/authorize", own, "", 400},
		{"callback of nobody", "GET", "/callback/github?state=x&code=x", nil, "", 400},
		{"callback of an unknown provider", "GET", "/callback/x?state=x&code=x", nil, "", 400},
		{"no such address", "GET", "/authorise", http.Header{"Accept": {"text/html"}}, "", 404},
		{"address for programs", "GET", "/token", http.Header{"Accept": {"text/html"}}, "", 405},
		{"callback with an error", "GET", atCallback.url.RequestURI() + "&error=redirect_uri_mismatch", cookie, "", 500},
	} {
		t.Run("S3, S4, S21 overruled: "+page.name, func(t *testing.T) {
			a := w.call(page.method, page.path, page.header, page.body)
			if got := a.header.Get("Content-Type"); a.status != page.status || got != "text/html; charset=utf-8" {
				t.Fatalf("got %d %s, want %d and a page", a.status, got, page.status)
			}
			policy := strings.Split(a.header.Get("Content-Security-Policy"), "; ")
			for _, want := range []string{"frame-ancestors 'none'", "default-src 'none'", "base-uri 'none'"} {
				if !slices.Contains(policy, want) {
					t.Errorf("S3: policy %q lacks %s", policy, want)
				}
			}
			for _, directive := range policy {
				if name, _, _ := strings.Cut(directive, " "); name == "form-action" || name == "script-src" {
					t.Errorf("S4: the policy has a %s", name) // form-action would govern the redirects after the form
				}
			}
			// S21 overruled: no-referrer would make the Origin of our own form null.
			for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store",
				"Referrer-Policy": "same-origin"} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s: got %q, want %s", name, got, want)
				}
			}
		})
	}
}

func TestProtocolConsentPage(t *testing.T) {
	w := newWorld(t, nil)
	reg := w.registration(map[string]any{"client_name": "Notebook", "redirect_uris": []string{callbackURI}})
	p := w.browser().open(w.authorizeURL(reg.str("client_id"), func(q url.Values) { q.Set("scope", "repos:read") }))
	t.Run("S2: says who asks, for what, and where it leads", func(t *testing.T) {
		for _, want := range []string{"Notebook wants to connect", callbackURI, "List your public repositories",
			"Continue with GitHub"} {
			if !strings.Contains(p.text, want) {
				t.Errorf("the page lacks %q:\n%s", want, p.text)
			}
		}
		if strings.Contains(p.text, "See who you are") {
			t.Error("the page names a scope that was not asked for")
		}
	})
	t.Run("S2 overruled: the form has no token; who sent it is for the browser to say", func(t *testing.T) {
		form := p.forms[0].fields
		fields := slices.Sorted(maps.Keys(form)) // the question and its seal
		if want := []string{"name", "redirect_uri", "request", "scopes", "seal"}; !slices.Equal(fields, want) {
			t.Fatalf("got the fields %q, want %q", fields, want)
		}
		form.Set("provider", "github")
		for site, want := range map[string]int{"same-origin": 303, "same-site": 403, "cross-site": 403, "none": 403,
			"": 403} {
			header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			if site != "" {
				header.Set("Sec-Fetch-Site", site)
			}
			a := w.call(http.MethodPost, "/authorize", header, form.Encode())
			if a.status != want {
				t.Errorf("Sec-Fetch-Site %q: got status %d, want %d", site, a.status, want)
			}
			if cookie := a.header.Get("Set-Cookie") != ""; cookie != (want == 303) {
				t.Errorf("S7: Sec-Fetch-Site %q: a cookie was set: %t", site, cookie)
			}
		}
	})
	t.Run("S6, S7: the question sets no cookie", func(t *testing.T) {
		if got := p.header.Values("Set-Cookie"); len(got) != 0 {
			t.Errorf("got %d cookies, want none", len(got))
		}
	})
	for name, attack := range map[string]string{"script": `<script>alert(1)</script>`,
		"attribute": `"><img src=x onerror=alert(1)>`, "template": `{{.Request}}`,
		"closing tag": `</bdi></h1><form action=https://evil.example>`} {
		t.Run("S12: "+name+" in a name, a state and a redirect URI", func(t *testing.T) {
			uri := "https://client.example/?x=" + url.QueryEscape(attack)
			reg := w.registration(map[string]any{"client_name": attack, "redirect_uris": []string{uri}})
			request := w.authorizeURL(reg.str("client_id"), func(q url.Values) {
				q.Set("redirect_uri", uri)
				q.Set("state", attack)
			})
			for _, address := range []string{request, request + "&resource=https://evil.example"} { // both pages
				a := w.call(http.MethodGet, strings.TrimPrefix(address, w.base), nil, "")
				for _, tag := range []string{"<script", "<img src=x", "<form action=https"} {
					if strings.Contains(string(a.body), tag) {
						t.Errorf("the page with %d holds %s", a.status, tag)
					}
				}
			}
			if p := w.browser().open(request); !strings.Contains(p.text, attack) { // the text is there, as text
				t.Errorf("the page does not show the name:\n%s", p.text)
			}
		})
	}
}

// TestProtocolScopeHygiene checks that no scope means everything, and that the log says what each grant can do.
func TestProtocolScopeHygiene(t *testing.T) {
	w := newWorld(t, nil)
	document := w.call(http.MethodGet, "/.well-known/oauth-authorization-server", nil, "")
	t.Run("S19: no scope for everything", func(t *testing.T) {
		scopes := document.json["scopes_supported"].([]any)
		for _, s := range scopes {
			if slices.Contains([]any{"*", "all", "full", "full-access", "admin"}, s) {
				t.Errorf("scope %q", s)
			}
		}
		if len(scopes) == 0 {
			t.Error("control: no scopes at all")
		}
	})
	t.Run("S19: the log tells who allowed what, and where it began", func(t *testing.T) {
		id := w.register(callbackURI)
		w.redeem(id, w.browser().signIn(w.authorizeURL(id, func(q url.Values) { q.Set("scope", "repos:read") })).Get("code"))
		log := w.logs.String()
		in := regexp.MustCompile(`msg="signed in" .*subject=583231 grant=(\w+) scopes=\[repos:read\] ref=(\w+)`).
			FindStringSubmatch(log)
		if in == nil {
			t.Fatal("the log has no line that names person, grant, scopes and reference")
		}
		for _, want := range []string{`msg="asking for consent"`, `msg="consent given"`} {
			if !regexp.MustCompile(want + `.* ref=` + in[2]).MatchString(log) {
				t.Errorf("the log has no %s with the same reference", want)
			}
		}
		if !strings.Contains(log, `msg="code redeemed" grant=`+in[1]) {
			t.Error("the log does not say that the code of this grant was redeemed")
		}
	})
}
