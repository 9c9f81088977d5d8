package oauth

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

// handleNotFound responds to requests for a URL that does not exist: with a page for browsers, a line for programs.
func (s *Server) handleNotFound(w http.ResponseWriter, r *http.Request) {
	if !asksForPage(r) {
		http.NotFound(w, r)
		return
	}
	s.pages.Error(w, http.StatusNotFound, s.wayHome("This page does not exist",
		"There is nothing at this address.", "Check the address for typing mistakes."))
}

// handleMethodNotAllowed responds to requests with a wrong method, and lists the allowed ones (RFC 9110 section
// 15.5.6). The router does not pass them to a custom handler, so the handler tries each method.
func (s *Server) handleMethodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			if routes.Match(chi.NewRouteContext(), method, r.URL.Path) {
				w.Header().Add("Allow", method)
			}
		}
		if !asksForPage(r) {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		s.pages.Error(w, http.StatusMethodNotAllowed, s.wayHome("This address is not a page",
			"It is for programs, or for the forms on this server's own pages.",
			"If you came from your MCP client, go back there and connect again."))
	}
}

// wayHome returns an error page that leads to the landing page.
func (s *Server) wayHome(title, message, next string) templates.ErrorPage {
	return templates.ErrorPage{Title: title, Message: message, Next: []string{next},
		Remedies: []upstream.Remedy{{Text: "This page says how to connect an MCP client:", URL: s.baseURL + "/"}}}
}
