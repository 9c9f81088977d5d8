package oauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/upstream"
)

// handleGitHubWebhook handles POST /webhook/github. GitHub calls it when a user has revoked our GitHub App's
// authorization on their settings page: the event github_app_authorization, which every GitHub App gets. It ends no
// grant. It only makes the server check the user's credentials before their next use. So an attacker who replays a
// delivery, or changes its event name (only the body is signed), causes only a request to GitHub.
func (s *Server) handleGitHubWebhook(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if !s.signedByGitHub(body, r.Header.Get("X-Hub-Signature-256")) {
		s.writeError(w, r, &clients.Error{Code: "invalid_signature", Status: http.StatusUnauthorized,
			Description: "X-Hub-Signature-256 is missing or wrong. Is the webhook's secret that of GITHUB_WEBHOOK_SECRET?"})
		return
	}
	if err := s.githubEvent(r, body); err != nil {
		s.writeError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// signedByGitHub reports whether the signature of a delivery is valid: sha256= and the HMAC of the body, in hex.
func (s *Server) signedByGitHub(body []byte, signature string) bool {
	text, ok := strings.CutPrefix(signature, "sha256=")
	got, err := hex.DecodeString(text)
	mac := hmac.New(sha256.New, []byte(s.webhookSecret))
	mac.Write(body)
	return ok && err == nil && hmac.Equal(got, mac.Sum(nil))
}

// githubEvent handles a delivery. It ignores most events: GitHub first sends a ping, and also sends the other events
// that the app subscribed to.
func (s *Server) githubEvent(r *http.Request, body []byte) error {
	github := s.providers.Find("github")
	if r.Header.Get("X-GitHub-Event") != "github_app_authorization" || github == nil {
		return nil
	}
	var event struct {
		Action string `json:"action"`
		Sender struct {
			ID int64 `json:"id"`
		} `json:"sender"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return clients.InvalidRequest("The body is not the JSON of this event. Is the webhook's content type application/json?")
	}
	if event.Action != "revoked" {
		return nil
	}
	person := upstream.Identity{Issuer: github.IdentityIssuer, Subject: strconv.FormatInt(event.Sender.ID, 10)}
	if err := s.store.SuspectCredentials(r.Context(), person.UserID(), s.now()); err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "authorization revoked at GitHub", "subject", person.Subject)
	return nil
}
