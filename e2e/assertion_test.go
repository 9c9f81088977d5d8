package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"net/http"
	"net/url"
	"strings"
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

// keySet is the key set that the client publishes.
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

// claims returns the claims of a valid assertion, with some changed: nil leaves one out.
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

// TestDocumentClients signs users in with clients that have a metadata document over TLS, as ChatGPT does
// (altinity-mcp#118), and lets these refresh and revoke.
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
		signer   *signer // nil means that the client sends no assertion
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

// A keyedClient is a client by metadata document that authenticates with private_key_jwt, and has signed a user in.
type keyedClient struct {
	w       *world
	id      string
	refresh string
}

// signInKeyed publishes the document at a path of the host, and signs octocat in.
func (w *world) signInKeyed(host *documentHost, path, jwksURI string, s signer) *keyedClient {
	w.t.Helper()
	c := &keyedClient{w: w, id: host.putClient(path, map[string]any{"token_endpoint_auth_method": "private_key_jwt",
		"jwks_uri": jwksURI})}
	a := w.post("/token", asserted(codeForm(c.id, w.code(c.id)), s.sign(w.claims(c.id, nil), nil)))
	if a.status != http.StatusOK {
		w.t.Fatalf("redeeming the code: status %d: %s", a.status, a.str("error_description"))
	}
	c.refresh = a.str("refresh_token")
	return c
}

// form returns a refresh request with the client's newest token, without client authentication.
func (c *keyedClient) form() url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {c.id}, "refresh_token": {c.refresh}}
}

// send refreshes with that form, and keeps the new token if there is one.
func (c *keyedClient) send(form url.Values, header http.Header) answer {
	c.w.t.Helper()
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	maps.Copy(h, header)
	a := c.w.call(http.MethodPost, "/token", h, form.Encode())
	if a.status == http.StatusOK {
		c.refresh = a.str("refresh_token")
	}
	return a
}

// present refreshes with a valid assertion by the signer, with some claims changed.
func (c *keyedClient) present(s signer, changed map[string]any) answer {
	c.w.t.Helper()
	return c.send(asserted(c.form(), s.sign(c.w.claims(c.id, changed), nil)), nil)
}

