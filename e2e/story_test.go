package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestStory checks the main flow from beginning to end: a user adds the server to an MCP client, signs in, and calls
// tools that act as that user. The client is mcp-go's own, with its own OAuth code. Only the browser is simulated: it
// walks through the real pages.
func TestStory(t *testing.T) {
	legacy := []client.ClientOption{client.WithProtocolVersion("2025-11-25")}
	appKind := func(k devidp.AppKind) func(*world) {
		return func(w *world) { w.app.DevIDP.SetAppKind(k) }
	}
	for _, story := range []struct {
		name    string
		options []client.ClientOption
		version string       // negotiated protocol version
		begin   func(*world) // chooses the provider
		start   func(*world) // resets what the development provider forgets at a restart
		button  string
		person  person
	}{
		{"GitHub, modern client", nil, "2026-07-28", nil, appKind(devidp.OAuthApp), "GitHub",
			person{"github", "octocat", githubScopes, "list_repositories"}},
		{"GitHub, legacy client", legacy, "2025-11-25", nil, appKind(devidp.OAuthApp), "GitHub",
			person{"github", "octocat", githubScopes, "list_repositories"}},
		{"GitHub OAuth App with expiring tokens", nil, "2026-07-28", nil, appKind(devidp.ExpiringOAuthApp), "GitHub",
			person{"github", "octocat", githubScopes, "list_repositories"}},
		{"GitHub App", nil, "2026-07-28", nil, appKind(devidp.GitHubApp), "GitHub",
			person{"github", "octocat", githubScopes, "list_repositories"}},
		{"Google", nil, "2026-07-28", nil, nil, "Google",
			person{"google", "octocat@example.com", "account:read calendar:read", "list_calendar_events"}},
		{"OpenID Connect", legacy, "2025-11-25", func(w *world) { w.useOIDC(w.standIn().OIDC()) }, nil, "Example ID",
			person{"oidc", "octocat", "account:read", ""}},
	} {
		t.Run(story.name, func(t *testing.T) {
			ctx, w := t.Context(), newWorld(t, nil)
			if story.begin != nil {
				story.begin(w)
			}
			restart := func() {
				w.restart()
				if story.start != nil {
					story.start(w)
				}
			}
			restart()
			store := transport.NewMemoryTokenStore()
			c := newClient(t, w, store, story.options...)

			// Without a token, the client only learns how to sign in.
			_, err := initialize(ctx, c)
			oauthHandler := client.GetOAuthHandler(err)
			if oauthHandler == nil {
				t.Fatalf("initialize without a token: got %v, want a demand for authorization", err)
			}
			if err := oauthHandler.RegisterClient(ctx, "Story client"); err != nil {
				t.Fatal(err)
			}
			verifier, _ := client.GenerateCodeVerifier()
			state, _ := client.GenerateState()
			authURL, err := oauthHandler.GetAuthorizationURL(ctx, state, client.GenerateCodeChallenge(verifier))
			if err != nil {
				t.Fatal(err)
			}

			// The user picks a provider on the consent page and signs in as octocat. Meanwhile the server restarts.
			consent := w.browser().open(authURL)
			for _, want := range []string{"Story client wants to connect", "127.0.0.1:9", "See who you are"} {
				if !strings.Contains(consent.text, want) {
					t.Errorf("consent page lacks %q:\n%s", want, consent.text)
				}
			}
			picker := consent.press("Continue with "+story.button, nil)
			restart()
			back := picker.press("Authorize", url.Values{"login": {"octocat"}})
			answer := back.url.Query()
			if got := strings.TrimSuffix(back.url.String(), "?"+back.url.RawQuery); got != callbackURI {
				t.Fatalf("sent to %s, want %s", got, callbackURI)
			}
			if got := answer.Get("iss"); got != w.base {
				t.Errorf("iss: got %q, want %q", got, w.base)
			}

			// The server restarts again. Then the client exchanges its code for tokens and calls tools as octocat.
			restart()
			if err := oauthHandler.ProcessAuthorizationResponse(ctx, answer.Get("code"), answer.Get("state"),
				verifier); err != nil {
				t.Fatal(err)
			}
			info, err := initialize(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.ProtocolVersion; got != story.version {
				t.Errorf("protocol version: got %s, want %s", got, story.version)
			}
			story.person.assert(t, c)

			// An hour later the access token has expired. A refresh whose response was lost can be repeated.
			old, err := store.GetToken(ctx)
			if err != nil {
				t.Fatal(err)
			}
			w.clock.advance(time.Hour)
			if got := w.tool(old.AccessToken, "whoami").status; got != http.StatusUnauthorized {
				t.Errorf("expired access token: got status %d, want 401", got)
			}
			id := oauthHandler.GetClientID()
			first := w.refresh(id, old.RefreshToken)
			if first.status != http.StatusOK {
				t.Fatalf("refresh: status %d: %s", first.status, first.body)
			}
			w.clock.advance(time.Minute)
			again := w.refresh(id, old.RefreshToken)
			if again.str("access_token") != first.str("access_token") ||
				again.str("refresh_token") != first.str("refresh_token") {
				t.Error("a refresh repeated within two minutes did not get the same pair")
			}
			if a, b := first.json["expires_in"].(float64), again.json["expires_in"].(float64); a-b != 60 {
				t.Errorf("the repeated pair lives %v s, want the first one's %v less a minute", b, a)
			}
			save(t, store, again)
			story.person.assert(t, c) // Google's own token has expired too, and the server renews it

			// The client never got that response and was away for a night: its old (spent) refresh token still works.
			w.clock.advance(9 * time.Hour)
			awake := w.refresh(id, old.RefreshToken)
			if awake.status != http.StatusOK || awake.str("refresh_token") != first.str("refresh_token") {
				t.Errorf("the spent token after a night: got status %d, want 200 with the newest refresh token", awake.status)
			}
			save(t, store, awake)
			story.person.assert(t, c)

			// Once the newer refresh token has been used, any use of the old one ends the grant: it may be stolen.
			newest := w.refresh(id, first.str("refresh_token"))
			w.clock.advance(time.Millisecond)
			late := w.refresh(id, old.RefreshToken)
			if late.status != http.StatusBadRequest || late.str("error") != "invalid_grant" {
				t.Errorf("late reuse: got %d %s, want 400 invalid_grant", late.status, late.str("error"))
			}
			if got := w.tool(newest.str("access_token"), "whoami").status; got != http.StatusUnauthorized {
				t.Errorf("access token of an ended grant: got status %d, want 401", got)
			}
			if got := w.refresh(id, newest.str("refresh_token")).str("error"); got != "invalid_grant" {
				t.Errorf("newest refresh token of an ended grant: got %q, want invalid_grant", got)
			}

			// The same client signs in again, and this time revokes its tokens.
			back = w.browser().open(w.authorizeURL(id, nil)).press("Continue with "+story.button, nil).press("Authorize", nil)
			fresh := w.redeem(id, back.url.Query().Get("code"))
			if got := w.tool(fresh.access, "whoami").status; got != http.StatusOK {
				t.Fatalf("after signing in again: got status %d, want 200", got)
			}
			if got := w.post("/revoke", url.Values{"client_id": {id}, "token": {fresh.refresh}}).status; got != http.StatusOK {
				t.Errorf("revoke: got status %d, want 200", got)
			}
			if got := w.tool(fresh.access, "whoami").status; got != http.StatusUnauthorized {
				t.Errorf("access token after revocation: got status %d, want 401", got)
			}
		})
	}
}

func newClient(t *testing.T, w *world, store transport.TokenStore, options ...client.ClientOption) *client.Client {
	t.Helper()
	trans, err := transport.NewStreamableHTTP(w.base+"/mcp", transport.WithHTTPOAuth(client.OAuthConfig{
		RedirectURI: callbackURI, PKCEEnabled: true, TokenStore: store}))
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewClient(trans, options...)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func initialize(ctx context.Context, c *client.Client) (*mcp.InitializeResult, error) {
	var req mcp.InitializeRequest
	req.Params.ClientInfo = mcp.Implementation{Name: "story", Version: "1"}
	return c.Initialize(ctx, req)
}

// A person is the user that the tools must report, and act as.
type person struct {
	provider, login, scopes string
	tool                    string // a tool that calls the provider's API; empty if there is none
}

// assert calls whoami and, if there is one, the tool that calls the provider's API, through the client.
func (p person) assert(t *testing.T, c *client.Client) {
	t.Helper()
	var who struct {
		Login, Subject, Provider string
		Scopes                   []string
	}
	callTool(t, c, "whoami", &who)
	if who.Login != p.login || who.Subject != "583231" || who.Provider != p.provider ||
		strings.Join(who.Scopes, " ") != p.scopes {
		t.Errorf("whoami: got %+v, want %+v", who, p)
	}
	if p.tool == "" {
		return
	}
	var list map[string][]any
	callTool(t, c, p.tool, &list)
	for _, items := range list {
		if len(items) > 0 {
			return
		}
	}
	t.Errorf("%s: got %v, want something", p.tool, list)
}

// callTool calls a tool and decodes its structured content.
func callTool(t *testing.T, c *client.Client, name string, into any) {
	t.Helper()
	var req mcp.CallToolRequest
	req.Params.Name = name
	result, err := c.CallTool(t.Context(), req)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if result.IsError {
		t.Fatalf("%s: %+v", name, result.Content)
	}
	b, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// save stores the tokens of a response in the client.
func save(t *testing.T, store transport.TokenStore, a answer) {
	t.Helper()
	token := &transport.Token{AccessToken: a.str("access_token"), RefreshToken: a.str("refresh_token"),
		TokenType: "Bearer"}
	if err := store.SaveToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}
