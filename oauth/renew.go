package oauth

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// Upstream tokens expire, rotate and die. Whoever needs one calls upstreamToken, which renews it where it must. GitHub
// kills a pair of tokens as soon as its refresh token is used, so of all callers, on all instances, exactly one may use
// it: in a process by singleflight, between processes by a lease on the credential's row. The call to the provider is
// made without a transaction, and neither it nor the saving of its result ends with the request that caused it.
const (
	renewMargin  = 5 * time.Minute  // how long before its expiry a token is renewed
	renewTimeout = 20 * time.Second // for the provider's answer and for saving it, once the lease is held
	leaseLife    = 30 * time.Second // longer than renewTimeout, by what two instances' clocks may differ
	leasePoll    = 50 * time.Millisecond
	saveAgain    = time.Second // between attempts to save what has been renewed
)

var (
	// errUpstreamDead: the provider no longer accepts the credential. Signing in again heals it, for all the person's
	// grants that are bound to it.
	errUpstreamDead = errors.New("the provider no longer accepts the sign-in")
	// errUpstreamExpired: the credential has expired and never could be renewed. The grant is good for tools that do
	// not need it.
	errUpstreamExpired = errors.New("the provider's token has expired and cannot be renewed")
)

// upstreamToken returns the upstream token that a grant is bound to, and its version. A token that is about to expire,
// or whose version is known not to work, is renewed first. Its errors are errUpstreamDead, errUpstreamExpired,
// [ErrNotFound] for a grant that has ended, and those that are nobody's fault.
func (s *Server) upstreamToken(ctx context.Context, g *Grant, private *ecdh.PrivateKey, broken int64) (
	*upstream.Token, int64, error) {
	for margin := renewMargin; ; margin = 0 { // a token may be made for less than the margin
		c, t, err := s.openUpstream(ctx, g, private)
		if err != nil {
			return nil, 0, err
		}
		now, works := s.now(), c.Version != broken && c.SuspectAt.IsZero() // renewing answers a suspicion as well
		expired := !t.Expiry.IsZero() && !now.Before(t.Expiry)
		switch {
		case works && (t.Expiry.IsZero() || now.Before(t.Expiry.Add(-margin))):
			return t, c.Version, nil
		case t.Refresh == "" && works && !expired:
			return t, c.Version, nil
		case t.Refresh == "":
			return nil, 0, errUpstreamExpired
		}
		if err := s.renew(ctx, g, c, t); err != nil {
			if works && !expired && !errors.Is(err, errUpstreamDead) {
				return t, c.Version, nil // the old one is good for a little longer
			}
			return nil, 0, err
		}
		// Read what was saved, by whomever.
	}
}

