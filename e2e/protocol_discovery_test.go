package e2e

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/app"
	"github.com/google/go-cmp/cmp"
)

// The tests in the files protocol_*_test.go are the rows of docs/protocol.md. A subtest's name begins with the ids of
// the rows that it asserts.

const (
	publicOrigin = "https://mcp.example.com" // BASE_URL of publicServer
	githubScopes = "account:read repos:read" // scopes that a sign-in with GitHub requests, and octocat grants
)

// publicServer starts the program as an operator would run it behind a reverse proxy, with GitHub alone, and returns a
// function that sends it requests.
func publicServer(t *testing.T) func(method, path string, header http.Header, body string) answer {
	t.Helper()
	env := map[string]string{"BASE_URL": publicOrigin, "ALLOW": "anyone", "GITHUB_CLIENT_ID": "id",
		"GITHUB_CLIENT_SECRET": "secret", "DATA_DIR": filepath.Join(t.TempDir(), "data")}
	s, err := app.ParseConfig(nil, func(name string) string { return env[name] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), s, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	proxy := httptest.NewServer(a.Handler)
	t.Cleanup(proxy.Close)
	return func(method, path string, header http.Header, body string) answer {
		t.Helper()
		h := header.Clone()
		if h == nil {
			h = http.Header{}
		}
		h.Set("Host", strings.TrimPrefix(publicOrigin, "https://"))
		return fetch(t, method, proxy.URL+path, h, strings.NewReader(body))
	}
}

// documents are the complete metadata documents of publicServer: every addition is a promise to clients.
var documents = []struct{ rows, path, want string }{
	{"D1, D4, D6", "/.well-known/oauth-protected-resource/mcp", `{
		"resource": "https://mcp.example.com/mcp",
		"resource_name": "MCP Federated Login",
		"authorization_servers": ["https://mcp.example.com"],
		"scopes_supported": ["account:read", "repos:read"],
		"bearer_methods_supported": ["header"]
	}`},
	{"D5, D6", "/.well-known/oauth-protected-resource", `{
		"resource": "https://mcp.example.com",
		"resource_name": "MCP Federated Login",
		"authorization_servers": ["https://mcp.example.com"],
		"scopes_supported": ["account:read", "repos:read"],
		"bearer_methods_supported": ["header"]
	}`},
	{"D7, D8, D10, D14, D16", "/.well-known/oauth-authorization-server", `{
		"issuer": "https://mcp.example.com",
		"authorization_endpoint": "https://mcp.example.com/authorize",
		"token_endpoint": "https://mcp.example.com/token",
		"registration_endpoint": "https://mcp.example.com/register",
		"revocation_endpoint": "https://mcp.example.com/revoke",
		"scopes_supported": ["account:read", "repos:read", "offline_access"],
		"response_types_supported": ["code"],
		"response_modes_supported": ["query"],
		"grant_types_supported": ["authorization_code", "refresh_token"],
		"token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
		"token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
		"revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post",
			"private_key_jwt"],
		"revocation_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
		"code_challenge_methods_supported": ["S256"],
		"client_id_metadata_document_supported": true,
		"authorization_response_iss_parameter_supported": true
	}`},
}

func TestProtocolDocuments(t *testing.T) {
	ask := publicServer(t)
	for _, doc := range documents {
		t.Run(doc.rows+": "+doc.path, func(t *testing.T) {
			var want map[string]any
			if err := json.Unmarshal([]byte(doc.want), &want); err != nil {
				t.Fatal(err)
			}
			a := ask(http.MethodGet, doc.path, nil, "")
			if a.status != http.StatusOK {
				t.Fatalf("got status %d, want 200", a.status)
			}
			if diff := cmp.Diff(want, a.json); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
		// Clients send various headers; Go clients accept only this media type.
		for name, header := range map[string]http.Header{
			"without anything":            nil,
			"with a stale token":          {"Authorization": {"Bearer mcp_at_stale"}},
			"with a version nobody knows": {"Mcp-Protocol-Version": {"1999-12-31"}},
			"from a browser":              {"Accept": {"text/html"}, "Origin": {"https://app.example.com"}},
		} {
			t.Run("D17, D18: "+doc.path+" "+name, func(t *testing.T) {
				a := ask(http.MethodGet, doc.path, header, "")
				if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "application/json" {
					t.Errorf("got %d %s, want 200 application/json", a.status, got)
				}
				if got := a.header.Get("WWW-Authenticate"); got != "" {
					t.Errorf("got challenge %q, want none", got)
				}
			})
		}
	}
}

// TestProtocolDiscovery follows a 401 as a client does: every URL is absolute, and each document names, byte by byte,
// the URL that was requested.
func TestProtocolDiscovery(t *testing.T) {
	ask := publicServer(t)
	get := func(t *testing.T, address string) answer {
		t.Helper()
		path, ok := strings.CutPrefix(address, publicOrigin)
		if !ok {
			t.Fatalf("got address %q, want one of %s", address, publicOrigin)
		}
		return ask(http.MethodGet, path, nil, "")
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		t.Run("D2, D3: from the 401 to "+method+" to the document of what was called", func(t *testing.T) {
			a := ask(method, "/mcp", nil, "")
			if a.status != http.StatusUnauthorized {
				t.Fatalf("got status %d, want 401", a.status)
			}
			resource := get(t, challengeOf(t, a)["resource_metadata"])
			if resource.status != http.StatusOK || resource.str("resource") != publicOrigin+"/mcp" {
				t.Errorf("got %d for resource %q, want 200 for /mcp", resource.status, resource.str("resource"))
			}
			wellKnown := get(t, publicOrigin+"/.well-known/oauth-protected-resource/mcp")
			if diff := cmp.Diff(wellKnown.json, resource.json); diff != "" {
				t.Errorf("-well-known +by header:\n%s", diff)
			}
		})
	}
	t.Run("D9: one issuer everywhere", func(t *testing.T) {
		servers, _ := get(t, publicOrigin+documents[0].path).json["authorization_servers"].([]any)
		if len(servers) != 1 || servers[0] != publicOrigin {
			t.Fatalf("authorization_servers: got %v, want %s alone", servers, publicOrigin)
		}
		issuer := get(t, publicOrigin+"/.well-known/oauth-authorization-server").str("issuer")
		reg := ask(http.MethodPost, "/register", http.Header{"Content-Type": {"application/json"}},
			`{"redirect_uris":["`+callbackURI+`"]}`)
		request := url.Values{"response_type": {"code"}, "client_id": {reg.str("client_id")},
			"code_challenge": {testChallenge}, "code_challenge_method": {"S256"}}
		page := ask(http.MethodGet, "/authorize?"+request.Encode(), nil, "")
		form := parsePage(nil, &http.Response{Request: &http.Request{}}, page.body).forms[0].fields
		form.Set("decision", "cancel")
		a := ask(http.MethodPost, "/authorize", http.Header{"Content-Type": {"application/x-www-form-urlencoded"},
			"Sec-Fetch-Site": {"same-origin"}}, form.Encode())
		to, err := url.Parse(a.header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if iss := to.Query().Get("iss"); issuer != publicOrigin || iss != publicOrigin {
			t.Errorf("got issuer %q and iss %q, want %q for both", issuer, iss, publicOrigin)
		}
	})
	// Clients try one URL after another, and continue only after a 404.
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/", "/.well-known/oauth-authorization-server/authorize",
		"/.well-known/openid-configuration/other", "/mcp/.well-known/", "/mcp/.well-known/openid-configuration/mcp",
		"/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/other",
		"/.well-known/oauth-protected-resource/mcp/other", "/.well-known/jwks.json", "/.well-known/", "/.well-known/anything",
	} {
		for _, accept := range []string{"application/json", "*/*", ""} {
			t.Run("D13: "+path+" as "+accept, func(t *testing.T) {
				a := ask(http.MethodGet, path, http.Header{"Accept": {accept}}, "")
				if got := a.header.Get("Content-Type"); a.status != http.StatusNotFound || strings.Contains(got, "html") {
					t.Errorf("got %d %s, want a plain 404", a.status, got)
				}
			})
		}
	}
}

// TestMetadataWhereverClientsLook checks that a document is the same, byte by byte, at each of its URLs, for programs
// and for web pages.
func TestMetadataWhereverClientsLook(t *testing.T) {
	ask := publicServer(t)
	for canonical, others := range map[string][]string{
		"/.well-known/oauth-authorization-server": {
			"/.well-known/oauth-authorization-server/mcp", "/mcp/.well-known/oauth-authorization-server",
			"/.well-known/openid-configuration", "/.well-known/openid-configuration/mcp",
			"/mcp/.well-known/openid-configuration"},
		"/.well-known/oauth-protected-resource/mcp": {"/mcp/.well-known/oauth-protected-resource"},
	} {
		want := ask(http.MethodGet, canonical, nil, "")
		for _, path := range others {
			t.Run("D11, D12: "+path, func(t *testing.T) {
				a := ask(http.MethodGet, path, http.Header{"Origin": {"https://app.example.com"}}, "")
				if a.status != http.StatusOK || string(a.body) != string(want.body) {
					t.Errorf("got %d with %s, want 200 with %s", a.status, a.body, want.body)
				}
				for _, name := range []string{"Content-Type", "Cache-Control"} {
					if got, want := a.header.Get(name), want.header.Get(name); got != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}
				preflight := ask(http.MethodOptions, path, http.Header{"Origin": {"https://app.example.com"},
					"Access-Control-Request-Method":  {http.MethodGet},
					"Access-Control-Request-Headers": {"mcp-protocol-version"}}, "")
				for step, got := range map[string]answer{"answer": a, "preflight": preflight} {
					if got.status/100 != 2 || got.header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("%s: got %d, for origin %q, want 2xx for *", step, got.status,
							got.header.Get("Access-Control-Allow-Origin"))
					}
				}
			})
		}
		t.Run("no promise of OpenID Connect at "+canonical, func(t *testing.T) {
			for _, member := range []string{"subject_types_supported", "id_token_signing_alg_values_supported",
				"jwks_uri", "userinfo_endpoint", "claims_supported"} {
				if _, said := want.json[member]; said {
					t.Errorf("the document has %s", member)
				}
			}
		})
	}
}
