package devidp

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"sync"
)

var base64url = base64.RawURLEncoding

// newKey makes a key. It takes a while, so all stand-ins of one process that need a new one share it.
var newKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// signingKey returns the key of ID tokens. It is made when it is first needed, and kept: clients remember it. The
// caller holds s.mu.
func (s *Server) signingKey() (*rsa.PrivateKey, error) {
	if s.key != nil {
		return s.key, nil
	}
	if s.state.Key == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		if s.state.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, err
		}
		s.key = key
		return key, s.save()
	}
	key, err := x509.ParsePKCS8PrivateKey(s.state.Key)
	if err != nil {
		return nil, err
	}
	var ok bool
	if s.key, ok = key.(*rsa.PrivateKey); !ok {
		return nil, errors.New("the key in the development provider's state is not an RSA key")
	}
	return s.key, nil
}

// getKeys is GET /keys below the issuer (RFC 7517).
func (s *Server) getKeys(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := s.signingKey()
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID(key),
		"n": base64url.EncodeToString(key.N.Bytes()),
		"e": base64url.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}})
}

func keyID(key *rsa.PrivateKey) string { return hash(key.N.String())[:16] }

// idToken returns a signed ID token (OpenID Connect Core 1.0 section 2).
func (s *Server) idToken(v *vendor, t token, access, nonce string) (string, error) {
	c := s.claims(v, find(t.Login), t.Scopes)
	half := sha256.Sum256([]byte(access))
	c["iss"], c["aud"], c["azp"] = s.origin+v.issuer, s.app(v).ClientID, s.app(v).ClientID
	c["iat"], c["exp"] = s.now().Unix(), s.now().Add(accessLife).Unix()
	c["at_hash"] = base64url.EncodeToString(half[:len(half)/2])
	if nonce != "" {
		c["nonce"] = nonce
	}
	key, err := s.signingKey()
	if s.signed == UnknownKey {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return "", err
	}
	alg := map[Signature]string{AlgNone: "none", AlgHS256: "HS256"}[s.signed]
	if alg == "" {
		alg = "RS256"
	}
	header, err := json.Marshal(map[string]string{"alg": alg, "kid": keyID(key), "typ": "JWT"})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(s.changed(IDToken, c))
	if err != nil {
		return "", err
	}
	signed := base64url.EncodeToString(header) + "." + base64url.EncodeToString(payload)
	var signature []byte
	switch alg {
	case "RS256":
		sum := sha256.Sum256([]byte(signed))
		signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	case "HS256":
		mac := hmac.New(sha256.New, []byte(s.app(v).ClientSecret))
		mac.Write([]byte(signed))
		signature = mac.Sum(nil)
	}
	return signed + "." + base64url.EncodeToString(signature), err
}
