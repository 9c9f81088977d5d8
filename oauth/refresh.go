package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// refreshGrace is how long a spent refresh token still gets the grant's newest pair, from when it was first spent. It
// covers lost answers, retries, and several processes that share one stored token.
const refreshGrace = 2 * time.Minute

// errInvalidRefresh is the one answer to a refresh token that does not work.
var errInvalidRefresh = &Error{Code: "invalid_grant", Status: http.StatusBadRequest,
	Description: "The refresh token is unknown, expired or used, or belongs to another client. Sign in again."}

// refresh trades a refresh token for the next pair. The pair is derived from the grant's seed, which every refresh
// token of the grant can open; so whoever presents a token that was spent in the last two minutes is given the newest
// pair again, nothing is written, and the winner's tokens go on working. After that a spent token means that somebody
// has an old copy of it, and the grant ends (RFC 9700 section 4.14.2). The scope parameter is ignored: a grant's
// scopes do not change.
func (s *Server) refresh(ctx context.Context, client *requester, token string) (*tokenResponse, error) {
	secret, ok := parseSecret(refreshPrefix, token)
	if !ok {
		return nil, errInvalidRefresh
	}
	// Whoever loses the compare-and-swap finds the token spent at the second look.
	for range 3 {
		resp, err := s.tryRefresh(ctx, client, HashOf(token), secret)
		if !errors.Is(err, ErrConflict) {
			return resp, err
		}
	}
	return nil, errors.New("refresh lost against another one again and again")
}

func (s *Server) tryRefresh(ctx context.Context, client *requester, hash Hash, secret secret32) (
	*tokenResponse, error) {
	t, err := s.store.Token(ctx, hash)
	if errors.Is(err, ErrNotFound) {
		return nil, errInvalidRefresh
	}
	if err != nil {
		return nil, fmt.Errorf("looking up refresh token: %w", err)
	}
	g, now := &t.Grant, s.now()
	switch {
	case t.Kind != Refresh:
		return nil, errInvalidRefresh
	case g.Client.ID != client.ID:
		return nil, errInvalidRefresh.because(g, "the refresh token is another client's")
	case !now.Before(t.ExpiresAt):
		return nil, errInvalidRefresh.because(g, "the refresh token has expired")
	}
	spent := !t.SpentAt.IsZero()
	if age := now.Sub(t.SpentAt); spent && age > refreshGrace {
		if err := s.useUp(ctx, client); err != nil {
			return nil, err
		}
		// After minutes it may have been stolen. After days it is a client that never stored the newer one.
		why := "spent refresh token presented again after " + age.Round(time.Second).String()
		if err := s.endGrant(ctx, g, why); err != nil {
			return nil, err
		}
		return nil, errInvalidRefresh
	}
	seed, err := s.ring.unwrap(secret, t.Wrap, tokenContext(&t, g))
	if errors.Is(err, errForged) {
		s.log.ErrorContext(ctx, "refresh token refused", "grant", g.ID, "cause", err)
		return nil, errInvalidRefresh
	}
	if err != nil {
		return nil, err
	}
	private := privateKey(seed)
	if err := s.readmit(ctx, g, private); err != nil {
		return nil, err
	}
	if spent {
		if err := s.useUp(ctx, client); err != nil {
			return nil, err
		}
		return s.repeat(ctx, g, seed)
	}
	if err := s.keepAlive(ctx, g, private); errors.Is(err, errUpstreamDead) {
		s.log.WarnContext(ctx, "refresh token refused", "grant", g.ID, "cause", err)
		return nil, errInvalidRefresh
	} else if err != nil {
		return nil, err
	}
	if err := s.useUp(ctx, client); err != nil {
		return nil, err
	}
	n := t.N + 1
	pair := s.ring.newPair(g, seed, n, now.Add(s.accessTTL), now.Add(s.refreshTTL))
	if err := s.store.Rotate(ctx, hash, t.N, now, pair); err != nil {
		return nil, fmt.Errorf("rotating refresh token: %w", err)
	}
	s.log.InfoContext(ctx, "refreshed", "grant", g.ID, "n", n)
	return s.respond(g, seed, n, pair.Access.ExpiresAt), nil
}

// repeat returns the grant's newest pair with the life that it has left. If its access token is gone the client is
// told that it has expired, and refreshes again.
func (s *Server) repeat(ctx context.Context, g *Grant, seed secret32) (*tokenResponse, error) {
	access, err := s.store.Token(ctx, HashOf(accessSecret(seed, g.Counter).format(accessPrefix)))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("looking up newest access token: %w", err)
	}
	return s.respond(g, seed, g.Counter, access.ExpiresAt), nil
}
