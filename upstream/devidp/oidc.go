package devidp

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// signInScopes say who somebody is. Nobody can withhold them.
var signInScopes = []string{"openid", "email", "profile", "offline_access"}

// getMetadata is GET /.well-known/openid-configuration below the issuer.
func (s *Server) getMetadata(v *vendor) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		issuer := s.origin + v.issuer
		m := map[string]any{
			"issuer":                                         issuer,
			"authorization_endpoint":                         s.origin + v.authorize,
			"token_endpoint":                                 issuer + "/token",
			"userinfo_endpoint":                              issuer + "/userinfo",
			"jwks_uri":                                       issuer + "/keys",
			"response_types_supported":                       []string{"code"},
			"subject_types_supported":                        []string{"public"},
			"id_token_signing_alg_values_supported":          []string{"RS256"},
			"code_challenge_methods_supported":               []string{"S256"},
			"token_endpoint_auth_methods_supported":          []string{"client_secret_post", "client_secret_basic"},
			"authorization_response_iss_parameter_supported": v == generic,
		}
		if v == google {
			m["revocation_endpoint"] = issuer + "/revoke"
		}
		writeJSON(w, http.StatusOK, s.changed(Metadata, m))
	}
}

// postToken is POST /token below the issuer.
func (s *Server) postToken(v *vendor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer, err := s.exchangeOIDC(v, r)
		var wrong problem
		switch {
		case errors.As(err, &wrong):
			status := http.StatusBadRequest
			if wrong == "invalid_client" {
				status = http.StatusUnauthorized
				w.Header().Set("WWW-Authenticate", "Basic")
			}
			writeJSON(w, status, map[string]string{"error": string(wrong)})
		case err != nil:
			s.fail(w, err)
		default:
			writeJSON(w, http.StatusOK, answer)
		}
	}
}

// exchangeOIDC answers a token request.
func (s *Server) exchangeOIDC(v *vendor, r *http.Request) (map[string]any, error) {
	id, secret, basic := r.BasicAuth()
	if basic { // form-encoded first: RFC 6749 section 2.3.1
		var errs [2]error
		id, errs[0] = url.QueryUnescape(id)
		secret, errs[1] = url.QueryUnescape(secret)
		if errors.Join(errs[:]...) != nil {
			return nil, problem("invalid_client")
		}
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if !s.isApp(v, id, secret) {
		return nil, problem("invalid_client")
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		h := hash(r.PostForm.Get("code"))
		c, wrong := s.redeem(v, r.PostForm)
		if wrong != "" {
			// Somebody has a code that was used: what it was redeemed for may be in the wrong hands (RFC 6749 section 4.1.2).
			s.removeTokens(func(t token) bool { return t.Code == h })
			return nil, problem("invalid_grant")
		}
		t := token{Vendor: v.id, Login: c.login, Scopes: c.scopes, Code: h}
		if c.refresh {
			t.Refresh = "1//fake"
		}
		return s.issueOIDC(v, t, c.nonce)
	case "refresh_token":
		return s.refreshOIDC(v, r.PostForm.Get("refresh_token"))
	}
	return nil, problem("unsupported_grant_type")
}

// refreshOIDC answers a refresh. Google's refresh tokens stay the same and are not repeated; the vendor's work once.
// The access tokens of before live on.
func (s *Server) refreshOIDC(v *vendor, refresh string) (map[string]any, error) {
	i := s.findRefresh(v, refresh)
	if i < 0 {
		return nil, problem("invalid_grant")
	}
	old := &s.state.Tokens[i]
	t := token{Vendor: v.id, Login: old.Login, Scopes: old.Scopes}
	if v == generic {
		old.Refresh, t.Refresh = "", "1//fake"
	}
	return s.issueOIDC(v, t, "")
}

// issueOIDC returns the answer with a new token.
func (s *Server) issueOIDC(v *vendor, t token, nonce string) (map[string]any, error) {
	t.Expires = s.now().Add(accessLife)
	access, refresh, err := s.addToken("ya29.fake", t)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(accessLife.Seconds()),
		"scope": strings.Join(t.Scopes, " ")}
	if v == google {
		answer["scope"] = strings.Join(longNames(t.Scopes), " ")
	}
	if refresh != "" {
		answer["refresh_token"] = refresh
	}
	if slices.Contains(t.Scopes, "openid") {
		if answer["id_token"], err = s.idToken(v, t, access, nonce); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// longNames returns the scopes by the names that Google answers with.
func longNames(scopes []string) []string {
	long := slices.Clone(scopes)
	for i, scope := range long {
		if scope == "email" || scope == "profile" {
			long[i] = "https://www.googleapis.com/auth/userinfo." + scope
		}
	}
	return long
}

// postRevoke is POST /revoke at Google. Whichever token is sent, all goes that the person granted the app.
func (s *Server) postRevoke(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, p := s.findToken(google, r.PostForm.Get("token"))
	if p == nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_token"})
		return
	}
	s.revoke(google, t.Login)
	if err := s.save(); err != nil {
		s.fail(w, err)
	}
}

// getUserinfo is GET /userinfo below the issuer.
func (s *Server) getUserinfo(v *vendor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t, p := s.bearer(r, v)
		if p == nil {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
			return
		}
		writeJSON(w, http.StatusOK, s.changed(Userinfo, s.claims(v, p, t.Scopes)))
	}
}

// claims are what a vendor says of a person to somebody with these scopes.
func (s *Server) claims(v *vendor, p *person, scopes []string) map[string]any {
	c := map[string]any{"sub": strconv.FormatInt(p.ID, 10)}
	if slices.Contains(scopes, "email") {
		c["email"], c["email_verified"] = p.Emails[0].Email, p.Emails[0].Verified
	}
	if slices.Contains(scopes, "profile") {
		c["name"] = p.Name
	}
	switch {
	case v == generic:
		c["preferred_username"], c["groups"] = s.called(p), s.orgsOf(p)
	case p.hosted != "":
		c["hd"] = p.hosted
	}
	return c
}
