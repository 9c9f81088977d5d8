package oauth

import (
	"net/http"
	"net/url"
)

// handleConsent handles POST /authorize: the person's answer. Cancel goes back to the client. A provider's button
// starts the flow: its cookie is set here and never earlier, so that no one can be sent past the question.
func (s *Server) handleConsent(w http.ResponseWriter, r *http.Request) {
	if !s.sameOrigin(r) {
		s.logError(r, &Error{Code: "cross_site", Description: "consent form was not posted by our own page",
			Status: http.StatusForbidden})
		s.pages.error(w, http.StatusForbidden, errorPage{
			Title:   "That did not come from this server's own page",
			Message: "Another website, or a program, answered the question in your place. Nothing was allowed.",
			Next:    []string{"Go back to your MCP client and connect again."},
		})
		return
	}
	form, err := readForm(w, r)
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	raw := form.Get("request")
	r = withReference(r, raw)
	req, err := s.parseAuthorize(r.Context(), raw)
	if err != nil {
		s.authorizeError(w, r, req, err)
		return
	}
	if form.Get("decision") == "cancel" {
		s.log.InfoContext(r.Context(), "consent refused")
		s.redirectToClient(w, r, req, url.Values{"error": {"access_denied"},
			"error_description": {"The person did not allow it."}})
		return
	}
	p := s.provider(form.Get("provider"))
	if p == nil {
		s.authorizeError(w, r, req, invalidRequest("The way to sign in is not one that this server offers."))
		return
	}
	f := newFlow(p.ID, raw, s.now())
	to, err := p.AuthCodeURL(r.Context(), s.callbackURL(p), f.state(), f.verifier(), f.nonce(),
		upstreamScopes(req.scopes, p))
	if err != nil { // the other providers may be well
		s.logError(r, &Error{Code: "temporarily_unavailable", Description: "no way to the provider's sign-in page",
			Status: http.StatusServiceUnavailable, Err: err})
		w.Header().Set("Retry-After", retryAfter)
		s.askConsent(w, r, req, http.StatusServiceUnavailable, "Signing in with "+p.Name+" does not work right now.")
		return
	}
	if err := s.startFlow(w, r, f); err != nil {
		s.authorizeError(w, r, req, invalidRequest("The request is too long: shorten the state."))
		return
	}
	s.log.InfoContext(r.Context(), "consent given", "provider", p.ID)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// sameOrigin reports whether a form was posted by a page of ours. Browsers say so in a header that pages cannot set;
// a request without either header is refused, because it is no browser's (this is stricter than
// [http.CrossOriginProtection], which lets programs pass).
func (s *Server) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	return r.Header.Get("Origin") == s.baseURL
}

// redirectToClient ends an authorization that the person has been asked about. 303 makes every browser use GET,
// without the form (RFC 9700 section 4.12).
func (s *Server) redirectToClient(w http.ResponseWriter, r *http.Request, req *authRequest, params url.Values) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, req.redirect.url(s.answer(req, params)), http.StatusSeeOther)
}
