package seal

import (
	"strings"
	"testing"
)

func TestTokenFormat(t *testing.T) {
	s := NewSecret()
	token := s.Format(AccessPrefix)
	if got, ok := Parse(AccessPrefix, token); !ok || got != s {
		t.Fatal("a token does not parse to what it was made of")
	}
	for name, bad := range map[string]string{
		"empty":                  "",
		"prefix alone":           AccessPrefix,
		"another kind's prefix":  strings.Replace(token, AccessPrefix, RefreshPrefix, 1),
		"one character short":    token[:len(token)-1],
		"one character more":     token + "A",
		"one character changed":  flip(token, 20),
		"checksum changed":       flip(token, len(token)-1),
		"padding":                token[:len(token)-1] + "=",
		"line break inside":      token[:20] + "\n" + token[20:],
		"standard base64 letter": token[:20] + "+" + token[21:],
	} {
		if _, ok := Parse(AccessPrefix, bad); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	// The checksum covers the prefix, so that a token cannot pass as a token of another kind.
	if _, ok := Parse(RefreshPrefix, RefreshPrefix+strings.TrimPrefix(token, AccessPrefix)); ok {
		t.Error("an access token with a refresh token's prefix was accepted")
	}
}

// flip changes the character at i to another one of the alphabet.
func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestEveryPairOfAGrantIsDifferent(t *testing.T) {
	seed, other := NewSecret(), NewSecret()
	seen := map[Secret]bool{seed: true, Secret(PrivateKey(seed).Bytes()): true}
	for n := range int64(100) {
		for _, s := range []Secret{AccessToken(seed, n, 0), AccessToken(seed, n, 1), AccessToken(seed, n, 11),
			RefreshToken(seed, n), AccessToken(other, n, 0)} {
			if seen[s] {
				t.Fatalf("pair %d repeats an earlier secret", n)
			}
			seen[s] = true
		}
	}
}

func FuzzTokenFormat(f *testing.F) {
	f.Add(NewSecret().Format(AccessPrefix))
	f.Add(NewSecret().Format(RefreshPrefix))
	f.Add("mcp_at_")
	f.Fuzz(func(t *testing.T, token string) {
		if s, ok := Parse(AccessPrefix, token); ok && s.Format(AccessPrefix) != token {
			t.Fatalf("%q is accepted but is not how it would be written", token)
		}
	})
}
