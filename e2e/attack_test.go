package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream"
)

// TestTwelveSignInsOfOnePerson checks that more than ten sign-ins sign nobody out. GitHub keeps ten tokens per user and
// app for the same scopes, and the eleventh sign-in silently revokes the first token (exomem#223).
func TestTwelveSignInsOfOnePerson(t *testing.T) {
	t.Run("the first client's tool still works", func(t *testing.T) {
		w := newWorld(t, nil)
		b := w.browser()
		asked := 0 // how often the provider showed its page
		var all []tokens
		for range 12 {
			id := w.register(callbackURI)
			p := b.open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil)
			if p.status != 0 {
				asked++
				p = p.press("Authorize", nil)
			}
			all = append(all, w.redeem(id, p.url.Query().Get("code")))
		}
		if asked != 3 { // the first, and, within the hour, the eleventh and twelfth
			t.Errorf("the provider asked %d times, want 3: is its limit of ten at work?", asked)
		}
		for i, client := range all {
			if got := w.repositories(client.access); !strings.HasPrefix(got, "octocat/") {
				t.Errorf("client %d: list_repositories: got %q, want octocat's", i+1, got)
			}
		}
	})
	t.Run("control: twelve tokens of its own would have killed the first", func(t *testing.T) {
		w := newWorld(t, nil)
		var all []*upstream.Token
		for range 12 {
			all = append(all, w.upstreamToken())
		}
		github, err := upstream.GitHub(w.app.DevIDP.GitHub())
		if err != nil {
			t.Fatal(err)
		}
		for i, token := range all {
			_, err := github.Identify(t.Context(), token, "")
			if dead := i < 2; dead != (err != nil) {
				t.Errorf("token %d: got error %v, want one: %t", i+1, err, dead)
			}
		}
	})
}

