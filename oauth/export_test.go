package oauth

import (
	"context"
	"encoding/base64"
	"net/url"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// Windows into the package for tests that need a real store, which this package cannot import.

// TestVerifier and its S256 challenge are those of RFC 7636 appendix B.
const (
	TestVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	testChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// SignInAs does what the callback does once the provider has identified the user. It returns the client and its code.
func (s *Server) SignInAs(ctx context.Context, clientName string, id upstream.Identity, t *upstream.Token) (
	*store.Client, string, error) {
	resp, err := s.clients.Register(&clients.RegistrationRequest{ClientName: clientName,
		RedirectURIs: []string{"https://client.example/cb"}})
	if err != nil {
		return nil, "", err
	}
	c, err := s.clients.ForSignIn(ctx, resp.ClientID)
	if err != nil {
		return nil, "", err
	}
	to, err := s.clients.Redirect(c, "")
	if err != nil {
		return nil, "", err
	}
	req := &authRequest{client: c, redirect: to, challenge: testChallenge, scopes: s.requestedScopes("")}
	code, err := s.bind(ctx, newFlow("github", question{}, s.now()), s.providers[0], req, id, t)
	return c, code, err
}

// Redeem trades a code for an access and a refresh token.
func (s *Server) Redeem(ctx context.Context, c *store.Client, code string) (access, refresh string, err error) {
	resp, err := s.redeem(ctx, &clients.Requester{Client: c}, url.Values{"code": {code}, "code_verifier": {TestVerifier}})
	if err != nil {
		return "", "", err
	}
	return resp.AccessToken, resp.RefreshToken, nil
}

// Refresh trades a refresh token for a pair.
func (s *Server) Refresh(ctx context.Context, c *store.Client, token string) (access, refresh string, err error) {
	resp, err := s.refresh(ctx, &clients.Requester{Client: c}, token)
	if err != nil {
		return "", "", err
	}
	return resp.AccessToken, resp.RefreshToken, nil
}

// UpstreamToken does what a tool's first call to the provider's API does.
func (s *Server) UpstreamToken(ctx context.Context, access string) (*upstream.Token, error) {
	secret, ok := seal.Parse(seal.AccessPrefix, access)
	if !ok {
		return nil, grants.ErrInvalidToken
	}
	found, err := s.grants.Session(ctx, access, secret)
	if err != nil {
		return nil, err
	}
	c, err := (&Caller{server: s, session: found}).upstreamToken(ctx, 0)
	if err != nil {
		return nil, err
	}
	return &c.Token, nil
}

// SweepOnce removes all rows that can be removed.
func (s *Server) SweepOnce(ctx context.Context) error {
	_, err := s.sweep(ctx)
	return err
}

// WatchOnce checks the running requests once, and ends those that must end.
func (s *Server) WatchOnce(ctx context.Context) { s.grants.WatchOnce(ctx) }

// ClientByID returns the client with that client_id.
func (s *Server) ClientByID(ctx context.Context, id string) (*store.Client, error) {
	return s.clients.ForSignIn(ctx, id)
}

// SecretOf returns the 32 bytes in a token or code.
func SecretOf(token string) [32]byte {
	raw, err := base64.RawURLEncoding.DecodeString(token[len(seal.AccessPrefix):])
	if err != nil {
		panic(err)
	}
	return [32]byte(raw)
}

// Ring is a key ring that an attacker has.
type Ring struct {
	ring    seal.Ring
	secrets [][]byte
}

func NewRing(secrets ...[]byte) Ring {
	ring, err := seal.NewRing(secrets)
	if err != nil {
		panic(err)
	}
	return Ring{ring, secrets}
}

// Derived returns every key that the server derives from the ring alone.
func (r Ring) Derived() (keys [][32]byte) {
	for i, k := range r.ring {
		keys = append(keys, [32]byte(r.secrets[i]))
		for _, label := range []string{"name", "wrap", "credential", "client secret", "flow cookie mac",
			"flow cookie encryption", "session cookie mac", "session cookie encryption"} {
			keys = append(keys, [32]byte(k.Derive(label)))
		}
	}
	return keys
}

// FromSeed returns everything that a grant's seed leads to, up to pair n.
func FromSeed(seed [32]byte, n int64) (keys [][32]byte) {
	keys = append(keys, [32]byte(seal.PrivateKey(seed).Bytes()))
	for i := range n + 1 {
		keys = append(keys, seal.AccessToken(seed, i, 0), seal.AccessToken(seed, i, 1), seal.RefreshToken(seed, i))
	}
	return keys
}

// OpenCode opens a code's wrap, if secret is the code's.
func (r Ring) OpenCode(secret [32]byte, c *store.Code) ([32]byte, bool) {
	got, err := r.ring.OpenCode(secret, c)
	return got, err == nil
}

// OpenToken opens a token's wrap, if secret is the token's.
func (r Ring) OpenToken(secret [32]byte, t *store.Token) ([32]byte, bool) {
	got, err := r.ring.OpenToken(secret, t)
	return got, err == nil
}

// Open opens a credential, if private is the grant's key.
func (r Ring) Open(private [32]byte, g *store.Grant, c *store.Credential) (*upstream.Token, bool) {
	content, err := r.ring.OpenCredential(seal.X25519Key(private[:]), g, c)
	if err != nil {
		return nil, false
	}
	return &content.Token, true
}

// Seal is the seal function of an attacker with this ring.
func (r Ring) Seal(user store.Hash, t *upstream.Token) store.SealFunc {
	return r.ring.SealCredential(user, t, seal.AnyRecipient)
}

// NewKeyPair returns an X25519 key pair for an attacker.
func NewKeyPair() (private, public []byte) {
	k := seal.PrivateKey(seal.NewSecret())
	return k.Bytes(), k.PublicKey().Bytes()
}
