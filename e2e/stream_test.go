package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/app"
	"example.com/mcp-federated-login/mcpserver"
)

// newStreamServer returns an MCP server that can be subscribed to, with a tool that runs as long as a fetch of the URL
// that it is given. The tool sends a notification first, if it is told to.
func newStreamServer() *server.MCPServer {
	s := server.NewMCPServer("streams", "1", server.WithToolCapabilities(true), server.WithLogging())
	s.AddTool(mcp.NewTool("fetch"), func(ctx context.Context, call mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if say := call.GetString("say", ""); say != "" {
			token := any(1)
			if meta := call.Params.Meta; meta != nil && meta.ProgressToken != nil {
				token = meta.ProgressToken
			}
			s.SendNotificationToClient(ctx, "notifications/progress", map[string]any{"progressToken": token, "message": say})
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, call.GetString("url", ""), nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return mcp.NewToolResultText(string(b)), err
	})
	// This tool asks its client a question, and sends a hundred messages that are for that client alone.
	s.AddTool(mcp.NewTool("ask"), func(ctx context.Context, call mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answered := make(chan *mcp.ElicitationResult, 1)
		go func() {
			answer, _ := s.RequestElicitation(ctx, mcp.ElicitationRequest{Params: mcp.ElicitationParams{
				Message: "Who are you?", RequestedSchema: map[string]any{"type": "object"}}})
			answered <- answer
		}()
		resp, err := http.Get(call.GetString("url", ""))
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		for range 100 {
			s.SendNotificationToClient(ctx, "notifications/progress", map[string]any{"progressToken": 1, "message": "private"})
		}
		if call.GetBool("wait", false) {
			return mcp.NewToolResultText(fmt.Sprint(<-answered)), nil
		}
		return mcp.NewToolResultText("done"), nil
	})
	return s
}

// serve adds an MCP server to the world, at another URL.
func (w *world) serve(ms *server.MCPServer) (address string) {
	srv := httptest.NewServer(w.app.Routes(mcpserver.Handler(ms, slog.New(slog.DiscardHandler))))
	w.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// as makes a header that works at any URL that serves the world.
func (w *world) as(header http.Header) http.Header {
	header.Set("Host", strings.TrimPrefix(w.base, "http://"))
	return header
}

// fetchCall is the call of newStreamServer's tool, as request 1.
func fetchCall(access, address, say string) (http.Header, string) {
	return mcpHeader(access, "tools/call", "fetch"), fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call",`+
		`"params":{"name":"fetch","arguments":{"url":%q,"say":%q},"_meta":%s}}`, address, say, modernMeta)
}

// listen7 asks for a subscription to changes of the list of tools, as request 7.
const listen7 = `{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":` +
	`{"toolsListChanged":true},"_meta":` + modernMeta + `}}`

// A subscription is an open subscriptions/listen.
type subscription struct {
	header http.Header
	events <-chan string // closed when the stream ends
	hangUp func()
}

// subscribe opens a subscription.
func (w *world) subscribe(address, access string) *subscription {
	w.t.Helper()
	ctx, hangUp := context.WithCancel(w.t.Context())
	w.t.Cleanup(hangUp)
	header := w.as(mcpHeader(access, "subscriptions/listen", ""))
	header.Del("Mcp-Name")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/mcp", strings.NewReader(listen7))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header, req.Host = header, header.Get("Host")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	events := make(chan string, 10)
	go func() {
		defer resp.Body.Close()
		defer close(events)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				events <- data
			}
		}
	}()
	if first := <-events; resp.StatusCode != http.StatusOK || !strings.Contains(first, "acknowledged") {
		w.t.Fatalf("subscribing: got status %d, first event %q", resp.StatusCode, first)
	}
	return &subscription{resp.Header, events, hangUp}
}

// end waits for the stream's end.
func (s *subscription) end(t *testing.T) {
	t.Helper()
	began := time.Now()
	for range s.events {
	}
	t.Logf("the subscription ended after %v", time.Since(began).Round(time.Millisecond))
}

