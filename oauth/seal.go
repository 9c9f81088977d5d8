package oauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// How an upstream token is bound to MCP grants:
//
//	seed         32 random bytes per grant. The grant's X25519 key pair and all of its tokens are derived from it.
//	wrap         the seed, encrypted under HKDF(code or refresh token, ring key); or the private key, encrypted under
//	             HKDF(access token, ring key). One wrap is stored beside each token's hash. Tokens are not stored, so
//	             neither the database nor the ring key nor both together open a wrap.
//	credential   the upstream token, encrypted under HKDF(content key, ring key). The content key is new at each write.
//	sealed key   the content key, sealed with HPKE (RFC 9180, base mode) to the public key of each live grant.
//
// To read the upstream token takes a live MCP token and the ring key. To write one takes only public keys: a person
// who signs in with one client moves all of their clients to the new upstream token, and a grant that has ended is
// out at the next write.

var (
	// errRingKey: the value was made under a secret that this server no longer has. That is the operator's mistake,
	// never the caller's.
	errRingKey = errors.New("sealed under a key that SECRET no longer holds")
	// errForged: the stored value was not made by us for this place: somebody wrote to the database.
	errForged = errors.New("stored value fails its authentication: the database has been tampered with")
)

// aead returns AES-256-GCM under a key that needs both the secret and the ring key.
func aead(secret []byte, k ringKey, label string) cipher.AEAD {
	block, err := aes.NewCipher(derive(secret, k.derive(label), label))
	if err != nil {
		panic(err) // only for a wrong key length
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a wrong block size
	}
	return gcm
}

// privateKey returns the grant's X25519 key.
func privateKey(seed secret32) *ecdh.PrivateKey {
	return mustKey(derive(seed[:], nil, "key"))
}

func mustKey(b []byte) *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		panic(err) // only for a wrong length: every 32 bytes are an X25519 key
	}
	return k
}

// grantContext is what a wrap vouches for: whoever changes one of these in the database makes the wrap fail to open.
func grantContext(g *Grant) []byte {
	return join(g.ID[:], g.User.ID[:], []byte(g.Client.ID), []byte(strings.Join(g.Scopes, " ")), []byte(g.Audience),
		g.PublicKey)
}

func codeContext(c *Code, g *Grant) []byte {
	return join([]byte("code"), grantContext(g), []byte(c.Challenge), []byte(c.RedirectURI), millis(c.ExpiresAt))
}

func tokenContext(t *Token, g *Grant) []byte {
	return join([]byte(t.Kind), grantContext(g), binary.BigEndian.AppendUint64(nil, uint64(t.N)), millis(t.ExpiresAt))
}

// millis is how precisely a store keeps a time.
func millis(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMilli()))
}

// wrap encrypts plain so that it opens only with the token, the ring key and the same context.
func (r keyRing) wrap(token secret32, plain, context []byte) Wrap {
	k := r.seals()
	return Wrap{RingKey: k.name, Bytes: aead(token[:], k, "wrap").Seal(nil, nil, plain, context)}
}

// unwrap is the inverse of wrap. Both kinds of wrap hold 32 bytes.
func (r keyRing) unwrap(token secret32, w Wrap, context []byte) (secret32, error) {
	k, ok := r.named(w.RingKey)
	if !ok {
		return secret32{}, errRingKey
	}
	plain, err := aead(token[:], k, "wrap").Open(nil, nil, w.Bytes, context)
	if err != nil || len(plain) != 32 {
		return secret32{}, errForged
	}
	return secret32(plain), nil
}

// wrapCode completes a new code: its hash and the wrap of the grant's seed.
func (r keyRing) wrapCode(c *Code, g *Grant, code, seed secret32) {
	c.Hash = HashOf(code.format(codePrefix))
	c.Wrap = r.wrap(code, seed[:], codeContext(c, g))
}

// newPair derives the grant's n-th pair of tokens, and the rows that are stored for it.
func (r keyRing) newPair(g *Grant, seed secret32, n int64, accessExpiry, refreshExpiry time.Time) Pair {
	access, refresh := accessSecret(seed, n), refreshSecret(seed, n)
	p := Pair{
		Access:  Token{Hash: HashOf(access.format(accessPrefix)), Kind: Access, N: n, ExpiresAt: accessExpiry},
		Refresh: Token{Hash: HashOf(refresh.format(refreshPrefix)), Kind: Refresh, N: n, ExpiresAt: refreshExpiry},
	}
	p.Access.Wrap = r.wrap(access, privateKey(seed).Bytes(), tokenContext(&p.Access, g))
	p.Refresh.Wrap = r.wrap(refresh, seed[:], tokenContext(&p.Refresh, g))
	return p
}

// sealCredential is the one way to write an upstream token.
func (r keyRing) sealCredential(user Hash, t *upstream.Token) SealFunc {
	return func(credential ID, version int64, to []Recipient) (Sealed, error) {
		plain, err := json.Marshal(t)
		if err != nil {
			return Sealed{}, err
		}
		content, k := newSecret(), r.seals()
		s := Sealed{RingKey: k.name}
		s.Ciphertext = aead(content[:], k, "credential").Seal(nil, nil, plain,
			credentialContext(user, credential, version))
		for _, recipient := range to {
			public, err := ecdh.X25519().NewPublicKey(recipient.PublicKey)
			if err != nil {
				return Sealed{}, fmt.Errorf("public key of grant %s: %w", recipient.Grant, err)
			}
			pk, err := hpke.NewDHKEMPublicKey(public)
			if err != nil {
				return Sealed{}, err
			}
			key, err := hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(),
				recipientInfo(recipient.Grant, credential, version), content[:])
			if err != nil {
				return Sealed{}, fmt.Errorf("sealing to grant %s: %w", recipient.Grant, err)
			}
			s.Keys = append(s.Keys, key)
		}
		return s, nil
	}
}

// openCredential returns the upstream token that the grant with this private key is bound to.
func (r keyRing) openCredential(private *ecdh.PrivateKey, g *Grant, c *Credential) (*upstream.Token, error) {
	k, ok := r.named(c.RingKey)
	if !ok {
		return nil, errRingKey
	}
	sk, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return nil, err
	}
	content, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), recipientInfo(g.ID, c.ID, c.Version), c.Key)
	if err != nil {
		return nil, errForged
	}
	plain, err := aead(content, k, "credential").Open(nil, nil, c.Ciphertext,
		credentialContext(g.User.ID, c.ID, c.Version))
	if err != nil {
		return nil, errForged
	}
	var t upstream.Token
	if err := json.Unmarshal(plain, &t); err != nil {
		return nil, errForged // without the cause: it would quote the plain text
	}
	return &t, nil
}

func credentialContext(user Hash, credential ID, version int64) []byte {
	return join(user[:], credential[:], binary.BigEndian.AppendUint64(nil, uint64(version)))
}

func recipientInfo(grant, credential ID, version int64) []byte {
	return join([]byte("content key"), grant[:], credential[:], binary.BigEndian.AppendUint64(nil, uint64(version)))
}
