package clients

import (
	"net/url"
	"strings"
	"testing"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/store"
)

func TestRedirectURIsThatMayBeRegistered(t *testing.T) {
	for _, tt := range []struct {
		name string
		uri  string
		want bool
	}{
		{"Claude", "https://claude.ai/api/mcp/auth_callback", true},
		{"VS Code, loopback", "http://127.0.0.1:33418/", true},
		{"Claude Code, without a port", "http://localhost/callback", true},
		{"IPv6 loopback", "http://[::1]:7777/cb", true},
		{"Cursor, private scheme beside others", "cursor://anysphere.cursor-mcp/oauth/callback", true},
		{"query of its own", "https://client.example/cb?tenant=1", true},

		{"empty", "", false},
		{"relative", "/callback", false},
		{"http elsewhere", "http://client.example/cb", false},
		{"http on a name that only looks local", "http://localhost.evil.example/cb", false},
		{"http on another loopback address", "http://127.0.0.2/cb", false},
		{"script", "javascript:alert(1)", false},
		{"script, capitals", "JavaScript:alert(1)", false},
		{"data", "data:text/html,x", false},
		{"file", "file:///etc/passwd", false},
		{"fragment", "https://client.example/cb#", false},
		{"user name", "https://claude.ai@evil.example/cb", false},
		{"backslash, which browsers take for a slash", `https://evil.example\@claude.ai/cb`, false},
		{"host that ends a CSP directive", "https://a.example;sandbox/cb", false},
		{"host that is a CSP keyword", "https://'self'/cb", false},
		{"wildcard host", "https://*/cb", false},
		{"percent-encoded host", "https://claude%2eai/cb", false},
		{"host beyond ASCII", "https://clаude.ai/cb", false},
		{"capitals in the host", "https://Claude.AI/cb", false},
		{"port of letters", "https://client.example:http/cb", false},
		{"port too long", "https://client.example:443443/cb", false},
		{"empty port", "https://client.example:/cb", false},
		{"IPv6 zone", "https://[fe80::1%25eth0]/cb", false},
		{"space", "https://client.example/c b", false},
		{"line break", "https://client.example/cb\r\nX: y", false},
		{"512 characters", "https://client.example/" + strings.Repeat("a", 489), true},
		{"513 characters", "https://client.example/" + strings.Repeat("a", 490), false},
	} {
		if _, err := parseRedirectURI(tt.uri); (err == nil) != tt.want {
			t.Errorf("%s: %q: got error %v, want accepted %v", tt.name, tt.uri, err, tt.want)
		}
	}
}

// TestRedirectURIMustBeTheRegisteredOne checks an exact match, except for the port of a loopback http URI.
func TestRedirectURIMustBeTheRegisteredOne(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		registered, requested string
		want                  bool
	}{
		{"the same", "https://a.example/cb", "https://a.example/cb", true},
		{"loopback, any port", "http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", true},
		{"loopback, another port", "http://localhost:3000/cb", "http://localhost:49152/cb", true},
		{"IPv6 loopback, any port", "http://[::1]/cb", "http://[::1]:49152/cb", true},
		{"localhost is not 127.0.0.1", "http://localhost/cb", "http://127.0.0.1/cb", false},
		{"127.0.0.1 is not ::1", "http://127.0.0.1/cb", "http://[::1]/cb", false},
		{"loopback, another path", "http://127.0.0.1/cb", "http://127.0.0.1:1/other", false},
		{"loopback, another query", "http://127.0.0.1/cb", "http://127.0.0.1/cb?x=1", false},
		{"loopback, https", "http://127.0.0.1/cb", "https://127.0.0.1/cb", false},
		{"no port freedom for https", "https://a.example/cb", "https://a.example:8443/cb", false},
		{"nor for https on loopback", "https://localhost/cb", "https://localhost:8443/cb", false},
		{"prefix", "https://a.example/cb", "https://a.example/cb/../evil", false},
		{"suffix of the host", "https://a.example/cb", "https://a.example.evil.example/cb", false},
		{"trailing slash", "https://a.example/cb", "https://a.example/cb/", false},
		{"capitals", "https://a.example/cb", "https://a.example/CB", false},
		{"empty against empty", "", "", false},
	} {
		t.Run("AZ4, S10: "+tt.name, func(t *testing.T) {
			if got := matchesRedirect(tt.registered, tt.requested); got != tt.want {
				t.Errorf("%q for %q: got %v, want %v", tt.requested, tt.registered, got, tt.want)
			}
		})
	}
}

