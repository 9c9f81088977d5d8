package devidp_test

import (
	"net/http"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// TestAnotherAccount checks the prompt: without it, a user whom the provider knows is sent back without a question.
// OpenID Connect providers that do not announce select_account respond to it with an error: Clerk, GitLab, WSO2, Pocket
// ID. Google does not support prompt=login.
func TestAnotherAccount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		world  func(*testing.T) *world
		scopes []string
		prompt string
	}{
		{"GitHub", newWorld, nil, "select_account"},
		{"Google", newGoogleWorld, nil, "select_account"},
		{"Google, with an API scope", newGoogleWorld, []string{calendarScope}, "select_account consent"},
		{"OpenID Connect", newOIDCWorld, nil, "login"},
		{"OpenID Connect that announces others", func(t *testing.T) *world {
			w := newOIDCWorld(t)
			w.idp.Lie(devidp.Metadata, func(m map[string]any) { m["prompt_values_supported"] = []string{"login"} })
			return w
		}, nil, "login"},
		{"OpenID Connect that announces it", func(t *testing.T) *world {
			w := newOIDCWorld(t)
			w.idp.Lie(devidp.Metadata, func(m map[string]any) {
				m["prompt_values_supported"] = []string{"login", "select_account"}
			})
			return w
		}, nil, "select_account"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.world(t)
			w.signIn("octocat", tt.scopes...)
			address, err := w.provider.AuthCodeURL(t.Context(), w.callback(), "the-state", verifier, nonce, tt.scopes, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := query(t, address).Get("prompt"); got != tt.prompt {
				t.Errorf("got prompt %q, want %q", got, tt.prompt)
			}
			if tt.name == "OpenID Connect that announces it" {
				return // which the development provider does not keep
			}
			if status, page, _ := w.get(address); status != http.StatusOK || page == "" {
				t.Errorf("got status %d, want the question", status)
			}
			if len(tt.scopes) == 0 { // offline access asks for consent by itself
				if status, _, _ := w.get(w.authURL(tt.scopes...)); status != http.StatusFound {
					t.Errorf("control: got status %d, want to be sent back at once", status)
				}
			}
		})
	}
}

// TestRevoke checks that everything that the user ever granted the app is revoked, and nothing of other users.
func TestRevoke(t *testing.T) {
	github, google := newWorld(t), newGoogleWorld(t)
	for _, tt := range []struct {
		name         string
		w            *world
		revoke, whom string // paths: to revoke, and to identify a token's user
	}{
		{"GitHub", github, "/api/v3/applications/" + github.idp.GitHub().ClientID + "/grant", "/api/v3/user"},
		{"Google", google, "/google/revoke", "/google/userinfo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.w
			lives := func(token *upstream.Token) bool {
				req, err := http.NewRequest(http.MethodGet, w.idp.URL()+tt.whom, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+token.Access)
				status, _, _ := w.do(req)
				return status == http.StatusOK
			}
			mine := w.browser
			w.browser = newBrowser(t)
			other := w.signIn("mallory")
			w.browser = mine
			old, fresh := w.signIn("octocat"), w.signIn("octocat")
			w.idp.FailNext(tt.revoke, 1, devidp.Fault{Status: 500})
			checkError(t, w.provider.Revoke(t.Context(), fresh), "", upstream.ErrUnavailable)
			if !lives(old) {
				t.Error("control: the tokens are dead before they were revoked")
			}
			if err := w.provider.Revoke(t.Context(), fresh); err != nil {
				t.Fatal(err)
			}
			if lives(old) || lives(fresh) {
				t.Error("a revoked token still works")
			}
			if !lives(other) {
				t.Error("somebody else's token is dead, too")
			}
			if status, _, _ := w.get(w.authURL()); status != http.StatusOK {
				t.Errorf("got status %d, want to be asked again", status)
			}
			if w.provider.Revoke(t.Context(), fresh) == nil {
				t.Error("revoking with a dead token: got no error")
			}
		})
	}
	if p := newOIDCWorld(t).provider; p.Revokes() {
		t.Error("an OpenID Connect provider has no way to revoke an authorization")
	}
}
