package grants

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// Upstream tokens expire, rotate and die. Whoever needs one calls UpstreamToken, which renews it where it must. GitHub
// kills a pair of tokens as soon as its refresh token is used, so of all callers, on all instances, exactly one may use
// it: in a process by singleflight, between processes by a lease on the credential's row. The call to the provider is
// made without a transaction, and neither it nor the saving of its result ends with the request that caused it.
const (
	renewMargin    = 5 * time.Minute  // how long before its expiry a token is renewed
	renewTimeout   = 20 * time.Second // for the provider's answer and for saving it, once the lease is held
	leaseLife      = 30 * time.Second // longer than renewTimeout, by what two instances' clocks may differ
	leasePoll      = 50 * time.Millisecond
	discardTimeout = 30 * time.Second
	saveAgain      = time.Second // between attempts to save what has been renewed
	// askAgainAfter is how long a token that works is not asked about. A person who revokes the app at the provider, or
	// whose account is suspended there, is signed out after that at the latest, if their client refreshes.
	askAgainAfter = time.Hour
)

var (
	// ErrUpstreamDead: the provider no longer accepts the credential. Signing in again heals it, for all the person's
	// grants that are bound to it.
	ErrUpstreamDead = errors.New("the provider no longer accepts the sign-in")
	// errUpstreamExpired: the credential has expired and never could be renewed. The grant is good for tools that do
	// not need it.
	errUpstreamExpired = errors.New("the provider's token has expired and cannot be renewed")
)

// A Credential is a credential with what is sealed in it.
type Credential struct {
	*store.Credential
	seal.Content
}

// UpstreamToken returns the upstream token that a grant is bound to. A token that is about to expire, or whose version
// is known not to work, is renewed first. Its errors are ErrUpstreamDead, errUpstreamExpired, [store.ErrNotFound] for a
// grant that has ended, and those that are nobody's fault.
func (k *Keeper) UpstreamToken(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey, broken int64) (
	*Credential, error) {
	for margin := renewMargin; ; margin = 0 { // a token may be made for less than the margin
		c, err := k.openUpstream(ctx, g, private)
		if err != nil {
			return nil, err
		}
		now, works := k.now(), c.Version != broken && c.SuspectAt.IsZero() // renewing answers a suspicion as well
		expired := !c.Expiry.IsZero() && !now.Before(c.Expiry)
		switch {
		case works && (c.Expiry.IsZero() || now.Before(c.Expiry.Add(-margin))):
			return c, nil
		case c.Refresh == "" && works && !expired:
			return c, nil
		case c.Refresh == "":
			return nil, errUpstreamExpired
		}
		if err := k.renew(ctx, g, c); err != nil {
			if works && !expired && !errors.Is(err, ErrUpstreamDead) {
				if ctx.Err() == nil {
					// The operator has the minutes until it expires.
					k.log.Failure(ctx, slog.LevelWarn, "upstream credential not renewed", g.User.Provider,
						"provider", g.User.Provider, "grant", g.ID, "expires", c.Expiry, "cause", err)
				}
				return c, nil // the old token is still valid
			}
			return nil, err
		}
		// Read what was saved, by whomever.
	}
}

