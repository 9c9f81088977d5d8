package grants

import (
	"fmt"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

func TestSessionCache(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	token, grant := store.HashOf("token"), store.NewID()
	s := &Session{Grant: store.Grant{ID: grant}, Expires: start.Add(time.Hour)}
	put := func(c *sessionCache, s *Session, now time.Time) {
		_, mark := c.get(token, now)
		c.put(token, s, mark, now)
	}
	for _, tt := range []struct {
		name string
		ttl  time.Duration
		act  func(*sessionCache)
		at   time.Duration
		want bool
	}{
		{"remembers for its time", 5 * time.Second, func(c *sessionCache) { put(c, s, start) }, 4 * time.Second, true},
		{"and no longer", 5 * time.Second, func(c *sessionCache) { put(c, s, start) }, 5 * time.Second, false},
		{"never past the token's expiry", 5 * time.Second,
			func(c *sessionCache) { put(c, &Session{Expires: start.Add(time.Second)}, start) }, time.Second, false},
		{"nothing when switched off", 0, func(c *sessionCache) { put(c, s, start) }, 0, false},
		{"forgets a grant that ended", 5 * time.Second,
			func(c *sessionCache) { put(c, s, start); c.drop(ofGrant(grant)) }, 0, false},
		{"but not another grant", 5 * time.Second,
			func(c *sessionCache) { put(c, s, start); c.drop(ofGrant(store.NewID())) }, 0, true},
		{"forgets a token that was revoked", 5 * time.Second,
			func(c *sessionCache) {
				put(c, s, start)
				c.drop(func(h store.Hash, _ *store.Grant) bool { return h == token })
			}, 0, false},
		{"does not take in what was looked up before a revocation", 5 * time.Second, func(c *sessionCache) {
			_, mark := c.get(token, start) // the lookup begins
			c.drop(ofGrant(grant))         // the grant ends
			c.put(token, s, mark, start)   // the lookup returns what it read before
		}, 0, false},
	} {
		c := newSessionCache(tt.ttl)
		tt.act(c)
		if got, _ := c.get(token, start.Add(tt.at)); (got != nil) != tt.want {
			t.Errorf("%s: got remembered %v, want %v", tt.name, got != nil, tt.want)
		}
	}
}

func ofGrant(id store.ID) func(store.Hash, *store.Grant) bool {
	return func(_ store.Hash, g *store.Grant) bool { return g.ID == id }
}

func TestSessionCacheIsBounded(t *testing.T) {
	c, now := newSessionCache(time.Minute), time.Unix(1_800_000_000, 0)
	for i := range 2 * maxSessions {
		_, mark := c.get(store.Hash{}, now)
		c.put(store.HashOf(fmt.Sprint(i)), &Session{Expires: now.Add(time.Hour)}, mark, now)
	}
	if n := len(c.entries); n > maxSessions {
		t.Errorf("holds %d sessions, want at most %d", n, maxSessions)
	}
	if got, _ := c.get(store.HashOf(fmt.Sprint(2*maxSessions-1)), now); got == nil {
		t.Error("the newest session was not remembered")
	}
}
