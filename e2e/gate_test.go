package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// challengeOf returns the parameters of the response's only Bearer challenge.
func challengeOf(t testing.TB, a answer) map[string]string {
	t.Helper()
	values := a.header.Values("WWW-Authenticate")
	if len(values) != 1 {
		t.Fatalf("Q11: got challenges %q, want one", values)
	}
	params, err := parseChallenge(values[0])
	if err != nil {
		t.Fatalf("Q11: %s: %v", values[0], err)
	}
	return params
}

// TestGate checks which requests get a 401, and what it contains.
func TestGate(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	good := w.signIn()
	call := func(method, query string, authorization ...string) answer {
		header := mcpHeader("", "tools/call", "whoami")
		header["Authorization"] = authorization
		if len(authorization) == 0 {
			header.Del("Authorization")
		}
		return w.call(method, "/mcp"+query, header, `{"jsonrpc":"2.0","id":1,"method":"tools/call",`+
			`"params":{"name":"whoami","arguments":{},"_meta":`+modernMeta+`}}`)
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		for _, test := range []struct {
			name          string
			query         string
			authorization []string
			code          string // empty if no credential arrived
		}{
			{"Q2: nothing", "", nil, ""},
			{"Q3: token in the query", "?access_token=" + good.access, nil, ""},
			{"Q2: garbage", "", []string{"Bearer x"}, "invalid_token"},
			{"Q2: garbage with the right prefix", "", []string{"Bearer mcp_at_" + strings.Repeat("A", 48)}, "invalid_token"},
			{"Q2: empty", "", []string{"Bearer "}, "invalid_token"},
			{"Q2: changed", "", []string{"Bearer " + flipped(good.access)}, "invalid_token"},
			{"Q2: longer", "", []string{"Bearer " + good.access + "A"}, "invalid_token"},
			{"Q2: two tokens", "", []string{"Bearer " + good.access + " " + good.access}, "invalid_token"},
			{"Q2: two headers, both good", "", []string{"Bearer " + good.access, "Bearer " + good.access}, "invalid_token"},
			{"Q2: another scheme", "", []string{"Basic " + good.access}, "invalid_token"},
			{"Q4: refresh token", "", []string{"Bearer " + good.refresh}, "invalid_token"},
			{"Q4: refresh token in disguise", "", []string{"Bearer mcp_at_" + good.refresh[7:]}, "invalid_token"},
			{"Q4: the provider's token", "", []string{"Bearer " + w.upstreamToken().Access}, "invalid_token"},
		} {
			t.Run(method+"/Q1, "+test.name, func(t *testing.T) {
				a := call(method, test.query, test.authorization...)
				if a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/json" {
					t.Fatalf("got %d %s, want 401 application/json", a.status, a.header.Get("Content-Type"))
				}
				got := challengeOf(t, a)
				if code, said := got["error"]; code != test.code || said != (test.code != "") {
					t.Errorf("Q2: challenge has error %q, want %q", code, test.code)
				}
				if got["resource_metadata"] != w.base+"/.well-known/oauth-protected-resource/mcp" ||
					got["scope"] != "account:read repos:read calendar:read" {
					t.Errorf("D2, Q7: got challenge %v", got)
				}
			})
		}
	}
	t.Run("control", func(t *testing.T) {
		for _, scheme := range []string{"Bearer", "bearer"} {
			if got := call(http.MethodPost, "", scheme+" "+good.access).status; got != http.StatusOK {
				t.Errorf("POST with a good token: got status %d, want 200", got)
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut} {
			a := call(method, "", "Bearer "+good.access)
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("H8: %s with a good token: got %d, Allow %q, want 405, POST", method, a.status, a.header.Get("Allow"))
			}
		}
	})
	t.Run("Q1: expired", func(t *testing.T) {
		w.clock.advance(time.Hour - time.Millisecond)
		if got := call(http.MethodPost, "", "Bearer "+good.access).status; got != http.StatusOK {
			t.Errorf("in the last moment: got status %d, want 200", got)
		}
		w.clock.advance(time.Millisecond)
		a := call(http.MethodPost, "", "Bearer "+good.access)
		if got := challengeOf(t, a)["error"]; a.status != http.StatusUnauthorized || got != "invalid_token" {
			t.Errorf("an hour later: got %d %s, want 401 invalid_token", a.status, got)
		}
	})
}