// openUpstream reads a grant's credential. One that is suspected is checked with the provider.
func (k *Keeper) openUpstream(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey) (*Credential, error) {
	row, err := k.store.Credential(ctx, g.ID)
	if err != nil {
		return nil, fmt.Errorf("looking up upstream credential: %w", err)
	}
	if !row.DeadAt.IsZero() {
		return nil, ErrUpstreamDead
	}
	content, err := k.ring.OpenCredential(private, g, &row)
	if errors.Is(err, seal.ErrForged) {
		k.log.ErrorContext(ctx, "upstream credential refused", "grant", g.ID, "cause", err)
		return nil, ErrUpstreamDead // as good as: a sign-in writes a new one
	}
	if err != nil {
		return nil, fmt.Errorf("opening upstream credential: %w", err)
	}
	c := &Credential{&row, *content}
	if !c.SuspectAt.IsZero() && c.Refresh == "" && (c.Expiry.IsZero() || k.now().Before(c.Expiry)) {
		err := k.checkUpstream(ctx, g, c)
		if errors.Is(err, store.ErrConflict) { // somebody has written another version
			return k.openUpstream(ctx, g, private)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// checkUpstream asks the provider whether it still accepts a token, and keeps the answer. It returns
// [store.ErrConflict] if the credential has another version by then.
func (k *Keeper) checkUpstream(ctx context.Context, g *store.Grant, c *Credential) error {
	err := k.providers.Find(g.User.Provider).Check(ctx, &c.Token)
	switch {
	case err == nil:
		c.SuspectAt = time.Time{}
		return k.store.JudgeCredential(ctx, c.ID, c.Version, time.Time{})
	case errors.Is(err, upstream.ErrDead):
		return k.markDead(ctx, g, c, err)
	}
	return err
}

// markDead marks a version of a credential as dead, and returns ErrUpstreamDead. If somebody has written another
// version, it was not the credential that was dead but our copy of it: [store.ErrConflict].
func (k *Keeper) markDead(ctx context.Context, g *store.Grant, c *Credential, cause error) error {
	err := k.store.JudgeCredential(ctx, c.ID, c.Version, k.now())
	if err != nil {
		return fmt.Errorf("marking upstream credential as dead: %w", err)
	}
	k.cache.drop(func(_ store.Hash, o *store.Grant) bool { return o.Credential == c.ID })
	k.log.WarnContext(ctx, "upstream credential is dead", "provider", g.User.Provider, "subject", g.User.Subject,
		"grant", g.ID, "cause", cause)
	return ErrUpstreamDead
}

// renew sees to it that this version of a credential is renewed, by this caller or another one. After that the
// credential has to be read again.
func (k *Keeper) renew(ctx context.Context, g *store.Grant, c *Credential) error {
	renewal := k.renewals.DoChan(fmt.Sprint(c.ID, c.Version), func() (any, error) {
		// What the provider answers must be kept, whoever is still waiting for it.
		return nil, k.renewOnce(context.WithoutCancel(ctx), g, c)
	})
	select {
	case r := <-renewal:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the upstream credential's renewal: %w", ctx.Err())
	}
}

func (k *Keeper) renewOnce(ctx context.Context, g *store.Grant, c *Credential) error {
	owner, deadline := store.NewID().String(), time.After(leaseLife)
	for {
		now := k.now()
		err := k.store.Lease(ctx, c.ID, c.Version, owner, now, now.Add(leaseLife))
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("leasing upstream credential: %w", err)
		}
		// Somebody else is at it, or is done. Should they never be, their lease runs out.
		latest, err := k.store.Credential(ctx, g.ID)
		if errors.Is(err, store.ErrNotFound) {
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
	renewed, err := k.providers.Find(g.User.Provider).Renew(ctx, &c.Token)
	if errors.Is(err, upstream.ErrDead) {
		if err = k.markDead(ctx, g, c, err); errors.Is(err, store.ErrConflict) {
			return nil
		}
		return err
	}
	if err != nil {
		return errors.Join(err, k.store.Unlease(ctx, c.ID, owner))
	}
	vouched := func(r store.Recipient) bool {
		ok := c.VouchesFor(r)
		if !ok {
			k.log.ErrorContext(ctx, "renewed credential withheld from a grant", "grant", r.Grant, "cause", seal.ErrForged)
		}
		return ok
	}
	// The old token is dead by now. To lose the new one because the store is restarting would sign the person out.
	for {
		err = k.store.SaveCredential(ctx, c.ID, c.Version, k.now(), k.ring.SealCredential(g.User.ID, renewed, vouched))
		if err == nil || errors.Is(err, store.ErrConflict) || ctx.Err() != nil {
			break
		}
		time.Sleep(saveAgain)
	}
	if errors.Is(err, store.ErrConflict) { // somebody has signed in since, or the last grant has ended
		k.Discard(ctx, k.providers.Find(g.User.Provider), renewed)
		return nil
	}
	if err != nil {
		return fmt.Errorf("saving renewed upstream credential: %w", err)
	}
	k.log.InfoContext(ctx, "upstream credential renewed", "provider", g.User.Provider, "grant", g.ID)
	return nil
}

// KeepAlive renews an expired upstream credential when its MCP client refreshes, so that a client that is idle for long
// does not lose it; and asks the provider about one that has not expired, because nobody else may do so. It returns
// ErrUpstreamDead if the person has to sign in again.
func (k *Keeper) KeepAlive(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey) error {
	c, err := k.UpstreamToken(ctx, g, private, 0)
	if errors.Is(err, errUpstreamExpired) {
		return nil // only tools need it
	}
	if err != nil || k.now().Sub(c.AskedAt) < askAgainAfter {
		return err
	}
	// Noted first, so that many clients that refresh at once, or while the provider is down, ask it once.
	err = k.store.MarkAsked(ctx, c.ID, c.Version, k.now(), k.now().Add(-askAgainAfter))
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("noting that the provider is asked: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	err = k.providers.Find(g.User.Provider).Check(asking, &c.Token)
	if errors.Is(err, upstream.ErrDead) {
		if err = k.markDead(ctx, g, c, err); errors.Is(err, store.ErrConflict) {
			return nil
		}
		return err
	}
	if err != nil { // the provider's trouble, which says nothing of the person
		k.log.WarnContext(ctx, "provider did not say whether it accepts a token", "provider", g.User.Provider,
			"grant", g.ID, "cause", err)
	}
	return nil
}

// End ends a grant because of what somebody did with it.
func (k *Keeper) End(ctx context.Context, g *store.Grant, why string) error {
	err := k.store.EndGrant(ctx, g.ID)
	k.Ended(err, func(_ store.Hash, o *store.Grant) bool { return o.ID == g.ID })
	if err != nil {
		return fmt.Errorf("ending grant: %w", err)
	}
	k.log.WarnContext(ctx, "grant ended", "grant", g.ID, "client", clients.ShortID(&g.Client), "reason", why)
	return nil
}

// Discard deletes an upstream token that is not kept. Left alone, ten sign-ins that fail would push the one that all
// of the person's clients share out of those that GitHub allows.
func (k *Keeper) Discard(ctx context.Context, p *upstream.Provider, token *upstream.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if err := p.Discard(ctx, token); err != nil {
		k.log.Failure(ctx, slog.LevelWarn, "upstream token not deleted", p.ID, "provider", p.ID, "cause", err)
	}
}

// SignInAgain reports whether an error means that only a sign-in gives the grant an upstream token again.
func SignInAgain(err error) bool {
	return errors.Is(err, ErrUpstreamDead) || errors.Is(err, errUpstreamExpired) || errors.Is(err, store.ErrNotFound)
}

// replicaLag are the pauses before a provider is asked again about a token that it has just issued: for some 100 ms
// parts of GitHub answer 401.
var replicaLag = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}

// TokenAfter401 returns the token to try a refused request with once more, or nil if that would not help. A single 401
// proves nothing, so the provider is asked about the token itself before it is given up.
func (k *Keeper) TokenAfter401(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey, t *upstream.Token,
	version int64) (*upstream.Token, error) {
	lag := replicaLag
	for {
		credential, err := k.openUpstream(ctx, g, private)
		if err != nil {
			return nil, err
		}
		if credential.Version != version {
			return &credential.Token, nil
		}
		// Many calls find out at once. One asks for all.
		_, err, _ = k.renewals.Do(fmt.Sprint("check", credential.ID, version), func() (any, error) {
			return nil, k.providers.Find(g.User.Provider).Check(context.WithoutCancel(ctx), t)
		})
		switch {
		case err == nil:
			return t, nil
		case !errors.Is(err, upstream.ErrDead):
			return nil, nil
		case len(lag) > 0:
			select {
			case <-time.After(lag[0]):
			case <-ctx.Done():
				return nil, nil
			}
			lag = lag[1:]
			continue
		case t.Refresh == "":
			if err := k.markDead(ctx, g, credential, err); !errors.Is(err, store.ErrConflict) {
				return nil, err
			}
			continue // with the version that somebody has written
		}
		if credential, err = k.UpstreamToken(ctx, g, private, version); err != nil {
			return nil, err
		}
		return &credential.Token, nil
	}
}
