package devidp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const errorURI = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"

var descriptions = map[string]string{
	"incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
	"redirect_uri_mismatch":        "The redirect_uri MUST match the registered callback URL for this application.",
	"bad_verification_code":        "The code passed is incorrect or expired.",
	"unsupported_grant_type":       "This app has no refresh tokens, and no device flow.",
}

// postAccessToken is POST /login/oauth/access_token. As at GitHub, errors come with status 200, and the answer is a
// form unless Accept asks for JSON.
func (s *Server) postAccessToken(w http.ResponseWriter, r *http.Request) {
	form := r.PostForm
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType == "application/json" {
		var fields map[string]string
		if err := json.NewDecoder(r.Body).Decode(&fields); err != nil {
			http.Error(w, "Problems parsing JSON", http.StatusBadRequest)
			return
		}
		form = url.Values{}
		for name, value := range fields {
			form.Set(name, value)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, scopes, problem := "", []string(nil), s.checkExchange(r, form)
	if problem == "" {
		h := hash(form.Get("code"))
		c := s.codes[h]
		delete(s.codes, h)
		var err error
		if secret, err = s.addToken(c.login, c.scopes); err != nil {
			s.fail(w, err)
			return
		}
		scopes = c.scopes
	}
	answer := map[string]string{
		"access_token": secret, "token_type": "bearer", "scope": strings.Join(scopes, ","),
	}
	if problem != "" {
		answer = map[string]string{
			"error": problem, "error_description": descriptions[problem], "error_uri": errorURI,
		}
	}
	if strings.Contains(r.Header.Get("Accept"), "json") {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	values := url.Values{}
	for name, value := range answer {
		values.Set(name, value)
	}
	w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	w.Write([]byte(values.Encode()))
}

// checkExchange returns the error code for a token request, or "". It consumes nothing: a code survives a wrong guess
// at its verifier. Which error GitHub answers to that is not documented.
func (s *Server) checkExchange(r *http.Request, form url.Values) string {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	if !s.isApp(id, secret) {
		return "incorrect_client_credentials"
	}
	if grantType := form.Get("grant_type"); grantType != "" && grantType != "authorization_code" {
		return "unsupported_grant_type"
	}
	c, found := s.codes[hash(form.Get("code"))]
	if !found || !s.now().Before(c.expires) {
		return "bad_verification_code"
	}
	if form.Has("redirect_uri") && form.Get("redirect_uri") != c.redirectURI {
		return "redirect_uri_mismatch"
	}
	if c.challenge != "" {
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge {
			return "bad_verification_code"
		}
	}
	return ""
}

func (s *Server) isApp(id, secret string) bool {
	return id == s.state.ClientID && subtle.ConstantTimeCompare([]byte(secret), []byte(s.state.ClientSecret)) == 1
}

// asApp wraps the handlers of /applications/{client_id}/..., where the app authenticates itself and names a token in
// the body. They run with s.mu held.
func (s *Server) asApp(handle func(http.ResponseWriter, token)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		id, secret, _ := r.BasicAuth()
		if !s.isApp(id, secret) {
			writeProblem(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		var body struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.AccessToken == "" {
			writeProblem(w, http.StatusUnprocessableEntity, "Validation Failed")
			return
		}
		t, found := s.findToken(body.AccessToken)
		if !found || r.PathValue("client_id") != id {
			writeProblem(w, http.StatusNotFound, "Not Found")
			return
		}
		handle(w, t)
	}
}

// checkToken is POST /applications/{client_id}/token.
func (s *Server) checkToken(w http.ResponseWriter, t token) {
	p := find(t.Login)
	writeJSON(w, http.StatusOK, map[string]any{
		"app":        map[string]any{"client_id": s.state.ClientID, "name": "Development app", "url": s.callback},
		"created_at": t.Created,
		"expires_at": nil,
		"scopes":     slices.Concat([]string{}, t.Scopes),
		"user":       s.userJSON(p),
	})
}

// deleteToken is DELETE /applications/{client_id}/token.
func (s *Server) deleteToken(w http.ResponseWriter, t token) {
	s.removeTokens(func(other token) bool { return other.Hash == t.Hash })
	s.saved(w)
}

// deleteGrant is DELETE /applications/{client_id}/grant.
func (s *Server) deleteGrant(w http.ResponseWriter, t token) {
	s.removeTokens(func(other token) bool { return other.Login == t.Login })
	delete(s.state.Authorized, t.Login)
	s.saved(w)
}

func (s *Server) saved(w http.ResponseWriter) {
	if err := s.save(); err != nil {
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
