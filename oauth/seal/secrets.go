package seal

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"
)

// Tokens and codes are opaque: a prefix for people and secret scanners, 32 bytes that nobody can guess (RFC 6749
// section 10.10), and a checksum, so that a mistyped or invented token is rejected before any lookup.
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

// The tokens of a grant are derived from its seed. So every holder of the seed (that is, of a code or any refresh token
// of the grant) derives the same pair n. This makes a refresh idempotent.

// AccessToken returns the access token of pair n or, if reissued is not 0, the one that was issued after it with the
// same pair. An expired token must not become valid again: someone may have a copy.
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
