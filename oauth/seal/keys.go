package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// minSecret is the least number of bytes in a ring key.
const minSecret = 32

// A Key is one of the server's secrets. Each use of the secret has its own key, derived under a label, so that no use
// can be exploited against another.
type Key struct {
	name   string // identifies the key in stored values; reveals nothing about it
	secret []byte
}

// A Ring is the server's secrets. The first seals and signs; all of them open and verify. To rotate, put a new secret
// in front, and remove an old one when nothing needs it any more.
type Ring []Key

func NewRing(secrets [][]byte) (Ring, error) {
	var ring Ring
	for i, s := range secrets {
		if len(s) < minSecret {
			return nil, fmt.Errorf("secret %d has %d bytes, needs at least %d", i+1, len(s), minSecret)
		}
		k := Key{secret: slices.Clone(s)}
		k.name = hex.EncodeToString(k.Derive("name")[:4])
		if slices.ContainsFunc(ring, func(o Key) bool { return o.name == k.name }) {
			return nil, fmt.Errorf("secret %d is there twice", i+1)
		}
		ring = append(ring, k)
	}
	if len(ring) == 0 {
		return nil, errors.New("no secret")
	}
	return ring, nil
}

// Newest returns the key for everything new.
func (r Ring) Newest() Key { return r[0] }

// named returns the key with that name.
func (r Ring) named(name string) (Key, bool) {
	i := slices.IndexFunc(r, func(k Key) bool { return k.name == name })
	if i < 0 {
		return Key{}, false
	}
	return r[i], true
}

// Holds reports whether there is a key with that name.
func (r Ring) Holds(name string) bool {
	_, ok := r.named(name)
	return ok
}

// Derive returns the 32-byte key for one use. The label and its context are length-prefixed.
func (k Key) Derive(label string, context ...string) []byte {
	return Derive(k.secret, nil, append([]string{label}, context...)...)
}

// MAC returns the HMAC-SHA256 of the data under the key for one use. Compare it with [hmac.Equal].
func (k Key) MAC(data []byte, label string, context ...string) []byte {
	h := hmac.New(sha256.New, k.Derive(label, context...))
	h.Write(data)
	return h.Sum(nil)
}

// Derive is HKDF-SHA256 (RFC 5869) with 32 bytes of output and length-prefixed info.
func Derive(secret, salt []byte, info ...string) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, string(LengthPrefixed(info...)), 32)
	if err != nil {
		panic(err) // only for an output that is too long
	}
	return key
}

// LengthPrefixed concatenates parts so that no two lists of parts give the same bytes.
func LengthPrefixed[T string | []byte](parts ...T) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, byte(len(p)>>24), byte(len(p)>>16), byte(len(p)>>8), byte(len(p)))
		b = append(b, p...)
	}
	return b
}
