package oauthtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/upstream"
)

var scopes = []oauth.Scope{
	{Name: "account:read", Sentence: "See who you are", AtSignIn: true},
	{Name: "repos:read", Sentence: "See your repositories", Provider: "github", IncludedIn: "repos:write"},
	{Name: "repos:write", Sentence: "Change your repositories", Provider: "github"},
	{Name: "calendar:read", Sentence: "See your calendar", Provider: "google"},
}

// use runs a tool's code as the caller, and returns the response.
func use(t testing.TB, c Caller, tool func(*http.Request, *oauth.Caller)) *http.Response {
	w := httptest.NewRecorder()
	As(t, c, scopes, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tool(r, oauth.CallerFrom(r.Context()))
		w.WriteHeader(http.StatusOK)
	})).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mcp", nil))
	return w.Result()
}

func TestToolSeesTheCallerThatTheTestMadeUp(t *testing.T) {
	ann := Caller{Provider: "google", Subject: "42", Login: "ann@acme.example", Name: "Ann",
		Emails: []string{"ann@acme.example", "a@b.example"}, HostedDomain: "acme.example", Client: "Notebook",
		Scopes: []string{"calendar:read"}}
	admin := Caller{Provider: "oidc", Groups: []string{"admins"}, Scopes: []string{"account:read"}}
	for _, tt := range []struct {
		caller Caller
		want   upstream.Identity
		client string
	}{
		{ann, upstream.Identity{Provider: "google", Issuer: "https://accounts.google.com", Subject: "42",
			Login: ann.Login, Name: "Ann", Emails: ann.Emails, HostedDomain: "acme.example"}, "Notebook"},
		{admin, upstream.Identity{Provider: "oidc", Issuer: nobody, Subject: "1", Groups: admin.Groups},
			"Test client"},
	} {
		use(t, tt.caller, func(r *http.Request, c *oauth.Caller) {
			if diff := cmp.Diff(tt.want, c.Identity()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.caller.Scopes, c.Scopes()); diff != "" {
				t.Error(diff)
			}
			if got := c.ClientName(); got != tt.client {
				t.Errorf("the client is %q, want %q", got, tt.client)
			}
			if r.Header.Get("Authorization") != "" {
				t.Error("the tool sees the access token")
			}
		})
	}
}

func TestScopesAreRequiredAsInProduction(t *testing.T) {
	for _, tt := range []struct {
		needed string
		want   int
		refuse bool
	}{
		{"repos:write", http.StatusOK, false},
		{"repos:read", http.StatusOK, false}, // included in repos:write
		{"account:read", http.StatusForbidden, true},
		{"calendar:read", http.StatusOK, true}, // no sign-in with GitHub helps
	} {
		octocat := Caller{Provider: "github", Login: "octocat", Scopes: []string{"repos:write"}}
		var err error
		resp := use(t, octocat, func(_ *http.Request, c *oauth.Caller) { err = c.Require(tt.needed) })
		if resp.StatusCode != tt.want || (err != nil) != tt.refuse {
			t.Errorf("%s: got status %d and error %v, want status %d and an error: %t", tt.needed,
				resp.StatusCode, err, tt.want, tt.refuse)
		}
		challenge := resp.Header.Get("WWW-Authenticate")
		named := strings.Contains(challenge, `scope="repos:write `+tt.needed+`"`)
		if named != (tt.want == http.StatusForbidden) {
			t.Errorf("%s: got challenge %q with status %d", tt.needed, challenge, tt.want)
		}
	}
}

