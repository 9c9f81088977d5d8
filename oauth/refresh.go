package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// refreshGrace is how long a spent refresh token still gets the grant's newest pair, counted from its first use.
// It covers retries, and several processes that share one stored token.
const refreshGrace = 2 * time.Minute

// errInvalidRefresh is returned for every invalid refresh token.
var errInvalidRefresh = &clients.Error{Code: "invalid_grant", Status: http.StatusBadRequest,
	Description: "The refresh token is unknown, expired or used, or belongs to another client. Sign in again."}

// refresh trades a refresh token for the next pair. The pair is derived from the grant's seed, which every refresh
// token of the grant can open. So a token that was spent in the last two minutes gets the newest pair again, nothing is
// written, and the tokens of the first request stay valid.
//
// The newest spent token works for longer, until its successor is presented and it retires: the response may have been
// lost, or two sessions of one installation share one stored token. If a retired token is presented after that, someone
// has an old copy of it, and the grant ends (RFC 9700 section 4.14.2).
//
// The scope parameter is ignored: a grant's scopes do not change.
func (s *Server) refresh(ctx context.Context, client *clients.Requester, token string) (*tokenResponse, error) {
	secret, ok := seal.Parse(seal.RefreshPrefix, token)
	if !ok {
		return nil, errInvalidRefresh
	}
	// A request that loses the compare-and-swap finds the token spent on the next try.
	for range 3 {
		resp, err := s.tryRefresh(ctx, client, store.HashOf(token), secret)
		if !errors.Is(err, store.ErrConflict) {
			return resp, err
		}
	}
	return nil, errors.New("refresh lost against another one again and again")
}

func (s *Server) tryRefresh(ctx context.Context, client *clients.Requester, hash store.Hash, secret seal.Secret) (
	*tokenResponse, error) {
	t, err := s.store.Token(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errInvalidRefresh
	}
	if err != nil {
		return nil, fmt.Errorf("looking up refresh token: %w", err)
	}
	g, now := &t.Grant, s.now()
	spent, retired, age := !t.SpentAt.IsZero(), !t.RetiredAt.IsZero(), now.Sub(t.SpentAt)
	switch {
	case t.Kind != store.Refresh:
		return nil, errInvalidRefresh
	case g.Client.ID != client.ID:
		return nil, errInvalidRefresh.Because(g, "the refresh token is another client's")
	case !now.Before(t.ExpiresAt) && (retired || !spent): // otherwise its successor's expiry counts
		return nil, errInvalidRefresh.Because(g, "the refresh token has expired")
	}
	if retired && age > refreshGrace {
		if err := s.clients.SpendAssertion(ctx, client); err != nil {
			return nil, err
		}
		// After minutes it may have been stolen. After days it is a client that never stored the newer one.
		why := "spent refresh token presented again after " + age.Round(time.Second).String()
		if err := s.grants.End(ctx, g, why); err != nil {
			return nil, err
		}
		return nil, errInvalidRefresh
	}
	seed, err := s.ring.OpenToken(secret, &t)
	if errors.Is(err, seal.ErrForged) {
		s.log.ErrorContext(ctx, "refresh token refused", "grant", g.ID, "cause", err)
		return nil, errInvalidRefresh
	}
	if err != nil {
		return nil, err
	}
	private := seal.PrivateKey(seed)
	if err := s.grants.Readmit(ctx, g, private); errors.Is(err, grants.ErrNotReadmitted) {
		return nil, errInvalidRefresh
	} else if err != nil {
		return nil, err
	}
	if !spent || age > refreshGrace {
		if err := s.grants.KeepAlive(ctx, g, private); errors.Is(err, grants.ErrUpstreamDead) {
			s.log.WarnContext(ctx, "refresh token refused", "grant", g.ID, "cause", err)
			return nil, errInvalidRefresh
		} else if err != nil {
			return nil, err
		}
	}
	if err := s.clients.SpendAssertion(ctx, client); err != nil {
		return nil, err
	}
	if spent {
		return s.newestPair(ctx, g, seed)
	}
	n := t.N + 1
	pair := s.ring.NewPair(g, seed, n, now.Add(s.accessTTL), now.Add(s.refreshTTL))
	if err := s.store.Rotate(ctx, hash, t.N, now, pair); err != nil {
		return nil, fmt.Errorf("rotating refresh token: %w", err)
	}
	s.log.InfoContext(ctx, "refreshed", "grant", g.ID, "n", n)
	return s.respond(g, seed, n, 0, pair.Access.ExpiresAt), nil
}

// newestPair returns the grant's newest pair, with a new access token if the last one is no longer valid. It does not
// extend the refresh token's life: a client that never stores it must sign in again when it expires. It returns
// [store.ErrConflict] if there is now a newer pair.
func (s *Server) newestPair(ctx context.Context, g *store.Grant, seed seal.Secret) (*tokenResponse, error) {
	n, reissued, now := g.Counter, g.Reissued, s.now()
	refresh, err := s.store.Token(ctx, store.HashOf(seal.RefreshToken(seed, n).Format(seal.RefreshPrefix)))
	switch {
	case errors.Is(err, store.ErrNotFound): // the grant has ended
		return nil, errInvalidRefresh
	case err != nil:
		return nil, fmt.Errorf("looking up newest refresh token: %w", err)
	case !refresh.SpentAt.IsZero():
		return nil, store.ErrConflict
	case !now.Before(refresh.ExpiresAt):
		return nil, errInvalidRefresh.Because(g, "the newest refresh token has expired")
	}
	access, err := s.store.Token(ctx, store.HashOf(seal.AccessToken(seed, n, reissued).Format(seal.AccessPrefix)))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("looking up newest access token: %w", err)
	}
	if err == nil && now.Before(access.ExpiresAt) {
		return s.respond(g, seed, n, reissued, access.ExpiresAt), nil
	}
	access = s.ring.NewAccess(g, seed, n, reissued+1, now.Add(s.accessTTL))
	if err := s.store.Reissue(ctx, g.ID, n, reissued, now, access); err != nil {
		return nil, fmt.Errorf("issuing an access token again: %w", err)
	}
	s.log.InfoContext(ctx, "access token issued again", "grant", g.ID, "n", n)
	return s.respond(g, seed, n, reissued+1, access.ExpiresAt), nil
}
