package upstream_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

// newGitHub returns the provider in front of a handler that acts as GitHub Enterprise Server.
func newGitHub(t *testing.T, h http.Handler) *upstream.Provider {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	p, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id", ClientSecret: "secret", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGitHubAddresses(t *testing.T) {
	tests := []struct{ name, url, apiURL, wantIssuer, wantAPI string }{
		{"github.com is the default", "", "", "https://github.com", "https://api.github.com"},
		{"github.com", "https://github.com/", "", "https://github.com", "https://api.github.com"},
		{"upper case", "https://GitHub.com", "", "https://github.com", "https://api.github.com"},
		{"data residency", "https://octo.ghe.com", "", "https://octo.ghe.com", "https://api.octo.ghe.com"},
		{"two labels below ghe.com", "https://a.b.ghe.com", "", "https://a.b.ghe.com", "https://a.b.ghe.com/api/v3"},
		{"looks like ghe.com", "https://octoghe.com", "", "https://octoghe.com", "https://octoghe.com/api/v3"},
		{"enterprise server", "https://git.example.com:8443", "", "https://git.example.com:8443",
			"https://git.example.com:8443/api/v3"},
		{"explicit API", "https://git.example.com", "https://api.example.com/github/", "https://git.example.com",
			"https://api.example.com/github"},
		{"loopback", "http://[::1]:9000", "", "http://[::1]:9000", "http://[::1]:9000/api/v3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := upstream.GitHub(upstream.GitHubConfig{
				ClientID: "id", ClientSecret: "secret", URL: tt.url, APIURL: tt.apiURL})
			if err != nil {
				t.Fatal(err)
			}
			got := []string{p.IdentityIssuer, p.ResponseIssuer, p.APIURL}
			if diff := cmp.Diff([]string{tt.wantIssuer, tt.wantIssuer + "/login/oauth", tt.wantAPI}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGitHubConfigMistakes(t *testing.T) {
	const secret = "S3cret"
	tests := []struct {
		name   string
		config upstream.GitHubConfig
		want   []string
	}{
		{"no scheme", upstream.GitHubConfig{URL: "git.example.com"}, []string{"GITHUB_URL", "https://github.example.com"}},
		{"S18: http in public", upstream.GitHubConfig{URL: "http://git.example.com"}, []string{"GITHUB_URL", "https"}},
		{"ftp", upstream.GitHubConfig{URL: "ftp://git.example.com"}, []string{"GITHUB_URL"}},
		{"no host", upstream.GitHubConfig{URL: "https://"}, []string{"GITHUB_URL", "host"}},
		{"path", upstream.GitHubConfig{URL: "https://git.example.com/login"}, []string{"GITHUB_URL", "path"}},
		{"query", upstream.GitHubConfig{URL: "https://git.example.com?a"}, []string{"GITHUB_URL"}},
		{"userinfo", upstream.GitHubConfig{URL: "https://a@git.example.com"}, []string{"GITHUB_URL"}},
		{"garbage", upstream.GitHubConfig{URL: "https://[::1"}, []string{"GITHUB_URL", "not an address"}},
		{"S18: API in cleartext", upstream.GitHubConfig{APIURL: "http://api.example.com"}, []string{"GITHUB_API_URL",
			"api/v3"}},
		{"all at once", upstream.GitHubConfig{URL: "x", APIURL: "y"},
			[]string{"GITHUB_CLIENT_ID", "GITHUB_URL", "GITHUB_API_URL"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.ClientSecret = secret
			if tt.name != "all at once" {
				tt.config.ClientID = "id"
			}
			_, err := upstream.GitHub(tt.config)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to name %s", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Error("the error holds the client secret")
			}
		})
	}
	_, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id"})
	if err == nil || !strings.Contains(err.Error(), "GITHUB_CLIENT_SECRET") {
		t.Errorf("got %v, want an error that names GITHUB_CLIENT_SECRET", err)
	}
}

func TestAuthCodeURL(t *testing.T) {
	p := newGitHub(t, http.NotFoundHandler())
	// The verifier and its challenge are those of RFC 7636 appendix B.
	address, err := p.AuthCodeURL(t.Context(), "https://mcp.example.com/callback/github", "state",
		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "nonce", []string{"user:email", "public_repo"}, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"response_type":         {"code"},
		"client_id":             {"id"},
		"redirect_uri":          {"https://mcp.example.com/callback/github"},
		"state":                 {"state"},
		"scope":                 {"public_repo read:user user:email"},
		"code_challenge":        {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"},
		"code_challenge_method": {"S256"},
	}
	if diff := cmp.Diff(want, got.Query()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestServesAPI(t *testing.T) {
	p, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id", ClientSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://api.github.com/user":           true,
		"https://API.GitHub.com:443/user":       true,
		"https://github.com/user":               false,
		"http://api.github.com/user":            false,
		"https://api.github.com:8443/user":      false,
		"https://api.github.com.evil.example/":  false,
		"https://api.github.com@evil.example/":  false,
		"https://evil.example/api.github.com":   false,
		"https://evil.example?.api.github.com/": false,
		"//api.github.com/user":                 false,
		"/user":                                 false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.ServesAPI(u); got != want {
			t.Errorf("%s: got %t, want %t", address, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	p := newGitHub(t, http.NotFoundHandler())
	tests := []struct {
		granted, want string
		covered       bool
	}{
		{"user:email", "user:email", true},
		{"user", "user:email", true},
		{"user", "read:user", true},
		{"read:user", "user", false},
		{"repo", "public_repo", true},
		{"public_repo", "repo", false},
		{"admin:org", "read:org", true},
		{"write:org", "read:org", true},
		{"repo", "user:email", false},
		{"", "", false},
	}
	for _, tt := range tests {
		token := &upstream.Token{Scopes: strings.Fields(tt.granted)}
		if got := p.Covers(token, tt.want); got != tt.covered {
			t.Errorf("does %q cover %q: got %t", tt.granted, tt.want, got)
		}
	}
}

type address struct {
	Email    string `json:"email"`
	Primary  bool   `json:"primary"`
	Verified bool   `json:"verified"`
}

func TestEmails(t *testing.T) {
	const kelvin = "\u212a" // strings.ToLower makes it a k
	next := func(target string) string { return `<` + target + `>; rel="next", <http://x/>; rel="last"` }
	tests := []struct {
		name  string
		pages [][]address
		link  func(base string, page int) string
		want  []string
		err   string
	}{
		{"verified ones, the primary one first", [][]address{{
			{"Second@Example.com", false, true},
			{"unverified@example.com", false, false},
			{"Primary@Example.com", true, true},
			{"SECOND@example.com", false, true},
		}}, nil, []string{"primary@example.com", "second@example.com"}, ""},
		{"an unverified primary one", [][]address{{{"a@example.com", true, false}}}, nil, nil, ""},
		{"the Kelvin sign is not a k", [][]address{{{kelvin + "ate@example.com", true, true}}}, nil,
			[]string{kelvin + "ate@example.com"}, ""},
		{"the primary one on page 3", [][]address{
			{{"a@example.com", false, true}}, {{"b@example.com", false, true}}, {{"c@example.com", true, true}},
		}, func(base string, page int) string {
			return next(fmt.Sprintf("%s/api/v3/user/emails?page=%d", base, page+1))
		},
			[]string{"c@example.com", "a@example.com", "b@example.com"}, ""},
		{"the next page on another origin", [][]address{{}, {}},
			func(string, int) string { return next("https://evil.example/user/emails?page=2") }, nil, "not on the API"},
		{"the next page is itself, for ever", [][]address{{}, {}},
			func(base string, _ int) string { return next(base + "/api/v3/user/emails") }, nil, "more than 10 pages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, `{"id":1,"login":"octocat","email":"public-and-unverified@example.com"}`)
			})
			mux.HandleFunc("GET /api/v3/user/emails", func(w http.ResponseWriter, r *http.Request) {
				page := 1
				fmt.Sscan(r.FormValue("page"), &page)
				if page < len(tt.pages) {
					w.Header().Set("Link", tt.link("http://"+r.Host, page))
				}
				json.NewEncoder(w).Encode(tt.pages[page-1])
			})
			got, err := newGitHub(t, mux).Identify(t.Context(), &upstream.Token{Access: "a"}, "")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Emails); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
