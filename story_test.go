package main

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
)

// TestStory is the main job from beginning to end: somebody adds the server to an MCP client, signs in, and calls
// tools as themselves. The client is mcp-go's own, with its own OAuth code; only the browser's part is played, through
// the real pages.
func TestStory(t *testing.T) {
	for _, era := range []struct {
		name   string
		option []client.ClientOption
		want   string // negotiated protocol version
	}{
		{"modern", nil, "2026-07-28"},
		{"legacy", []client.ClientOption{client.WithProtocolVersion("2025-11-25")}, "2025-11-25"},
	} {
		t.Run(era.name, func(t *testing.T) {
			ctx, w := t.Context(), newWorld(t, nil)
			store := transport.NewMemoryTokenStore()
			c := newClient(t, w, store, era.option...)

			// Without a token there is nothing but the way to sign in.
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

			// The person is asked, chooses GitHub, and is octocat there. The server restarts while they think.
			consent := w.browser().open(authURL)
			for _, want := range []string{"Story client wants to connect", "127.0.0.1:9", "List your public repositories"} {
				if !strings.Contains(consent.text, want) {
					t.Errorf("consent page lacks %q:\n%s", want, consent.text)
				}
			}
			picker := consent.press("Continue with GitHub", nil)
			w.restart()
			back := picker.press("Authorize", url.Values{"login": {"octocat"}})
			answer := back.url.Query()
			if got := strings.TrimSuffix(back.url.String(), "?"+back.url.RawQuery); got != callbackURI {
				t.Fatalf("sent to %s, want %s", got, callbackURI)
			}
			if got := answer.Get("iss"); got != w.base {
				t.Errorf("iss: got %q, want %q", got, w.base)
			}

			// The client trades its code for tokens, after another restart, and calls tools as octocat.
			w.restart()
			if err := oauthHandler.ProcessAuthorizationResponse(ctx, answer.Get("code"), answer.Get("state"), verifier); err != nil {
				t.Fatal(err)
			}
			info, err := initialize(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.ProtocolVersion; got != era.want {
				t.Errorf("protocol version: got %s, want %s", got, era.want)
			}
			assertOctocat(t, c)

			// An hour later the access token has expired. A refresh whose answer was lost can be repeated.
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
			if again.str("access_token") != first.str("access_token") || again.str("refresh_token") != first.str("refresh_token") {
				t.Error("a refresh repeated within two minutes did not get the same pair")
			}
			if a, b := first.json["expires_in"].(float64), again.json["expires_in"].(float64); a-b != 60 {
				t.Errorf("the repeated pair lives %v s, want the first one's %v less a minute", b, a)
			}
			save(t, store, again)
			assertOctocat(t, c)

			// A copy of the spent token that comes back later ends the grant.
			w.clock.advance(time.Minute + time.Millisecond)
			late := w.refresh(id, old.RefreshToken)
			if late.status != http.StatusBadRequest || late.str("error") != "invalid_grant" {
				t.Errorf("late reuse: got %d %s, want 400 invalid_grant", late.status, late.str("error"))
			}
			if got := w.tool(first.str("access_token"), "whoami").status; got != http.StatusUnauthorized {
				t.Errorf("access token of an ended grant: got status %d, want 401", got)
			}
			if got := w.refresh(id, first.str("refresh_token")).str("error"); got != "invalid_grant" {
				t.Errorf("newest refresh token of an ended grant: got %q, want invalid_grant", got)
			}

			// The same client signs in again, and this time revokes what it got.
			b := w.browser()
			q := b.signIn(w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", callbackURI) }))
			fresh := w.redeem(id, q.Get("code"))
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

// assertOctocat calls both tools and checks that they answered as octocat.
func assertOctocat(t *testing.T, c *client.Client) {
	t.Helper()
	var who struct {
		Login, Subject, Provider string
		Scopes                   []string
	}
	callTool(t, c, "whoami", &who)
	if who.Login != "octocat" || who.Subject != "583231" || who.Provider != "github" ||
		strings.Join(who.Scopes, " ") != "account:read repos:read issues:write" {
		t.Errorf("whoami: got %+v", who)
	}
	var list struct {
		Repositories []struct {
			FullName string `json:"full_name"`
		}
	}
	callTool(t, c, "list_repositories", &list)
	if len(list.Repositories) == 0 || !strings.HasPrefix(list.Repositories[0].FullName, "octocat/") {
		t.Errorf("list_repositories: got %+v", list)
	}
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

// save gives the client the tokens of an answer.
func save(t *testing.T, store transport.TokenStore, a answer) {
	t.Helper()
	token := &transport.Token{AccessToken: a.str("access_token"), RefreshToken: a.str("refresh_token"), TokenType: "Bearer"}
	if err := store.SaveToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}
