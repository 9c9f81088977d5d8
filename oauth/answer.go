package oauth

import (
	"net/http"
	"net/url"

	"example.com/mcp-federated-login/templates"
)

// answer adds the parameters that every authorization response must have: the state, unchanged, and the issuer
// (RFC 9207 section 2).
func (s *Server) answer(req *authRequest, params url.Values) url.Values {
	if req.state != "" {
		params.Set("state", req.state)
	}
	params.Set("iss", s.baseURL)
	return params
}

// addReturnLink adds a link to the page that returns to the client with an error (RFC 6749 section 4.1.2.1).
func (s *Server) addReturnLink(page *templates.ErrorPage, req *authRequest, code, description string) {
	page.BackURL = req.redirect.URL(s.answer(req, url.Values{"error": {code}, "error_description": {description}}))
	page.BackHost = req.redirect.Place()
}

// redirectToClient ends an authorization after the user has answered the consent page: with a code, or with an error if
// the user denied it. 303 makes every browser use GET, without the form (RFC 9700 section 4.12).
func (s *Server) redirectToClient(w http.ResponseWriter, r *http.Request, req *authRequest, params url.Values) {
	to := req.redirect.URL(s.answer(req, params))
	if req.redirect.Private() {
		s.pages.HandOver(w, http.StatusOK, templates.HandOverPage{ClientName: req.Name, URL: to, Place: req.redirect.Place(),
			Denied: params.Has("error")})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, string(to), http.StatusSeeOther)
}
