package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// A revision is MCP as a client of that revision speaks it.
type revision string

const newest = revision(mcp.ProtocolVersion20260728)

// request returns a request that calls a method, as the revision writes it down.
func (rev revision) request(access, method, params string) (http.Header, string) {
	header := http.Header{"Authorization": {"Bearer " + access}, "Content-Type": {"application/json"},
		"Accept": {"application/json, text/event-stream"}}
	var p map[string]any
	if err := json.Unmarshal([]byte(params), &p); err != nil {
		panic(err)
	}
	if rev == newest {
		header.Set("Mcp-Method", method)
		if name, ok := p["name"].(string); ok {
			header.Set("Mcp-Name", name)
		}
		p["_meta"] = json.RawMessage(modernMeta)
	}
	if rev != "2025-03-26" && method != "initialize" {
		header.Set("Mcp-Protocol-Version", string(rev))
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": p})
	if err != nil {
		panic(err)
	}
	return header, string(body)
}

// do sends a request and returns its result.
func (rev revision) do(w *world, access, method, params string) map[string]any {
	w.t.Helper()
	header, body := rev.request(access, method, params)
	a := w.call(http.MethodPost, "/mcp", header, body)
	result, ok := a.json["result"].(map[string]any)
	if a.status != http.StatusOK || !ok {
		w.t.Fatalf("%s: got %d %s, want a result", method, a.status, a.body)
	}
	if got := a.header.Get("Mcp-Session-Id"); got != "" {
		w.t.Errorf("%s: got session id %q, want none", method, got)
	}
	return result
}

// endpoints discovers the authorization server from a 401, as the revision does, and returns the result.
func (rev revision) endpoints(w *world) (found map[string]string, scope string) {
	w.t.Helper()
	header, body := rev.request("", "initialize", "{}")
	header.Del("Authorization")
	refusal := w.call(http.MethodPost, "/mcp", header, body)
	if refusal.status != http.StatusUnauthorized {
		w.t.Fatalf("without a token: got status %d, want 401", refusal.status)
	}
	if rev == "2025-03-26" { // the fallback for servers without metadata: this client does not look for any
		return map[string]string{"authorization_endpoint": w.base + "/authorize", "token_endpoint": w.base + "/token",
			"registration_endpoint": w.base + "/register"}, ""
	}
	get := func(address string) map[string]any {
		header := http.Header{"Mcp-Protocol-Version": {string(rev)}}
		a := w.call(http.MethodGet, strings.TrimPrefix(address, w.base), header, "")
		if a.status != http.StatusOK {
			w.t.Fatalf("%s: got status %d, want 200", address, a.status)
		}
		return a.json
	}
	challenge := challengeOf(w.t, refusal)
	resource := get(challenge["resource_metadata"])
	issuer := resource["authorization_servers"].([]any)[0].(string)
	metadata := get(issuer + "/.well-known/oauth-authorization-server")
	if resource["resource"] != w.base+"/mcp" || metadata["issuer"] != issuer {
		w.t.Errorf("got resource %v of issuer %v, want %s/mcp and %s", resource["resource"], metadata["issuer"], w.base,
			issuer)
	}
	if !slices.Contains(metadata["code_challenge_methods_supported"].([]any), any("S256")) {
		w.t.Error("S256 is not advertised, and clients since 2025-11-25 refuse to go on")
	}
	found = map[string]string{"iss": issuer}
	for name, value := range metadata {
		if s, ok := value.(string); ok {
			found[name] = s
		}
	}
	if rev >= "2025-11-25" {
		scope = challenge["scope"]
	}
	return found, scope
}

// connect registers a client of the revision and signs octocat in.
func (rev revision) connect(w *world) tokens {
	w.t.Helper()
	server, scope := rev.endpoints(w)
	registration := map[string]any{"client_name": string(rev), "redirect_uris": []string{callbackURI},
		"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"}}
	if rev == newest {
		registration["application_type"] = "native"
	}
	body, _ := json.Marshal(registration)
	id := w.call(http.MethodPost, strings.TrimPrefix(server["registration_endpoint"], w.base),
		http.Header{"Content-Type": {"application/json"}}, string(body)).str("client_id")
	q := url.Values{"response_type": {"code"}, "client_id": {id}, "redirect_uri": {callbackURI}, "state": {"xyz"},
		"code_challenge": {testChallenge}, "code_challenge_method": {"S256"}}
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "redirect_uri": {callbackURI},
		"code_verifier": {testVerifier}}
	if scope != "" {
		q.Set("scope", scope)
	}
	if rev != "2025-03-26" {
		q.Set("resource", w.base+"/mcp")
		form.Set("resource", w.base+"/mcp")
	}
	back := w.browser().signIn(server["authorization_endpoint"] + "?" + q.Encode())
	if rev == newest && back.Get("iss") != server["iss"] {
		w.t.Errorf("iss: got %q, want %q", back.Get("iss"), server["iss"])
	}
	form.Set("code", back.Get("code"))
	a := w.post(strings.TrimPrefix(server["token_endpoint"], w.base), form)
	if a.status != http.StatusOK {
		w.t.Fatalf("redeeming the code: got %d %s", a.status, a.body)
	}
	return tokens{id, a.str("access_token"), a.str("refresh_token"), a.str("scope")}
}

