package grants

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// maxSessions bounds the cache's memory: about 2 KB each.
const maxSessions = 10_000

// A Session is what a live access token stands for.
type Session struct {
	token   store.Hash
	Grant   store.Grant
	Private *ecdh.PrivateKey // the grant's; opens its sealed key of the upstream credential
	Expires time.Time
}

// A sessionCache remembers sessions for a short time, so that a burst of calls costs one look-up. It holds only what
// was good when it was looked up. A revocation on this instance is seen at once; one on another instance when the
// entry has aged out.
type sessionCache struct {
	ttl time.Duration // 0: remembers nothing

	mu          sync.Mutex // guards the fields below
	entries     map[store.Hash]cacheEntry
	revocations uint64
}

type cacheEntry struct {
	session *Session
	until   time.Time
}

func newSessionCache(ttl time.Duration) *sessionCache {
	return &sessionCache{ttl: ttl, entries: map[store.Hash]cacheEntry{}}
}

// get returns the token's Session, or nil; and a mark of the present, to be given to put.
func (c *sessionCache) get(token store.Hash, now time.Time) (*Session, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[token]
	if e.session != nil && !now.Before(e.until) {
		delete(c.entries, token)
		e.session = nil
	}
	return e.session, c.revocations
}

// put remembers a Session that was looked up after get returned the mark. If anything was revoked since, the look-up
// may be older than the revocation, and is not remembered.
func (c *sessionCache) put(token store.Hash, s *Session, mark uint64, now time.Time) {
	until := now.Add(c.ttl)
	if until.After(s.Expires) {
		until = s.Expires
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ttl == 0 || c.revocations != mark {
		return
	}
	if len(c.entries) >= maxSessions {
		c.makeRoom(now)
	}
	c.entries[token] = cacheEntry{s, until}
}

// makeRoom drops the expired entries, and, if that was not enough, some others. The caller holds c.mu.
func (c *sessionCache) makeRoom(now time.Time) {
	c.dropAged(now)
	for h := range c.entries {
		if len(c.entries) <= maxSessions*3/4 {
			return
		}
		delete(c.entries, h)
	}
}

func (c *sessionCache) dropAged(now time.Time) {
	maps.DeleteFunc(c.entries, func(_ store.Hash, e cacheEntry) bool { return !now.Before(e.until) })
}

// dropExpired forgets what has aged out, so that no private key stays in memory for longer than its token lives.
func (c *sessionCache) dropExpired(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropAged(now)
}

// drop forgets the sessions of grants that have ended, of credentials that are dead, and of tokens that were revoked.
func (c *sessionCache) drop(which func(token store.Hash, g *store.Grant) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revocations++
	maps.DeleteFunc(c.entries, func(token store.Hash, e cacheEntry) bool { return which(token, &e.session.Grant) })
}

// lookUp asks the store about a token. Opening its wrap proves that the grant is as this server wrote it, and the
// user's id that it is this person's. Nothing proves a login, name or e-mail address: trust the subject.
func (k *Keeper) lookUp(ctx context.Context, hash store.Hash, secret seal.Secret) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, StoreTimeout)
	defer cancel()
	t, err := k.store.Token(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrInvalidToken
	}
	if err != nil {
		return nil, fmt.Errorf("looking up access token: %w", err)
	}
	if t.Kind != store.Access {
		return nil, ErrInvalidToken
	}
	if !k.now().Before(t.ExpiresAt) {
		return nil, ErrInvalidToken.Because(&t.Grant, "the access token has expired")
	}
	key, err := k.ring.OpenToken(secret, &t)
	if err == nil {
		err = k.CheckAdmitted(&t.Grant)
	}
	if errors.Is(err, seal.ErrRingKey) {
		return nil, err
	}
	if err != nil {
		k.log.WarnContext(ctx, "access token refused", "grant", t.Grant.ID, "cause", err)
		refusal := *ErrInvalidToken
		if errors.Is(err, ErrUpstreamDead) {
			refusal.Scopes = t.Grant.Scopes
		}
		return nil, &refusal
	}
	return &Session{token: hash, Grant: t.Grant, Private: seal.X25519Key(key[:]), Expires: t.ExpiresAt}, nil
}
