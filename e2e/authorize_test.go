package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// registration sends a registration and returns the response.
func (w *world) registration(metadata map[string]any) answer {
	w.t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.call(http.MethodPost, "/register", http.Header{"Content-Type": {"application/json"}}, string(body))
}

func TestRegister(t *testing.T) {
	w := newWorld(t, nil)
	const good = `{"redirect_uris":["https://client.example/callback"]}`
	large := `{"redirect_uris":["https://client.example/callback"],"client_name":"` + strings.Repeat("x", 5<<20) + `"}`
	uris := func(uris ...string) string {
		b, _ := json.Marshal(map[string]any{"redirect_uris": uris})
		return string(b)
	}
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		code                    string
	}{
		{"control", "application/json", good, 201, ""},
		{"control: with a charset", "application/json; charset=utf-8", good, 201, ""},
		{"nothing", "application/json", "", 400, "invalid_client_metadata"},
		{"R3: malformed JSON", "application/json", good[:20], 400, "invalid_client_metadata"},
		{"not an object", "application/json", `["https://client.example/callback"]`, 400, "invalid_client_metadata"},
		{"wrong type inside", "application/json", `{"redirect_uris":"https://client.example/cb"}`, 400,
			"invalid_client_metadata"},
		{"form", "application/x-www-form-urlencoded", "redirect_uris=x", 400, "invalid_client_metadata"},
		{"no media type", "", good, 400, "invalid_client_metadata"},
		{"5 MB", "application/json", large, 413, "invalid_request"},
		{"R3: unknown authentication", "application/json", `{"redirect_uris":["https://client.example/callback"],` +
			`"token_endpoint_auth_method":"private_key_jwt"}`, 400, "invalid_client_metadata"},
		{"no redirect URI", "application/json", `{"redirect_uris":[]}`, 400, "invalid_redirect_uri"},
		{"eleven redirect URIs", "application/json", uris(slices.Repeat([]string{"https://client.example/callback"}, 11)...),
			400, "invalid_redirect_uri"},
		{"one of two is bad", "application/json", uris("https://client.example/cb", "http://client.example/cb"), 400,
			"invalid_redirect_uri"},
		{"agent-connector-for-wp#111: Cursor", "application/json", uris("cursor://anysphere.cursor-mcp/oauth/callback",
			"https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"), 201, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{}
			if test.contentType != "" {
				header.Set("Content-Type", test.contentType)
			}
			bodies := []io.Reader{strings.NewReader(test.body), io.MultiReader(strings.NewReader(test.body))}
			for _, body := range bodies { // with and without Content-Length
				a := fetch(t, http.MethodPost, w.base+"/register", header, body)
				assertJSONError(t, a, test.status, test.code)
			}
		})
	}
	// A URI that can be used nowhere is refused, with the reason. Next to a usable one it does no harm.
	for _, uri := range []string{"urn:ietf:wg:oauth:2.0:oob", "x:y", "my-app://callback",
		"cursor://anysphere.cursor-deeplink/mcp/install?name=x&config=e30", "vscode:extension/evil.extension",
		"vscode:mcp/install?%7B%7D", "vscode-insiders://vscode.git/clone?url=https://evil.example/x.git"} {
		t.Run("no callback: "+uri, func(t *testing.T) {
			a := w.registration(map[string]any{"redirect_uris": []string{uri}})
			assertJSONError(t, a, 400, "invalid_redirect_uri")
			for _, want := range []string{"cursor, vscode, vscode-insiders", "vscode://publisher.extension/oauth/callback"} {
				if !strings.Contains(a.str("error_description"), want) {
					t.Errorf("the description does not say %q: %s", want, a.str("error_description"))
				}
			}
			id := w.register(uri, callbackURI)
			p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", uri) }))
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
			if len(p.links) != 0 {
				t.Errorf("the page links to %q, want to nowhere", p.links)
			}
			if p = w.browser().open(w.authorizeURL(id, nil)); p.status != http.StatusOK {
				t.Errorf("control: the other redirect URI leads to status %d", p.status)
			}
		})
	}
	for _, uri := range []string{"", "/callback", "client.example/callback", "//client.example/callback",
		"http://client.example/callback", "http://localhost.evil.example/callback", "http://127.0.0.2/callback",
		"https://user@client.example/callback", "https://user:password@client.example/callback",
		"https://client.example/callback#fragment", "https://client.example/callback#", "https://*/callback",
		"https://*.client.example/callback", "https://a.com;sandbox/callback", "https://'self'/callback",
		"https://client.example:0/callback", "https://client.example:/callback", "https:///callback",
		`https://client.example\@evil.example/callback`, "https://client.example/call back", "https://client.example/\u00e9",
		"javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"blob:https://client.example/x", "about:blank", "https://client.example/" + strings.Repeat("x", 512)} {
		t.Run("R3, R5: redirect URI "+uri[:min(len(uri), 40)], func(t *testing.T) {
			assertJSONError(t, w.registration(map[string]any{"redirect_uris": []string{uri}}), 400, "invalid_redirect_uri")
		})
	}
}

