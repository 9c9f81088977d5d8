package devidp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const errorURI = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"

var descriptions = map[string]string{
	"incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
	"redirect_uri_mismatch":        "The redirect_uri MUST match the registered callback URL for this application.",
	"bad_verification_code":        "The code passed is incorrect or expired.",
	"bad_refresh_token":            "The refresh token passed is incorrect or expired.",
	"unsupported_grant_type":       "There is no device flow here.",
}

// A problem is an OAuth error code.
type problem string

func (p problem) Error() string { return string(p) }

// An AppKind is what GitHub knows our server as.
type AppKind int

// The kinds of app. A GitHub App's tokens have no scopes, only the permissions of the app.
const (
	OAuthApp AppKind = iota
	ExpiringOAuthApp
	GitHubApp
)

// appPermissions are what the GitHub App may do, in terms of scopes.
var appPermissions = []string{"read:org", "repo", "user:email"}

// SetAppKind changes the kind of the app at GitHub, for the tokens to come.
func (s *Server) SetAppKind(k AppKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kind = k
}

// postAccessToken is POST /login/oauth/access_token. As at GitHub, errors come with status 200, and the answer is a
// form unless Accept asks for JSON.
func (s *Server) postAccessToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, err := s.exchangeGitHub(r)
	var wrong problem
	if errors.As(err, &wrong) {
		answer = url.Values{"error": {string(wrong)}, "error_description": {descriptions[string(wrong)]},
			"error_uri": {errorURI}}
	} else if err != nil {
		s.fail(w, err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "json") {
		fields := map[string]string{}
		for name := range answer {
			fields[name] = answer.Get(name)
		}
		writeJSON(w, http.StatusOK, fields)
		return
	}
	w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	w.Write([]byte(answer.Encode()))
}

// exchangeGitHub answers a token request at GitHub. A refresh token works once, and its use kills the access token that
// came with it.
func (s *Server) exchangeGitHub(r *http.Request) (url.Values, error) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if !s.isApp(github, id, secret) {
		return nil, problem("incorrect_client_credentials")
	}
	switch r.PostForm.Get("grant_type") {
	case "", "authorization_code":
		c, wrong := s.redeem(github, r.PostForm)
		if wrong == "redirect_uri" {
			return nil, problem("redirect_uri_mismatch")
		} else if wrong != "" { // which error GitHub answers to a wrong verifier is not documented
			return nil, problem("bad_verification_code")
		}
		return s.issueGitHub(c.login, c.scopes)
	case "refresh_token":
		i := s.findRefresh(github, r.PostForm.Get("refresh_token"))
		if i < 0 {
			return nil, problem("bad_refresh_token")
		}
		old := s.state.Tokens[i]
		s.state.Tokens = slices.Delete(s.state.Tokens, i, i+1)
		return s.issueGitHub(old.Login, old.Scopes)
	}
	return nil, problem("unsupported_grant_type")
}

// issueGitHub returns the answer with a new token. Beyond ten for the same person and scopes the oldest dies.
func (s *Server) issueGitHub(login string, scopes []string) (url.Values, error) {
	if same := s.tokensOf(login, scopes); len(same) >= tokensPerScope {
		s.removeTokens(func(t token) bool { return t.Hash == same[0].Hash })
	}
	t := token{Vendor: github.id, Login: login, Scopes: scopes}
	prefix, answer := "gho_fake", url.Values{"token_type": {"bearer"}, "scope": {strings.Join(scopes, ",")}}
	if s.kind == GitHubApp {
		prefix = "ghu_fake"
		answer.Set("scope", "")
	}
	if s.kind != OAuthApp {
		t.Refresh = "ghr_fake"
		t.Expires, t.RefreshExpires = s.now().Add(githubAccessLife), s.now().Add(githubRefreshLife)
		answer.Set("expires_in", seconds(githubAccessLife))
		answer.Set("refresh_token_expires_in", seconds(githubRefreshLife))
	}
	access, refresh, err := s.addToken(prefix, t)
	answer.Set("access_token", access)
	if refresh != "" {
		answer.Set("refresh_token", refresh)
	}
	return answer, err
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// redeem returns what a code stands for, which it does once. If something is wrong it says what and consumes nothing: a
// code survives a wrong guess at its verifier.
func (s *Server) redeem(v *vendor, form url.Values) (c code, wrong string) {
	h := hash(form.Get("code"))
	c, found := s.codes[h]
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch {
	case !found || c.vendor != v || !s.now().Before(c.expires):
		return code{}, "code"
	case form.Get("redirect_uri") != s.callback(v) && (v != github || form.Has("redirect_uri")):
		return code{}, "redirect_uri"
	case c.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge:
		return code{}, "code_verifier"
	}
	delete(s.codes, h)
	return c, ""
}

func (s *Server) isApp(v *vendor, id, secret string) bool {
	a := s.app(v)
	return id == a.ClientID && subtle.ConstantTimeCompare([]byte(secret), []byte(a.ClientSecret)) == 1
}

// asApp wraps the handlers of /applications/{client_id}/..., where the app authenticates itself and names a token in
// the body. They run with s.mu held.
func (s *Server) asApp(handle func(http.ResponseWriter, token)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		id, secret, _ := r.BasicAuth()
		if !s.isApp(github, id, secret) {
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
		t, p := s.findToken(github, body.AccessToken)
		if p == nil || r.PathValue("client_id") != id {
			writeProblem(w, http.StatusNotFound, "Not Found")
			return
		}
		handle(w, t)
	}
}

// deleteToken is DELETE /applications/{client_id}/token.
func (s *Server) deleteToken(w http.ResponseWriter, t token) {
	s.removeTokens(func(other token) bool { return other.Hash == t.Hash })
	s.saved(w)
}

// deleteGrant is DELETE /applications/{client_id}/grant.
func (s *Server) deleteGrant(w http.ResponseWriter, t token) {
	s.revoke(github, t.Login)
	s.saved(w)
}

// revoke ends a person's authorization of an app with all tokens.
func (s *Server) revoke(v *vendor, login string) {
	s.removeTokens(func(t token) bool { return t.Vendor == v.id && t.Login == login })
	delete(s.state.Authorized, v.id+"/"+login)
}

func (s *Server) saved(w http.ResponseWriter) {
	if err := s.save(); err != nil {
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
