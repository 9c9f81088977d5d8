package oauth

import (
	"net/http"
	"strings"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/templates"
)

// handleLanding handles GET /: what this server is, and how to connect to it.
func (s *Server) handleLanding(w http.ResponseWriter, r *http.Request) {
	s.pages.Landing(w, http.StatusOK, templates.LandingPage{URL: s.resource, Name: ShortName(s.name),
		Loopback: origin.IsLoopback(s.base.Hostname()), Closed: !s.clients.SelfRegistration(),
		Documents: s.clients.Documents(), Providers: s.buttons(), Development: s.development})
}

// buttons returns all ways to sign in.
func (s *Server) buttons() []templates.ProviderButton {
	var all []templates.ProviderButton
	for _, p := range s.providers {
		all = append(all, templates.ProviderButton{ID: p.ID, Name: p.Name, Unavailable: p.Unavailable()})
	}
	return all
}

// ShortName makes a name that needs no quoting in a shell: "My MCP server" becomes my-mcp-server.
func ShortName(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}), "-")
}
