package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// An issuer serves a discovery document and counts how often it is asked. Its clock stands still unless it is moved.
type issuer struct {
	*httptest.Server
	mu       sync.Mutex
	now      time.Time
	asked    int
	status   int // 0 means 200
	document func(base string) map[string]any
	body     string // in place of the document
}

func newIssuer(t *testing.T) (*issuer, *upstream.Provider) {
	t.Helper()
	i := &issuer{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), document: func(base string) map[string]any {
		return map[string]any{"issuer": base, "authorization_endpoint": base + "/authorize?policy=p",
			"token_endpoint": base + "/token", "jwks_uri": base + "/keys"}
	}}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	now := func() time.Time {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.now
	}
	p, err := upstream.OIDC(upstream.OIDCConfig{Issuer: i.URL, ClientID: "id", ClientSecret: "S3cret"})
	if err != nil {
		t.Fatal(err)
	}
	p.SetClock(now)
	return i, p
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.status >= 300 && i.status < 400 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(max(i.status, http.StatusOK))
	if i.body != "" {
		fmt.Fprint(w, i.body)
		return
	}
	json.NewEncoder(w).Encode(i.document(i.URL))
}

// change moves the clock and sets the status of the answers to come.
func (i *issuer) change(later time.Duration, status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now, i.status = i.now.Add(later), status
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func authURL(t *testing.T, p *upstream.Provider) (string, error) {
	return p.AuthCodeURL(t.Context(), "https://mcp.example.com/callback/oidc", "state",
		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "nonce", []string{"email"}, false)
}

func TestOIDCAuthCodeURL(t *testing.T) {
	i, p := newIssuer(t)
	if i.count() != 0 {
		t.Error("the provider was asked before anybody signed in")
	}
	address, err := authURL(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := i.URL + "/authorize?policy=p&" + url.Values{
		"response_type":         {"code"},
		"client_id":             {"id"},
		"redirect_uri":          {"https://mcp.example.com/callback/oidc"},
		"state":                 {"state"},
		"nonce":                 {"nonce"},
		"scope":                 {"email openid profile"},
		"code_challenge":        {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"},
		"code_challenge_method": {"S256"},
	}.Encode()
	if address != want {
		t.Errorf("got  %s\nwant %s", address, want)
	}
}

func TestProviderWithoutAPI(t *testing.T) {
	i, p := newIssuer(t)
	for _, address := range []string{i.URL + "/userinfo", "//:", "https://id.example.com/"} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if p.ServesAPI(u) {
			t.Errorf("%s would see the token", address)
		}
	}
}

func TestProviderDownAtStart(t *testing.T) {
	i, p := newIssuer(t)
	i.change(0, http.StatusBadGateway)
	if p.Unavailable() {
		t.Error("unavailable before anybody has asked")
	}
	fail := func(when string, asked int) {
		t.Helper()
		if _, err := authURL(t, p); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", when, err)
		}
		if got := i.count(); got != asked {
			t.Errorf("%s: asked %d times, want %d", when, got, asked)
		}
		if !p.Unavailable() {
			t.Errorf("%s: it does not count as unavailable", when)
		}
	}
	fail("down", 1)
	fail("at once again", 1)
	i.change(time.Second, http.StatusBadGateway)
	if p.Unavailable() {
		t.Error("nobody may try again after a second")
	}
	fail("after a second", 2)
	i.change(time.Second, http.StatusBadGateway)
	fail("after the second second, of two", 2)
	for asked := 3; asked < 10; asked++ {
		i.change(time.Minute, http.StatusBadGateway) // the longest it is left alone
		fail("a minute later", asked)
	}
	i.change(time.Minute, 0)
	if _, err := authURL(t, p); err != nil || p.Unavailable() {
		t.Errorf("up again: got %v", err)
	}
}

func TestLastGoodDocumentIsKept(t *testing.T) {
	i, p := newIssuer(t)
	want, err := authURL(t, p)
	if err != nil {
		t.Fatal(err)
	}
	i.change(23*time.Hour, 0)
	if _, err := authURL(t, p); err != nil || i.count() != 1 {
		t.Errorf("within a day: got %v, asked %d times", err, i.count())
	}
	i.change(time.Hour, http.StatusInternalServerError)
	for asked := range 2 { // nobody waits for the new document
		if got, err := authURL(t, p); err != nil || got != want || p.Unavailable() {
			t.Errorf("down: got %s, %v", got, err)
		}
		i.waitFor(t, 2)
		if asked == 1 && i.count() != 2 {
			t.Errorf("asked %d times, want 2", i.count())
		}
	}
	i.document = func(base string) map[string]any {
		return map[string]any{"issuer": base, "authorization_endpoint": base + "/moved",
			"token_endpoint": base + "/token", "jwks_uri": base + "/keys"}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		i.change(time.Second, 0) // each time: the answer to the last question may have come after a change of the clock
		got, err := authURL(t, p)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("moved: got %s, %v", got, err)
		}
		if strings.HasPrefix(got, i.URL+"/moved?") {
			break
		}
	}
}

