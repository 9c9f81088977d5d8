package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// handleRevoke handles POST /revoke (RFC 7009). Revoking a refresh token ends its grant, even if the token has been
// spent. Revoking an access token ends only that token. "The authorization server responds with HTTP status code 200
// if the token has been revoked successfully or if the client submitted an invalid token" (section 2.2); a token of
// another client counts as invalid, and the response does not reveal it.
func (s *Server) handleRevoke(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	client, err := s.clients.Authenticate(w, r, form)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	token := form.Get("token")
	if token == "" {
		s.writeError(w, r, clients.InvalidRequest("token is missing."))
		return
	}
	if err := s.revoke(r.Context(), client, token); err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revoke(ctx context.Context, client *clients.Requester, token string) error {
	prefix := seal.AccessPrefix
	if strings.HasPrefix(token, seal.RefreshPrefix) {
		prefix = seal.RefreshPrefix
	}
	if _, ok := seal.Parse(prefix, token); !ok {
		return nil
	}
	t, err := s.store.Token(ctx, store.HashOf(token))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking up token: %w", err)
	}
	if t.Grant.Client.ID != client.ID {
		return nil
	}
	if err := s.clients.SpendAssertion(ctx, client); err != nil {
		return err
	}
	if t.Kind == store.Refresh {
		return s.grants.End(ctx, &t.Grant, "revoked by its client")
	}
	err = s.store.EndToken(ctx, t.Hash)
	s.grants.Ended(err, func(token store.Hash, _ *store.Grant) bool { return token == t.Hash })
	if err != nil {
		return fmt.Errorf("ending token: %w", err)
	}
	return nil
}