// TestRevisions checks that a client of each revision discovers the server, signs in and calls a tool, all at the same
// URL.
func TestRevisions(t *testing.T) {
	all := newWorld(t, nil)
	for rev, rows := range map[revision]string{"2025-03-26": "D8, P1, H13", "2025-06-18": "D1, D2, H13",
		"2025-11-25": "D2, Q7, H10", newest: "H7, H10, H15"} {
		t.Run(rows+": "+string(rev), func(t *testing.T) {
			w := *all
			w.t = t
			mine := rev.connect(&w)
			if rev == newest {
				result := rev.do(&w, mine.access, "server/discover", "{}")
				if got, _ := result["supportedVersions"].([]any); !slices.Contains(got, any(string(newest))) {
					t.Errorf("server/discover: got versions %v, want also %s", got, newest)
				}
				private(t, result)
			} else {
				result := rev.do(&w, mine.access, "initialize", `{"protocolVersion":"`+string(rev)+`","capabilities":{},`+
					`"clientInfo":{"name":"x","version":"1"}}`)
				if got := result["protocolVersion"]; got != string(rev) {
					t.Errorf("initialize: got version %v, want %s", got, rev)
				}
				header, _ := rev.request(mine.access, "notifications/initialized", "{}")
				a := w.call(http.MethodPost, "/mcp", header, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
				if a.status != http.StatusAccepted || len(a.body) > 0 {
					t.Errorf("notifications/initialized: got %d %q, want 202 without a body", a.status, a.body)
				}
			}
			list := rev.do(&w, mine.access, "tools/list", "{}")
			if got := fmt.Sprint(list["tools"]); !strings.Contains(got, "name:whoami") {
				t.Errorf("tools/list: got %s, want whoami in it", got)
			}
			if rev == newest {
				private(t, list)
			}
			who := rev.do(&w, mine.access, "tools/call", `{"name":"whoami","arguments":{}}`)
			text, _ := who["content"].([]any)[0].(map[string]any)["text"].(string)
			if !strings.Contains(text, `"login":"octocat"`) {
				t.Errorf("whoami: got %q, want octocat", text)
			}
			if got := w.refresh(mine.clientID, mine.refresh).status; got != http.StatusOK {
				t.Errorf("refresh: got status %d, want 200", got)
			}
			header, body := rev.request(mine.access, "tools/list", "{}")
			header.Set("Last-Event-ID", "1")
			header.Set("Mcp-Session-Id", "stale")
			if a := w.call(http.MethodPost, "/mcp", header, body); a.status != http.StatusOK {
				t.Errorf("H8: with Last-Event-ID and a session id: got %d %s, want 200", a.status, a.body)
			}
		})
	}
}

// private checks a result that is for one user only.
func private(t *testing.T, result map[string]any) {
	t.Helper()
	if ttl, ok := result["ttlMs"].(float64); !ok || ttl < 0 || result["cacheScope"] != "private" {
		t.Errorf("H15: got ttlMs %v, cacheScope %v, want some time and private", result["ttlMs"], result["cacheScope"])
	}
}

// TestModernRequests checks the rules of 2026-07-28 for single requests.
func TestModernRequests(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	const header, params, version, method = -32020, -32602, -32022, -32601
	const call = `{"name":"whoami","arguments":{}}`
	encoded := "=?base64?" + base64.StdEncoding.EncodeToString([]byte("whoami")) + "?="
	meta := func(from, to string) func(http.Header, string) string {
		return func(_ http.Header, body string) string { return strings.Replace(body, from, to, 1) }
	}
	set := func(name, value string) func(http.Header, string) string {
		return func(h http.Header, body string) string {
			h.Del(name)
			if value != "" {
				h.Set(name, value)
			}
			return body
		}
	}
	for _, test := range []struct {
		name   string
		change func(h http.Header, body string) string
		status int
		code   int // 0 means a result
	}{
		{"control", set("X", ""), 200, 0},
		{"H5: no Mcp-Method", set("Mcp-Method", ""), 400, header},
		{"H5: another Mcp-Method", set("Mcp-Method", "tools/list"), 400, header},
		{"H5: no Mcp-Name", set("Mcp-Name", ""), 400, header},
		{"H5: another Mcp-Name", set("Mcp-Name", "create_issue"), 400, header},
		{"H5: Mcp-Name in base64", set("Mcp-Name", encoded), 200, 0},
		{"H5: no version header", set("Mcp-Protocol-Version", ""), 400, header},
		{"H5: another version header", set("Mcp-Protocol-Version", "2025-11-25"), 400, header},
		{"H6: no capabilities", meta(`,"io.modelcontextprotocol/clientCapabilities":{}`, ""), 400, params},
		{"H6: capabilities of another shape", meta(`clientCapabilities":{}`, `clientCapabilities":1`), 400, params},
		{"H6: a version that nobody knows", func(h http.Header, body string) string {
			h.Set("Mcp-Protocol-Version", "2099-01-01")
			return strings.Replace(body, "2026-07-28", "2099-01-01", 1)
		}, 400, version},
		{"H6: a method that there is not", func(h http.Header, body string) string {
			h.Set("Mcp-Method", "tools/burn")
			return strings.Replace(body, "tools/call", "tools/burn", 1)
		}, 404, method},
		{"H6: initialize", func(h http.Header, body string) string {
			h.Set("Mcp-Method", "initialize")
			return strings.Replace(body, "tools/call", "initialize", 1)
		}, 404, method},
		{"H8: a session id", set("Mcp-Session-Id", "mcp-session-x"), 200, 0},
		{"H8: Last-Event-ID", set("Last-Event-Id", "1"), 200, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, body := newest.request(access, "tools/call", call)
			a := w.call(http.MethodPost, "/mcp", h, test.change(h, body))
			e, _ := a.json["error"].(map[string]any)
			code, _ := e["code"].(float64)
			if a.status != test.status || int(code) != test.code {
				t.Errorf("got %d %s, want status %d and code %d", a.status, a.body, test.status, test.code)
			}
			if data, _ := e["data"].(map[string]any); test.code == version && len(data) == 0 {
				t.Errorf("got %s, want also the versions that are supported", a.body)
			}
		})
	}
	for _, v := range []string{"1999-01-01", "2025-11-26", "x"} {
		t.Run("H13: a legacy request of version "+v, func(t *testing.T) {
			h := legacyHeader(access)
			h.Set("Mcp-Protocol-Version", v)
			if got := w.call(http.MethodPost, "/mcp", h, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).status; got != 400 {
				t.Errorf("got status %d, want 400", got)
			}
		})
	}
	t.Run("H9, H10, H18: on one connection, each request is whose its token is", func(t *testing.T) {
		google := w.signInWith("Google", "octocat").access
		for range 2 {
			for _, rev := range []revision{"2025-11-25", newest} {
				for access, want := range map[string]string{access: "list_repositories", google: "list_calendar_events"} {
					got := fmt.Sprint(rev.do(w, access, "tools/list", "{}")["tools"])
					if !strings.Contains(got, want) || strings.Contains(got, "list_repositories") != (want == "list_repositories") {
						t.Errorf("%s: got %s, want %s and no other provider's tools", rev, got, want)
					}
				}
			}
		}
	})
	t.Run("H19: large headers", func(t *testing.T) {
		address := w.secondProcess() // a real process, with its limits
		for size, want := range map[int]int{16 << 10: http.StatusOK, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			h, body := newest.request(access, "tools/call", call)
			h.Set("X-Large", strings.Repeat("x", size))
			a := fetch(t, http.MethodPost, address+"/mcp", w.as(h), strings.NewReader(body))
			if a.status != want {
				t.Errorf("%d bytes: got status %d, want %d", size, a.status, want)
			}
		}
	})
}