// TestTokenGoesToTheAPIAlone checks that the token is not sent to another origin, not even if the API redirects to it.
func TestTokenGoesToTheAPIAlone(t *testing.T) {
	sent := map[string]string{}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent["elsewhere"+r.URL.Path] = r.Header.Get("Authorization")
	}))
	defer elsewhere.Close()
	api := http.NewServeMux()
	api.HandleFunc("GET /user", func(_ http.ResponseWriter, r *http.Request) {
		sent["API"] = r.Header.Get("Authorization")
	})
	api.Handle("GET /away", http.RedirectHandler(elsewhere.URL+"/redirected", http.StatusFound))
	octocat := Caller{Provider: "github", Login: "octocat", API: api}
	use(t, octocat, func(_ *http.Request, c *oauth.Caller) {
		for _, address := range []string{c.APIURL() + "/user", c.APIURL() + "/away", elsewhere.URL + "/asked"} {
			resp, err := c.HTTPClient().Get(address)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	})
	if !strings.HasPrefix(sent["API"], "Bearer ") {
		t.Error("the API got no token")
	}
	delete(sent, "API")
	if diff := cmp.Diff(map[string]string{"elsewhere/redirected": "", "elsewhere/asked": ""}, sent); diff != "" {
		t.Error(diff)
	}
}

// TestUserOfARefusedTokenMustSignIn checks that a 401 from the API becomes a 401 from the MCP endpoint.
func TestUserOfARefusedTokenMustSignIn(t *testing.T) {
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	})
	octocat := Caller{Provider: "github", Login: "octocat", Scopes: []string{"repos:read"}, API: refuse}
	resp := use(t, octocat, func(_ *http.Request, c *oauth.Caller) {
		if resp, err := c.HTTPClient().Get(c.APIURL() + "/user/repos"); err == nil {
			resp.Body.Close()
		}
	})
	if challenge := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized ||
		!strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("got status %d with challenge %q, want 401 with invalid_token", resp.StatusCode, challenge)
	}
}

// A failing records the failures of a test.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Errorf(format string, args ...any) { f.said += fmt.Sprintf(format, args...) }
func (f *failing) Fatalf(format string, args ...any) { f.Errorf(format, args...); runtime.Goexit() }

func TestMistakesOfATestAreNamed(t *testing.T) {
	get := func(_ *http.Request, c *oauth.Caller) {
		if resp, err := c.HTTPClient().Get(c.APIURL() + "/user"); err == nil {
			resp.Body.Close()
		}
	}
	getAsNobody := func(_ *http.Request, c *oauth.Caller) {
		if resp, err := http.Get(c.APIURL() + "/user"); err == nil {
			resp.Body.Close()
		}
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
	for _, tt := range []struct {
		name   string
		caller Caller
		tool   func(*http.Request, *oauth.Caller)
		want   string // empty if the test passes
	}{
		{"control", Caller{Provider: "github", Scopes: []string{"repos:read"}, API: api}, get, ""},
		{"no provider", Caller{}, get, `oauthtest.Caller: the provider is ""; use github, google or oidc`},
		{"a scope with a typing error", Caller{Provider: "github", Scopes: []string{"repo:read"}}, get,
			`no sign-in with github grants scope "repo:read"; use one of ["account:read" "repos:read"`},
		{"a scope of another provider", Caller{Provider: "google", Scopes: []string{"repos:read"}}, get,
			`no sign-in with google grants scope "repos:read"`},
		{"an API where there is none", Caller{Provider: "oidc", API: api}, get, "the provider oidc has no API"},
		{"no API", Caller{Provider: "github"}, get,
			"GET /user: the tool makes a request to the API; set oauthtest.Caller.API"},
		{"a client without the token", Caller{Provider: "github", API: api}, getAsNobody,
			"GET /user: the request does not have the user's token; use oauth.Caller.HTTPClient"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, done := &failing{TB: t}, make(chan struct{})
			go func() {
				defer close(done)
				use(f, tt.caller, tt.tool)
			}()
			<-done
			if !strings.Contains(f.said, tt.want) || (f.said == "") != (tt.want == "") {
				t.Errorf("the test reports %q, want %q", f.said, tt.want)
			}
		})
	}
}

// TestOnlyTestsImportThisPackage checks the imports of every file in the module, regardless of its build tags.
func TestOnlyTestsImportThisPackage(t *testing.T) {
	var tests int
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			switch {
			case !strings.HasSuffix(strings.Trim(i.Path.Value, "`\""), "/oauth/oauthtest"):
			case strings.HasSuffix(path, "_test.go"):
				tests++
			default:
				t.Errorf("%s imports %s, which is for tests alone", path, i.Path.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tests == 0 {
		t.Error("no test imports the package: this test looks in the wrong place")
	}
}
