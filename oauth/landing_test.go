package oauth

import (
	"encoding/json"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/templates"
)

var (
	sections = regexp.MustCompile(`(?s)<details( open)?>\s*<summary>(.*?)</summary>(.*?)</details>`)
	snippets = regexp.MustCompile(`(?s)<pre><code>(.*?)</code></pre>`)
)

// TestLandingPageTellsEveryClientHow compares whole snippets, because users paste them without a second look. Where
// there is no snippet, the page says that the client cannot reach the server.
func TestLandingPageTellsEveryClientHow(t *testing.T) {
	const cursor = `{"mcpServers": {"my-server": {"url": "URL"}}}`
	const bridge = `{"mcpServers": {"my-server": {"command": "npx", "args": ["-y", "mcp-remote", "URL"]}}}`
	want := []struct{ client, public, loopback string }{
		{"Claude Code", "claude mcp add --transport http my-server URL", "claude mcp add --transport http my-server URL"},
		{"Claude.ai", "URL", ""},
		{"Claude Desktop", "URL", bridge},
		{"ChatGPT", "URL", ""},
		{"Codex", "codex mcp add my-server --url URL", "codex mcp add my-server --url URL"},
		{"Cursor", cursor, cursor},
		{"VS Code", `code --add-mcp '{"name":"my-server","type":"http","url":"URL"}'`,
			`code --add-mcp '{"name":"my-server","type":"http","url":"URL"}'`},
		{"Gemini CLI", "gemini mcp add --scope user --transport http my-server URL",
			"gemini mcp add --scope user --transport http my-server URL"},
		{"opencode", "opencode mcp add my-server --url URL", "opencode mcp add my-server --url URL"},
		{"MCP Inspector", "npx @modelcontextprotocol/inspector --transport http --server-url URL",
			"npx @modelcontextprotocol/inspector --transport http --server-url URL"},
	}
	for _, address := range []string{"https://mcp.example.com/mcp", "http://localhost:8080/mcp"} {
		t.Run(address, func(t *testing.T) {
			loopback := strings.HasPrefix(address, "http:")
			w := httptest.NewRecorder()
			templates.New("My server").Landing(w, http.StatusOK, templates.LandingPage{URL: address, Name: "my-server",
				Loopback: loopback})
			found := sections.FindAllStringSubmatch(w.Body.String(), -1)
			if len(found) != len(want) {
				t.Fatalf("got %d clients, want %d", len(found), len(want))
			}
			for i, tt := range want {
				open, client, text := found[i][1] != "", found[i][2], found[i][3]
				if client != tt.client || open != (i == 0) {
					t.Errorf("client %d is %s, open %t, want %s, with only the first one open", i, client, open, tt.client)
				}
				snippet := tt.public
				if loopback {
					snippet = tt.loopback
				}
				if hint := strings.Contains(text, "needs a server with a public https address"); hint != (snippet == "") {
					t.Errorf("%s: says that the server is out of reach: %t, want %t", client, hint, !hint)
				}
				var got []string
				for _, s := range snippets.FindAllStringSubmatch(text, -1) {
					got = append(got, compact(html.UnescapeString(s[1])))
				}
				var all []string
				if snippet != "" {
					all = []string{compact(strings.ReplaceAll(snippet, "URL", address))}
				}
				if !slices.Equal(got, all) {
					t.Errorf("%s: got snippets %q, want %q", client, got, all)
				}
			}
		})
	}
}

// TestLandingPageIsWhatABrowserSeesOnMCP checks the MCP URL in a browser, where some users paste it too.
func TestLandingPageIsWhatABrowserSeesOnMCP(t *testing.T) {
	for base, outOfReach := range map[string]bool{"https://mcp.example.com": false, "http://localhost:8080": true,
		"http://[::1]:8080": true} {
		t.Run(base, func(t *testing.T) {
			origin, err := url.Parse(base)
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{baseURL: base, base: origin, resource: base + "/mcp", name: "My server",
				pages: templates.New("My server"), log: storm.New(slog.New(slog.DiscardHandler), time.Now),
				clients: clients.New(clients.Config{BaseURL: base, Documents: clients.DocumentsOn, Now: time.Now})}
			get := func(h http.Handler, accept string) *httptest.ResponseRecorder {
				w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, base+"/mcp", nil)
				r.Header.Set("Accept", accept)
				h.ServeHTTP(w, r)
				return w
			}
			front := get(http.HandlerFunc(s.handleLanding), "text/html")
			if body := front.Body.String(); !strings.Contains(body, "claude mcp add --transport http my-server "+base+"/mcp<") {
				t.Error("the page does not tell how to add this server to Claude Code")
			} else if strings.Contains(body, "public https address") != outOfReach {
				t.Errorf("the page says that hosted clients cannot reach the server: %t, want %t", !outOfReach, outOfReach)
			}
			browser := get(s.gate(nil), "text/html,application/xhtml+xml,*/*;q=0.8")
			if browser.Code != http.StatusOK || browser.Body.String() != front.Body.String() {
				t.Errorf("a browser on /mcp: got status %d and another page than on /", browser.Code)
			}
			if client := get(s.gate(nil), "text/event-stream"); client.Code != http.StatusUnauthorized {
				t.Errorf("a client without a token: got status %d, want 401", client.Code)
			}
		})
	}
}

// compact removes the layout from JSON. Other text stays as it is.
func compact(text string) string {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return text
	}
	compacted, _ := json.Marshal(value) // it was just parsed
	return string(compacted)
}
