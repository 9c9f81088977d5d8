// Package grants keeps what a grant lives through: its access token is looked up (cache.go), its user is judged again
// (judge.go), its upstream token is renewed (renew.go), and what is being answered to it ends with it (stream.go).
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

// StoreTimeout bounds what a request waits for the store, so that a store that hangs is a 503 as well.
const StoreTimeout = 5 * time.Second

// ErrInvalidToken is returned for an access token that does not work.
var ErrInvalidToken = &clients.Error{Code: "invalid_token", Status: http.StatusUnauthorized,
	Description: "The access token is unknown, expired or revoked."}

// A Keeper keeps grants alive while they may live, and ends them when they may not.
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

// Config is what a [Keeper] is made of. All of it is required except where it says so.
type Config struct {
	Store     store.Store
	Ring      seal.Ring
	Clients   *clients.Registry
	Providers upstream.Providers
	// Rules say who has access. The zero value admits nobody.
	Rules upstream.Rules
	// Resource is the audience that every grant must have.
	Resource string
	// CacheTTL is how long another instance's revocation may go unnoticed. Zero: every request asks the store.
	CacheTTL time.Duration
	Log      *storm.Log
	Now      func() time.Time
}

// New returns a keeper.
func New(c Config) *Keeper {
	return &Keeper{store: c.Store, ring: c.Ring, clients: c.Clients, providers: c.Providers, rules: c.Rules,
		resource: c.Resource, log: c.Log, now: c.Now, cache: newSessionCache(c.CacheTTL), streams: newStreams()}
}

// Session returns what an access token stands for. The secret is the token's, as [seal.Parse] returns it.
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

// Begin returns a context for a request that ends with the Session's token, and what to call when the request has been
// answered. The context's cause is then [ErrEnded].
func (k *Keeper) Begin(w http.ResponseWriter, r *http.Request, s *Session) (context.Context, func(), error) {
	return k.streams.begin(w, r, s)
}

// DropExpired forgets the sessions that have aged out.
func (k *Keeper) DropExpired() { k.cache.dropExpired(k.now()) }
