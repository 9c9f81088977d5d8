package clients

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/store"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// clientStore has one client, and records assertions unless it is down.
type clientStore struct {
	noClients
	client store.Client
	down   bool
	used   map[store.Hash]bool
}

func (s *clientStore) Client(_ context.Context, id store.Hash) (store.Client, error) {
	if id != store.HashOf(s.client.ID) {
		return store.Client{}, store.ErrNotFound
	}
	return s.client, nil
}

func (s *clientStore) UseAssertion(_ context.Context, assertion store.Hash, _ time.Time) error {
	switch {
	case s.down:
		return errors.New("disk full")
	case s.used[assertion]:
		return store.ErrConflict
	}
	s.used[assertion] = true
	return nil
}

// newKeyedServer returns a server whose store has one client, with an RSA and an EC key.
func newKeyedServer(t testing.TB) (*Registry, *clientStore, *rsa.PrivateKey, *ecdsa.PrivateKey) {
	t.Helper()
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const id = "https://client.example/metadata.json"
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rs.Public()}, {Key: es.Public()}}}
	document, err := json.Marshal(map[string]any{"client_id": id, "client_name": "Client", "jwks": keys,
		"redirect_uris": []string{"https://client.example/callback"}, "token_endpoint_auth_method": authJWT})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	kept := &clientStore{client: store.Client{ID: id, Document: document, Keys: snapshot}, used: map[store.Hash]bool{}}
	return newTestRegistry(t, "https://mcp.example", kept), kept, rs, es
}

// assert returns a valid assertion of the client.
func assert(t testing.TB, reg *Registry, clientID string, algorithm jose.SignatureAlgorithm, key any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: clientID, Subject: clientID,
		Audience: jwt.Audience{reg.baseURL}, Expiry: jwt.NewNumericDate(reg.now().Add(time.Minute)), ID: rand.Text()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// authenticateBy presents an assertion at /token and consumes it.
func authenticateBy(reg *Registry, assertion string) (*Requester, error) {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	by, err := reg.Authenticate(httptest.NewRecorder(), r,
		url.Values{"client_assertion_type": {assertionType}, "client_assertion": {assertion}})
	if err == nil {
		err = reg.SpendAssertion(r.Context(), by)
	}
	return by, err
}

// TestAssertionWhileTheStoreIsDown checks that a failing store is not blamed on the client, and that the assertion
// stays unused.
func TestAssertionWhileTheStoreIsDown(t *testing.T) {
	reg, kept, rs, _ := newKeyedServer(t)
	raw := assert(t, reg, kept.client.ID, jose.RS256, rs)
	kept.down = true
	if _, err := authenticateBy(reg, raw); AsError(err).Status != http.StatusServiceUnavailable {
		t.Errorf("got %v, want 503", err)
	}
	kept.down = false
	if _, err := authenticateBy(reg, raw); err != nil {
		t.Errorf("the same one when the store is back: %v", err)
	}
	if _, err := authenticateBy(reg, raw); AsError(err).Code != "invalid_client" {
		t.Errorf("the same one again: got %v, want invalid_client", err)
	}
}

// FuzzClientAssertion checks that an accepted assertion is signed with a key of the client, and that any other gets
// invalid_client. If key is 1 (RSA) or 2 (EC), it signs header and claims, and tamper changes the signature's bytes.
// Otherwise the three are sent as they are.
func FuzzClientAssertion(f *testing.F) {
	reg, kept, rs, es := newKeyedServer(f)
	good := fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":[%q],"jti":"1","exp":%d}`, kept.client.ID, kept.client.ID, reg.baseURL,
		reg.now().Unix()+60)
	f.Add(byte(1), `{"alg":"RS256"}`, good, "")
	f.Add(byte(2), `{"alg":"ES256","typ":"JWT","jwk":{}}`, good, "")
	f.Add(byte(2), `{"alg":"RS256","crit":["b64"],"b64":false}`, good, "x")
	f.Add(byte(1), `{"alg":"HS256"}`, strings.Replace(good, `"exp"`, `"nbf":1e99,"iat":null,"exp"`, 1), "")
	f.Add(byte(0), "eyJhbGciOiJub25lIn0", "e30", "")
	f.Fuzz(func(t *testing.T, key byte, header, claims, tamper string) {
		signed, signature := header+"."+claims, tamper
		if key == 1 || key == 2 {
			signed = encode(header) + "." + encode(claims)
			digest := sha256.Sum256([]byte(signed))
			signature = encode(xor(sign(t, key, rs, es, digest[:]), tamper))
		}
		raw := signed + "." + signature
		clear(kept.used)
		client, err := authenticateBy(reg, raw)
		if err != nil {
			if e := AsError(err); e.Code != "invalid_client" {
				t.Fatalf("%q: got %v, want invalid_client", raw, err)
			}
			if len(kept.used) > 0 {
				t.Fatalf("%q: refused, and consumed all the same", raw)
			}
			if key == 1 && header == `{"alg":"RS256"}` && claims == good && strings.Trim(tamper, "\x00") == "" {
				t.Fatalf("control: %v", err)
			}
			return
		}
		if client.ID != kept.client.ID || len(kept.used) != 1 {
			t.Fatalf("%q: %d consumed, got client %s", raw, len(kept.used), client.ID)
		}
		i := strings.LastIndex(raw, ".")
		digest := sha256.Sum256([]byte(raw[:i]))
		if b, err := base64.RawURLEncoding.DecodeString(raw[i+1:]); err != nil ||
			!verifiesRSA(rs, digest[:], b) && !verifiesECDSA(es, digest[:], b) {
			t.Fatalf("%q: let in without a signature (%v)", raw, err)
		}
	})
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// xor changes the first bytes of a signature.
func xor(signature []byte, tamper string) string {
	for i := range min(len(signature), len(tamper)) {
		signature[i] ^= tamper[i]
	}
	return string(signature)
}

// sign signs with the RSA key (1) or the EC key (2).
func sign(t *testing.T, key byte, rs *rsa.PrivateKey, es *ecdsa.PrivateKey, digest []byte) []byte {
	t.Helper()
	if key == 1 {
		signature, err := rsa.SignPKCS1v15(nil, rs, crypto.SHA256, digest)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	r, reg, err := ecdsa.Sign(rand.Reader, es, digest)
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), reg.FillBytes(make([]byte, 32))...)
}

func verifiesRSA(key *rsa.PrivateKey, digest, signature []byte) bool {
	return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, signature) == nil
}

// verifiesECDSA reads a signature in the format of RFC 7518 section 3.4: r and s side by side.
func verifiesECDSA(key *ecdsa.PrivateKey, digest, signature []byte) bool {
	return len(signature) == 64 &&
		ecdsa.Verify(&key.PublicKey, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