// waitFor waits until the issuer has been asked so often.
func (i *issuer) waitFor(t *testing.T, asked int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); i.count() < asked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times, want %d", i.count(), asked)
		}
	}
}

func TestOneRequestForAll(t *testing.T) {
	i, p := newIssuer(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := authURL(t, p); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := i.count(); got != 1 {
		t.Errorf("asked %d times, want once", got)
	}
}

// Whoever asks first may close the page at once. That says nothing of the provider.
func TestFirstOneLeaves(t *testing.T) {
	i, p := newIssuer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.AuthCodeURL(ctx, "https://mcp.example.com/callback/oidc", "state", "verifier", "nonce", nil, false)
	if err != nil && !errors.Is(err, upstream.ErrUnavailable) || p.Unavailable() {
		t.Errorf("got %v", err)
	}
	if _, err := authURL(t, p); err != nil || i.count() != 1 {
		t.Errorf("the next one: got %v, asked %d times, want the same once", err, i.count())
	}
}

func TestWrongDiscovery(t *testing.T) {
	set := func(name string, value any) func(*issuer) {
		return func(i *issuer) {
			document := i.document
			i.document = func(base string) map[string]any {
				d := document(base)
				d[name] = value
				return d
			}
		}
	}
	const secret = "Leaked1"
	misconfigured, unavailable := upstream.ErrMisconfigured, upstream.ErrUnavailable
	for _, tt := range []struct {
		name   string
		change func(*issuer)
		kind   error
		want   []string
	}{
		{"another issuer", set("issuer", "https://id.example.com"), misconfigured,
			[]string{"https://id.example.com", "127.0.0.1"}},
		{"no issuer", set("issuer", ""), misconfigured, []string{`calls itself ""`}},
		{"a slash too many", func(i *issuer) { set("issuer", i.URL+"/")(i) }, misconfigured, []string{"slash"}},
		{"no token endpoint", set("token_endpoint", ""), misconfigured, []string{"token_endpoint"}},
		{"S18: token endpoint in cleartext", set("token_endpoint", "http://id.example.com/token"), misconfigured,
			[]string{"token_endpoint"}},
		{"S18: keys in cleartext", set("jwks_uri", "http://id.example.com/keys"), misconfigured, []string{"jwks_uri"}},
		{"S18: revocation in cleartext", set("revocation_endpoint", "http://id.example.com"), misconfigured,
			[]string{"revocation_endpoint"}},
		{"S18: userinfo in cleartext", set("userinfo_endpoint", "http://id.example.com"), misconfigured,
			[]string{"userinfo_endpoint"}},
		{"sign-in page that is a script", set("authorization_endpoint", "javascript:alert(1)"), misconfigured,
			[]string{"authorization_endpoint"}},
		{"only other ways to authenticate", set("token_endpoint_auth_methods_supported", []string{"private_key_jwt"}),
			misconfigured, []string{"client_secret_basic", "client_secret_post"}},
		{"not found", func(i *issuer) { i.status = 404 }, misconfigured, []string{"check its address"}},
		{"S18: redirect", func(i *issuer) { i.status = 302 }, misconfigured, []string{"redirect"}},
		{"a firewall's 403", func(i *issuer) { i.status, i.body = 403, secret }, unavailable, nil},
		{"a web page", func(i *issuer) { i.body = "<h1>" + secret }, unavailable, []string{"not what"}},
		{"two megabytes", func(i *issuer) { i.body = `{"issuer":"` + strings.Repeat("x", 2<<20) + `"}` }, unavailable,
			[]string{"not what"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, p := newIssuer(t)
			tt.change(i)
			_, err := authURL(t, p)
			if !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want the kind %v", err, tt.kind)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %s", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Error("the error holds the body")
			}
			if _, err := p.Exchange(t.Context(), "https://mcp.example.com/callback/oidc", "c0de", "v3rifier", nil); err == nil ||
				strings.Contains(err.Error(), "c0de") || i.count() != 1 {
				t.Errorf("then redeeming a code: got %v, %d requests", err, i.count())
			}
		})
	}
}

