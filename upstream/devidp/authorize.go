package devidp

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"html/template"
	"maps"
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
	Vendor         string
	Title, Message string
	Action         string // where the form goes
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

	"https://www.googleapis.com/auth/calendar.readonly": "see the calendars",
}

// An authorizeRequest has passed all checks: a code for it may go to the callback.
type authorizeRequest struct {
	vendor    *vendor
	state     string
	nonce     string
	challenge string   // PKCE S256; empty if none was sent
	scopes    []string // normalized
	login     string   // whom the app suggests
	prompts   []string
	ask       bool // never answer without asking
	never     bool // never ask
	offline   bool // a refresh token is wanted
}

// getAuthorize is GET at an authorization endpoint. Somebody who is signed in and has authorized the same scopes before
// is sent back at once.
func (s *Server) getAuthorize(v *vendor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		req, ok := s.checkRequest(w, r, v, r.URL.Query())
		if !ok {
			return
		}
		p := s.signedIn(r)
		if p != nil && !req.ask && (req.login == "" || strings.EqualFold(req.login, p.Login)) {
			earlier, authorized := s.state.Authorized[v.id+"/"+p.Login]
			scopes := req.scopes
			if len(scopes) == 0 {
				scopes = earlier
			}
			more := slices.ContainsFunc(scopes, func(scope string) bool { return !s.covers(earlier, scope) })
			if authorized && !more && !(v == github && s.tooMany(p.Login, scopes)) {
				s.grant(w, r, req, p, scopes, false)
				return
			}
		}
		if req.never {
			s.redirectError(w, r, req, "login_required", "Somebody would have to be asked.")
			return
		}
		s.writePage(w, http.StatusOK, s.question(r.URL.RawQuery, req, p))
	}
}

// postAuthorize is POST at an authorization endpoint: the person's answer.
func (s *Server) postAuthorize(v *vendor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Another site must not be able to answer for the person. Browsers set these headers; pages cannot.
		site := r.Header.Get("Sec-Fetch-Site")
		if site != "same-origin" && (site != "" || r.Header.Get("Origin") != s.origin) {
			s.writeMessage(w, http.StatusForbidden, v, "Not from here",
				"This form was sent by another site, or by a program that does not say where it comes from.")
			return
		}
		query, err := url.ParseQuery(r.PostForm.Get("request"))
		if err != nil {
			s.writeMessage(w, http.StatusBadRequest, v, "Broken form", "Go back and begin again.")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		req, ok := s.checkRequest(w, r, v, query)
		if !ok {
			return
		}
		if r.PostForm.Get("decision") != "authorize" {
			s.redirectError(w, r, req, "access_denied", "The user has denied your application access.")
			return
		}
		p := find(r.PostForm.Get("login"))
		if p == nil {
			s.writeMessage(w, http.StatusBadRequest, v, "Nobody chosen", "Go back and choose a person.")
			return
		}
		scopes := s.state.Authorized[v.id+"/"+p.Login] // what an app that asks for nothing gets
		if len(req.scopes) > 0 {
			ticked := r.PostForm["scope"]
			scopes = slices.DeleteFunc(slices.Clone(req.scopes), func(scope string) bool {
				return s.optional(v, scope) && !slices.Contains(ticked, scope)
			})
		}
		s.grant(w, r, req, p, scopes, true)
	}
}

// optional reports whether a person can withhold a scope. Google's boxes are for its APIs, and a GitHub App's
// permissions are all or nothing.
func (s *Server) optional(v *vendor, scope string) bool {
	if v == github {
		return s.kind != GitHubApp
	}
	return !slices.Contains(signInScopes, scope)
}

// checkRequest reads an authorization request. If it is wrong, checkRequest answers. The caller holds s.mu.
func (s *Server) checkRequest(w http.ResponseWriter, r *http.Request, v *vendor, q url.Values) (authorizeRequest,
	bool) {
	if q.Get("client_id") != s.app(v).ClientID {
		status := http.StatusBadRequest
		if v == github {
			status = http.StatusNotFound
		}
		s.writeMessage(w, status, v, "Not found", "No app with this client id is registered here. Does the server use "+
			"this provider's "+strings.ToUpper(v.id)+"_CLIENT_ID?")
		return authorizeRequest{}, false
	}
	req := authorizeRequest{
		vendor:    v,
		state:     q.Get("state"),
		nonce:     q.Get("nonce"),
		challenge: q.Get("code_challenge"),
		scopes:    s.normalize(splitScopes(q.Get("scope"))),
		login:     cmp.Or(q.Get("login"), q.Get("login_hint")),
		prompts:   strings.Fields(q.Get("prompt")),
	}
	req.never = v != github && slices.Contains(req.prompts, "none")
	req.ask = !req.never && slices.ContainsFunc(req.prompts, func(p string) bool { return slices.Contains(v.prompts, p) })
	check := s.checkOIDCRequest
	if v == github {
		check = s.checkGitHubRequest
	}
	ok := check(w, r, &req, q)
	return req, ok
}

