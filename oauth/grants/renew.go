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

// Upstream tokens expire, rotate and are revoked. UpstreamToken returns one, and renews it if necessary. GitHub revokes
// a pair of tokens as soon as its refresh token is used, so exactly one caller on all instances may use it. Within a
// process singleflight ensures that, between processes a lease on the credential's row. The provider is called outside
// a transaction. The call and the saving of its result continue if the request that caused them ends.
const (
	renewMargin    = 5 * time.Minute  // how long before its expiry a token is renewed
	renewTimeout   = 20 * time.Second // for the provider's response and for saving it, once the lease is held
	leaseLife      = 30 * time.Second // renewTimeout plus the allowed clock difference between instances
	leasePoll      = 50 * time.Millisecond
	discardTimeout = 30 * time.Second
	saveAgain      = time.Second // between attempts to save a renewed token
	// askAgainAfter is how long a valid token is not checked again. A user who revokes the app at the provider, or
	// whose account is suspended there, is signed out after that time at the latest, if their client refreshes.
	askAgainAfter = time.Hour
)

var (
	// ErrUpstreamDead is returned if the provider no longer accepts the credential. A new sign-in fixes that for all of
	// the user's grants that are bound to the credential.
	ErrUpstreamDead = errors.New("the provider no longer accepts the sign-in")
	// errUpstreamExpired is returned if the credential has expired and has no refresh token. The grant still works for
	// tools that do not need the credential.
	errUpstreamExpired = errors.New("the provider's token has expired and cannot be renewed")
)

// A Credential is a stored credential with its decrypted content.
type Credential struct {
	*store.Credential
	seal.Content
}

// UpstreamToken returns the upstream token that a grant is bound to. It first renews a token that is about to expire or
// whose version is broken. It returns ErrUpstreamDead, errUpstreamExpired, [store.ErrNotFound] if the grant has ended,
// or an error that does not mean that the user must sign in again.
func (k *Keeper) UpstreamToken(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey, broken int64) (
	*Credential, error) {
	for margin := renewMargin; ; margin = 0 { // a token's whole life may be shorter than the margin
		c, err := k.openUpstream(ctx, g, private)
		if err != nil {
			return nil, err
		}
		now, works := k.now(), c.Version != broken && c.SuspectAt.IsZero() // renewing resolves a suspicion too
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
		// Read the saved credential. Another caller may have saved it.
	}
}

// openUpstream reads a grant's credential. It checks a suspected credential with the provider.
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
		return nil, ErrUpstreamDead // same effect: a sign-in writes a new one
	}
	if err != nil {
		return nil, fmt.Errorf("opening upstream credential: %w", err)
	}
	c := &Credential{&row, *content}
	if !c.SuspectAt.IsZero() && c.Refresh == "" && (c.Expiry.IsZero() || k.now().Before(c.Expiry)) {
		err := k.checkUpstream(ctx, g, c)
		if errors.Is(err, store.ErrConflict) { // another version was written
			return k.openUpstream(ctx, g, private)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// checkUpstream asks the provider whether it still accepts a token, and saves the result. It returns
// [store.ErrConflict] if the credential has a new version.
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

// markDead marks a version of a credential as dead, and returns ErrUpstreamDead. It returns [store.ErrConflict] if
// another version was written: then only our old copy was dead, not the credential.
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

// renew returns after this caller or another one has renewed this version of a credential. The caller must then read
// the credential again.
func (k *Keeper) renew(ctx context.Context, g *store.Grant, c *Credential) error {
	renewal := k.renewals.DoChan(fmt.Sprint(c.ID, c.Version), func() (any, error) {
		// The provider's response must be saved even if no caller still waits for it.
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
		// Another caller is renewing it, or has finished. If it never finishes, its lease expires.
		latest, err := k.store.Credential(ctx, g.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil // this caller's grant has ended; other waiting callers are not affected
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
	// The old token is revoked now. Losing the new one because the store is restarting would sign the user out.
	for {
		err = k.store.SaveCredential(ctx, c.ID, c.Version, k.now(), k.ring.SealCredential(g.User.ID, renewed, vouched))
		if err == nil || errors.Is(err, store.ErrConflict) || ctx.Err() != nil {
			break
		}
		time.Sleep(saveAgain)
	}
	if errors.Is(err, store.ErrConflict) { // the user has signed in since, or the last grant has ended
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
// does not lose it. It checks an unexpired credential with the provider, because nothing else may check it. It returns
// ErrUpstreamDead if the user must sign in again.
func (k *Keeper) KeepAlive(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey) error {
	c, err := k.UpstreamToken(ctx, g, private, 0)
	if errors.Is(err, errUpstreamExpired) {
		return nil // only tools need it
	}
	if err != nil || k.now().Sub(c.AskedAt) < askAgainAfter {
		return err
	}
	// Mark it first, so that many clients that refresh at the same time, or during an outage, cause one request.
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
	if err != nil { // a problem of the provider, which says nothing about the user
		k.log.WarnContext(ctx, "provider did not say whether it accepts a token", "provider", g.User.Provider,
			"grant", g.ID, "cause", err)
	}
	return nil
}

// End ends a grant and logs the reason.
func (k *Keeper) End(ctx context.Context, g *store.Grant, why string) error {
	err := k.store.EndGrant(ctx, g.ID)
	k.Ended(err, func(_ store.Hash, o *store.Grant) bool { return o.ID == g.ID })
	if err != nil {
		return fmt.Errorf("ending grant: %w", err)
	}
	k.log.WarnContext(ctx, "grant ended", "grant", g.ID, "client", clients.ShortID(&g.Client), "reason", why)
	return nil
}

// Discard deletes an upstream token that is not stored. GitHub limits the tokens per user: without Discard, ten failed
// sign-ins would push out the token that all of the user's clients share.
func (k *Keeper) Discard(ctx context.Context, p *upstream.Provider, token *upstream.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if err := p.Discard(ctx, token); err != nil {
		k.log.Failure(ctx, slog.LevelWarn, "upstream token not deleted", p.ID, "provider", p.ID, "cause", err)
	}
}

// SignInAgain reports whether an error means that the grant needs a new sign-in to get an upstream token.
func SignInAgain(err error) bool {
	return errors.Is(err, ErrUpstreamDead) || errors.Is(err, errUpstreamExpired) || errors.Is(err, store.ErrNotFound)
}

// replicaLag lists the pauses before a new check of a token that the provider has just issued. Parts of GitHub respond
// with 401 for some 100 ms.
var replicaLag = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}

// TokenAfter401 returns the token to retry a rejected request with, or nil if a retry would not help. A single 401
// proves nothing, so the provider is asked about the token itself before the token is marked as dead.
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
		// Many calls fail at the same time. One check serves all of them.
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
			continue // with the version that was written meanwhile
		}
		if credential, err = k.UpstreamToken(ctx, g, private, version); err != nil {
			return nil, err
		}
		return &credential.Token, nil
	}
}
