package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// An era is one of the two ways to write the same MCP messages: one calls a tool, as request 1, and one cancels it.
type era struct {
	name   string
	call   func(access string) (http.Header, string)
	cancel func(access string) (http.Header, string)
}

// withSession adds a session id to the requests.
func (e era) withSession(id string) era {
	add := func(request func(string) (http.Header, string)) func(string) (http.Header, string) {
		return func(access string) (http.Header, string) {
			header, body := request(access)
			header.Set("Mcp-Session-Id", id)
			return header, body
		}
	}
	return era{e.name + " with a session id", add(e.call), add(e.cancel)}
}

var eras = []era{
	{
		"modern",
		func(access string) (http.Header, string) {
			return mcpHeader(access, "tools/call", "list_repositories"), `{"jsonrpc":"2.0","id":1,"method":"tools/call",` +
				`"params":{"name":"list_repositories","arguments":{},"_meta":` + modernMeta + `}}`
		},
		func(access string) (http.Header, string) {
			h := mcpHeader(access, "notifications/cancelled", "")
			h.Del("Mcp-Name")
			return h, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":` + modernMeta + `}}`
		},
	},
	{
		"legacy",
		func(access string) (http.Header, string) {
			return legacyHeader(access),
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_repositories","arguments":{}}}`
		},
		func(access string) (http.Header, string) {
			return legacyHeader(access), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
		},
	},
}

const modernMeta = `{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientCapabilities":{}}`

func legacyHeader(access string) http.Header {
	return http.Header{"Authorization": {"Bearer " + access}, "Content-Type": {"application/json"},
		"Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-11-25"}}
}

// TestOthersCannotCancelACall checks that clients cannot cancel each other's calls. mcp-go keys running calls by
// session name and request id. Every client counts from 1, and without sessions every session name is empty.
func TestOthersCannotCancelACall(t *testing.T) {
	w, api := newWorld(t, nil), newSlowAPI(t)
	victim, otherClient := w.signIn(), w.signIn()
	mallory := w.signInAs("mallory")
	github := w.app.DevIDP.GitHub()
	github.APIURL = api.URL
	w.useGitHub(github)

	bare := httptest.NewServer(server.NewStreamableHTTPServer(bareServer(api), server.WithStateLess(true)))
	t.Cleanup(bare.Close)

	var all []era
	for _, e := range eras {
		all = append(all, e, e.withSession("invented"))
	}
	for _, era := range all {
		// start makes the victim's call, and returns when it is running. The response comes later.
		start := func(t *testing.T, ctx context.Context, address string) <-chan string {
			header, body := era.call(victim.access)
			answered := make(chan string, 1)
			go func() { answered <- do(ctx, address, header, body) }()
			select {
			case <-api.arrived:
			case got := <-answered:
				t.Fatalf("the call did not get as far as the API: %s", got)
			}
			return answered
		}
		for name, attacker := range map[string]string{
			"another person":                mallory.access,
			"the person's other client":     otherClient.access,
			"another window of the program": victim.access,
		} {
			attack := func(t *testing.T, address string) string {
				answered := start(t, t.Context(), address)
				header, body := era.cancel(attacker)
				if got := fetch(t, http.MethodPost, address, header, strings.NewReader(body)).status; got != http.StatusAccepted {
					t.Errorf("cancelling: got status %d, want 202", got)
				}
				api.release <- struct{}{}
				return <-answered
			}
			t.Run(era.name+"/"+name, func(t *testing.T) {
				if got := attack(t, w.base+"/mcp"); !strings.Contains(got, "survived") {
					t.Errorf("the call was answered %q, want its result", got)
				}
			})
			t.Run(era.name+"/"+name+"/control: a bare mcp-go server falls for it", func(t *testing.T) {
				if got := attack(t, bare.URL); strings.Contains(got, "survived") {
					t.Errorf("the call survived, so this test proves nothing: %q", got)
				}
			})
		}
		t.Run(era.name+"/H16, control: closing the request cancels it", func(t *testing.T) {
			ctx, closeRequest := context.WithCancel(t.Context())
			start(t, ctx, w.base+"/mcp")
			closeRequest()
			<-api.abandoned
		})
	}
}

// A slowAPI is GitHub's API on a slow day: it holds each response until the test releases one.
type slowAPI struct {
	*httptest.Server
	arrived, release, abandoned chan struct{}
}

func newSlowAPI(t *testing.T) *slowAPI {
	api := &slowAPI{nil, make(chan struct{}), make(chan struct{}), make(chan struct{})}
	api.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.arrived <- struct{}{}
		select {
		case <-api.release:
			io.WriteString(w, `[{"full_name":"octocat/survived"}]`)
		case <-r.Context().Done():
			select {
			case <-api.release: // of a test that has not noticed
			case api.abandoned <- struct{}{}:
			}
		}
	}))
	t.Cleanup(api.Close)
	return api
}

// signInAs registers a client and signs a user in with it.
func (w *world) signInAs(login string) tokens {
	w.t.Helper()
	id := w.register(callbackURI)
	p := w.browser().open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil).
		press("Authorize", url.Values{"login": {login}})
	return w.redeem(id, p.url.Query().Get("code"))
}

// bareServer is mcp-go with its defaults, with a tool that waits in the same way.
func bareServer(api *slowAPI) *server.MCPServer {
	s := server.NewMCPServer("bare", "1")
	s.AddTool(mcp.NewTool("list_repositories"),
		func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			api.arrived <- struct{}{}
			<-api.release
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return mcp.NewToolResultText("survived"), nil
		})
	return s
}

// do sends a POST and returns the response body, or the error.
func do(ctx context.Context, address string, header http.Header, body string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestNoSessionToSteal checks that there are no sessions: anybody who knew a session's id could listen in on it, or end
// it.
func TestNoSessionToSteal(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.signIn()
	mallory := w.signInAs("mallory")
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"alice","version":"1"}}}`
	const invented = "mcp-session-00000000-0000-4000-8000-000000000000"

	a := w.call(http.MethodPost, "/mcp", legacyHeader(alice.access), initialize)
	if got, ok := a.header["Mcp-Session-Id"]; a.status != http.StatusOK || ok {
		t.Fatalf("initialize: got %d with session %q, want 200 without one", a.status, got)
	}
	header := legacyHeader(mallory.access)
	header.Set("Mcp-Session-Id", invented)
	t.Run("H11, H12, S14, S15 overruled: a session id is nothing", func(t *testing.T) {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			a := w.call(method, "/mcp", header, "")
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s with a session id: got %d, Allow %q, want 405, POST", method, a.status, a.header.Get("Allow"))
			}
		}
		a := w.call(http.MethodPost, "/mcp", header,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}`)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"login":"mallory"`) {
			t.Errorf("whoami with a session id: got %d: %s, want the token's owner", a.status, a.body)
		}
	})

	t.Run("control: a bare mcp-go server lets anybody attach and end", func(t *testing.T) {
		bare := httptest.NewServer(server.NewStreamableHTTPServer(server.NewMCPServer("bare", "1")))
		t.Cleanup(bare.Close)
		a := fetch(t, http.MethodPost, bare.URL, legacyHeader(alice.access), strings.NewReader(initialize))
		header.Set("Mcp-Session-Id", a.header.Get("Mcp-Session-Id"))
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			ctx, hangUp := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, method, bare.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header
			resp, err := http.DefaultClient.Do(req)
			hangUp()
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: got status %d, want 200", method, resp.StatusCode)
			}
		}
	})
}
