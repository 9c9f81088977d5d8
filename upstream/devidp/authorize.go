package devidp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

// pageData is what page.html shows: the question who to be, or a Title and a Message.
type pageData struct {
	Title, Message string
	Callback       string
	Request        string // the raw query, which comes back with the form and is judged again
	People         []choice
	Scopes         []scopeChoice
}

type choice struct {
	Login, Name string
	Email       string
	Verified    bool
	Orgs        string
	Checked     bool
}

type scopeChoice struct{ Name, Means string }

var scopeMeanings = map[string]string{
	"read:user":   "read the profile",
	"user:email":  "read the e-mail addresses",
	"user":        "read and change the profile, read the e-mail addresses",
	"public_repo": "read and write public repositories",
	"repo":        "read and write public and private repositories",
	"read:org":    "see memberships of organizations",
}

// An authorizeRequest has passed all checks: a code for it may go to the callback.
type authorizeRequest struct {
	state         string
	challenge     string   // PKCE S256; empty if none was sent
	scopes        []string // normalized
	login         string   // whom the app suggests
	selectAccount bool     // never answer without asking
}

// getAuthorize is GET /login/oauth/authorize. Somebody who is signed in and has authorized the same scopes before is
// sent back at once, as at GitHub.
func (s *Server) getAuthorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.checkRequest(w, r, r.URL.Query())
	if !ok {
		return
	}
	p := s.signedIn(r)
	if p != nil && !req.selectAccount && (req.login == "" || strings.EqualFold(req.login, p.Login)) {
		earlier, authorized := s.state.Authorized[p.Login]
		scopes := req.scopes
		if len(scopes) == 0 {
			scopes = earlier
		}
		more := slices.ContainsFunc(scopes, func(scope string) bool { return !s.covers(earlier, scope) })
		if authorized && !more && !s.tooMany(p.Login, scopes) {
			s.grant(w, r, req, p, scopes)
			return
		}
	}
	s.writePage(w, http.StatusOK, s.question(r.URL.RawQuery, req, p))
}

// postAuthorize is POST /login/oauth/authorize: the person's answer.
func (s *Server) postAuthorize(w http.ResponseWriter, r *http.Request) {
	// Another site must not be able to answer for the person. Browsers set these headers; pages cannot.
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "same-origin" && (site != "" || r.Header.Get("Origin") != s.origin) {
		s.writePage(w, http.StatusForbidden, pageData{Title: "Not from here",
			Message: "This form was sent by another site, or by a program that does not say where it comes from."})
		return
	}
	query, err := url.ParseQuery(r.PostForm.Get("request"))
	if err != nil {
		s.writePage(w, http.StatusBadRequest, pageData{Title: "Broken form", Message: "Go back and begin again."})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.checkRequest(w, r, query)
	if !ok {
		return
	}
	if r.PostForm.Get("decision") != "authorize" {
		s.redirectError(w, r, "access_denied", "The user has denied your application access.", req.state)
		return
	}
	p := find(r.PostForm.Get("login"))
	if p == nil {
		s.writePage(w, http.StatusBadRequest, pageData{Title: "Nobody chosen", Message: "Go back and choose a person."})
		return
	}
	scopes := s.state.Authorized[p.Login] // what an app that asks for nothing gets
	if len(req.scopes) > 0 {
		ticked := r.PostForm["scope"]
		scopes = slices.DeleteFunc(req.scopes, func(scope string) bool { return !slices.Contains(ticked, scope) })
	}
	s.grant(w, r, req, p, scopes)
}

// checkRequest reads an authorization request. If it is wrong, checkRequest answers: with a page if the client is
// unknown, else at the registered callback, whatever redirect_uri says. The caller holds s.mu.
func (s *Server) checkRequest(w http.ResponseWriter, r *http.Request, q url.Values) (authorizeRequest, bool) {
	if q.Get("client_id") != s.state.ClientID {
		s.writePage(w, http.StatusNotFound, pageData{Title: "Not found",
			Message: "No app with this client id is registered here. Does the server use this provider's GITHUB_CLIENT_ID?"})
		return authorizeRequest{}, false
	}
	req := authorizeRequest{
		state:         q.Get("state"),
		challenge:     q.Get("code_challenge"),
		scopes:        s.normalize(splitScopes(q.Get("scope"))),
		login:         q.Get("login"),
		selectAccount: q.Get("prompt") == "select_account",
	}
	method := q.Get("code_challenge_method")
	switch {
	case q.Has("redirect_uri") && q.Get("redirect_uri") != s.callback:
		s.redirectError(w, r, "redirect_uri_mismatch", descriptions["redirect_uri_mismatch"], req.state)
	case (req.challenge != "" || method != "") && (method != "S256" || len(req.challenge) != 43):
		// GitHub documents the rule, but not its error code.
		const rule = "PKCE needs a code_challenge of 43 characters and the code_challenge_method S256."
		s.redirectError(w, r, "invalid_request", rule, req.state)
	default:
		return req, true
	}
	return authorizeRequest{}, false
}

// grant gives the app what the person allowed, and sends them back with a code. The caller holds s.mu.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, req authorizeRequest, p *person, scopes []string) {
	s.state.Authorized[p.Login] = s.normalize(slices.Concat(s.state.Authorized[p.Login], scopes))
	if err := s.save(); err != nil {
		s.fail(w, err)
		return
	}
	for h, c := range s.codes {
		if !s.now().Before(c.expires) {
			delete(s.codes, h)
		}
	}
	secret := random(10)
	s.codes[hash(secret)] = code{p.Login, scopes, s.callback, req.challenge, s.now().Add(codeLife)}
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: s.cookieValue(p), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	s.log.Info("development sign-in", "person", p.Login, "scopes", strings.Join(scopes, " "))
	s.redirect(w, r, url.Values{"code": {secret}}, req.state)
}

