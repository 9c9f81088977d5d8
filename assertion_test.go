package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// A signer is a client's key.
type signer struct {
	t testing.TB
	jose.JSONWebKey
}

// newSigner makes a key for RS256 or ES256.
func newSigner(t testing.TB, algorithm jose.SignatureAlgorithm, kid string) signer {
	t.Helper()
	var key any
	var err error
	if algorithm == jose.RS256 {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: string(algorithm)}}
}

// keySet is what the client publishes of its keys.
func keySet(signers ...signer) jose.JSONWebKeySet {
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, s.Public())
	}
	return set
}

// sign signs claims, with further header parameters.
func (s signer) sign(claims map[string]any, header map[jose.HeaderKey]any) string {
	s.t.Helper()
	// A key with a name puts the name into the header.
	key := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(s.Algorithm), Key: s.JSONWebKey}
	signing, err := jose.NewSigner(key, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := jwt.Signed(signing).Claims(claims).Serialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// claims are those of a good assertion, with some changed: nil leaves one out.
func (w *world) claims(clientID string, changed map[string]any) map[string]any {
	now := w.clock.now()
	claims := map[string]any{"iss": clientID, "sub": clientID, "aud": w.base + "/token", "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// asserted adds a client's assertion to a form.
func asserted(form url.Values, assertion string) url.Values {
	form = maps.Clone(form)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return form
}

// TestDocumentClients signs people in with clients that bring a metadata document over TLS, and lets these live: a
// refresh, and a revocation (clients-in-the-field.md 23).
func TestDocumentClients(t *testing.T) {
	host := newDocumentHost(t)
	rs, es := newSigner(t, jose.RS256, "r1"), newSigner(t, jose.ES256, "e1")
	host.put("/keys", keySet(es, rs))
	private := func(member string, keys any) map[string]any {
		return map[string]any{"token_endpoint_auth_method": "private_key_jwt", member: keys}
	}
	for _, test := range []struct {
		name     string
		document map[string]any
		signer   *signer // nil: the client sends no assertion
	}{
		{"public", nil, nil},
		{"RS256, keys at an address", private("jwks_uri", host.url+"/keys"), &rs},
		{"ES256, keys at an address", private("jwks_uri", host.url+"/keys"), &es},
		{"RS256, keys in the document", private("jwks", keySet(rs)), &rs},
		{"ES256, keys in the document", private("jwks", keySet(es)), &es},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, map[string]string{"CLIENT_METADATA": "loopback"})
			id := host.putClient("/client", test.document)
			send := func(path string, form url.Values) answer {
				if test.signer != nil {
					form = asserted(form, test.signer.sign(w.claims(id, nil), nil))
				}
				return w.post(path, form)
			}
			a := send("/token", codeForm(id, w.code(id)))
			assertJSONError(t, a, http.StatusOK, "")
			a = send("/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {id},
				"refresh_token": {a.str("refresh_token")}})
			assertJSONError(t, a, http.StatusOK, "")
			if got := w.tool(a.str("access_token"), "whoami").status; got != http.StatusOK {
				t.Errorf("whoami: got status %d, want 200", got)
			}
			assertJSONError(t, send("/revoke", url.Values{"client_id": {id}, "token": {a.str("refresh_token")}}), 200, "")
			if got := w.tool(a.str("access_token"), "whoami").status; got != http.StatusUnauthorized {
				t.Errorf("whoami after the revocation: got status %d, want 401", got)
			}
		})
	}
}