// TestMissingScope checks that a client whose grant lacks a scope gets a real 403 that lists the scopes to ask for:
// those it has and those it needs.
func TestMissingScope(t *testing.T) {
	w := newWorld(t, nil)
	little := w.signInFor(w.register(callbackURI), "account:read")
	if little.scope != "account:read" {
		t.Fatalf("granted %q, want account:read", little.scope)
	}
	all := w.signIn()
	for _, era := range eras {
		t.Run("Q5, Q6, Q9, Q12 overruled: "+era.name, func(t *testing.T) {
			header, body := era.call(little.access)
			a := w.call(http.MethodPost, "/mcp", header, body)
			got := challengeOf(t, a)
			if a.status != http.StatusForbidden || got["error"] != "insufficient_scope" ||
				got["scope"] != "account:read repos:read" || got["resource_metadata"] == "" {
				t.Errorf("got %d with challenge %v, want 403 insufficient_scope with both scopes", a.status, got)
			}
			if a.json["jsonrpc"] != "2.0" || a.json["id"] != 1.0 || a.json["error"] == nil {
				t.Errorf("the body is no JSON-RPC error to request 1: %s", a.body)
			}
			header, body = era.call(all.access)
			a = w.call(http.MethodPost, "/mcp", header, body)
			if a.status != http.StatusOK || len(a.header.Values("WWW-Authenticate")) != 0 {
				t.Errorf("control: with the scope: got %d, want 200", a.status)
			}
		})
	}
	if got := w.tool(little.access, "whoami").status; got != http.StatusOK {
		t.Errorf("control: a tool within the scope: got status %d, want 200", got)
	}
}

const (
	toolCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{"x":[%s]}}}`
	toolMeta = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"x":[%s]}}}`
)

// bodyOf fills a template up to about size bytes with repetitions of a value.
func bodyOf(size int, template, value string) string {
	n := max(1, (size-len(template))/(len(value)+1))
	return fmt.Sprintf(template, strings.Repeat(value+",", n-1)+value)
}

// TestMCPBody checks bodies that the endpoint does not accept.
func TestMCPBody(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	large := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"` + strings.Repeat("x", 5<<20) + `"}}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"control", "application/json", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, 200},
		{"malformed JSON", "application/json", `{"jsonrpc":`, 400},
		{"nothing", "application/json", "", 400},
		{"form", "application/x-www-form-urlencoded", "a=b", 400},
		{"no media type", "", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, 400},
		{"5 MB", "application/json", large, 413},
		{"too many values", "application/json", bodyOf(1<<20, toolCall, "{}"), 413},
		{"100 deep", "application/json", bodyOf(0, toolCall, strings.Repeat("[", 96)+strings.Repeat("]", 96)), 200},
		{"101 deep", "application/json", bodyOf(0, toolCall, strings.Repeat("[", 97)+strings.Repeat("]", 97)), 413},
	} {
		for _, length := range []string{"with", "without"} {
			t.Run(test.name+"/"+length+" Content-Length", func(t *testing.T) {
				header := legacyHeader(access)
				header.Set("Content-Type", test.contentType)
				if test.contentType == "" {
					header.Del("Content-Type")
				}
				var body io.Reader = strings.NewReader(test.body)
				if length == "without" {
					body = io.MultiReader(body)
				}
				a := fetch(t, http.MethodPost, w.base+"/mcp", header, body)
				if a.status != test.status {
					t.Errorf("got status %d, want %d", a.status, test.status)
				}
				// mcp-go answers a body that is not JSON with a text.
				if test.status != http.StatusOK && test.contentType == "application/json" && a.json["error"] == nil {
					t.Errorf("got %.300s, want a JSON-RPC error", a.body)
				}
				if got := a.header.Get("WWW-Authenticate"); got != "" { // clients would discard their tokens
					t.Errorf("got the challenge %s", got)
				}
			})
		}
	}
	t.Run("control: 3 MiB of text reach the tool, and come back", func(t *testing.T) {
		header, body := fetchCall(access, w.base+"/healthz", strings.Repeat("x", 3<<20))
		a := fetch(t, http.MethodPost, w.serve(newStreamServer())+"/mcp", w.as(header), strings.NewReader(body))
		if a.status != http.StatusOK || strings.Count(string(a.body), "x") < 3<<20 {
			t.Errorf("got %d and %d bytes, want all of the text", a.status, len(a.body))
		}
	})
	// A subscription keeps its memory as long as it is open.
	t.Run("a subscription of 20 KB", func(t *testing.T) {
		header := mcpHeader(access, "subscriptions/listen", "")
		header.Del("Mcp-Name")
		body := strings.Replace(listen7, "true", `true,"x":"`+strings.Repeat("x", 20<<10)+`"`, 1)
		if got := w.call(http.MethodPost, "/mcp", header, body).status; got != http.StatusRequestEntityTooLarge {
			t.Errorf("got status %d, want 413", got)
		}
		w.subscribe(w.serve(newStreamServer()), access).hangUp() // positive control
	})
	t.Run("without the scope", func(t *testing.T) { // the body is checked first
		header := legacyHeader(w.signInFor(w.register(callbackURI), "account:read").access)
		const call = `{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"list_repositories","arguments":{%s}}}`
		for body, want := range map[string]int{
			fmt.Sprintf(call, "1", ""):                                     http.StatusForbidden,
			fmt.Sprintf(call, "null", ""):                                  http.StatusBadRequest,
			fmt.Sprintf(call, "1", `"x":"`+strings.Repeat("x", 5<<20)+`"`): http.StatusRequestEntityTooLarge,
		} {
			if got := w.call(http.MethodPost, "/mcp", header, body).status; got != want {
				t.Errorf("%.100s: got status %d, want %d", body, got, want)
			}
		}
	})
	t.Run("5 MB without a token", func(t *testing.T) { // the token is checked first
		header := http.Header{"Content-Type": {"application/json"}}
		if got := w.call(http.MethodPost, "/mcp", header, large).status; got != http.StatusUnauthorized {
			t.Errorf("got status %d, want 401", got)
		}
	})
}