// TestRevokedStreams checks H17: a response stops when its request's token is no longer valid. Expiry alone does not
// cut a tool call short.
func TestRevokedStreams(t *testing.T) {
	revoke := func(token func(tokens) string) func(*world, tokens, string) {
		return func(w *world, c tokens, origin string) {
			header := w.as(http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
			form := url.Values{"client_id": {c.clientID}, "token": {token(c)}}
			fetch(w.t, http.MethodPost, origin+"/revoke", header, strings.NewReader(form.Encode()))
		}
	}
	refreshToken := func(c tokens) string { return c.refresh }
	for name, test := range map[string]struct {
		end      func(w *world, victim tokens, origin string)
		finishes bool // whether the tool call finishes
	}{
		"refresh token revoked": {end: revoke(refreshToken)},
		"access token revoked":  {end: revoke(func(c tokens) string { return c.access })},
		"the client signed in again": {end: func(w *world, victim tokens, _ string) {
			w.redeem(victim.clientID, w.code(victim.clientID))
		}},
		"retired refresh token came back": {end: func(w *world, victim tokens, _ string) {
			w.refresh(victim.clientID, w.refresh(victim.clientID, victim.refresh).str("refresh_token"))
			w.clock.advance(3 * time.Minute)
			w.refresh(victim.clientID, victim.refresh)
		}},
		"the person disconnected everything": {end: func(w *world, _ tokens, _ string) {
			w.browser().visit("GitHub", "octocat").press("Disconnect everything", nil).press("Authorize", nil)
		}},
		"revoked on another instance": {end: func(w *world, victim tokens, _ string) {
			revoke(refreshToken)(w, victim, w.secondProcess())
		}},
		"the operator blocked the client": {end: func(w *world, victim tokens, _ string) {
			w.must("clients", "block", victim.clientID)
		}},
		"expired": {end: func(w *world, _ tokens, _ string) { w.clock.advance(time.Hour) }, finishes: true},
	} {
		t.Run("H17: "+name, func(t *testing.T) {
			w, api := newWorld(t, nil), newSlowAPI(t)
			victim := w.signIn()
			w.clock.advance(time.Minute)
			other := w.signInAs("mallory")
			ms := newStreamServer()
			address := w.serve(ms)
			stream, control := w.subscribe(address, victim.access), w.subscribe(address, other.access)
			if got := stream.header.Get("X-Accel-Buffering"); got != "no" {
				t.Errorf("H16: X-Accel-Buffering: got %q, want no", got)
			}
			header, body := fetchCall(victim.access, api.URL, "")
			answered := make(chan answer, 1)
			go func() {
				answered <- fetch(t, http.MethodPost, address+"/mcp", w.as(header), strings.NewReader(body))
			}()
			<-api.arrived

			test.end(w, victim, w.base)
			stream.end(t)
			if test.finishes {
				api.release <- struct{}{}
			} else {
				<-api.abandoned
			}
			a := <-answered
			if test.finishes && !strings.Contains(string(a.body), "survived") {
				t.Errorf("tool call: got %d %s, want its result", a.status, a.body)
			}
			if !test.finishes && (a.status != http.StatusUnauthorized || challengeOf(t, a)["error"] != "invalid_token") {
				t.Errorf("tool call: got %d %s, want 401 invalid_token", a.status, a.body)
			}
			if name == "expired" {
				return // for all
			}
			ms.SendNotificationToAllClients(mcp.MethodNotificationToolsListChanged, nil)
			if got := <-control.events; !strings.Contains(got, "list_changed") {
				t.Errorf("control: another person's subscription got %q, want the notification", got)
			}
		})
	}
}

// A header counts subscriptions. A request that the header does not call a subscription must not become one.
func TestSubscriptionInDisguise(t *testing.T) {
	w := newWorld(t, nil)
	mine := w.signIn()
	address := w.serve(newStreamServer())
	for name, methods := range map[string][]string{
		"under another name": {"tools/list"}, "in other letters": {"Subscriptions/Listen"}, "without a name": nil,
		"in base64": {"=?base64?c3Vic2NyaXB0aW9ucy9saXN0ZW4=?="}, "with two names": {"tools/list", "subscriptions/listen"},
	} {
		header := w.as(mcpHeader(mine.access, "", ""))
		delete(header, "Mcp-Name")
		header["Mcp-Method"] = methods
		if a := fetch(t, http.MethodPost, address+"/mcp", header,
			strings.NewReader(listen7)); a.status != http.StatusBadRequest {
			t.Errorf("%s: got status %d, want 400", name, a.status)
		}
	}
	w.subscribe(address, mine.access) // the valid request
}

// TestAnswerThatNobodyReads checks that a client that does not read cannot keep a connection after its token has ended.
// A write to it would block forever.
func TestAnswerThatNobodyReads(t *testing.T) {
	w := newWorld(t, nil)
	victim := w.signIn()
	large := server.NewMCPServer("large", "1", server.WithToolCapabilities(true))
	large.AddTool(mcp.NewTool("large"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(strings.Repeat("x", 16<<20)), nil // more than the kernel keeps for a connection
	})
	handler := w.app.Routes(mcpserver.Handler(large, slog.New(slog.DiscardHandler)))
	began, answered := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		close(began)
		handler.ServeHTTP(rw, r)
		close(answered)
	}))
	defer srv.CloseClientConnections()
	client, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	header, body := w.as(legacyHeader(victim.access)), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"large"}}`
	req, err := http.NewRequest(http.MethodPost, srv.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host = header, header.Get("Host")
	if err := req.Write(client); err != nil {
		t.Fatal(err)
	}
	<-began
	select {
	case <-answered:
		t.Fatal("control: it was answered although nobody reads")
	case <-time.After(500 * time.Millisecond):
	}
	w.post("/revoke", url.Values{"client_id": {victim.clientID}, "token": {victim.refresh}})
	<-answered
}

// serveStreams does what run does, with newStreamServer replacing our own tools.
func serveStreams(ctx context.Context, now func() time.Time) error {
	s, err := app.ParseConfig(nil, os.Getenv, io.Discard)
	if err != nil {
		return err
	}
	log := s.Logger(os.Stderr)
	listeners, err := app.Listen(s.Listen)
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, s, log, now)
	if err != nil {
		return err
	}
	defer a.Close()
	a.Handler = a.Routes(mcpserver.Handler(newStreamServer(), log))
	a.Greet(os.Stdout)
	return a.Serve(ctx, listeners)
}

// A subscription never ends by itself, so a shutdown would wait for it until it times out.
func TestShutdownEndsSubscriptions(t *testing.T) {
	w, api := newWorld(t, nil), newSlowAPI(t)
	mine := w.signIn()
	address, program, _ := w.startProcess(0, "WITH_STREAMS=1")
	stream := w.subscribe(address, mine.access)
	header, body := fetchCall(mine.access, api.URL, "")
	answered := make(chan answer, 1)
	go func() { answered <- fetch(t, http.MethodPost, address+"/mcp", w.as(header), strings.NewReader(body)) }()
	<-api.arrived

	began := time.Now()
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stream.end(t)
	api.release <- struct{}{}
	if a := <-answered; !strings.Contains(string(a.body), "survived") {
		t.Errorf("control: a tool call that was under way: got %d %s, want its result", a.status, a.body)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
	t.Logf("the program ended after %v", time.Since(began))
}
