package e2e

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/mcpserver"
)

// TestProtocolBehindAProxy checks H4: a reverse proxy on the same host passes the public Host on to a loopback socket.
// The server itself refuses foreign hosts, which [TestForeignHost] checks.
func TestProtocolBehindAProxy(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	ms := server.NewMCPServer("test", "1")
	for name, test := range map[string]struct {
		handler http.Handler
		status  int
	}{
		"H4: ours answers":                 {mcpserver.Handler(ms, slog.New(slog.DiscardHandler)), http.StatusOK},
		"H4: control: bare mcp-go refuses": {server.NewStreamableHTTPServer(ms), http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(w.app.Routes(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.Host = "mcp.example.com"
				test.handler.ServeHTTP(rw, r)
			})))
			t.Cleanup(srv.Close)
			const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
			a := fetch(t, http.MethodPost, srv.URL+"/mcp", w.as(legacyHeader(access)), strings.NewReader(ping))
			if a.status != test.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, test.status)
			}
		})
	}
}
