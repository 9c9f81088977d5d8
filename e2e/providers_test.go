package e2e

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// useOIDC configures a development provider that the test has started.
func (w *world) useOIDC(c upstream.OIDCConfig) {
	w.t.Helper()
	w.env["OIDC_ISSUER"], w.env["OIDC_CLIENT_ID"], w.env["OIDC_CLIENT_SECRET"] = c.Issuer, c.ClientID, c.ClientSecret
	w.env["OIDC_NAME"], w.env["OIDC_GROUPS_CLAIM"] = c.Name, c.GroupsClaim
	w.provider = strings.TrimSuffix(c.Issuer, "/oidc")
	w.restart()
}

func (w *world) standIn() *devidp.Server {
	w.t.Helper()
	idp, err := devidp.Start(devidp.Config{BaseURL: w.base, Log: slog.New(slog.DiscardHandler), Now: w.clock.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { idp.Close() })
	return idp
}

// signInWith signs a user in with a new client, at the provider with that name.
func (w *world) signInWith(provider, login string) tokens {
	w.t.Helper()
	id := w.register(callbackURI)
	p := w.browser().open(w.authorizeURL(id, nil)).press("Continue with "+provider, nil)
	p = p.press("Authorize", url.Values{"login": {login}})
	if p.status != 0 {
		w.t.Fatalf("sign-in ended at %s with status %d:\n%s", p.url.Path, p.status, p.text)
	}
	return w.redeem(id, p.url.Query().Get("code"))
}

// use calls a tool with arguments, decodes its structured content, and returns its error, or "" if it worked.
func (w *world) use(access, name string, arguments map[string]any, into any) string {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{
		"name": name, "arguments": arguments, "_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
			"io.modelcontextprotocol/clientCapabilities": map[string]any{}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.call(http.MethodPost, "/mcp", mcpHeader(access, "tools/call", name), string(body))
	var answer struct {
		Result struct {
			IsError           bool
			Content           []struct{ Text string }
			StructuredContent json.RawMessage
		}
	}
	if a.status != http.StatusOK {
		return "HTTP " + strconv.Itoa(a.status)
	}
	if err := json.Unmarshal(a.body, &answer); err != nil {
		w.t.Fatal(err)
	}
	if answer.Result.IsError {
		return answer.Result.Content[0].Text
	}
	if err := json.Unmarshal(answer.Result.StructuredContent, into); err != nil {
		w.t.Fatal(err)
	}
	return ""
}

// tools returns the names of the tools that the caller is shown.
func (w *world) tools(access string) []string {
	w.t.Helper()
	a := w.call(http.MethodPost, "/mcp", mcpHeader(access, "tools/list", ""), `{"jsonrpc":"2.0","id":1,`+
		`"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`)
	var answer struct {
		Result struct{ Tools []struct{ Name string } }
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &answer) != nil {
		w.t.Fatalf("tools/list: status %d: %s", a.status, a.body)
	}
	var names []string
	for _, tool := range answer.Result.Tools {
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	return names
}

// TestEveryKindOfProvider signs in with each kind of provider and of token, over HTTP all the way.
func TestEveryKindOfProvider(t *testing.T) {
	kind := func(k devidp.AppKind) func(*world) {
		return func(w *world) { w.app.DevIDP.SetAppKind(k) }
	}
	githubTools := []string{"create_issue", "list_repositories", "whoami"}
	for _, tt := range []struct {
		name, button string
		setUp        func(w *world)
		want         map[string]any // output of whoami
		scope        string
		tools        []string
	}{
		{"GitHub, OAuth App", "GitHub", kind(devidp.OAuthApp),
			map[string]any{"provider": "github", "login": "octocat"}, githubScopes, githubTools},
		{"GitHub, OAuth App with expiring tokens", "GitHub", kind(devidp.ExpiringOAuthApp),
			map[string]any{"provider": "github", "login": "octocat"}, githubScopes, githubTools},
		{"GitHub App", "GitHub", kind(devidp.GitHubApp),
			map[string]any{"provider": "github", "login": "octocat"}, githubScopes, githubTools},
		{"Google", "Google", func(*world) {},
			map[string]any{"provider": "google", "login": "octocat@example.com"}, "account:read calendar:read",
			[]string{"list_calendar_events", "whoami"}},
		{"OpenID Connect", "Example ID", func(w *world) { w.useOIDC(w.standIn().OIDC()) },
			map[string]any{"provider": "oidc", "login": "octocat"}, "account:read", []string{"whoami"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			tt.setUp(w)
			session := w.signInWith(tt.button, "octocat")
			if session.scope != tt.scope {
				t.Errorf("scope: got %q, want %q", session.scope, tt.scope)
			}
			who := map[string]any{}
			if problem := w.use(session.access, "whoami", nil, &who); problem != "" {
				t.Fatal(problem)
			}
			got := map[string]any{"provider": who["provider"], "login": who["login"]}
			if diff := cmp.Diff(tt.want, got); diff != "" || who["subject"] != "583231" {
				t.Errorf("whoami (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.tools, w.tools(session.access)); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateIssue(t *testing.T) {
	w := newWorld(t, nil)
	session := w.signInFor(w.register(callbackURI), "issues:write")
	var created struct {
		Number int
		URL    string
	}
	in := map[string]any{"repository": "octocat/hello-world", "title": "It does not work", "body": "At all."}
	if problem := w.use(session.access, "create_issue", in, &created); problem != "" {
		t.Fatal(problem)
	}
	if created.Number != 1 || created.URL != w.app.DevIDP.URL()+"/octocat/hello-world/issues/1" {
		t.Errorf("got %+v", created)
	}
	for _, repository := range []string{"", "octocat", "octocat/", "/hello-world", "octocat/..", "../user", "octocat/.",
		"octocat/hello-world/../garden", "octocat/hello-world?", "octocat/hello%2fworld", "octocat/hello-world/issues"} {
		in["repository"] = repository
		if problem := w.use(session.access, "create_issue", in, nil); !strings.Contains(problem, "owner/name") {
			t.Errorf("%q: got %q, want the form of a repository's name", repository, problem)
		}
	}
	in["repository"] = "octocat/nothing-here"
	if problem := w.use(session.access, "create_issue", in, nil); problem != "github answered 404 Not Found: Not Found" {
		t.Errorf("no such repository: got %q", problem)
	}
}

func TestListCalendarEvents(t *testing.T) {
	w := newWorld(t, nil)
	session := w.signInWith("Google", "octocat")
	var got struct {
		Events []struct{ Summary, Start, End, URL string }
	}
	if problem := w.use(session.access, "list_calendar_events", nil, &got); problem != "" {
		t.Fatal(problem)
	}
	if len(got.Events) != 3 || got.Events[0].Summary != "Feed the squid" || got.Events[0].Start == "" ||
		got.Events[0].End == "" || got.Events[0].URL == "" {
		t.Errorf("got %+v", got)
	}
	far := map[string]any{"from": "2999-01-01T00:00:00Z"}
	if problem := w.use(session.access, "list_calendar_events", far, &got); problem != "" || len(got.Events) != 0 {
		t.Errorf("in the far future: got %+v, %q", got, problem)
	}
	if problem := w.use(session.access, "list_calendar_events", map[string]any{"from": "now"}, nil); !strings.Contains(
		problem, "2026-06-01T09:00:00Z") {
		t.Errorf("a time that is none: got %q", problem)
	}

	// If a user withholds the calendar at Google, the grant lacks that scope.
	id := w.register(callbackURI)
	p := w.browser().open(w.authorizeURL(id, nil)).press("Continue with Google", nil)
	p = p.press("Authorize", url.Values{"login": {"mallory"}, "scope": nil})
	little := w.redeem(id, p.url.Query().Get("code"))
	if little.scope != "account:read" || w.tool(little.access, "list_calendar_events").status != http.StatusForbidden {
		t.Errorf("without the calendar: granted %q", little.scope)
	}
}

func TestTwoProvidersOnOnePage(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	p := w.browser().open(w.authorizeURL(id, nil))
	for _, want := range []string{"List your public repositories (GitHub only)",
		"See the events of your calendar (Google only)", "Continue with GitHub", "Continue with Google"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page lacks %q:\n%s", want, p.text)
		}
	}
	p = w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("scope", "calendar:read") }))
	if strings.Contains(p.text, "GitHub only") || strings.Contains(p.text, "Continue with GitHub") {
		t.Errorf("GitHub is offered for the calendar:\n%s", p.text)
	}

	// One provider's callback at the other's URL: its state is valid, and belongs to the browser.
	b := w.browser()
	b.stopAt = "/callback/google"
	back := b.open(w.authorizeURL(id, nil)).press("Continue with Google", nil).press("Authorize", nil)
	b.stopAt = ""
	t.Run("F8: Google's answer at GitHub's callback", func(t *testing.T) {
		mixed := *back.url
		mixed.Path = "/callback/github"
		if p := b.open(mixed.String()); p.status != http.StatusBadRequest {
			t.Errorf("got status %d, want 400", p.status)
		}
		if p := b.open(back.url.String()); p.status != 0 || p.url.Query().Get("code") == "" {
			t.Errorf("control: at its own: got status %d: %s", p.status, p.text)
		}
	})
}

func TestProviderDownAtStart(t *testing.T) {
	w := newWorld(t, nil)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	idp := w.standIn()
	broken := idp.OIDC()
	broken.Issuer = down.URL
	github := idp.GitHub()
	w.env["GITHUB_CLIENT_ID"], w.env["GITHUB_CLIENT_SECRET"] = github.ClientID, github.ClientSecret
	w.env["GITHUB_URL"] = github.URL
	w.useOIDC(broken) // restarts: the server starts
	w.provider = idp.URL()

	id := w.register(callbackURI)
	p := w.browser().open(w.authorizeURL(id, nil)).press("Continue with Example ID", nil)
	if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" || p.header.Get("Set-Cookie") != "" {
		t.Errorf("got status %d, header %v; want 503 with Retry-After and no flow", p.status, p.header)
	}
	for _, want := range []string{"Signing in with Example ID does not work right now.",
		"Example ID is not available right now", "wants to connect", "Continue with GitHub"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page lacks %q:\n%s", want, p.text)
		}
	}
	if strings.Contains(w.logs.String(), broken.ClientSecret) || !strings.Contains(w.logs.String(), "connection refused") {
		t.Error("want the log to say why, without the secret")
	}
	back := p.press("Continue with GitHub", nil).press("Authorize", nil)
	session := w.redeem(id, back.url.Query().Get("code"))
	if got := w.tool(session.access, "whoami").status; got != http.StatusOK {
		t.Errorf("signed in with the other provider: got status %d, want 200", got)
	}
	if p := w.browser().open(w.authorizeURL(id, nil)); p.status != http.StatusOK ||
		!strings.Contains(p.text, "Example ID is not available right now") {
		t.Errorf("asking again: got status %d:\n%s", p.status, p.text)
	}
}

// If an OpenID Connect provider sends false data, the user sees an error page, and nobody is signed in.
func TestLyingProvider(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lie    func(idp *devidp.Server)
		status int
		title  string
	}{
		{"ID token of another sign-in", func(idp *devidp.Server) {
			idp.Lie(devidp.IDToken, func(c map[string]any) { c["nonce"] = "another" })
		}, http.StatusBadRequest, "This sign-in could not be verified"},
		{"iss of another provider", func(idp *devidp.Server) { idp.SetIss(devidp.IssWrong) }, http.StatusBadRequest,
			"This sign-in could not be verified"},
		{"no iss, though it always sends one", func(idp *devidp.Server) { idp.SetIss(devidp.IssAbsent) },
			http.StatusBadRequest, "This sign-in could not be verified"},
		{"trouble at the token endpoint", func(idp *devidp.Server) {
			idp.FailNext("/oidc/token", 1, devidp.Fault{Status: http.StatusInternalServerError})
		}, http.StatusServiceUnavailable, "Example ID does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			idp := w.standIn()
			w.useOIDC(idp.OIDC())
			tt.lie(idp)
			id := w.register(callbackURI)
			p := w.browser().open(w.authorizeURL(id, nil)).press("Continue with Example ID", nil).press("Authorize", nil)
			if p.status != tt.status || !strings.Contains(p.text, tt.title) {
				t.Errorf("got status %d, want %d %s:\n%s", p.status, tt.status, tt.title, p.text)
			}
			idp.SetIss(devidp.IssRight)
			idp.Lie(devidp.IDToken, nil)
			if w.signInWith("Example ID", "octocat").access == "" {
				t.Error("control: without the lie nobody comes in either")
			}
		})
	}
}

// A GitHub App's token reaches private repositories wherever the app is installed. The user has only allowed listing
// the public ones.
func TestPrivateRepositoriesAreNotListed(t *testing.T) {
	w := newWorld(t, nil)
	w.app.DevIDP.SetAppKind(devidp.GitHubApp)
	var list struct {
		Repositories []struct {
			FullName  string `json:"full_name"`
			Private   bool
			UpdatedAt string `json:"updated_at"`
		}
	}
	if problem := w.use(w.signIn().access, "list_repositories", nil, &list); problem != "" {
		t.Fatal(problem)
	}
	for i, r := range list.Repositories {
		if r.Private {
			t.Errorf("lists %s", r.FullName)
		}
		if i > 0 && r.UpdatedAt > list.Repositories[i-1].UpdatedAt {
			t.Errorf("%s comes after an older one", r.FullName)
		}
	}
	if len(list.Repositories) == 0 {
		t.Error("lists nothing")
	}
}
