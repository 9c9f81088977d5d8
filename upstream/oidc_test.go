package upstream_test

import (
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

// An issuer serves a discovery document and counts the requests for it. Its clock stands still unless it is moved.
type issuer struct {
	*httptest.Server
	mu       sync.Mutex
	now      time.Time
	asked    int
	status   int // 0 means 200
	document func(base string) map[string]any
	body     string // instead of the document
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

// change moves the clock and sets the status of the next responses.
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

// TestScopesNotAnswered checks that a response without scopes grants the requested scopes (RFC 6749 section 5.1).
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

// toStandIn sends requests for Google to the development provider.
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

// TestGoogleIssuerWithoutScheme checks both issuers that Google's ID tokens have been seen with.
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

// TestOddScopeAnswers checks RFC 6749 section 5.1: scope can be missing from the response, but not empty.
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
