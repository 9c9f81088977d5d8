package oauth

import (
	"net/http"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// A tokenResponse is the response of RFC 6749 section 5.1. It always has the scope, because the granted scopes may be
// fewer than the requested ones, or different.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

// handleToken handles POST /token: codes (RFC 6749 section 4.1.3, RFC 7636 section 4.5) and refresh tokens (RFC 6749
// section 6).
func (s *Server) handleToken(w http.ResponseWriter, r *http.Request) {
	resp, err := s.token(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) (*tokenResponse, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	client, err := s.clients.Authenticate(w, r, form)
	if err != nil {
		return nil, err
	}
	if err := s.checkResource(form["resource"]); err != nil {
		return nil, err
	}
	// A missing parameter makes the request malformed. Only a token or code that is present can be an invalid_grant.
	needed := map[string][]string{"authorization_code": {"code", "code_verifier"}, "refresh_token": {"refresh_token"}}
	for _, name := range needed[form.Get("grant_type")] {
		if form.Get(name) == "" {
			return nil, clients.InvalidRequest(name + " is missing.")
		}
	}
	switch form.Get("grant_type") {
	case "authorization_code":
		return s.redeem(r.Context(), client, form)
	case "refresh_token":
		return s.refresh(r.Context(), client, form.Get("refresh_token"))
	case "":
		return nil, clients.InvalidRequest("grant_type is missing.")
	default:
		return nil, &clients.Error{Code: "unsupported_grant_type", Status: http.StatusBadRequest,
			Description: "grant_type must be authorization_code or refresh_token."}
	}
}

// respond returns the response with a grant's n-th pair. The access token expires at expiresAt.
func (s *Server) respond(g *store.Grant, seed seal.Secret, n, reissued int64, expiresAt time.Time) *tokenResponse {
	return &tokenResponse{
		AccessToken:  seal.AccessToken(seed, n, reissued).Format(seal.AccessPrefix),
		TokenType:    "Bearer",
		ExpiresIn:    max(0, int64(expiresAt.Sub(s.now()).Seconds())),
		RefreshToken: seal.RefreshToken(seed, n).Format(seal.RefreshPrefix),
		Scope:        strings.Join(g.Scopes, " "),
	}
}
