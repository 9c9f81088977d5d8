package oauth

import (
	"encoding/json"
	"mime"
	"net/http"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/templates"
)

// handleRegister handles POST /register: dynamic client registration (RFC 7591). It writes nothing: the client_id
// that it returns is the registration.
func (s *Server) handleRegister(w http.ResponseWriter, r *http.Request) {
	if !s.clients.SelfRegistration() {
		s.writeError(w, r, clients.ErrRegistrationOff)
		return
	}
	req, err := readRegistration(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	resp, err := s.clients.Register(req)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.InfoContext(r.Context(), "client registered", "name", templates.DisplayName(resp.ClientName),
		"uris", len(resp.RedirectURIs))
	writeJSON(w, http.StatusCreated, resp)
}

func readRegistration(w http.ResponseWriter, r *http.Request) (*clients.RegistrationRequest, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, clients.InvalidMetadata("The body must be application/json.")
	}
	var req clients.RegistrationRequest
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(body, &req) != nil {
		return nil, clients.InvalidMetadata("The body is not the JSON object of RFC 7591.")
	}
	return &req, nil
}
