package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

var (
	ctx = context.Background()
	t0  = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
)

const (
	codeLife    = 5 * time.Minute
	accessLife  = time.Hour
	refreshLife = 90 * 24 * time.Hour
)

func id(name string) store.ID { h := store.HashOf(name); return store.ID(h[:16]) }

// signIn returns what the callback stores when the user allows the client. The grant's name makes everything unique.
func signIn(person, client, grant string, at time.Time) store.SignIn {
	identity := upstream.Identity{
		Provider: "github", Issuer: "https://github.com", Subject: person, Login: person, Name: "Zoë " + person,
		// A quoted local part may contain a space. Split at spaces, this address would contain another user's address.
		Emails:       []string{person + "@example.com", `"a admin@example.com b"@example.net`},
		HostedDomain: "example.com", Groups: []string{"Group of " + person, "a, b"},
		Memberships:  map[string]upstream.Standing{"github-org:acme": "member"},
		FormerLogins: []string{"former-" + person},
	}
	return store.SignIn{
		Flow: store.HashOf("flow of " + grant),
		Grant: store.Grant{
			ID:   id(grant),
			User: store.User{ID: identity.UserID(), Identity: identity, FactsAt: at},
			Client: store.Client{
				ID: client, Name: "The \"" + client + "\"", AuthMethod: "client_secret_basic",
				RedirectURIs: []string{"http://127.0.0.1/callback?a=b%20c", "cursor://x/y"},
				SecretHash:   []byte("secret hash"), IssuedAt: t0.Add(-time.Hour),
			},
			Scopes: []string{"account:read", "repos:read"}, Audience: grant,
			PublicKey: []byte("public key of " + grant), CreatedAt: at,
		},
		Code: store.Code{
			Hash: store.HashOf("code of " + grant), Challenge: grant, RedirectURI: "http://127.0.0.1:1234/callback",
			ExpiresAt: at.Add(codeLife),
		},
		WrapCode:       codeWrap("k1"),
		UpstreamScopes: []string{"read:user", "user:email"},
		At:             at,
	}
}

func codeWrap(ringKey string) func(store.ID) store.Wrap {
	return func(store.ID) store.Wrap { return store.Wrap{RingKey: ringKey, Bytes: []byte("seed")} }
}

// seal makes sealed keys that name what they open, and for which grant.
func seal(_ store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
	sealed := store.Sealed{RingKey: "k1", Ciphertext: fmt.Appendf(nil, "content %d", version)}
	for _, r := range to {
		sealed.Keys = append(sealed.Keys, keyFor(version, r.Grant))
	}
	return sealed, nil
}

func keyFor(version int64, grant store.ID) []byte {
	return fmt.Appendf(nil, "key %d for %x", version, grant)
}

// pair returns the grant's n-th pair of tokens. The variant tells the racers' pairs apart.
func pair(grant string, n int64, variant string, at time.Time) store.Pair {
	name := fmt.Sprintf("%s %d%s", grant, n, variant)
	return store.Pair{
		Access: store.Token{Hash: store.HashOf("access " + name), Kind: store.Access, N: n,
			Wrap: store.Wrap{RingKey: "k1", Bytes: []byte("private key")}, ExpiresAt: at.Add(accessLife)},
		Refresh: store.Token{Hash: store.HashOf("refresh " + name), Kind: store.Refresh, N: n,
			Wrap: store.Wrap{RingKey: "k1", Bytes: []byte("seed")}, ExpiresAt: at.Add(refreshLife)},
	}
}

// connected returns a store in which each grant was signed in at t0 and redeemed a minute later.
func connected(t testing.TB, url string, ins ...store.SignIn) *sqlstore.Store {
	t.Helper()
	s := open(t, url)
	for _, in := range ins {
		must(t, s.SignIn(ctx, in, seal))
		grant := in.Grant.Audience
		must(t, redeem(s, in.Code.Hash, t0.Add(time.Minute), pair(grant, 1, "", t0.Add(time.Minute))))
	}
	return s
}

// redeem redeems a code for a grant that replaces no other.
func redeem(s *sqlstore.Store, code store.Hash, at time.Time, pair store.Pair) error {
	_, err := s.RedeemCode(ctx, code, at, pair, false)
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
