package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/app"
)

// A world is the whole program on loopback, with the development provider and a test clock. It can be stopped and
// started again on the same address and data.
type world struct {
	t     testing.TB
	env   map[string]string
	base  string // BASE_URL
	clock *clock
	logs  *lockedBuffer
	app   *app.App
	srv   *http.Server
	l     net.Listener // the listener of srv
	// stopWatching ends app's background work.
	stopWatching context.CancelFunc
	// provider is the origin of a development provider that the test started; empty if the program's own is used.
	provider string
}

// newWorld starts a world. The environment may change the configuration.
func newWorld(t testing.TB, env map[string]string) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	w := &world{t: t, base: "http://localhost:" + port, logs: new(lockedBuffer),
		clock: &clock{t: time.Now().Truncate(time.Millisecond)},
		env:   map[string]string{"BASE_URL": "http://localhost:" + port, "DATA_DIR": filepath.Join(t.TempDir(), "data")}}
	maps.Copy(w.env, env)
	w.start(l)
	t.Cleanup(func() {
		w.stop()
		// In every test, the log must not contain anything that looks like a secret (see also leak_test.go).
		if found := secretPattern.FindString(w.logs.String()); found != "" {
			t.Errorf("the log of this test holds a secret that begins with %.8s", found)
		}
	})
	return w
}

// secretPattern matches our tokens and codes, GitHub's and Google's tokens and secrets, and ID tokens.
var secretPattern = regexp.MustCompile(`(mcp_(at|rt|ac)_|gh[opurs]_|ya29\.|GOCSPX-|eyJ)[A-Za-z0-9_-]{12,}`)

func (w *world) start(l net.Listener) {
	w.t.Helper()
	s, err := app.ParseConfig(nil, func(name string) string { return w.env[name] }, io.Discard)
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.app, err = app.Open(w.t.Context(), s, log, w.clock.now); err != nil {
		w.t.Fatal(err)
	}
	w.srv, w.l = &http.Server{Handler: w.app.Handler}, l
	go w.srv.Serve(l)
	ctx, cancel := context.WithCancel(context.Background())
	w.stopWatching = cancel
	go w.app.OAuth.Watch(ctx)
}

func (w *world) stop() {
	w.stopWatching()
	w.srv.Close()
	w.l.Close() // Serve may not have begun, and would then leave it open for a moment
	w.app.Close()
}

// restart stops the program and starts it again.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	http.DefaultClient.CloseIdleConnections() // a POST over a closed connection would be an error
	l, err := net.Listen("tcp", strings.Replace(strings.TrimPrefix(w.base, "http://"), "localhost", "127.0.0.1", 1))
	if err != nil {
		w.t.Fatal(err)
	}
	w.start(l)
}

// database is the path of the SQLite file.
func (w *world) database() string { return filepath.Join(w.env["DATA_DIR"], "server.db") }

// A clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A lockedBuffer collects the log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// An answer is a response to a client, with its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil if the body is not a JSON object
}

// str returns a string member of the JSON body, or "".
func (a answer) str(member string) string {
	s, _ := a.json[member].(string)
	return s
}

// call sends a request as a program would.
func (w *world) call(method, path string, header http.Header, body string) answer {
	w.t.Helper()
	return fetch(w.t, method, w.base+path, header, strings.NewReader(body))
}

// fetch sends a request to any URL, with the Host of the header if there is one.
func fetch(t testing.TB, method, address string, header http.Header, body io.Reader) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(a.body, &a.json) != nil {
		a.json = nil
	}
	return a
}

// post sends a form.
func (w *world) post(path string, form url.Values) answer {
	w.t.Helper()
	return w.call(http.MethodPost, path, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form.Encode())
}

// register registers a public client and returns its client_id.
func (w *world) register(redirectURIs ...string) string {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"client_name": "Test client", "redirect_uris": redirectURIs,
		"token_endpoint_auth_method": "none"})
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.call(http.MethodPost, "/register", http.Header{"Content-Type": {"application/json"}}, string(body))
	if a.status != http.StatusCreated {
		w.t.Fatalf("registering: status %d: %s", a.status, a.body)
	}
	return a.str("client_id")
}

// callbackURI is where test clients get their codes. Nothing listens there: the test browser stops before.
const callbackURI = "http://127.0.0.1:9/callback"

// A testVerifier and its S256 challenge (RFC 7636 appendix B).
const (
	testVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	testChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// authorizeURL returns a valid authorization request of the client, with some parameters changed.
func (w *world) authorizeURL(clientID string, change func(url.Values)) string {
	q := url.Values{"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callbackURI}, "state": {"xyz"},
		"code_challenge": {testChallenge}, "code_challenge_method": {"S256"}, "resource": {w.base + "/mcp"}}
	if change != nil {
		change(q)
	}
	return w.base + "/authorize?" + q.Encode()
}

// signIn walks from an authorization request to the client's redirect URI, as octocat, and returns the query there.
func (b *browser) signIn(authorizeURL string) url.Values {
	b.w.t.Helper()
	p := b.open(authorizeURL).press("Continue with GitHub", nil)
	if p.status != 0 { // the provider asks again now and then
		p = p.press("Authorize", nil)
	}
	if p.status != 0 {
		b.w.t.Fatalf("sign-in ended at %s with status %d:\n%s", p.url.Path, p.status, p.text)
	}
	return p.url.Query()
}

// tokens are the client_id, tokens and scope of a client.
type tokens struct{ clientID, access, refresh, scope string }

// signIn registers a client and signs octocat in with it.
func (w *world) signIn() tokens {
	w.t.Helper()
	id := w.register(callbackURI)
	return w.redeem(id, w.browser().signIn(w.authorizeURL(id, nil)).Get("code"))
}

// signInFor signs octocat in with a client that asks for these scopes.
func (w *world) signInFor(clientID, scope string) tokens {
	w.t.Helper()
	q := w.browser().signIn(w.authorizeURL(clientID, func(q url.Values) { q.Set("scope", scope) }))
	return w.redeem(clientID, q.Get("code"))
}

func (w *world) redeem(clientID, code string) tokens {
	w.t.Helper()
	a := w.post("/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {clientID}, "code": {code},
		"code_verifier": {testVerifier}, "redirect_uri": {callbackURI}})
	if a.status != http.StatusOK {
		w.t.Fatalf("redeeming the code: status %d: %s", a.status, a.body)
	}
	return tokens{clientID, a.str("access_token"), a.str("refresh_token"), a.str("scope")}
}

// refresh presents a refresh token.
func (w *world) refresh(clientID, refreshToken string) answer {
	w.t.Helper()
	return w.post("/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {clientID},
		"refresh_token": {refreshToken}})
}

// tool calls a tool in the newest protocol revision.
func (w *world) tool(access, name string) answer {
	w.t.Helper()
	return w.call(http.MethodPost, "/mcp", mcpHeader(access, "tools/call", name), `{"jsonrpc":"2.0","id":1,`+
		`"method":"tools/call","params":{"name":"`+name+`","arguments":{},"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
}

func mcpHeader(access, method, name string) http.Header {
	return http.Header{"Authorization": {"Bearer " + access}, "Content-Type": {"application/json"},
		"Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2026-07-28"},
		"Mcp-Method": {method}, "Mcp-Name": {name}}
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
