package seal

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"
)

// Tokens and codes are opaque: a prefix that people and secret scanners recognise, 32 bytes that nobody can guess
// (RFC 6749 section 10.10), and a checksum, so that a mistyped or made-up one is refused before any look-up.
const (
	AccessPrefix  = "mcp_at_"
	RefreshPrefix = "mcp_rt_"
	CodePrefix    = "mcp_ac_"
)

// A Secret is the random part of a token or code, or the seed of a grant.
type Secret [32]byte

func NewSecret() (s Secret) {
	rand.Read(s[:]) // never fails
	return s
}

// Format returns the token with that prefix: 48 characters of base64url after it.
func (s Secret) Format(prefix string) string {
	sum := crc32.Update(crc32.ChecksumIEEE([]byte(prefix)), crc32.IEEETable, s[:])
	return prefix + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(s[:], sum))
}

// Parse is the inverse of Format. It accepts exactly what Format returns.
func Parse(prefix, token string) (s Secret, ok bool) {
	encoded, ok := strings.CutPrefix(token, prefix)
	if !ok || len(encoded) != 48 {
		return s, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 36 {
		return s, false
	}
	copy(s[:], raw)
	return s, s.Format(prefix) == token
}

// The tokens of a grant are derived from its seed, so that everybody who holds the seed (that is, a code or any
// refresh token of the grant) arrives at the same pair n. This is what makes a refresh idempotent.

// AccessToken returns the access token of pair n, or, if reissued is not 0, the one that was issued after it with the
// same pair. A token that has expired must not come to life again: a copy of it may have been left lying about.
func AccessToken(seed Secret, n, reissued int64) Secret {
	info := []string{"access", strconv.FormatInt(n, 10)}
	if reissued > 0 {
		info = append(info, strconv.FormatInt(reissued, 10))
	}
	return Secret(Derive(seed[:], nil, info...))
}

func RefreshToken(seed Secret, n int64) Secret {
	return Secret(Derive(seed[:], nil, "refresh", strconv.FormatInt(n, 10)))
}