func (s *Server) redirectError(w http.ResponseWriter, r *http.Request, code, description, state string) {
	s.redirect(w, r, url.Values{"error": {code}, "error_description": {description}, "error_uri": {errorURI}}, state)
}

// redirect sends the browser to the callback.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, params url.Values, state string) {
	if state != "" {
		params.Set("state", state)
	}
	switch s.iss {
	case IssRight:
		params.Set("iss", s.origin+"/login/oauth")
	case IssWrong:
		params.Set("iss", "https://issuer.example.com")
	}
	http.Redirect(w, r, s.callback+"?"+params.Encode(), http.StatusFound)
}

// cookieName has the port in it, because cookies ignore ports.
func (s *Server) cookieName() string {
	return "devidp_" + s.origin[strings.LastIndexByte(s.origin, ':')+1:]
}

func (s *Server) cookieValue(p *person) string {
	mac := hmac.New(sha256.New, []byte(s.state.ClientSecret))
	mac.Write([]byte("session " + p.Login))
	return p.Login + "." + hex.EncodeToString(mac.Sum(nil))
}

// signedIn returns the person whom the browser's cookie names, or nil.
func (s *Server) signedIn(r *http.Request) *person {
	cookie, err := r.Cookie(s.cookieName())
	if err != nil {
		return nil
	}
	login, _, _ := strings.Cut(cookie.Value, ".")
	p := find(login)
	if p == nil || !hmac.Equal([]byte(cookie.Value), []byte(s.cookieValue(p))) {
		return nil
	}
	return p
}

// question fills the page for a request. The person signed in, if any, is checked, else the suggested or first one.
func (s *Server) question(query string, req authorizeRequest, signedIn *person) pageData {
	checked := find(req.login)
	if checked == nil {
		checked = signedIn
	}
	if checked == nil {
		checked = &people[0]
	}
	d := pageData{Title: "Who do you want to be?", Callback: s.callback, Request: query}
	for i := range people {
		p := &people[i]
		d.People = append(d.People, choice{
			Login: p.Login, Name: p.Name, Email: p.Emails[0].Email, Verified: p.Emails[0].Verified,
			Orgs: strings.Join(p.Orgs, ", "), Checked: p == checked,
		})
	}
	for _, scope := range req.scopes {
		d.Scopes = append(d.Scopes, scopeChoice{scope, scopeMeanings[scope]})
	}
	return d
}

func (s *Server) writePage(w http.ResponseWriter, status int, d pageData) {
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil {
		s.fail(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// No form-action: browsers apply it to the redirects that follow the form, all the way to the MCP client.
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make the form's Origin null
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// fail is for what should not happen: the state file cannot be written.
func (s *Server) fail(w http.ResponseWriter, err error) {
	s.log.Error("the development provider failed", "error", err)
	http.Error(w, "The development provider has a problem; its log says which.", http.StatusInternalServerError)
}