// assertJSONError checks the shape of RFC 6749 section 5.2, or of a success if the code is empty. It prints no body:
// bodies can hold tokens.
func assertJSONError(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.str("error") != code {
		t.Errorf("got %d %q (%s), want %d %q", a.status, a.str("error"), a.str("error_description"), status, code)
	}
	if code != "" && (a.header.Get("Content-Type") != "application/json" || a.str("error_description") == "") {
		t.Errorf("got %s without a description, want application/json with one", a.header.Get("Content-Type"))
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control: got %q, want no-store", a.header.Get("Cache-Control"))
	}
}

// TestAuthorizeRedirectURI checks that the server neither redirects nor links to a URI that is not exactly the
// client's.
func TestAuthorizeRedirectURI(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register("https://client.example/cb?tenant=1", "http://127.0.0.1/cb", "http://[::1]/cb", "foo://callback")
	for uri, good := range map[string]bool{
		"https://client.example/cb?tenant=1":                     true,
		"http://127.0.0.1/cb":                                    true,
		"http://127.0.0.1:1234/cb":                               true, // port freedom on loopback
		"http://[::1]:1234/cb":                                   true,
		"http://localhost:1234/cb":                               false, // another name
		"http://localhost/cb":                                    false,
		"http://127.0.0.1:1234/cb/":                              false,
		"http://127.0.0.1:1234/cb?x=1":                           false,
		"http://127.0.0.1:99999/cb":                              false,
		"http://127.0.0.1:1234@evil.example/cb":                  false,
		"http://127.0.0.1.evil.example/cb":                       false,
		"https://127.0.0.1/cb":                                   false,
		"https://client.example:8443/cb?tenant=1":                false, // other hosts: the port must match
		"https://client.example/cb":                              false,
		"https://client.example/cb?tenant=2":                     false,
		"https://client.example/cb?tenant=1&x=1":                 false,
		"https://client.example/cb/evil?tenant=1":                false,
		"https://client.example/cb/../evil?tenant=1":             false,
		"https://CLIENT.example/cb?tenant=1":                     false,
		"https://client.example./cb?tenant=1":                    false,
		"https://evil.example/cb?tenant=1":                       false,
		"https://evil.example/https://client.example/cb":         false,
		"https://client.example.evil.example/cb?tenant=1":        false,
		"https://client.example@evil.example/cb?tenant=1":        false,
		"https://user@client.example/cb?tenant=1":                false,
		"https://client.example/cb?tenant=1#fragment":            false,
		"https://client.example/cb?tenant=1#":                    false,
		`https://evil.example\@client.example/cb?tenant=1`:       false,
		"https://evil.example;sandbox/cb":                        false,
		"http://client.example/cb?tenant=1":                      false,
		"//client.example/cb?tenant=1":                           false,
		"/cb":                                                    false,
		"*":                                                      false,
		"https://*":                                              false,
		"javascript:alert(1)":                                    false,
		"data:text/html,x":                                       false,
		"foo://callback":                                         false, // registered, but not redirected to
		"":                                                       false, // several are registered
		"https://client.example/cb?tenant=1\r\nSet-Cookie: a=b":  false,
		"https://client.example/cb?tenant=1%0d%0aSet-Cookie:a=b": false,
	} {
		rows := "AZ3, AZ4, S10: "
		if uri == "" {
			rows = "AZ5: "
		}
		t.Run(rows+uri, func(t *testing.T) {
			p := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", uri) }))
			if good {
				if p.status != http.StatusOK || len(p.forms) != 1 {
					t.Errorf("got status %d, want the question", p.status)
				}
				return
			}
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
			if len(p.links) != 0 {
				t.Errorf("the page links to %q, want to nowhere", p.links)
			}
		})
	}
}