// openUpstream reads a grant's credential. One that is suspected is checked with the provider.
func (s *Server) openUpstream(ctx context.Context, g *Grant, private *ecdh.PrivateKey) (*Credential, *upstream.Token,
	error) {
	c, err := s.store.Credential(ctx, g.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("looking up upstream credential: %w", err)
	}
	if !c.DeadAt.IsZero() {
		return nil, nil, errUpstreamDead
	}
	t, err := s.ring.openCredential(private, g, &c)
	if errors.Is(err, errForged) {
		s.log.ErrorContext(ctx, "upstream credential refused", "grant", g.ID, "cause", err)
		return nil, nil, errUpstreamDead // as good as: a sign-in writes a new one
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening upstream credential: %w", err)
	}
	if !c.SuspectAt.IsZero() && t.Refresh == "" && (t.Expiry.IsZero() || s.now().Before(t.Expiry)) {
		err := s.checkUpstream(ctx, g, &c, t)
		if errors.Is(err, ErrConflict) { // somebody has written another version
			return s.openUpstream(ctx, g, private)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return &c, t, nil
}

// checkUpstream asks the provider whether it still accepts a token, and keeps the answer. It returns [ErrConflict] if
// the credential has another version by then.
func (s *Server) checkUpstream(ctx context.Context, g *Grant, c *Credential, t *upstream.Token) error {
	err := s.provider(g.User.Provider).Check(ctx, t)
	switch {
	case err == nil:
		c.SuspectAt = time.Time{}
		return s.store.JudgeCredential(ctx, c.ID, c.Version, time.Time{})
	case errors.Is(err, upstream.ErrDead):
		return s.bury(ctx, g, c, err)
	}
	return err
}

// bury marks a version of a credential as dead, and returns errUpstreamDead. If somebody has written another version,
// it was not the credential that was dead but our copy of it: [ErrConflict].
func (s *Server) bury(ctx context.Context, g *Grant, c *Credential, cause error) error {
	err := s.store.JudgeCredential(ctx, c.ID, c.Version, s.now())
	if err != nil {
		return fmt.Errorf("marking upstream credential as dead: %w", err)
	}
	s.cache.drop(func(_ Hash, o *Grant) bool { return o.Credential == c.ID })
	s.log.WarnContext(ctx, "upstream credential is dead", "provider", g.User.Provider, "subject", g.User.Subject,
		"grant", g.ID, "cause", cause)
	return errUpstreamDead
}

// renew sees to it that this version of a credential is renewed, by this caller or another one. After that the
// credential has to be read again.
func (s *Server) renew(ctx context.Context, g *Grant, c *Credential, t *upstream.Token) error {
	renewal := s.renewals.DoChan(fmt.Sprint(c.ID, c.Version), func() (any, error) {
		// What the provider answers must be kept, whoever is still waiting for it.
		return nil, s.renewOnce(context.WithoutCancel(ctx), g, c, t)
	})
	select {
	case r := <-renewal:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the upstream credential's renewal: %w", ctx.Err())
	}
}

func (s *Server) renewOnce(ctx context.Context, g *Grant, c *Credential, t *upstream.Token) error {
	owner, deadline := newID().String(), time.After(leaseLife)
	for {
		now := s.now()
		err := s.store.Lease(ctx, c.ID, c.Version, owner, now, now.Add(leaseLife))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("leasing upstream credential: %w", err)
		}
		// Somebody else is at it, or is done. Should they never be, their lease runs out.
		latest, err := s.store.Credential(ctx, g.ID)
		if errors.Is(err, ErrNotFound) {
			return nil // of all who wait here, this concerns the one whose grant has ended
		}
		if err != nil {
			return fmt.Errorf("looking up upstream credential: %w", err)
		}
		if latest.Version != c.Version || !latest.DeadAt.IsZero() {
			return nil
		}
		select {
		case <-time.After(leasePoll):
		case <-deadline:
			return errors.New("the upstream credential's lease does not come free")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	renewed, err := s.provider(g.User.Provider).Renew(ctx, t)
	if errors.Is(err, upstream.ErrDead) {
		if err = s.bury(ctx, g, c, err); errors.Is(err, ErrConflict) {
			return nil
		}
		return err
	}
	if err != nil {
		return errors.Join(err, s.store.Unlease(ctx, c.ID, owner))
	}
	// The old token is dead by now. To lose the new one because the store is restarting would sign the person out.
	for {
		err = s.store.SaveCredential(ctx, c.ID, c.Version, s.now(), s.ring.sealCredential(g.User.ID, renewed))
		if err == nil || errors.Is(err, ErrConflict) || ctx.Err() != nil {
			break
		}
		time.Sleep(saveAgain)
	}
	if errors.Is(err, ErrConflict) { // somebody has signed in since, or the last grant has ended
		s.discard(ctx, s.provider(g.User.Provider), renewed)
		return nil
	}
	if err != nil {
		return fmt.Errorf("saving renewed upstream credential: %w", err)
	}
	s.log.InfoContext(ctx, "upstream credential renewed", "provider", g.User.Provider, "grant", g.ID)
	return nil
}

// keepAlive renews an expired upstream credential when its MCP client refreshes, so that a client that is idle for long
// does not lose it. It returns errUpstreamDead if the person has to sign in again.
func (s *Server) keepAlive(ctx context.Context, g *Grant, private *ecdh.PrivateKey) error {
	_, _, err := s.upstreamToken(ctx, g, private, 0)
	if errors.Is(err, errUpstreamExpired) {
		return nil // only tools need it
	}
	return err
}
