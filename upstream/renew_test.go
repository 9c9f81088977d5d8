package upstream_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"example.com/mcp-federated-login/upstream"
)

// TestWhatVendorsSayToARefresh checks how each vendor reports a problem with a refresh token, and what that means.
func TestWhatVendorsSayToARefresh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"GitHub, spent or revoked", 200, `error=bad_refresh_token&error_description=x`, upstream.ErrDead},
		{"Google, revoked", 400, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`,
			upstream.ErrDead},
		{"Google, Workspace session control", 400, `{"error":"invalid_grant","error_subtype":"invalid_rapt"}`,
			upstream.ErrDead},
		{"Auth0, with a 403", 403, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`,
			upstream.ErrDead},
		{"Okta", 400, `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`,
			upstream.ErrDead},
		{"Entra", 400, `{"error":"invalid_grant","error_codes":[70008]}`, upstream.ErrDead},
		{"Keycloak", 400, `{"error":"invalid_grant","error_description":"Session not active"}`, upstream.ErrDead},
		{"grant withdrawn from the client", 400, `{"error":"unauthorized_client"}`, upstream.ErrDead},

		{"GitHub, wrong secret", 200, `error=incorrect_client_credentials`, upstream.ErrMisconfigured},
		{"OpenID Connect, wrong secret", 401, `{"error":"invalid_client"}`, upstream.ErrMisconfigured},

		{"Entra, a new condition", 400, `{"error":"interaction_required"}`, upstream.ErrDead},

		{"server error that says otherwise", 500, `{"error":"invalid_grant"}`, upstream.ErrUnavailable},
		{"server error without a word", 500, ``, upstream.ErrUnavailable},
		{"rate limit", 429, `{"error":"too_many_requests"}`, upstream.ErrUnavailable},
		{"temporarily unavailable", 503, `{"error":"temporarily_unavailable"}`, upstream.ErrUnavailable},
		{"a code that nobody knows", 400, `{"error":"something_new"}`, upstream.ErrUnavailable},
		{"a firewall's page", 403, `<html>blocked</html>`, upstream.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			github := newGitHub(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if tt.body != "" && tt.body[0] == '{' {
					w.Header().Set("Content-Type", "application/json")
				} else {
					w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			_, err := github.Renew(t.Context(), &upstream.Token{Access: "a", Refresh: "r"})
			kinds := []error{upstream.ErrDead, upstream.ErrMisconfigured, upstream.ErrUnavailable, upstream.ErrBadAnswer}
			for _, kind := range kinds {
				if errors.Is(err, kind) != (kind == tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			}
			if asked != 1 {
				t.Errorf("the refresh token was sent %d times", asked)
			}
		})
	}
}

func TestRenewedTokenKeepsWhatTheAnswerLeavesOut(t *testing.T) {
	github := newGitHub(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"new","expires_in":3600,"token_type":"bearer"}`)
	}))
	got, err := github.Renew(t.Context(), &upstream.Token{Access: "a", Refresh: "r", Scopes: []string{"user"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Access != "new" || got.Refresh != "r" || !slices.Equal(got.Scopes, []string{"user"}) || got.Expiry.IsZero() {
		t.Errorf("got scopes %v, a refresh token %v, expiry %v", got.Scopes, got.Refresh == "r", got.Expiry)
	}
}