// An answer that names no scopes grants what was asked for (RFC 6749 section 5.1).
func TestScopesNotAnswered(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "authorization_endpoint": server.URL + "/a",
			"token_endpoint": server.URL + "/token", "jwks_uri": server.URL + "/keys"})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"a","token_type":"Bearer","id_token":"i"}`)
	})
	p, err := upstream.OIDC(upstream.OIDCConfig{Issuer: server.URL, ClientID: "id", ClientSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.Exchange(t.Context(), "http://localhost/", "code", "verifier", []string{"groups"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(token.Scopes, " "); got != "email groups openid profile" {
		t.Errorf("got %s", got)
	}
	if b, err := json.Marshal(token); err != nil || strings.Contains(string(b), `"i"`) {
		t.Error("the ID token would be kept")
	}
}

// toStandIn takes requests for Google to the stand-in.
type toStandIn struct{ address string }

func (to toStandIn) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "accounts.google.com" {
		return http.DefaultTransport.RoundTrip(r)
	}
	at, err := url.Parse(to.address + r.URL.Path)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL, r.Host = at, ""
	return http.DefaultTransport.RoundTrip(r)
}

// Google's ID tokens have been seen with both.
func TestGoogleIssuerWithoutScheme(t *testing.T) {
	const callback = "http://localhost:20600/callback/google"
	for iss, ok := range map[string]bool{"https://accounts.google.com": true, "accounts.google.com": true,
		"http://accounts.google.com": false, "accounts.google.com.evil.example": false} {
		t.Run(iss, func(t *testing.T) {
			idp, err := devidp.Start(devidp.Config{BaseURL: "http://localhost:20600", Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { idp.Close() })
			idp.Lie(devidp.Metadata, func(m map[string]any) {
				for name, value := range m {
					if s, ok := value.(string); ok {
						m[name] = strings.Replace(s, idp.URL()+"/google", "https://accounts.google.com", 1)
					}
				}
			})
			idp.Lie(devidp.IDToken, func(c map[string]any) { c["iss"] = iss })
			c := idp.Google()
			c.Issuer = ""
			p, err := upstream.Google(c)
			if err != nil {
				t.Fatal(err)
			}
			p.SetTransport(toStandIn{idp.URL() + "/google"})
			address, err := p.AuthCodeURL(t.Context(), callback, "state", "verifier", "nonce", nil, false)
			if err != nil {
				t.Fatal(err)
			}
			page, request, _ := strings.Cut(address, "?")
			page = strings.Replace(page, "https://accounts.google.com", idp.URL()+"/google", 1)
			form := url.Values{"request": {request}, "login": {"octocat"}, "decision": {"authorize"}}
			req, err := http.NewRequest("POST", page, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", idp.URL())
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			back, err := res.Location()
			if err != nil {
				t.Fatal(err)
			}
			token, err := p.Exchange(t.Context(), callback, back.Query().Get("code"), "verifier", nil)
			if err != nil {
				t.Fatal(err)
			}
			id, err := p.Identify(t.Context(), token, "nonce")
			if ok != (err == nil) || !ok && !errors.Is(err, upstream.ErrBadAnswer) {
				t.Errorf("got %v", err)
			}
			if ok && id.Issuer != "https://accounts.google.com" {
				t.Errorf("got the identity's issuer %s", id.Issuer)
			}
		})
	}
}

// RFC 6749 section 5.1 excuses an answer without scopes, not one with none.
func TestOddScopeAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		``:                           "email groups openid profile",
		`,"scope":"email openid"`:    "email openid",
		`,"scope":""`:                "",
		`,"scope":"   "`:             "",
		`,"scope":["openid groups"]`: "",
	} {
		server := httptest.NewUnstartedServer(nil)
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.URL.Path == "/token" {
				fmt.Fprint(w, `{"access_token":"a","token_type":"Bearer","id_token":"i"`+answer+`}`)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "authorization_endpoint": server.URL + "/a",
				"token_endpoint": server.URL + "/token", "jwks_uri": server.URL + "/keys"})
		})
		server.Start()
		defer server.Close()
		p, err := upstream.OIDC(upstream.OIDCConfig{Issuer: server.URL, ClientID: "id", ClientSecret: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		google, err := upstream.Google(upstream.GoogleConfig{ClientID: "id.apps.googleusercontent.com", ClientSecret: "s",
			Issuer: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		token, err := p.Exchange(t.Context(), "http://localhost/", "code", "verifier", []string{"groups"})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(token.Scopes, " "); got != want {
			t.Errorf("%s: granted %q, want %q", answer, got, want)
		}
		if token, err = google.Exchange(t.Context(), "http://localhost/", "code", "verifier",
			[]string{"calendar"}); err != nil {
			t.Fatal(err)
		}
		if google.Covers(token, "calendar") {
			t.Errorf("%s: Google did not say that the calendar was granted, but it counts as granted", answer)
		}
	}
}
