package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// TestGoSDK checks the whole flow with a client that is stricter than TestStory's: it compares issuers and resources
// byte by byte, requires the advertised iss, and steps up.
func TestGoSDK(t *testing.T) {
	for _, tt := range []struct {
		version  string
		document bool // the client brings a metadata document, instead of registering
	}{{"2026-07-28", false}, {"2026-07-28", true}, {"2025-11-25", true}, {"2025-11-25", false}, {"2025-06-18", false},
		{"2025-03-26", false}} {
		t.Run(fmt.Sprintf("%s, document %t", tt.version, tt.document), func(t *testing.T) {
			w := newWorld(t, loopbackDocuments)
			b, signIns := w.browser(), 0
			config := &auth.AuthorizationCodeHandlerConfig{
				DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
					Metadata: &oauthex.ClientRegistrationMetadata{ClientName: "Go SDK", RedirectURIs: []string{callbackURI},
						TokenEndpointAuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"}}},
				RequestRefreshToken: true,
				AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
					signIns++
					q := b.signIn(args.URL)
					return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
				},
			}
			if tt.document {
				config.RedirectURL = callbackURI
				config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{
					URL: newDocumentHost(t).putClient("/oauth/client.json", nil)}
			}
			handler, err := auth.NewAuthorizationCodeHandler(config)
			if err != nil {
				t.Fatal(err)
			}
			client := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
			session, err := client.Connect(t.Context(),
				&mcp.StreamableClientTransport{Endpoint: w.base + "/mcp", OAuthHandler: handler},
				&mcp.ClientSessionOptions{ProtocolVersion: tt.version})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if got := session.InitializeResult().ProtocolVersion; got != tt.version {
				t.Errorf("got version %s, want %s", got, tt.version)
			}
			use := func(want int) {
				t.Helper()
				list, err := session.ListTools(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				who, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami", Arguments: map[string]any{}})
				if err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(who.StructuredContent); len(list.Tools) == 0 || !strings.Contains(got, "login:octocat") {
					t.Errorf("got %d tools, and whoami says %s, want octocat", len(list.Tools), got)
				}
				if signIns != want {
					t.Errorf("signed in %d times, want %d", signIns, want)
				}
			}
			use(1)
			w.clock.advance(time.Hour) // the client does not notice, as it has another clock: it gets a 401
			use(2)
			// A tool that needs a further scope makes the client request it by itself.
			issue := map[string]any{"repository": "octocat/hello-world", "title": "Filed by " + tt.version}
			made, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_issue", Arguments: issue})
			if err != nil || made.IsError || signIns != 3 {
				t.Errorf("create_issue: %v, %+v, after %d sign-ins, want an issue after 3", err, made, signIns)
			}
		})
	}
}