// upstreamToken gets octocat's token from the provider, as the program would.
func (w *world) upstreamToken() *upstream.Token {
	w.t.Helper()
	github, err := upstream.GitHub(w.app.DevIDP.GitHub())
	if err != nil {
		w.t.Fatal(err)
	}
	b := w.browser()
	b.stopAt = "/callback/github"
	address, err := github.AuthCodeURL(w.t.Context(), w.base+b.stopAt, "state", testVerifier, "", nil, false)
	if err != nil {
		w.t.Fatal(err)
	}
	p := b.open(address).press("Authorize", nil)
	token, err := github.Exchange(w.t.Context(), w.base+b.stopAt, p.url.Query().Get("code"), testVerifier, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// repositories calls list_repositories and returns the first repository's full name, or the error.
func (w *world) repositories(access string) string {
	w.t.Helper()
	a := w.tool(access, "list_repositories")
	var result struct {
		Result struct {
			StructuredContent struct {
				Repositories []struct {
					FullName string `json:"full_name"`
				}
			}
		}
	}
	if json.Unmarshal(a.body, &result) != nil || len(result.Result.StructuredContent.Repositories) == 0 {
		return fmt.Sprintf("status %d: %s", a.status, a.body)
	}
	return result.Result.StructuredContent.Repositories[0].FullName
}

// TestStrangersWriteNothing checks that requests of users who have not signed in fill no table, however many there are.
// So there is no limit that they could exhaust either.
func TestStrangersWriteNothing(t *testing.T) {
	w := newWorld(t, nil)
	known := w.signIn() // so that there is something to damage
	before := w.stored()
	for i := range 50 {
		id := w.register(callbackURI, fmt.Sprintf("https://client.example/%d", i))
		request := w.authorizeURL(id, nil)
		b := w.browser()
		b.open(request)                                                  // never answered
		b.open(request).press("Cancel", nil)                             // refused
		atProvider := b.open(request).press("Continue with GitHub", nil) // abandoned there
		if i%10 != 0 {
			continue
		}
		back := atProvider.press("Deny", nil)
		if got := back.url.Query().Get("error"); got != "access_denied" {
			t.Fatalf("denied at the provider: client is told %q, want access_denied", got)
		}
		b.stopAt = "/callback/github"
		back = b.open(request).press("Continue with GitHub", nil).press("Authorize", nil)
		b.stopAt = ""
		for _, forged := range []url.Values{
			{"code": {"guessed"}, "state": {back.url.Query().Get("state")}},
			{"error": {"server_error"}, "state": {back.url.Query().Get("state")}},
			{"code": {back.url.Query().Get("code")}, "state": {"guessed"}},
			{},
		} {
			if p := b.open(w.base + "/callback/github?" + forged.Encode()); p.status != http.StatusBadRequest {
				t.Errorf("forged callback: got status %d, want 400", p.status)
			}
		}
		w.refresh(id, known.refresh) // another client's token
		w.post("/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {"mcp_ac_guess"}})
		w.post("/revoke", url.Values{"client_id": {id}, "token": {known.refresh}})
		w.tool("mcp_at_guess", "whoami")
	}
	if diff := cmp.Diff(before.rows, w.stored().rows); diff != "" {
		t.Errorf("strangers changed the number of rows (-before +after):\n%s", diff)
	}
	if got := w.stored(); !bytes.Equal(before.files, got.files) {
		t.Errorf("strangers changed the database's files, of %d bytes before and %d after", len(before.files), len(got.files))
	}

	// A user who signs in does change both.
	w.signIn()
	got := w.stored()
	if got.rows["grants"] != before.rows["grants"]+1 || got.rows["clients"] != before.rows["clients"]+1 {
		t.Errorf("after a sign-in: got rows %v, before %v, want one more grant and client", got.rows, before.rows)
	}
	if len(got.files) <= len(before.files) {
		t.Errorf("after a sign-in the files have %d bytes, before %d, want more", len(got.files), len(before.files))
	}
}

// A stock is the content of the database.
type stock struct {
	rows  map[string]int // keyed by table
	files []byte         // server.db and server.db-wal
}

func (w *world) stored() stock {
	w.t.Helper()
	s := stock{rows: map[string]int{}}
	for _, suffix := range []string{"", "-wal"} {
		s.files = append(s.files, readFile(w.t, w.database()+suffix)...)
	}
	db := w.readOnly()
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	for _, table := range tables {
		s.rows[table] = query[int](w, `SELECT count(*) FROM `+table)
	}
	return s
}

// readOnly opens the database beside the server.
func (w *world) readOnly() *sql.DB {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.database()+"?mode=ro")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	return db
}

// query returns the single value of a query.
func query[T any](w *world, statement string) T {
	w.t.Helper()
	var v T
	if err := w.readOnly().QueryRow(statement).Scan(&v); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
	return v
}

// TestForeignHost checks that a foreign Host is refused. If a name is rebound to this server's address (DNS rebinding),
// a browser treats its page and the server as one origin, and only the Host header reveals it.
func TestForeignHost(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	_, port, _ := strings.Cut(strings.TrimPrefix(w.base, "http://"), ":")
	for _, host := range []string{"rebound.example", "rebound.example:" + port, "localhost", "localhost:1",
		"localhost." + ":" + port, "localhost.rebound.example:" + port, "0.0.0.0:" + port, "127.0.0.2:" + port} {
		for _, route := range serverRoutes {
			method, path, _ := strings.Cut(route, " ")
			header := http.Header{"Host": {host}, "Origin": {"http://" + host}, "Sec-Fetch-Site": {"same-origin"},
				"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {"Bearer " + access}}
			a := w.call(method, path, header, "")
			if a.status != http.StatusMisdirectedRequest {
				t.Errorf("Host %s: %s: got status %d, want 421", host, route, a.status)
			}
		}
		for _, path := range []string{"/healthz", "/readyz"} { // load balancers use the IP address
			if got := w.call(http.MethodGet, path, http.Header{"Host": {host}}, "").status; got != http.StatusOK {
				t.Errorf("Host %s: %s: got status %d, want 200", host, path, got)
			}
		}
		a := fetch(t, http.MethodGet, w.app.DevIDP.URL()+"/login/oauth/authorize", http.Header{"Host": {host}}, nil)
		if a.status != http.StatusMisdirectedRequest {
			t.Errorf("Host %s: development provider: got status %d, want 421", host, a.status)
		}
	}
	for _, route := range serverRoutes { // the valid request
		method, path, _ := strings.Cut(route, " ")
		if got := w.call(method, path, nil, "").status; got == http.StatusMisdirectedRequest {
			t.Errorf("own Host: %s: got status %d", route, got)
		}
	}
}

var serverRoutes = []string{"GET /", "GET /static/style.css",
	"GET /.well-known/oauth-protected-resource", "GET /.well-known/oauth-protected-resource/mcp",
	"GET /.well-known/oauth-authorization-server", "OPTIONS /.well-known/oauth-authorization-server",
	"POST /register", "OPTIONS /register", "GET /authorize", "POST /authorize", "GET /callback/github",
	"GET /connections", "POST /connections/sign-in", "POST /connections/disconnect", "POST /connections/disconnect-all",
	"POST /connections/sign-out", "POST /token", "OPTIONS /token", "POST /revoke", "POST /webhook/github", "POST /mcp",
	"POST /mcp/", "GET /mcp", "DELETE /mcp", "OPTIONS /mcp", "GET /nowhere", "PUT /token"}

// TestOtherLoopbackNames checks the three names of a server on loopback. Programs can use any of them; browsers are
// redirected to the name that has the cookies.
func TestOtherLoopbackNames(t *testing.T) {
	w := newWorld(t, nil)
	_, port, _ := strings.Cut(strings.TrimPrefix(w.base, "http://"), ":")
	for _, host := range []string{"127.0.0.1:" + port, "[::1]:" + port, "LOCALHOST:" + port} {
		a := w.call(http.MethodGet, "/.well-known/oauth-authorization-server", http.Header{"Host": {host}}, "")
		if a.status != http.StatusOK || a.str("issuer") != w.base {
			t.Errorf("Host %s: metadata: got %d with issuer %q, want 200 with %q", host, a.status, a.str("issuer"), w.base)
		}
		a = w.call(http.MethodPost, "/mcp", http.Header{"Host": {host}}, "")
		if got := a.header.Get("WWW-Authenticate"); a.status != 401 || !strings.Contains(got, `"`+w.base+`/.well-known/`) {
			t.Errorf("Host %s: /mcp: got %d with challenge %q, want 401 that points to %s", host, a.status, got, w.base)
		}
		if host == "LOCALHOST:"+port {
			continue // another spelling of the same name
		}
		a = w.call(http.MethodGet, "/authorize?client_id=x", http.Header{"Host": {host}, "Accept": {"text/html"}}, "")
		if got := a.header.Get("Location"); a.status != http.StatusFound || got != w.base+"/authorize?client_id=x" {
			t.Errorf("Host %s: page: got %d to %q, want 302 to the same page at %s", host, a.status, got, w.base)
		}
	}
}

// TestForwardedToDevelopmentSignIn checks that the development provider, where anybody can sign in as anybody, cannot
// be reached through a tunnel that a developer opened to show their work.
func TestForwardedToDevelopmentSignIn(t *testing.T) {
	w := newWorld(t, nil)
	for _, header := range []string{"", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Via",
		"X-Real-Ip"} {
		h := http.Header{}
		if header != "" {
			h.Set(header, "192.0.2.1")
		}
		for _, route := range serverRoutes {
			method, path, _ := strings.Cut(route, " ")
			if route == "POST /authorize" {
				h.Set("Sec-Fetch-Site", "same-origin") // without this header, the 403 would have another reason
			}
			if got := w.call(method, path, h, "").status; (got == http.StatusForbidden) != (header != "") {
				t.Errorf("%s: %q: got status %d", route, header, got)
			}
		}
		a := fetch(t, http.MethodGet, w.app.DevIDP.URL()+"/login/oauth/authorize", h, nil)
		if (a.status == http.StatusForbidden) != (header != "") {
			t.Errorf("development provider: %q: got status %d", header, a.status)
		}
	}
}
