package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// replayGrace is how long a client may present a code twice without losing its grant. Some clients send the request
// again if the response is slow.
const replayGrace = 10 * time.Second

// pkceVerifier matches a code_verifier (RFC 7636 section 4.1).
var pkceVerifier = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// errInvalidCode is returned for every invalid code, so that the error reveals nothing about codes.
var errInvalidCode = &clients.Error{Code: "invalid_grant", Status: http.StatusBadRequest,
	Description: "The code is unknown, expired or used, or belongs to another client, code_verifier or redirect_uri."}

// redeem trades a code for the grant's first tokens. A second redemption is always denied. If it is otherwise valid
// and not just a retry, two parties had the code, and the grant ends: "the authorization server MUST deny the
// request and SHOULD revoke (when possible) all tokens previously issued" (RFC 6749 section 4.1.2).
func (s *Server) redeem(ctx context.Context, client *clients.Requester, form url.Values) (*tokenResponse, error) {
	code, ok := seal.Parse(seal.CodePrefix, form.Get("code"))
	if !ok {
		return nil, errInvalidCode
	}
	hash := store.HashOf(form.Get("code"))
	c, err := s.store.Code(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errInvalidCode
	}
	if err != nil {
		return nil, fmt.Errorf("looking up code: %w", err)
	}
	g := &c.Grant
	// OAuth 2.1 clients omit the redirect_uri. If it is present, it must be that of the authorization request.
	to := form.Get("redirect_uri")
	switch {
	case g.Client.ID != client.ID:
		return nil, errInvalidCode.Because(g, "the code is another client's")
	case !verifies(form.Get("code_verifier"), c.Challenge):
		return nil, errInvalidCode.Because(g, "the code_verifier does not fit")
	case to != "" && to != c.RedirectURI:
		return nil, errInvalidCode.Because(g, "the redirect_uri is not that of the sign-in")
	}
	now := s.now()
	if !c.RedeemedAt.IsZero() {
		if now.Sub(c.RedeemedAt) > replayGrace {
			if err := s.clients.SpendAssertion(ctx, client); err != nil {
				return nil, err
			}
			if err := s.grants.End(ctx, g, "code redeemed twice"); err != nil {
				return nil, err
			}
		}
		return nil, errInvalidCode.Because(g, "the code was redeemed before")
	}
	if !now.Before(c.ExpiresAt) {
		return nil, errInvalidCode.Because(g, "the code has expired")
	}
	seed, err := s.ring.OpenCode(code, &c)
	if errors.Is(err, seal.ErrForged) {
		s.log.ErrorContext(ctx, "code refused", "grant", g.ID, "cause", err)
		return nil, errInvalidCode
	}
	if err != nil {
		return nil, err
	}
	if err := s.grants.CheckAdmitted(g); err != nil { // the configuration changed since the callback
		s.log.WarnContext(ctx, "code refused", "grant", g.ID, "cause", err)
		return nil, errInvalidCode
	}
	if err := s.clients.SpendAssertion(ctx, client); err != nil {
		return nil, err
	}
	pair := s.ring.NewPair(g, seed, 1, now.Add(s.accessTTL), now.Add(s.refreshTTL))
	ended, err := s.store.RedeemCode(ctx, hash, now, pair, clients.SelfRegistered(client.Client))
	if errors.Is(err, store.ErrConflict) {
		return nil, errInvalidCode // another request with the same code was faster
	}
	if err != nil {
		return nil, fmt.Errorf("redeeming code: %w", err)
	}
	for _, id := range ended {
		s.grants.Ended(nil, func(_ store.Hash, o *store.Grant) bool { return o.ID == id })
		s.log.InfoContext(ctx, "grant ended", "grant", id, "reason", "replaced, or one too many", "by", g.ID)
	}
	s.log.InfoContext(ctx, "code redeemed", "grant", g.ID)
	return s.respond(g, seed, 1, 0, pair.Access.ExpiresAt), nil
}

// verifies reports whether the verifier matches an S256 challenge (RFC 7636 section 4.6).
func verifies(verifier, challenge string) bool {
	if !pkceVerifier.MatchString(verifier) || challenge == "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