// checkGitHubRequest finishes checkRequest for GitHub, which answers at the registered callback, whatever redirect_uri
// says.
func (s *Server) checkGitHubRequest(w http.ResponseWriter, r *http.Request, req *authorizeRequest, q url.Values) bool {
	if s.kind == GitHubApp {
		req.scopes = appPermissions
	}
	method := q.Get("code_challenge_method")
	switch {
	case q.Has("redirect_uri") && q.Get("redirect_uri") != s.callback(github):
		s.redirectError(w, r, *req, "redirect_uri_mismatch", descriptions["redirect_uri_mismatch"])
	case (req.challenge != "" || method != "") && (method != "S256" || len(req.challenge) != 43):
		// GitHub documents the rule, but not its error code.
		s.redirectError(w, r, *req, "invalid_request",
			"PKCE needs a code_challenge of 43 characters and the code_challenge_method S256.")
	default:
		return true
	}
	return false
}

// checkOIDCRequest finishes checkRequest for the others, which show a page if redirect_uri is not the registered one.
func (s *Server) checkOIDCRequest(w http.ResponseWriter, r *http.Request, req *authorizeRequest, q url.Values) bool {
	req.offline = q.Get("access_type") == "offline"
	if req.vendor == generic {
		req.offline = slices.Contains(req.scopes, "offline_access")
	}
	method := q.Get("code_challenge_method")
	unknown := func(prompt string) bool { return !slices.Contains(req.vendor.prompts, prompt) }
	switch {
	case q.Get("redirect_uri") != s.callback(req.vendor):
		s.writeMessage(w, http.StatusBadRequest, req.vendor, "Error 400: redirect_uri_mismatch",
			"The address to return to is not "+s.callback(req.vendor)+".")
	case q.Get("response_type") != "code":
		s.redirectError(w, r, *req, "unsupported_response_type", "The response_type is code.")
	case req.vendor == google && slices.Contains(req.scopes, "offline_access"):
		s.redirectError(w, r, *req, "invalid_scope", "Google knows no offline_access.")
	case slices.ContainsFunc(req.prompts, unknown):
		s.redirectError(w, r, *req, "invalid_request", "There is no such prompt here.")
	case (req.challenge != "" || method != "") && (method != "S256" || len(req.challenge) != 43): // no method: plain
		s.redirectError(w, r, *req, "invalid_request", "The code_challenge_method is S256.")
	default:
		return true
	}
	return false
}

// grant gives the app what the person allowed, just now if asked, and sends them back with a code. The caller holds
// s.mu.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, req authorizeRequest, p *person, scopes []string,
	asked bool) {
	authorized := req.vendor.id + "/" + p.Login
	s.state.Authorized[authorized] = s.normalize(slices.Concat(s.state.Authorized[authorized], scopes))
	if err := s.save(); err != nil {
		s.fail(w, err)
		return
	}
	maps.DeleteFunc(s.codes, func(_ string, c code) bool { return !s.now().Before(c.expires) })
	secret := random(10)
	s.codes[hash(secret)] = code{vendor: req.vendor, login: p.Login, scopes: scopes, challenge: req.challenge,
		nonce: req.nonce, expires: s.now().Add(codeLife),
		// Google gives one only along with a consent page.
		refresh: req.offline && (asked || req.vendor != google)}
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: s.cookieValue(p), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	s.log.Info("development sign-in", "vendor", req.vendor.name, "person", p.Login, "scopes", strings.Join(scopes, " "))
	s.redirect(w, r, req, url.Values{"code": {secret}})
}

func (s *Server) redirectError(w http.ResponseWriter, r *http.Request, req authorizeRequest, code, description string) {
	params := url.Values{"error": {code}, "error_description": {description}}
	if req.vendor == github {
		params.Set("error_uri", errorURI)
	}
	s.redirect(w, r, req, params)
}

// redirect sends the browser to the callback.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, req authorizeRequest, params url.Values) {
	if req.state != "" {
		params.Set("state", req.state)
	}
	switch s.iss {
	case IssRight:
		params.Set("iss", s.origin+req.vendor.issuer)
	case IssWrong:
		params.Set("iss", "https://issuer.example.com")
	}
	http.Redirect(w, r, s.callback(req.vendor)+"?"+params.Encode(), http.StatusFound)
}

// cookieName has the port in it, because cookies ignore ports.
func (s *Server) cookieName() string {
	return "devidp_" + s.origin[strings.LastIndexByte(s.origin, ':')+1:]
}

func (s *Server) cookieValue(p *person) string {
	mac := hmac.New(sha256.New, []byte(s.app(github).ClientSecret))
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
	d := pageData{Vendor: req.vendor.name, Title: "Who do you want to be?", Action: req.vendor.authorize,
		Callback: s.callback(req.vendor), Request: query}
	for i := range people {
		p := &people[i]
		d.People = append(d.People, choice{
			Login: p.Login, Name: p.Name, Email: p.Emails[0].Email, Verified: p.Emails[0].Verified,
			Orgs: strings.Join(s.orgsOf(p), ", "), Checked: p == checked,
		})
	}
	for _, scope := range req.scopes {
		if s.optional(req.vendor, scope) {
			d.Scopes = append(d.Scopes, scopeChoice{scope, scopeMeanings[scope]})
		}
	}
	return d
}

func (s *Server) writeMessage(w http.ResponseWriter, status int, v *vendor, title, message string) {
	s.writePage(w, status, pageData{Vendor: v.name, Title: title, Message: message})
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
