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

// A Session is the grant behind a valid access token.
type Session struct {
	token   store.Hash
	Grant   store.Grant
	Private *ecdh.PrivateKey // the grant's key; opens its sealed key of the upstream credential
	Expires time.Time
}

// A sessionCache keeps sessions for a short time, so that a burst of calls costs one lookup. It holds only sessions
// that were valid when they were looked up. A revocation on this instance takes effect immediately. A revocation on
// another instance takes effect when the entry has expired.
type sessionCache struct {
	ttl time.Duration // zero means no caching

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

// get returns the token's Session, or nil, and the revocation count to pass to put.
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

// put stores a Session that was looked up after get returned the mark. If anything was revoked since then, the lookup
// may be older than the revocation, so the Session is not stored.
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

// makeRoom drops the expired entries, and some others if that is not enough. The caller holds c.mu.
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

// dropExpired drops the expired entries, so that no private key stays in memory after its token has expired.
func (c *sessionCache) dropExpired(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropAged(now)
}

// drop drops the sessions of ended grants, dead credentials and revoked tokens.
func (c *sessionCache) drop(which func(token store.Hash, g *store.Grant) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revocations++
	maps.DeleteFunc(c.entries, func(token store.Hash, e cacheEntry) bool { return which(token, &e.session.Grant) })
}

// lookUp reads a token from the store. Opening its wrap proves that the grant is as this server wrote it. The user's id
// proves that the grant belongs to this user. Nothing proves a login, name or e-mail address: trust the subject.
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