// TestClientAssertion sends assertions that differ from a valid one in one thing. After each refusal, the valid one
// with the same jti and the same refresh token works: nothing was consumed.
func TestClientAssertion(t *testing.T) {
	w, host := newWorld(t, map[string]string{"CLIENT_METADATA": "loopback"}), newDocumentHost(t)
	rs, es, stranger := newSigner(t, jose.RS256, "r1"), newSigner(t, jose.ES256, "e1"), newSigner(t, jose.ES256, "e1")
	weak, encrypts := newSigner(t, jose.RS256, "weak"), newSigner(t, jose.ES256, "enc")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak.Key, encrypts.Use = short, "enc"
	pss := signer{t, jose.JSONWebKey{Key: rs.Key, KeyID: "pss", Algorithm: string(jose.PS256)}}
	mine := w.signInKeyed(host, "/mine", host.put("/keys", keySet(rs, es, weak, encrypts, pss)), rs)
	pss.Algorithm = string(jose.RS256) // the assertion's algorithm
	other := w.signInKeyed(host, "/other", host.put("/other-keys", keySet(stranger)), stranger)
	strangers := host.put("/strangers-keys", keySet(stranger))
	public, err := x509.MarshalPKIXPublicKey(es.Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	publicKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	hmac := signer{t, jose.JSONWebKey{Key: publicKey, KeyID: "e1", Algorithm: string(jose.HS256)}}
	unnamed := es
	unnamed.KeyID = ""

	type changes = map[string]any
	now := w.clock.now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	// Each case sends a key's valid assertion, with claims, header parameters or form parameters changed.
	by := func(s signer, changed changes, header map[jose.HeaderKey]any, params ...string) func(string) url.Values {
		return func(jti string) url.Values {
			claims := w.claims(mine.id, changes{"jti": jti})
			maps.Copy(claims, changed)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			form := asserted(mine.form(), s.sign(claims, header))
			for i := 0; i < len(params); i += 2 {
				form.Set(params[i], params[i+1])
			}
			return form
		}
	}
	claims := func(changed changes) func(string) url.Values { return by(es, changed, nil) }
	raw := func(change func(string) string) func(string) url.Values {
		return func(jti string) url.Values {
			return asserted(mine.form(), change(es.sign(w.claims(mine.id, changes{"jti": jti}), nil)))
		}
	}
	part := func(b string) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }
	for _, test := range []struct {
		name   string
		form   func(jti string) url.Values
		header http.Header
		status int
		code   string
	}{
		{"control: RS256", by(rs, nil, nil), nil, 200, ""},
		{"control: ES256", claims(nil), nil, 200, ""},
		{"control: without the name of the key", by(unnamed, nil, nil), nil, 200, ""},
		{"control: without client_id", by(es, nil, nil, "client_id", ""), nil, 200, ""},
		{"C7: aud is the issuer", claims(changes{"aud": w.base}), nil, 200, ""},
		{"C7: aud is the issuer with a slash", claims(changes{"aud": w.base + "/"}), nil, 200, ""},
		{"aud is a list of both", claims(changes{"aud": []string{w.base, w.base + "/token"}}), nil, 200, ""},
		{"expired 29 s ago", claims(changes{"exp": at(-29 * time.Second)}), nil, 200, ""},
		{"expires in an hour", claims(changes{"exp": at(time.Hour)}), nil, 200, ""},
		{"a clock 30 s ahead", claims(changes{"iat": at(30 * time.Second), "nbf": at(30 * time.Second)}), nil, 200, ""},
		{"without iat", claims(changes{"iat": nil}), nil, 200, ""},

		{"C7: none", func(string) url.Values { return mine.form() }, nil, 401, "invalid_client"},
		{"C7: a secret in its place", func(string) url.Values {
			form := mine.form()
			form.Set("client_secret", "secret")
			return form
		}, nil, 401, "invalid_client"},
		{"alg none", raw(func(s string) string {
			return part(`{"alg":"none"}`) + "." + strings.Split(s, ".")[1] + "."
		}), nil, 401, "invalid_client"},
		{"alg none, with a signature", raw(func(s string) string {
			return part(`{"alg":"none"}`) + s[strings.Index(s, "."):]
		}), nil, 401, "invalid_client"},
		{"HS256 with the public key for a secret", by(hmac, nil, nil), nil, 401, "invalid_client"},
		{"signed by another key of the same name", by(stranger, nil, nil), nil, 401, "invalid_client"},
		{"signed by another key that it carries", by(stranger, nil, map[jose.HeaderKey]any{"jwk": stranger.Public()}), nil,
			401, "invalid_client"},
		{"signed by another key that it points to", by(stranger, nil, map[jose.HeaderKey]any{"jku": strangers,
			"x5u": strangers}), nil, 401, "invalid_client"},
		{"RSA key of 1024 bits", by(weak, nil, nil), nil, 401, "invalid_client"},
		{"key for encryption", by(encrypts, nil, nil), nil, 401, "invalid_client"},
		{"key for another algorithm", by(pss, nil, nil), nil, 401, "invalid_client"},
		{"name of another key of its own", by(signer{t, jose.JSONWebKey{Key: es.Key, KeyID: "r1", Algorithm: es.Algorithm}},
			nil, nil), nil, 401, "invalid_client"},
		{"critical header parameter", by(es, nil, map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}), nil,
			401, "invalid_client"},
		{"claims of one with the signature of another", raw(func(s string) string {
			forged := es.sign(w.claims(mine.id, changes{"exp": at(time.Hour)}), nil)
			return forged[:strings.LastIndex(forged, ".")] + s[strings.LastIndex(s, "."):]
		}), nil, 401, "invalid_client"},
		{"signature cut off", raw(func(s string) string { return s[:strings.LastIndex(s, ".")+1] }), nil,
			401, "invalid_client"},
		{"two parts", raw(func(s string) string { return s[:strings.LastIndex(s, ".")] }), nil, 401, "invalid_client"},
		{"JSON serialization", raw(func(s string) string {
			p := strings.Split(s, ".")
			return `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`
		}), nil, 401, "invalid_client"},
		{"claims are no object", raw(func(s string) string {
			return strings.Split(s, ".")[0] + "." + part(`["`+mine.id+`"]`) + "." + strings.Split(s, ".")[2]
		}), nil, 401, "invalid_client"},

		{"another client's", func(jti string) url.Values {
			return asserted(mine.form(), stranger.sign(w.claims(other.id, changes{"jti": jti}), nil))
		}, nil, 401, "invalid_client"},
		{"another client's, for the token of this one", func(jti string) url.Values {
			form := asserted(mine.form(), stranger.sign(w.claims(other.id, changes{"jti": jti}), nil))
			form.Set("client_id", other.id)
			return form
		}, nil, 400, "invalid_grant"},
		{"iss is another client", claims(changes{"iss": other.id}), nil, 401, "invalid_client"},
		{"sub is another client", claims(changes{"sub": other.id}), nil, 401, "invalid_client"},
		{"sub is another client, without client_id", by(es, changes{"sub": other.id}, nil, "client_id", ""), nil,
			401, "invalid_client"},
		{"no sub and no client_id", by(es, changes{"sub": nil}, nil, "client_id", ""), nil, 401, "invalid_client"},
		{"aud is another server", claims(changes{"aud": "https://other.example"}), nil, 401, "invalid_client"},
		{"aud is another server too", claims(changes{"aud": []string{w.base, "https://other.example"}}), nil,
			401, "invalid_client"},
		{"aud is the MCP endpoint", claims(changes{"aud": w.base + "/mcp"}), nil, 401, "invalid_client"},
		{"aud is another endpoint", claims(changes{"aud": w.base + "/revoke"}), nil, 401, "invalid_client"},
		{"aud is empty", claims(changes{"aud": []string{}}), nil, 401, "invalid_client"},
		{"no aud", claims(changes{"aud": nil}), nil, 401, "invalid_client"},
		{"expired", claims(changes{"exp": at(-31 * time.Second)}), nil, 401, "invalid_client"},
		{"no exp", claims(changes{"exp": nil}), nil, 401, "invalid_client"},
		{"exp in two hours", claims(changes{"exp": at(2 * time.Hour)}), nil, 401, "invalid_client"},
		{"exp beyond all time", claims(changes{"exp": 1e300}), nil, 401, "invalid_client"},
		{"exp is a string", claims(changes{"exp": "2100"}), nil, 401, "invalid_client"},
		{"nbf ahead", claims(changes{"nbf": at(32 * time.Second)}), nil, 401, "invalid_client"},
		{"iat ahead", claims(changes{"iat": at(32 * time.Second)}), nil, 401, "invalid_client"},
		{"no jti", claims(changes{"jti": nil}), nil, 401, "invalid_client"},
		{"empty jti", claims(changes{"jti": ""}), nil, 401, "invalid_client"},
		{"jti of 257 bytes", claims(changes{"jti": strings.Repeat("x", 257)}), nil, 401, "invalid_client"},
		{"jti is a number", claims(changes{"jti": 1}), nil, 401, "invalid_client"},

		{"two assertions", func(jti string) url.Values {
			form := claims(nil)(jti)
			form.Add("client_assertion", form.Get("client_assertion"))
			return form
		}, nil, 400, "invalid_request"},
		{"a secret besides", by(es, nil, nil, "client_secret", "secret"), nil, 400, "invalid_request"},
		{"Basic besides", by(es, nil, nil, "client_id", ""),
			http.Header{"Authorization": {"Basic " + basicAuth(mine.id, "secret")}}, 400, "invalid_request"},
		{"Basic without a secret besides", by(es, nil, nil),
			http.Header{"Authorization": {"Basic " + basicAuth(mine.id, "")}}, 400, "invalid_request"},
		{"no type", by(es, nil, nil, "client_assertion_type", ""), nil, 400, "invalid_request"},
		{"SAML", by(es, nil, nil, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), nil,
			400, "invalid_request"},
		{"type without assertion", by(es, nil, nil, "client_assertion", ""), nil, 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			jti, before := rand.Text(), mine.refresh
			a := mine.send(test.form(jti), test.header)
			assertJSONError(t, a, test.status, test.code)
			if test.status == http.StatusOK {
				return
			}
			if bytes.Contains(a.body, []byte("eyJ")) {
				t.Error("the answer quotes the assertion")
			}
			if mine.refresh != before {
				t.Fatal("there is a new token")
			}
			assertJSONError(t, mine.present(es, map[string]any{"jti": jti}), http.StatusOK, "")
		})
	}
	if n := host.requests("/strangers-keys"); n != 0 {
		t.Errorf("the keys that an assertion points to were fetched %d times, want never", n)
	}
}

// basicAuth follows RFC 6749 section 2.3.1: both halves are form-encoded first.
func basicAuth(id, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id) + ":" + url.QueryEscape(secret)))
}
