package oauth

import (
	"encoding/json"
	"mime"
	"net/http"
)

// handleRegister handles POST /register: dynamic client registration (RFC 7591). It writes nothing: the client_id
// that it returns is the registration.
func (s *Server) handleRegister(w http.ResponseWriter, r *http.Request) {
	if !s.clients.SelfRegistration() {
		s.writeError(w, r, errRegistrationOff)
		return
	}
	req, err := readRegistration(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	resp, err := s.clients.register(req)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.InfoContext(r.Context(), "client registered", "name", displayName(resp.ClientName),
		"uris", len(resp.RedirectURIs))
	writeJSON(w, http.StatusCreated, resp)
}

func readRegistration(w http.ResponseWriter, r *http.Request) (*registrationRequest, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, invalidMetadata("The body must be application/json.")
	}
	var req registrationRequest
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(body, &req) != nil {
		return nil, invalidMetadata("The body is not the JSON object of RFC 7591.")
	}
	return &req, nil
}
