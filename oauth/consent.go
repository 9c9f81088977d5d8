package oauth

import (
	"errors"
	"net/http"
	"net/url"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/templates"
)

// handleConsent handles POST /authorize, the form of the consent page. Cancel returns to the client. A provider's
// button starts the flow. Its cookie is set here and never earlier, so that no link can skip the consent page.
func (s *Server) handleConsent(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	r = withReference(r, form.Get("request"))
	asked := s.openQuestion(form)
	if asked != nil && form.Get("decision") == "cancel" {
		s.cancel(w, r, asked)
		return
	}
	req, err := s.parseAuthorize(r.Context(), form.Get("request"), nil)
	if err != nil {
		s.authorizeError(w, r, req, err)
		return
	}
	// The user consented to the page as it was shown, perhaps long ago.
	if asked == nil || *asked != req.question {
		s.askConsent(w, r, req, http.StatusConflict, "Something on this page has changed since you opened it. Look again.")
		return
	}
	p, another, err := s.chosenProvider(form)
	if err != nil {
		s.authorizeError(w, r, req, err)
		return
	}
	err = s.redirectToProvider(w, r, newFlow(p.ID, *asked, s.now()), p, upstreamScopes(req.scopes, p), another)
	if errors.Is(err, errTooLong) {
		s.authorizeError(w, r, req, err)
	} else if err != nil { // the other providers may still work
		s.logError(r, &clients.Error{Code: "temporarily_unavailable", Description: "no way to the provider's sign-in page",
			Status: http.StatusServiceUnavailable, Err: err})
		w.Header().Set("Retry-After", templates.RetryAfter)
		s.askConsent(w, r, req, http.StatusServiceUnavailable, "Signing in with "+p.Name+" does not work right now. "+
			"Try again in a minute, or continue in another way if there is one.")
	} else {
		s.log.InfoContext(r.Context(), "consent given", "provider", p.ID)
	}
}

// cancel redirects the user back to the client without a sign-in, as the page promised.
func (s *Server) cancel(w http.ResponseWriter, r *http.Request, asked *question) {
	req, err := s.parseAuthorize(r.Context(), asked.Request, asked)
	if req == nil { // other errors do not matter for a cancel
		s.authorizeError(w, r, nil, err)
		return
	}
	s.log.InfoContext(r.Context(), "consent refused")
	s.redirectToClient(w, r, req, url.Values{"error": {"access_denied"},
		"error_description": {"The person did not allow it."}})
}

// ownFormsOnly denies forms that were not posted by a page of this server.
func (s *Server) ownFormsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.sameOrigin(r) {
			next.ServeHTTP(w, r)
			return
		}
		s.logError(r, &clients.Error{Code: "cross_site", Description: "form was not posted by our own page",
			Status: http.StatusForbidden})
		s.pages.Error(w, http.StatusForbidden, templates.ErrorPage{
			Title:   "That did not come from this server's own page",
			Message: "Another website, or a program, pressed the button in your place. Nothing was done.",
			Next:    []string{"Go back to your MCP client, or to the page that you came from, and begin again."},
		})
	})
}

// sameOrigin reports whether a form was posted by a page of this server. Browsers send this in a header that pages
// cannot set. A request without either header is denied, because it does not come from a browser (this is stricter than
// [http.CrossOriginProtection], which allows programs).
func (s *Server) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	return r.Header.Get("Origin") == s.baseURL
}
