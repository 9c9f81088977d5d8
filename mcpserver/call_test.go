package mcpserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/mcp-federated-login/oauth/oauthtest"
)

// call calls a tool as a client of the newest protocol revision does, and returns its result. It fails the test if the
// call fails.
func call[Out any](t *testing.T, c oauthtest.Caller, tool string, in any) (out Out) {
	t.Helper()
	a := request(t, c, "tools/call", tool, in)
	if a.failed() {
		t.Fatal(a)
	}
	if err := json.Unmarshal(a.Result.StructuredContent, &out); err != nil {
		t.Fatalf("%s: status %d: the result is not a %T: %v", tool, a.status, out, err)
	}
	return out
}

// callForError calls a tool and returns the response. It fails the test if the call succeeds.
func callForError(t *testing.T, c oauthtest.Caller, tool string, in any) *response {
	t.Helper()
	a := request(t, c, "tools/call", tool, in)
	if !a.failed() {
		t.Fatalf("%s: status %d, want an error: %s", tool, a.status, a.body)
	}
	return a
}

// A response is the MCP endpoint's response.
type response struct {
	tool      string
	status    int
	challenge string // the header WWW-Authenticate
	body      []byte
	Result    struct {
		IsError           bool
		Content           []struct{ Text string }
		StructuredContent json.RawMessage
		Tools             []struct{ Name string } // of tools/list
	}
	Error *struct{ Message string }
}

func (a *response) failed() bool {
	return a.status != http.StatusOK || a.Error != nil || a.Result.IsError
}

// String names the tool, the status and the tool's error text.
func (a *response) String() string {
	text := string(a.body)
	switch {
	case a.Error != nil:
		text = a.Error.Message
	case a.Result.IsError && len(a.Result.Content) > 0:
		text = a.Result.Content[0].Text
	}
	return fmt.Sprintf("%s: status %d: %s", a.tool, a.status, text)
}

// request sends one MCP request as the caller.
func request(t *testing.T, c oauthtest.Caller, method, tool string, in any) *response {
	t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": map[string]any{
		"name": tool, "arguments": in, "_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
			"io.modelcontextprotocol/clientCapabilities": struct{}{}}}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", bytes.NewReader(body))
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}, "Mcp-Name": {tool}}
	w := httptest.NewRecorder()
	oauthtest.As(t, c, Scopes, New(slog.New(slog.NewTextHandler(t.Output(), nil)))).ServeHTTP(w, r)
	a := &response{tool: tool, status: w.Code, challenge: w.Header().Get("WWW-Authenticate"), body: w.Body.Bytes()}
	if err := json.Unmarshal(a.body, a); err != nil {
		t.Fatalf("%s: status %d: the response is not JSON: %s", tool, a.status, a.body)
	}
	return a
}
