package grants

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/upstream"
)

// Access is decided at every sign-in, and again at every refresh of an MCP token, from the provider's current data.
// In between, the gate decides from the provider's last data.
const (
	// factsFresh is how long the provider's data about a user is used without a new request.
	factsFresh = 5 * time.Minute
	// factsStand is how long that data is used if only a sign-in can refresh it.
	factsStand = 24 * time.Hour
	// unknownGrace is how long that data is used after the provider first failed to respond.
	unknownGrace = time.Hour
	// judgeTimeout limits how long a client waits at a refresh for a provider that does not respond. It applies twice:
	// to the token, and to the data about the user.
	judgeTimeout = 2 * time.Second
)

// ErrNotReadmitted is returned if a grant's refresh token must be rejected.
var ErrNotReadmitted = errors.New("the grant is no longer valid")

// errSignInAgain is returned if only a sign-in can determine whether the user still has access.
var errSignInAgain = errors.New("the provider has to be asked by a sign-in")

// Admit decides whether a user who has just signed in has access. It adds to id the data that the decision depends on.
func (k *Keeper) Admit(ctx context.Context, p *upstream.Provider, t *upstream.Token, id *upstream.Identity) error {
	was, err := k.store.User(ctx, id.UserID())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("looking up user: %w", err)
	}
	id.Remember(was.Identity)
	if err := k.pin(ctx, id); err != nil {
		return err
	}
	err = p.Admit(ctx, t, id, k.rules)
	if refusal := new(upstream.Refusal); errors.As(err, &refusal) {
		k.log.InfoContext(ctx, "not admitted", "provider", p.ID, "subject", id.Subject, "login", id.Login,
			"memberships", id.Memberships)
	}
	return err
}

// pin pins an account that the provider has just described if a rule names its login. See [upstream.Identity.Pinned].
func (k *Keeper) pin(ctx context.Context, id *upstream.Identity) error {
	login := k.rules.Pin(*id)
	if login == "" {
		return nil
	}
	taken, err := k.store.PinTaken(ctx, id.Issuer, login)
	if err != nil {
		return fmt.Errorf("looking up login: %w", err)
	}
	if taken {
		k.log.WarnContext(ctx, "a rule names a login that has changed hands, and goes on to mean its former owner",
			"login", login, "subject", id.Subject)
		return nil
	}
	id.Pinned = login
	return nil
}

// CheckAdmitted returns an error if the grant must no longer be used. It does not ask the provider.
func (k *Keeper) CheckAdmitted(g *store.Grant) error {
	if err := k.checkBelongsHere(g); err != nil {
		return err
	}
	if err := k.rules.Admit(g.User.Identity); !errors.Is(err, upstream.ErrUndecided) {
		return err
	}
	return nil // a rule is new, and the next refresh asks the provider
}

// checkBelongsHere returns an error if the grant does not fit the current configuration.
func (k *Keeper) checkBelongsHere(g *store.Grant) error {
	switch p := k.providers.Find(g.User.Provider); {
	case g.User.UserID() != g.User.ID:
		return seal.ErrForged
	case p == nil || p.IdentityIssuer != g.User.Issuer:
		return errors.New("provider is not configured any more")
	case !g.DeadAt.IsZero():
		return ErrUpstreamDead
	case g.Audience != k.resource:
		return errors.New("granted for another address of this server")
	case k.clients.TakenOut(&g.Client):
		return errors.New("its client is not in CLIENTS any more")
	}
	return nil
}

// Readmit decides again, at a refresh, whether the grant's user has access. If access is denied, the grant ends. The
// operator or a new sign-in can fix anything else, so the grant is then left to expire.
func (k *Keeper) Readmit(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey) error {
	err := k.checkBelongsHere(g)
	if err == nil {
		err = k.decideAccess(ctx, g, private)
		refusal := new(upstream.Refusal)
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refusal), errors.Is(err, errSignInAgain):
			if err := k.End(ctx, g, "no longer admitted"); err != nil {
				return err
			}
		case !errors.Is(err, ErrUpstreamDead):
			return err
		}
	}
	k.log.WarnContext(ctx, "refresh token refused", "grant", g.ID, "cause", err)
	return ErrNotReadmitted
}

