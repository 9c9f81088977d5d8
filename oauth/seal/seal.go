// Package seal makes the tokens and codes of the authorization server, and binds the upstream tokens to them, so that
// the database and SECRET together open no upstream token. It also holds the key ring.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// How an upstream token is bound to MCP grants:
//
//	seed         32 random bytes per grant. The grant's X25519 key pair and all of its tokens are derived from it.
//	wrap         the seed, encrypted under HKDF(code or refresh token, ring key); or the private key, encrypted under
//	             HKDF(access token, ring key). One wrap is stored beside each token's hash. Tokens are not stored, so
//	             neither the database nor the ring key nor both together open a wrap.
//	credential   the upstream token, and the fingerprints of the grants that it is sealed to, encrypted under
//	             HKDF(content key, ring key). The content key is new at each write.
//	sealed key   the content key, sealed with HPKE (RFC 9180, base mode) to the public key of each live grant.
//
// Reading the upstream token requires a live MCP token and the ring key. Writing one requires only public keys. So if a
// user signs in with one client, all of their clients get the new upstream token, and a grant that has ended is
// excluded at the next write.
//
// A renewal can read the version that it replaces, so it seals only to grants whose fingerprints are in that version. A
// grant that an attacker adds to the database gets nothing, even if the attacker knows SECRET. A sign-in cannot read
// that version and has to trust the rows; SECURITY.md describes the consequences.
//
// A grant keeps its key until it ends. A new key at each refresh would help only against a thief of four things:
// SECRET, the database, an older copy of it, and a token that was valid in the older copy. Every refresh would need an
// HPKE seal and the lock on the user's row. Every grant would need a second sealed key, for the access token that is
// still valid.

var (
	// ErrRingKey is returned if the value was made under a secret that this server no longer has. That is the
	// operator's mistake, never the caller's.
	ErrRingKey = errors.New("sealed under a key that SECRET no longer holds")
	// ErrForged is returned if this server did not write the value for this place: the database was changed.
	ErrForged = errors.New("stored value fails its authentication: the database has been tampered with")
)

// aead returns AES-256-GCM under a key that needs both the secret and the ring key.
func aead(secret []byte, k Key, label string) cipher.AEAD {
	block, err := aes.NewCipher(Derive(secret, k.Derive(label), label))
	if err != nil {
		panic(err) // only for a wrong key length
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a wrong block size
	}
	return gcm
}

// PrivateKey returns the grant's X25519 key.
func PrivateKey(seed Secret) *ecdh.PrivateKey {
	return X25519Key(Derive(seed[:], nil, "key"))
}

func X25519Key(b []byte) *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		panic(err) // only for a wrong length: every 32 bytes are an X25519 key
	}
	return k
}

// grantContext returns the data that a wrap authenticates: if any of it is changed in the database, the wrap does not
// open.
func grantContext(g *store.Grant) []byte {
	return LengthPrefixed(oldGrantContext(g), g.Credential[:])
}

// oldGrantContext returns the data that wraps from before release 0.2 authenticate.
func oldGrantContext(g *store.Grant) []byte {
	return LengthPrefixed(g.ID[:], g.User.ID[:], []byte(g.Client.ID), []byte(strings.Join(g.Scopes, " ")),
		[]byte(g.Audience),
		g.PublicKey)
}

func codeContext(c *store.Code, grant []byte) []byte {
	return LengthPrefixed([]byte("code"), grant, []byte(c.Challenge), []byte(c.RedirectURI), millis(c.ExpiresAt))
}

func tokenContext(t *store.Token, grant []byte) []byte {
	return LengthPrefixed([]byte(t.Kind), grant, binary.BigEndian.AppendUint64(nil, uint64(t.N)), millis(t.ExpiresAt))
}

// millis returns a time with the precision of the store.
func millis(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMilli()))
}

// wrap encrypts plain so that it opens only with the token, the ring key and the same context.
func (r Ring) wrap(token Secret, plain, context []byte) store.Wrap {
	k := r.Newest()
	return store.Wrap{RingKey: k.name, Bytes: aead(token[:], k, "wrap").Seal(nil, nil, plain, context)}
}

// unwrap is the inverse of wrap. Both kinds of wrap hold 32 bytes.
func (r Ring) unwrap(token Secret, w store.Wrap, g *store.Grant, context func(grant []byte) []byte) (Secret, error) {
	k, ok := r.named(w.RingKey)
	if !ok {
		return Secret{}, ErrRingKey
	}
	for _, grant := range []func(*store.Grant) []byte{grantContext, oldGrantContext} {
		plain, err := aead(token[:], k, "wrap").Open(nil, nil, w.Bytes, context(grant(g)))
		if err == nil && len(plain) == 32 {
			return Secret(plain), nil
		}
	}
	return Secret{}, ErrForged
}

// WrapCode returns the wrap of the grant's seed that is stored beside a new code.
func (r Ring) WrapCode(c *store.Code, g *store.Grant, code, seed Secret) store.Wrap {
	return r.wrap(code, seed[:], codeContext(c, grantContext(g)))
}

// OpenCode returns the seed of the code's grant.
func (r Ring) OpenCode(code Secret, c *store.Code) (seed Secret, err error) {
	return r.unwrap(code, c.Wrap, &c.Grant, func(grant []byte) []byte { return codeContext(c, grant) })
}

