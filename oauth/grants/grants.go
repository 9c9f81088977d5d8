// Package grants manages grants after sign-in. It looks up access tokens (cache.go), checks again whether the user has
// access (judge.go), renews upstream tokens (renew.go), and ends running requests with their grant (stream.go).
package grants

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/upstream"
)

// StoreTimeout limits how long a request waits for the store, so that a store that hangs also leads to a 503.
const StoreTimeout = 5 * time.Second

// ErrInvalidToken is returned if an access token is unknown, expired or revoked.
var ErrInvalidToken = &clients.Error{Code: "invalid_token", Status: http.StatusUnauthorized,
	Description: "The access token is unknown, expired or revoked."}

// A Keeper keeps grants valid while their users have access, and ends them when access is denied.
type Keeper struct {
	store     store.Store
	ring      seal.Ring
	clients   *clients.Registry
	providers upstream.Providers
	rules     upstream.Rules
	resource  string // the audience of every token
	log       *storm.Log
	now       func() time.Time
	cache     *sessionCache
	streams   *streams
	renewals  singleflight.Group
}

// Config configures a [Keeper]. All fields are required unless their comment says otherwise.
type Config struct {
	Store     store.Store
	Ring      seal.Ring
	Clients   *clients.Registry
	Providers upstream.Providers
	// Rules define who has access. The zero value denies everyone.
	Rules upstream.Rules
	// Resource is the audience that every grant must have.
	Resource string
	// CacheTTL is how long another instance's revocation can go unnoticed. Zero means every request reads the store.
	CacheTTL time.Duration
	Log      *storm.Log
	Now      func() time.Time
}

// New returns a Keeper.
func New(c Config) *Keeper {
	return &Keeper{store: c.Store, ring: c.Ring, clients: c.Clients, providers: c.Providers, rules: c.Rules,
		resource: c.Resource, log: c.Log, now: c.Now, cache: newSessionCache(c.CacheTTL), streams: newStreams()}
}

// Session returns the Session of an access token. The secret is the token's, as [seal.Parse] returns it.
func (k *Keeper) Session(ctx context.Context, token string, secret seal.Secret) (*Session, error) {
	hash, now := store.HashOf(token), k.now()
	cached, mark := k.cache.get(hash, now)
	if cached != nil {
		return cached, nil
	}
	found, err := k.lookUp(ctx, hash, secret)
	if err != nil {
		return nil, err
	}
	k.cache.put(hash, found, mark, now)
	return found, nil
}

// Begin returns a context for a request, and a function to call after the response. The context ends when the Session's
// token ends. Its cause is then [ErrEnded].
func (k *Keeper) Begin(w http.ResponseWriter, r *http.Request, s *Session) (context.Context, func(), error) {
	return k.streams.begin(w, r, s)
}

// DropExpired drops expired sessions from the cache.
func (k *Keeper) DropExpired() { k.cache.dropExpired(k.now()) }