// TestCORS checks what a client in a browser can read. Without it MCP Inspector fails immediately (typescript-sdk#715).
func TestCORS(t *testing.T) {
	w := newWorld(t, nil)
	preflight := func(path, method, headers string) answer {
		return w.call(http.MethodOptions, path, http.Header{"Origin": {"http://localhost:6274"},
			"Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {headers}}, "")
	}
	for _, route := range []string{"POST /register", "POST /token", "POST /revoke", "POST /mcp",
		"GET /.well-known/oauth-authorization-server", "GET /.well-known/oauth-protected-resource",
		"GET /.well-known/oauth-protected-resource/mcp"} {
		t.Run("D18, K10, H20: preflight of "+route, func(t *testing.T) {
			method, path, _ := strings.Cut(route, " ")
			headers := []string{"authorization", "content-type", "mcp-protocol-version"}
			if path == "/mcp" {
				headers = append(headers, "last-event-id", "mcp-method", "mcp-name", "mcp-session-id")
				slices.Sort(headers)
			}
			a := preflight(path, method, strings.Join(headers, ","))
			got := a.header.Get("Access-Control-Allow-Headers")
			for _, header := range headers {
				if !strings.Contains(strings.ToLower(got), header) {
					t.Errorf("allowed headers: got %q, want also %s", got, header)
				}
			}
			if a.status/100 != 2 || a.header.Get("Access-Control-Allow-Origin") != "*" ||
				a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("got %d, origin %q, credentials %q, want any origin without them", a.status,
					a.header.Get("Access-Control-Allow-Origin"), a.header.Get("Access-Control-Allow-Credentials"))
			}
		})
	}
	t.Run("Q13: the challenge can be read", func(t *testing.T) {
		a := w.call(http.MethodPost, "/mcp", http.Header{"Origin": {"http://localhost:6274"}}, "")
		exposed := strings.ToLower(a.header.Get("Access-Control-Expose-Headers"))
		if a.status != http.StatusUnauthorized || !strings.Contains(exposed, "www-authenticate") {
			t.Errorf("got %d exposing %q, want 401 with www-authenticate", a.status, exposed)
		}
	})
	for _, path := range []string{"/", "/authorize", "/callback/github"} {
		t.Run("AZ2: "+path, func(t *testing.T) {
			for _, a := range []answer{preflight(path, "GET", "authorization"),
				w.call(http.MethodGet, path, http.Header{"Origin": {"http://localhost:6274"}}, "")} {
				for name := range a.header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("got %s, want none", name)
					}
				}
			}
		})
	}
}

// TestForeignOrigin checks H1 and H3.
func TestForeignOrigin(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOWED_ORIGINS": "https://app.example.com"})
	access := w.signIn().access
	for origin, allowed := range map[string]bool{
		"": true, w.base: true, "http://127.0.0.1:6274": true, "http://[::1]:1": true, "https://app.example.com": true,
		"https://evil.example": false, "http://localhost.evil.example": false, "null": false,
		"https://app.example.com.": false,
		"http://app.example.com":   false, "https://app.example.com:8443": false, "https://sub.app.example.com": false,
		"https://evil.example#localhost": false, "https://localhost@evil.example": false, "localhost": false,
	} {
		for _, method := range []string{http.MethodPost, http.MethodOptions} {
			header := legacyHeader(access)
			if origin != "" {
				header.Set("Origin", origin)
				header.Set("Access-Control-Request-Method", http.MethodPost)
			}
			a := w.call(method, "/mcp", header, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			if refused := a.status == http.StatusForbidden; refused == allowed {
				t.Errorf("H1: %s with Origin %q: got status %d, want allowed: %t", method, origin, a.status, allowed)
			}
			if !allowed && (a.header.Get("WWW-Authenticate") != "" || a.str("error") != "origin_not_allowed") {
				t.Errorf("H3: the 403 for Origin %q looks like a step-up: %s", origin, a.body)
			}
		}
	}
}