// decideAccess decides from the stored data if it is recent or cannot change. Otherwise it asks the provider.
func (k *Keeper) decideAccess(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey) error {
	u, now := &g.User, k.now()
	known, age := k.rules.Admit(u.Identity), now.Sub(u.FactsAt)
	if login := k.rules.Pin(u.Identity); login != "" {
		// The rule is new. The login may now belong to another user, so the provider must confirm it.
		pinned, refusal := u.Identity, new(upstream.Refusal)
		pinned.Pinned = login
		if !errors.As(k.rules.Admit(pinned), &refusal) {
			known = upstream.ErrUndecided
		}
	}
	// Data with a time far in the future, from a wrong clock, is not recent.
	if recent := age > -time.Minute && age < factsFresh; recent || !k.rules.DependOnFacts(u.Identity) {
		if !errors.Is(known, upstream.ErrUndecided) {
			return known
		}
	}
	tokenCtx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	credential, err := k.UpstreamToken(tokenCtx, g, private, 0)
	if err != nil && !errors.Is(err, errUpstreamExpired) {
		return err
	}
	var fresh upstream.Identity
	if err == nil {
		fresh, err = k.refreshIdentity(ctx, g, private, credential)
	}
	was := u.FactsAt
	refusal, failed := new(upstream.Refusal), new(upstream.Error)
	switch {
	case errors.As(err, &refusal) && refusal.DependsOnToken():
		return err // denies only this grant: another grant's token may show more
	case err == nil, errors.As(err, &refusal):
		// Save a denial too: it applies to all of the user's grants, and the gate then knows of it.
		u.Identity, u.FactsAt, u.UnreachableSince = fresh, now, time.Time{}
		if err := k.store.SaveUser(ctx, *u, was); err != nil {
			return fmt.Errorf("saving user: %w", err)
		}
		return err
	case errors.As(err, &failed) && errors.Is(err, upstream.ErrDead) && failed.Status != http.StatusUnauthorized:
		// The account is suspended. For a 401, refreshIdentity has already checked the token.
		if err := k.markDead(ctx, g, credential, err); !errors.Is(err, store.ErrConflict) {
			return err
		}
		return fmt.Errorf("%w: somebody has signed in at this moment", store.ErrConflict) // so that it is read again
	case errors.Is(err, upstream.ErrOnlyAtSignIn), errors.Is(err, errUpstreamExpired):
		if now.Sub(was) >= factsStand || errors.Is(known, upstream.ErrUndecided) {
			return fmt.Errorf("%w: %w", errSignInAgain, err)
		}
		return known
	case errors.As(err, &failed) && !errors.Is(err, upstream.ErrBadAnswer):
		// An outage, a rate limit or a firewall's page. It says nothing about the user.
		if u.UnreachableSince.IsZero() {
			u.UnreachableSince = now
			if err := k.store.SaveUser(ctx, *u, was); err != nil {
				return fmt.Errorf("saving user: %w", err)
			}
		}
		if errors.As(known, &refusal) {
			return known
		}
		if errors.Is(known, upstream.ErrUndecided) || now.Sub(u.UnreachableSince) >= unknownGrace {
			return fmt.Errorf("judging whether the person may still come in: %w", err)
		}
		k.log.Failure(ctx, slog.LevelWarn, "access not checked, because the provider does not answer", u.Provider,
			"grant", g.ID, "since", u.UnreachableSince, "cause", err)
		return nil
	case errors.Is(err, upstream.ErrBadAnswer):
		return fmt.Errorf("%w: %w", errSignInAgain, err)
	}
	return err
}

// refreshIdentity requests a grant's user from the provider with the user's own token, and decides whether they have
// access. It returns the identity with a refusal too.
func (k *Keeper) refreshIdentity(ctx context.Context, g *store.Grant, private *ecdh.PrivateKey, c *Credential) (
	upstream.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	t, was := &c.Token, g.User.Identity
	p := k.providers.Find(was.Provider)
	ask := func() (upstream.Identity, error) {
		id, err := p.IdentifyAgain(ctx, t, was)
		if err == nil {
			err = k.pin(ctx, &id)
		}
		if err != nil {
			return upstream.Identity{}, err
		}
		return id, p.Admit(ctx, t, &id, k.rules)
	}
	id, err := ask()
	if failed := new(upstream.Error); !errors.As(err, &failed) || failed.Status != http.StatusUnauthorized {
		return id, err
	}
	newer, lookErr := k.TokenAfter401(ctx, g, private, t, c.Version)
	switch {
	case newer != nil:
		t = newer
		return ask()
	case SignInAgain(lookErr):
		return upstream.Identity{}, ErrUpstreamDead
	case lookErr != nil && !errors.Is(lookErr, context.Canceled):
		k.log.Failure(ctx, slog.LevelError, "no upstream token", storm.Class(lookErr), "grant", g.ID, "cause", lookErr)
	}
	return id, err
}
