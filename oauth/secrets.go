package oauth

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
	accessPrefix  = "mcp_at_"
	refreshPrefix = "mcp_rt_"
	codePrefix    = "mcp_ac_"
)

// A secret32 is the random part of a token or code, or the seed of a grant.
type secret32 [32]byte

func newSecret() (s secret32) {
	rand.Read(s[:]) // never fails
	return s
}

// format returns the token with that prefix: 48 characters of base64url after it.
func (s secret32) format(prefix string) string {
	sum := crc32.Update(crc32.ChecksumIEEE([]byte(prefix)), crc32.IEEETable, s[:])
	return prefix + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(s[:], sum))
}

// parseSecret is the inverse of format. It accepts exactly what format returns.
func parseSecret(prefix, token string) (s secret32, ok bool) {
	encoded, ok := strings.CutPrefix(token, prefix)
	if !ok || len(encoded) != 48 {
		return s, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 36 {
		return s, false
	}
	copy(s[:], raw)
	return s, s.format(prefix) == token
}

// The tokens of a grant are derived from its seed, so that everybody who holds the seed (that is, a code or any
// refresh token of the grant) arrives at the same pair n. This is what makes a refresh idempotent.

// accessSecret returns the access token of pair n, or, if reissued is not 0, the one that was issued after it with the
// same pair. A token that has expired must not come to life again: a copy of it may have been left lying about.
func accessSecret(seed secret32, n, reissued int64) secret32 {
	info := []string{"access", strconv.FormatInt(n, 10)}
	if reissued > 0 {
		info = append(info, strconv.FormatInt(reissued, 10))
	}
	return secret32(derive(seed[:], nil, info...))
}

func refreshSecret(seed secret32, n int64) secret32 {
	return secret32(derive(seed[:], nil, "refresh", strconv.FormatInt(n, 10)))
}
