package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/mcpserver"
)

// BenchmarkGate measures what the gate and the endpoint behind it add to a tool call: the same MCP server bare, behind
// the gate with the token in its cache, and behind the gate with a lookup in SQLite each time. The three take turns, so
// that the ratios hold although the machine's speed drifts. None includes the scope middleware.
func BenchmarkGate(b *testing.B) {
	ms := server.NewMCPServer("bench", "1", server.WithToolCapabilities(false))
	ms.AddTool(mcp.NewTool("echo"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText("hello"), nil
	})
	bare := server.NewStreamableHTTPServer(ms, server.WithStateLess(true))
	gated := func(cache string) (http.Handler, string) {
		w := newWorld(b, map[string]string{"TOKEN_CACHE": cache})
		r := chi.NewRouter()
		w.app.OAuth.Routes(r, mcpserver.Handler(ms, slog.New(slog.DiscardHandler)))
		return r, w.signIn().access
	}
	hit, hitToken := gated("1m")
	miss, missToken := gated("0")
	call := func(h http.Handler, token string) time.Duration {
		header := mcpHeader(token, "tools/call", "echo")
		req := httptest.NewRequest(http.MethodPost, "/mcp",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call",`+
				`"params":{"name":"echo","arguments":{},"_meta":`+modernMeta+`}}`))
		req.Header = header
		rec := httptest.NewRecorder()
		began := time.Now()
		h.ServeHTTP(rec, req)
		took := time.Since(began)
		if rec.Code != http.StatusOK {
			b.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
		return took
	}
	var bareTime, hitTime, missTime time.Duration
	for b.Loop() {
		bareTime += call(bare, "")
		hitTime += call(hit, hitToken)
		missTime += call(miss, missToken)
	}
	b.ReportMetric(float64(hitTime)/float64(bareTime), "hit/bare")
	b.ReportMetric(float64(missTime)/float64(bareTime), "miss/bare")
}