// assertErrorPage checks that the browser was shown an error, at this path, and was not sent on.
func assertErrorPage(t *testing.T, p *page, status int, path, text string) {
	t.Helper()
	if p.status != status || p.url.Path != path || !strings.Contains(p.text, text) {
		t.Errorf("got status %d at %s%s, want %d at %s with %q:\n%s", p.status, p.url.Host, p.url.Path, status, path, text,
			p.text)
	}
	if got := p.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type: got %q, want text/html", got)
	}
	if got := p.header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") {
		t.Errorf("S3: Content-Security-Policy: got %q", got)
	}
	if len(p.forms) != 0 {
		t.Error("the page has a form, as if there was something to allow")
	}
}

// TestAuthorizeRequest checks mistakes of a known client. The user sees a page, and the client is told only if the user
// follows its link, because anybody can register a client and make mistakes on purpose (AZ8).
func TestAuthorizeRequest(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	set := func(name string, values ...string) func(url.Values) {
		return func(q url.Values) { q[name] = values }
	}
	for _, test := range []struct {
		name   string
		change func(url.Values)
		code   string // empty if the consent page is shown
		state  string // state in the link back
	}{
		{"control", nil, "", ""},
		{"P1: no resource", set("resource"), "", ""},
		{"P3: resource is the origin", set("resource", w.base), "", ""},
		{"P3: resource with a trailing slash", set("resource", w.base+"/"), "", ""},
		{"P3: resource in upper case", set("resource", strings.Replace(w.base, "http://l", "HTTP://L", 1)+"/mcp"), "", ""},
		{"AZ1: resource twice, both ours", set("resource", w.base, w.base+"/mcp"), "", ""},
		{"AZ13: prompt=consent", set("prompt", "consent"), "", ""},
		{"AZ14: unknown scopes", set("scope", "offline_access repos:read everything"), "", ""},
		{"AZ1: unknown parameter, twice", set("utm", "1", "2"), "", ""},
		{"no state", set("state"), "", ""},
		{"state of 1024 characters", set("state", strings.Repeat("x", 1024)), "", ""},
		{"mcp-trino#155: state in need of escaping", set("state", `a+b/c= &?#%"'<>`), "", ""},
		{"AZ5: redirect_uri left out, one registered", set("redirect_uri"), "", ""},

		{"P4: foreign resource", set("resource", "https://evil.example/mcp"), "invalid_target", "xyz"},
		{"P4: resource with a fragment", set("resource", w.base+"/mcp#x"), "invalid_target", "xyz"},
		{"P4: resource of another path", set("resource", w.base+"/other"), "invalid_target", "xyz"},
		{"P4: one of two resources", set("resource", w.base+"/mcp", "https://evil.example/mcp"), "invalid_target", "xyz"},
		{"P4: resource with user name", set("resource", strings.Replace(w.base, "://", "://u@", 1)+"/mcp"),
			"invalid_target", "xyz"},
		{"AZ6: no challenge", set("code_challenge"), "invalid_request", "xyz"},
		{"AZ6: no method", set("code_challenge_method"), "invalid_request", "xyz"},
		{"AZ6: plain", set("code_challenge_method", "plain"), "invalid_request", "xyz"},
		{"AZ6: short challenge", set("code_challenge", testChallenge[:42]), "invalid_request", "xyz"},
		{"AZ6: challenge is no base64url", set("code_challenge", testChallenge[:42]+"+"), "invalid_request", "xyz"},
		{"AZ7 overruled: response_type=token", set("response_type", "token"), "unsupported_response_type", "xyz"},
		{"AZ7 overruled: response_type=code token", set("response_type", "code token"), "unsupported_response_type", "xyz"},
		{"no response_type", set("response_type"), "invalid_request", "xyz"},
		{"AZ1: response_type twice", set("response_type", "code", "code"), "invalid_request", "xyz"},
		{"AZ1: scope twice", set("scope", "account:read", "repos:read"), "invalid_request", "xyz"},
		{"AZ1: challenge twice", set("code_challenge", testChallenge, testChallenge), "invalid_request", "xyz"},
		{"AZ1: state twice", set("state", "xyz", "xyz"), "invalid_request", ""},
		{"state of 1025 characters", set("state", strings.Repeat("x", 1025)), "invalid_request", ""},
		{"state with a line break", set("state", "x\r\nSet-Cookie: a=b"), "invalid_request", ""},
		{"state beyond ASCII", set("state", "\u00e9"), "invalid_request", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := w.browser()
			p := b.open(w.authorizeURL(id, test.change))
			if n := len(b.client.Jar.Cookies(p.url)); n != 0 {
				t.Errorf("S7: %d cookies were set before the person was asked", n)
			}
			if test.code == "" {
				if p.status != http.StatusOK || len(p.forms) != 1 {
					t.Errorf("got status %d, want the question:\n%s", p.status, p.text)
				}
				return
			}
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", test.code)
			if len(p.links) != 1 || !strings.HasPrefix(p.links[0], callbackURI+"?") {
				t.Fatalf("links: got %q, want the one to %s", p.links, callbackURI)
			}
			back, err := url.Parse(p.links[0])
			if err != nil {
				t.Fatal(err)
			}
			got := back.Query()
			if got.Get("error") != test.code || got.Get("state") != test.state || got.Get("iss") != w.base || got.Has("code") {
				t.Errorf("AZ9, AZ10: the client would be told %v", got)
			}
		})
	}
}