// NewPair derives the grant's n-th pair of tokens, and the rows that are stored for it.
func (r Ring) NewPair(g *store.Grant, seed Secret, n int64, accessExpiry, refreshExpiry time.Time) store.Pair {
	refresh := RefreshToken(seed, n)
	t := store.Token{Hash: store.HashOf(refresh.Format(RefreshPrefix)), Kind: store.Refresh, N: n,
		ExpiresAt: refreshExpiry}
	t.Wrap = r.wrap(refresh, seed[:], tokenContext(&t, grantContext(g)))
	return store.Pair{Access: r.NewAccess(g, seed, n, 0, accessExpiry), Refresh: t}
}

// NewAccess derives an access token of the grant, and the row that is stored for it.
func (r Ring) NewAccess(g *store.Grant, seed Secret, n, reissued int64, expiry time.Time) store.Token {
	access := AccessToken(seed, n, reissued)
	t := store.Token{Hash: store.HashOf(access.Format(AccessPrefix)), Kind: store.Access, N: n, ExpiresAt: expiry}
	t.Wrap = r.wrap(access, PrivateKey(seed).Bytes(), tokenContext(&t, grantContext(g)))
	return t
}

// OpenToken returns the content of the token's wrap: the grant's private key or, for a refresh token, its seed.
func (r Ring) OpenToken(token Secret, t *store.Token) (Secret, error) {
	return r.unwrap(token, t.Wrap, &t.Grant, func(grant []byte) []byte { return tokenContext(t, grant) })
}

// Content is the content of a credential's ciphertext, as JSON.
type Content struct {
	upstream.Token
	// SealedTo are the fingerprints of the grants that can read this version. Nil means that a release before 0.2 wrote
	// it.
	SealedTo [][]byte `json:"sealed_to"`
}

// VouchesFor reports whether the grant could read this version of a credential.
func (c *Content) VouchesFor(r store.Recipient) bool {
	return c.SealedTo == nil ||
		slices.ContainsFunc(c.SealedTo, func(f []byte) bool { return bytes.Equal(f, fingerprint(r)) })
}

// fingerprint identifies a grant and its key in 16 bytes.
func fingerprint(r store.Recipient) []byte {
	h := store.HashOf(string(LengthPrefixed(r.Grant[:], r.PublicKey)))
	return h[:16]
}

// SealCredential is the only way to write an upstream token. It seals to the recipients that vouched accepts. The
// others get an empty key, which opens nothing.
func (r Ring) SealCredential(user store.Hash, t *upstream.Token, vouched func(store.Recipient) bool) store.SealFunc {
	return func(credential store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
		content := Content{Token: *t, SealedTo: [][]byte{}}
		contentKey, k := NewSecret(), r.Newest()
		s := store.Sealed{RingKey: k.name}
		for _, recipient := range to {
			if !vouched(recipient) {
				s.Keys = append(s.Keys, []byte{})
				continue
			}
			content.SealedTo = append(content.SealedTo, fingerprint(recipient))
			public, err := ecdh.X25519().NewPublicKey(recipient.PublicKey)
			if err != nil {
				return store.Sealed{}, fmt.Errorf("public key of grant %s: %w", recipient.Grant, err)
			}
			pk, err := hpke.NewDHKEMPublicKey(public)
			if err != nil {
				return store.Sealed{}, err
			}
			key, err := hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(),
				recipientInfo(recipient.Grant, credential, version), contentKey[:])
			if err != nil {
				return store.Sealed{}, fmt.Errorf("sealing to grant %s: %w", recipient.Grant, err)
			}
			s.Keys = append(s.Keys, key)
		}
		plain, err := json.Marshal(content)
		if err != nil {
			return store.Sealed{}, err
		}
		s.Ciphertext = aead(contentKey[:], k, "credential").Seal(nil, nil, plain,
			credentialContext(user, credential, version))
		return s, nil
	}
}

// AnyRecipient accepts every recipient, as a sign-in must.
func AnyRecipient(store.Recipient) bool { return true }

// OpenCredential returns the upstream token that the grant with this private key is bound to.
func (r Ring) OpenCredential(private *ecdh.PrivateKey, g *store.Grant, c *store.Credential) (*Content, error) {
	k, ok := r.named(c.RingKey)
	if !ok {
		return nil, ErrRingKey
	}
	sk, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return nil, err
	}
	contentKey, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), recipientInfo(g.ID, c.ID, c.Version), c.Key)
	if err != nil {
		return nil, ErrForged
	}
	plain, err := aead(contentKey, k, "credential").Open(nil, nil, c.Ciphertext,
		credentialContext(g.User.ID, c.ID, c.Version))
	if err != nil {
		return nil, ErrForged
	}
	var content Content
	if err := json.Unmarshal(plain, &content); err != nil {
		return nil, ErrForged // without the cause, which would quote the plain text
	}
	return &content, nil
}

func credentialContext(user store.Hash, credential store.ID, version int64) []byte {
	return LengthPrefixed(user[:], credential[:], binary.BigEndian.AppendUint64(nil, uint64(version)))
}

func recipientInfo(grant, credential store.ID, version int64) []byte {
	return LengthPrefixed([]byte("content key"), grant[:], credential[:], binary.BigEndian.AppendUint64(nil,
		uint64(version)))
}
