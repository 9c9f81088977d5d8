package oauth

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/upstream"
)

// newTestServer returns a server whose store is empty.
func newTestServer(t testing.TB, baseURL string) *Server {
	t.Helper()
	base, err := url.Parse(baseURL)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewRing([][]byte{[]byte("0123456789abcdef0123456789ABCDEF")})
	if err != nil {
		t.Fatal(err)
	}
	log, now := storm.New(slog.New(slog.DiscardHandler), time.Now), func() time.Time { return time.Unix(1_800_000_000, 0) }
	clients := clients.New(clients.Config{BaseURL: baseURL, Ring: ring, Store: emptyStore{}, Registration: true, Log: log,
		Now: now})
	return &Server{store: emptyStore{}, baseURL: baseURL, base: base, resource: baseURL + "/mcp", ring: ring,
		scopes: []Scope{{Name: "account:read", AtSignIn: true}}, providers: []*upstream.Provider{{ID: "github"}},
		flowCodecs: newCookieCodecs(ring, "flow", baseURL), flowCookiePrefix: flowCookiePrefix(base),
		visitorCodecs: newCookieCodecs(ring, "session", baseURL), visitorCookie: cookieName(base, "session"),
		grants: grants.New(grants.Config{Store: emptyStore{}, Ring: ring, Log: log,
			Now: now}), clients: clients, log: log, now: now}
}

func TestFlowCookie(t *testing.T) {
	for _, tt := range []struct {
		baseURL    string
		wantPrefix string
		wantSecure bool
	}{
		{"https://mcp.example", "__Host-flow_", true},
		{"http://localhost:8080", "flow_8080_", false},
	} {
		t.Run("S5: "+tt.baseURL, func(t *testing.T) {
			s := newTestServer(t, tt.baseURL)
			f := newFlow("github", question{Request: "client_id=x&state=y"}, s.now())
			c, err := s.sealFlow(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(c.Name, tt.wantPrefix) || c.Secure != tt.wantSecure || !c.HttpOnly || c.Path != "/" ||
				c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("got cookie %s", strings.Replace(c.String(), c.Value, "...", 1))
			}
			if strings.Contains(c.Value, "client_id") {
				t.Error("the cookie can be read")
			}
			got := s.openFlow(c)
			if got == nil || !bytes.Equal(got.ID, f.ID) || got.Request != f.Request || got.Provider != f.Provider {
				t.Errorf("opened to %v", got)
			}
		})
	}
}

func TestFlowIsFoundOnlyByItsOwnStateInItsOwnBrowser(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	began := s.now()
	sealed := func() (*flow, *http.Cookie) {
		f := newFlow("github", question{}, began)
		c, err := s.sealFlow(f)
		if err != nil {
			t.Fatal(err)
		}
		return f, c
	}
	mine, cookie := sealed()
	theirs, theirCookie := sealed()
	renamed := *theirCookie
	renamed.Name = cookie.Name
	changed := *cookie
	changed.Value = altered(changed.Value, len(changed.Value)/2)
	for _, tt := range []struct {
		name   string
		state  string
		cookie *http.Cookie
		now    time.Time
		want   bool
	}{
		{"the browser that consented", mine.state(), cookie, began, true},
		{"after ten minutes", mine.state(), cookie, began.Add(10*time.Minute + time.Second), false},
		{"no cookie", mine.state(), nil, began, false},
		{"no state", "", cookie, began, false},
		{"another flow's state", theirs.state(), cookie, began, false},
		{"another flow's cookie under this one's name", mine.state(), &renamed, began, false},
		{"a changed cookie", mine.state(), &changed, began, false},
	} {
		s.now = func() time.Time { return tt.now }
		r := httptest.NewRequest(http.MethodGet, "/callback/github", nil)
		if tt.cookie != nil {
			r.AddCookie(tt.cookie)
		}
		if got := s.flowOf(r, tt.state); (got != nil) != tt.want {
			t.Errorf("%s: found %v, want %v", tt.name, got != nil, tt.want)
		}
	}
}

func TestFifthFlowOfABrowserPushesOutTheOldest(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	jar := map[string]*http.Cookie{}
	var names []string
	for i := range 5 {
		s.now = func() time.Time { return time.Unix(1_800_000_000+int64(i), 0) }
		r, w := httptest.NewRequest(http.MethodPost, "/authorize", nil), httptest.NewRecorder()
		for _, c := range jar {
			r.AddCookie(c)
		}
		f := newFlow("github", question{}, s.now())
		if err := s.startFlow(w, r, f); err != nil {
			t.Fatal(err)
		}
		for _, c := range w.Result().Cookies() {
			jar[c.Name] = c
			if c.MaxAge < 0 {
				delete(jar, c.Name)
			}
		}
		names = append(names, s.flowCookieName(f.state()))
	}
	for i, name := range names {
		if got, want := jar[name] != nil, i > 0; got != want {
			t.Errorf("flow %d: in the browser %v, want %v", i+1, got, want)
		}
	}
}

func TestLargestRequestFitsIntoACookie(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	noise := func(n int) string { // as hard to compress as what real clients send
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(seal.NewSecret().Format(""))
		}
		return b.String()[:n]
	}
	request := func(state int) string {
		return url.Values{"client_id": {"mcp_ci_" + noise(1024-len("mcp_ci_"))}, "state": {noise(state)},
			"response_type": {"code"}, "code_challenge": {noise(43)}, "code_challenge_method": {"S256"},
			"resource": {s.resource}}.Encode()
	}
	f := newFlow("github", question{Request: request(maxState), Redirect: "https://client.example/callback",
		Name: noise(64), Scopes: "account:read repos:read issues:write calendar:read"}, s.now())
	if _, err := s.sealFlow(f); err != nil {
		t.Errorf("client_id and state of 1,024 characters: %v", err)
	}
	f.Request = request(4 * maxState)
	if _, err := s.sealFlow(f); err == nil {
		t.Error("control: what no browser keeps was sealed")
	}
}

func FuzzFlowCookie(f *testing.F) {
	s := newTestServer(f, "https://mcp.example")
	good, err := s.sealFlow(&flow{ID: make([]byte, 32), Provider: "github", question: question{Request: "a=b"},
		Began: s.now()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Value)
	f.Add("")
	f.Add("MTgwMDAwMDAwMHxBQUFB")
	f.Fuzz(func(t *testing.T, value string) {
		sealed := s.openFlow(&http.Cookie{Name: good.Name, Value: value})
		if sealed == nil {
			return
		}
		// Sealed here, then (each fuzzing process seals its own); and so nothing close to it was.
		for i := range value {
			changed := s.openFlow(&http.Cookie{Name: good.Name, Value: altered(value, i)})
			// Base64 can spell the same in several ways.
			if changed != nil && !cmp.Equal(changed, sealed, cmp.AllowUnexported(flow{})) {
				t.Fatalf("opened a cookie that was not sealed here: %q", altered(value, i))
			}
		}
	})
}

// register registers a client and returns its client_id.
func register(t testing.TB, s *Server, redirectURI string) string {
	t.Helper()
	resp, err := s.clients.Register(&clients.RegistrationRequest{ClientName: "A", RedirectURIs: []string{redirectURI}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.ClientID
}

// altered returns s with another character at i.
func altered(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}
