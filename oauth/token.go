package oauth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// A tokenResponse is RFC 6749 section 5.1. The scope is always named, because what was granted may be less than, or
// different from, what was asked for.
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
	client, err := s.authenticateClient(w, r, form)
	if err != nil {
		return nil, err
	}
	if err := s.checkResource(form["resource"]); err != nil {
		return nil, err
	}
	// A request that lacks something is malformed. Only a token or code that is there can be an invalid_grant.
	needed := map[string][]string{"authorization_code": {"code", "code_verifier"}, "refresh_token": {"refresh_token"}}
	for _, name := range needed[form.Get("grant_type")] {
		if form.Get(name) == "" {
			return nil, invalidRequest(name + " is missing.")
		}
	}
	switch form.Get("grant_type") {
	case "authorization_code":
		return s.redeem(r.Context(), client, form)
	case "refresh_token":
		return s.refresh(r.Context(), client, form.Get("refresh_token"))
	case "":
		return nil, invalidRequest("grant_type is missing.")
	default:
		return nil, &Error{Code: "unsupported_grant_type", Status: http.StatusBadRequest,
			Description: "grant_type must be authorization_code or refresh_token."}
	}
}

// A requester is a client that has authenticated itself.
type requester struct {
	*store.Client
	assertion *assertion // it did so with this, which must be used up; nil: in another way
}

// authenticateClient returns the client that makes a request (RFC 6749 sections 2.3 and 3.2.1). A confidential client
// may send its secret in either way, whichever it registered, because clients confuse them; a public one needs none,
// and one that it sends is ignored. So is the assertion of a client whose keys we do not know, as when the operator
// registered it as a public one. If we know them it must be good, also where the client could do without: "the
// authorization server MUST validate the JWT" (RFC 7523 section 3), and who signs wrongly had better hear of it.
func (s *Server) authenticateClient(w http.ResponseWriter, r *http.Request, form url.Values) (*requester, error) {
	invalid := &Error{Code: "invalid_client", Status: http.StatusUnauthorized,
		Description: "The client is unknown, or its authentication is missing or wrong. Register again."}
	id, secret := form.Get("client_id"), form.Get("client_secret")
	twoWays := invalidRequest("The client must authenticate in one way only.")
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return nil, twoWays
	}
	if len(headers) > 0 {
		// "If the client attempted to authenticate via the Authorization request header field, the authorization
		// server MUST respond with ... the WWW-Authenticate response header field matching the authentication scheme"
		// (RFC 6749 section 5.2).
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") {
		user, password, ok := r.BasicAuth()
		basicID, errID := url.QueryUnescape(user) // form-encoded first: section 2.3.1
		basicSecret, errSecret := url.QueryUnescape(password)
		if !ok || errID != nil || errSecret != nil {
			return nil, invalid
		}
		if secret != "" || form.Get("client_assertion") != "" || id != "" && id != basicID {
			return nil, twoWays
		}
		id, secret = basicID, basicSecret
	}
	assertion, err := readAssertion(form)
	if err != nil {
		return nil, err
	}
	if assertion != nil {
		if secret != "" {
			return nil, twoWays
		}
		id = cmp.Or(id, assertion.claims.Subject) // it may be left out (RFC 7521 section 4.2)
	}
	client, err := s.client(r.Context(), id)
	if errors.Is(err, errUnknownClient) {
		return nil, invalid
	}
	if err != nil {
		return nil, err
	}
	// Before anything is fetched for it. It is not told invalid_client, on which it would come back as somebody else.
	if err := s.checkBlocked(r.Context(), client); errors.Is(err, errBlocked) {
		return nil, &Error{Code: "invalid_grant", Status: http.StatusBadRequest, Err: err,
			Description: "The operator of this server has blocked the client."}
	} else if err != nil {
		return nil, err
	}
	by := &requester{Client: client}
	switch hash := store.HashOf(secret); {
	case assertion != nil && (len(client.Keys) > 0 || client.KeysURI != ""):
		if err := s.checkAssertion(r.Context(), client, assertion, r.URL.Path); err != nil {
			return nil, err
		}
		by.assertion = assertion
	case client.AuthMethod == authJWT:
		return nil, badAssertion("is missing, with which this client authenticates (private_key_jwt)")
	case client.AuthMethod == authNone:
	case secret == "" || subtle.ConstantTimeCompare(hash[:], client.SecretHash) != 1:
		return nil, invalid
	}
	w.Header().Del("WWW-Authenticate")
	return by, nil
}

// respond returns the answer that hands out a grant's n-th pair, with an access token that expires then.
func (s *Server) respond(g *store.Grant, seed seal.Secret, n, reissued int64, expiresAt time.Time) *tokenResponse {
	return &tokenResponse{
		AccessToken:  seal.AccessToken(seed, n, reissued).Format(seal.AccessPrefix),
		TokenType:    "Bearer",
		ExpiresIn:    max(0, int64(expiresAt.Sub(s.now()).Seconds())),
		RefreshToken: seal.RefreshToken(seed, n).Format(seal.RefreshPrefix),
		Scope:        strings.Join(g.Scopes, " "),
	}
}

// endGrant ends a grant because of what somebody did with it.
func (s *Server) endGrant(ctx context.Context, g *store.Grant, why string) error {
	err := s.store.EndGrant(ctx, g.ID)
	s.ended(err, func(_ store.Hash, o *store.Grant) bool { return o.ID == g.ID })
	if err != nil {
		return fmt.Errorf("ending grant: %w", err)
	}
	s.log.WarnContext(ctx, "grant ended", "grant", g.ID, "client", displayName(g.Client.Name), "reason", why)
	return nil
}