func TestRedirectKeepsItsOwnQuery(t *testing.T) {
	c := store.Client{RedirectURIs: []string{"https://a.example/cb?tenant=a%20b"}}
	to, err := redirectTo(&c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "https://a.example/cb?tenant=a%20b&state=a%2Bb%2Fc%3D%3D"
	if got := to.URL(url.Values{"state": {"a+b/c=="}}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPrivateSchemes checks that any client can register a private scheme, but that it is used only if the operator
// lists it. Schemes that run in the browser are never used, even if listed.
func TestPrivateSchemes(t *testing.T) {
	listed := []string{"cursor", "com.example.app", "javascript", "data", "file"}
	for _, tt := range []struct {
		name, uri string
		want      string // what users are told about where it leads; empty if it is not used
	}{
		{"agent-connector-for-wp#111: Cursor", "cursor://anysphere.cursor-mcp/oauth/callback",
			"cursor://anysphere.cursor-mcp"},
		{"RFC 8252 section 7.1: no authority", "com.example.app:/oauth2redirect", "com.example.app:"},
		{"control: https", "https://a.example:8443/cb", "a.example:8443"},
		{"control: loopback", "http://localhost:8787/callback", "localhost:8787"},
		{"not listed", "vscode://vendor.extension/callback", ""},
		{"a longer name", "cursorx://anysphere.cursor-mcp/oauth/callback", ""},
		{"script", "javascript://a.example/%0aalert(1)", ""},
		{"script without slashes", "javascript:alert(1)", ""},
		{"data", "data:text/html,x", ""},
		{"file", "file:///etc/passwd", ""},
		{"text that turns around in the host", "cursor://%E2%80%AEpcm", ""},
		{"user name", "cursor://a@b/cb", ""},
		{"a port of an editor", "cursor://anysphere.cursor-mcp:80/oauth/callback", ""},
		{"an editor's host that is no extension", "cursor://file/oauth/callback", ""},
		{"Cline in Cursor", "cursor://saoudrizwan.claude-dev/mcp-auth/callback/1f2e", "cursor://saoudrizwan.claude-dev"},
		{"an extension with another spelling", "cursor://Vendor.ext/authCallback", "cursor://Vendor.ext"},
		{"installs an MCP server", "cursor://anysphere.cursor-deeplink/mcp/install?name=x&config=e30", ""},
		{"the same, without slashes", "cursor:mcp/install?name=x", ""},
		{"fills in a prompt", "cursor://anysphere.cursor-deeplink/prompt?text=x", ""},
		{"installs an extension", "cursor:extension/evil.extension", ""},
		{"clones a repository", "cursor://vscode.git/clone?url=https://evil.example/x.git", ""},
		{"opens a file", "cursor://file/etc/passwd", ""},
		{"opens a remote folder", "cursor://vscode-remote/ssh-remote+evil.example/callback", ""},
		{"parameters for the editor", "cursor://vscode.git/callback?url=https://evil.example/x.git", ""},
		{"a callback that is left again", "cursor://anysphere.cursor-deeplink/callback/../mcp/install", ""},
		{"a callback in letters that are decoded later", "cursor://anysphere.cursor-deeplink/mcp%2Finstall/callback", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := store.Client{RedirectURIs: []string{tt.uri}}
			to, err := redirectTo(&c, tt.uri, listed)
			if (err == nil) != (tt.want != "") {
				t.Fatalf("got error %v, want one: %t", err, tt.want == "")
			}
			if err == nil && to.Place() != tt.want {
				t.Errorf("leads to %s, want %s", to.Place(), tt.want)
			}
		})
	}
	for _, scheme := range append(notPrivate, "", "Cursor", "cursor:", "cur sor", "1password") {
		if CheckRedirectScheme(scheme) == nil {
			t.Errorf("the operator can list %q", scheme)
		}
	}
	if err := CheckRedirectScheme("vscode-insiders"); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzRedirectURI(f *testing.F) {
	f.Add("https://a.example/cb", "https://a.example/cb")
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:1234/cb")
	f.Add("http://[::1]/?a=b", "http://[::1]:80/?a=b")
	f.Add("cursor://a.b/callback", "cursor://a.b/callback")
	f.Fuzz(func(t *testing.T, registered, requested string) {
		c := store.Client{RedirectURIs: []string{registered}}
		to, err := redirectTo(&c, requested, []string{"cursor"})
		if err != nil {
			return
		}
		sent, err := url.Parse(string(to.URL(url.Values{"code": {"x"}})))
		if err != nil {
			t.Fatalf("sends the browser to something that is no URL: %v", err)
		}
		want, err := url.Parse(registered)
		if err != nil {
			t.Fatalf("accepted a registration that is no URL: %v", err)
		}
		if sent.Scheme != want.Scheme || sent.Hostname() != want.Hostname() || sent.EscapedPath() != want.EscapedPath() ||
			sent.User != nil || sent.Fragment != "" {
			t.Fatalf("registered %q, requested %q, sends to %s", registered, requested, sent)
		}
		if sent.Port() != want.Port() && (sent.Scheme != "http" || !origin.IsLoopback(sent.Hostname())) {
			t.Fatalf("registered %q, but sends to port %s", registered, sent.Port())
		}
		if sent.Scheme != "https" && sent.Scheme != "cursor" && (sent.Scheme != "http" ||
			!origin.IsLoopback(sent.Hostname())) {
			t.Fatalf("sends to %s, in the clear or to who knows what", sent)
		}
	})
}