// flipped returns s with a bit changed in the middle.
func flipped(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

// TestAuthorizeUnknownClient checks the page for a user whose client is unknown. Clients keep a client_id forever, and
// have no button to forget it (claude-code#4760).
func TestAuthorizeUnknownClient(t *testing.T) {
	w, elsewhere := newWorld(t, map[string]string{"CLIENT_METADATA": "off"}), newWorld(t, nil)
	known := w.register(callbackURI)
	for name, id := range map[string]string{
		"made up":           "mcp_ci_AAAA",
		"of another server": elsewhere.register(callbackURI),
		"tampered with":     flipped(known),
		"longer":            known + "A",
		"a document":        "https://client.example/metadata.json",
		"too long":          "mcp_ci_" + strings.Repeat("A", 5000),
	} {
		t.Run("AZ3: "+name, func(t *testing.T) {
			p := w.browser().open(w.authorizeURL(id, nil))
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "Clear authentication")
			if len(p.links) != 0 {
				t.Errorf("the page links to %q, want to nowhere", p.links)
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		if got := w.browser().open(w.authorizeURL(known, nil)).status; got != http.StatusOK {
			t.Errorf("got status %d, want 200", got)
		}
	})
	for name, change := range map[string]func(url.Values){
		"none":                  func(q url.Values) { q.Del("client_id") },
		"AZ1: twice":            func(q url.Values) { q.Add("client_id", known) },
		"AZ1: two places to go": func(q url.Values) { q.Add("redirect_uri", "https://evil.example/") },
	} {
		t.Run(name, func(t *testing.T) {
			p := w.browser().open(w.authorizeURL(known, change))
			assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "invalid_request")
			if len(p.links) != 0 {
				t.Errorf("the page links to %q, want to nowhere", p.links)
			}
		})
	}
}
