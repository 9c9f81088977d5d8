package clients

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

const documentID = "https://client.example/oauth/client.json"

// document returns a valid metadata document with some members changed; nil removes a member.
func document(changes map[string]any) []byte {
	d := map[string]any{"client_id": documentID, "client_name": "Test client", "client_uri": "https://client.example",
		"redirect_uris": []string{"https://client.example/cb", "http://localhost/callback"},
		"grant_types":   []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none"}
	maps.Copy(d, changes)
	maps.DeleteFunc(d, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return b
}

func testKeys() (public, private, symmetric json.RawMessage) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	set := func(k any) json.RawMessage {
		b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k, KeyID: "1"}}})
		if err != nil {
			panic(err)
		}
		return b
	}
	return set(key.Public()), set(key), set([]byte("0123456789abcdef"))
}

func TestDocumentURL(t *testing.T) {
	for _, tt := range []struct {
		name, url string
		policy    DocumentPolicy
		want      bool
	}{
		{"control: as Claude's", "https://claude.ai/oauth/mcp-oauth-client-metadata", DocumentsOn, true},
		{"control: with a port", "https://client.example:8443/c.json", DocumentsOn, true},
		{"control: with a query", "https://client.example/c?v=1", DocumentsOn, true},
		{"control: nothing but the root", "https://client.example/", DocumentsOn, true},
		{"control: dots within a segment", "https://client.example/a..b/.well-known/c", DocumentsOn, true},
		{"no path", "https://client.example", DocumentsOn, false},
		{"no path but a query", "https://client.example?x", DocumentsOn, false},
		{"http", "http://client.example/c", DocumentsOn, false},
		{"upper-case scheme", "HTTPS://client.example/c", DocumentsOn, false},
		{"upper-case host", "https://Client.example/c", DocumentsOn, false},
		{"another scheme", "ftp://client.example/c", DocumentsOn, false},
		{"a dot segment", "https://client.example/./c", DocumentsOn, false},
		{"two dots", "https://client.example/a/../c", DocumentsOn, false},
		{"two dots at the end", "https://client.example/a/..", DocumentsOn, false},
		{"dots in disguise", "https://client.example/a/%2e%2E/c", DocumentsOn, false},
		{"a fragment", "https://client.example/c#f", DocumentsOn, false},
		{"an empty fragment", "https://client.example/c#", DocumentsOn, false},
		{"a user", "https://me@client.example/c", DocumentsOn, false},
		{"a user and password", "https://a:b@client.example/c", DocumentsOn, false},
		{"an empty user", "https://@client.example/c", DocumentsOn, false},
		{"a backslash", `https://client.example\@evil.example/c`, DocumentsOn, false},
		{"a line break", "https://client.example/c\n", DocumentsOn, false},
		{"a space", "https://client.example/a b", DocumentsOn, false},
		{"a host with a semicolon", "https://a.example;b/c", DocumentsOn, false},
		{"an umlaut", "https://clïent.example/c", DocumentsOn, false},
		{"an empty port", "https://client.example:/c", DocumentsOn, false},
		{"too long", "https://client.example/" + strings.Repeat("c", maxClientID), DocumentsOn, false},
		{"no host", "https:///c", DocumentsOn, false},
		{"loopback without TLS", "http://localhost:3000/c", DocumentsOn, false},
		{"control: loopback without TLS, by policy", "http://localhost:3000/c", DocumentsLoopback, true},
		{"elsewhere without TLS, in spite of the policy", "http://client.example/c", DocumentsLoopback, false},
	} {
		t.Run("C2: "+tt.name, func(t *testing.T) {
			_, err := tt.policy.parseDocumentURL(tt.url)
			if (err == nil) != tt.want {
				t.Errorf("%q: got %v", tt.url, err)
			}
		})
	}
}

func TestDocument(t *testing.T) {
	public, private, symmetric := testKeys()
	withKeys := func(keys any, changes map[string]any) []byte {
		m := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": keys}
		maps.Copy(m, changes)
		return document(m)
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		want string // the authentication method; empty if the document is refused
	}{
		{"C1: as it should be", document(nil), "none"},
		{"C4: no client_id", document(map[string]any{"client_id": nil}), ""},
		{"C4: no client_name", document(map[string]any{"client_name": nil}), ""},
		{"C4: a name that nobody can see", document(map[string]any{"client_name": " \t\n"}), ""},
		{"C4: no redirect_uris", document(map[string]any{"redirect_uris": nil}), ""},
		{"C4: none of the redirect_uris is one", document(map[string]any{"redirect_uris": []string{"javascript:alert(1)",
			"x"}}), ""},
		{"C4: redirect_uris is a string", document(map[string]any{"redirect_uris": "https://client.example/cb"}), ""},
		{"C4: no JSON", []byte("client_id: " + documentID), ""},
		{"C4: not an object", []byte(`["` + documentID + `"]`), ""},
		{"C4: null", []byte("null"), ""},
		{"C4: empty", nil, ""},
		{"C4: something after it", append(document(nil), " {}"...), ""},
		{"C4: a member twice", append([]byte(`{"client_id":"https://evil.example/c",`), document(nil)[1:]...), ""},
		{"C4: members in capitals do not count", bytes.Replace(document(nil), []byte(`"client_name"`),
			[]byte(`"Client_Name"`), 1), ""},
		{"C3: another's client_id",
			document(map[string]any{"client_id": "https://claude.ai/oauth/mcp-oauth-client-metadata"}), ""},
		{"C3: the client_id with the default port", document(map[string]any{
			"client_id": "https://client.example:443/oauth/client.json"}), ""},
		{"C3: the client_id with a slash more", document(map[string]any{"client_id": documentID + "/"}), ""},
		{"C3: the client_id in capitals", document(map[string]any{"client_id": strings.ToUpper(documentID)}), ""},
		{"no method means none", document(map[string]any{"token_endpoint_auth_method": nil}), "none"},
		{"C6: client_secret_basic", document(map[string]any{"token_endpoint_auth_method": "client_secret_basic"}), ""},
		{"C6: client_secret_post", document(map[string]any{"token_endpoint_auth_method": "client_secret_post"}), ""},
		{"C6: client_secret_jwt", document(map[string]any{"token_endpoint_auth_method": "client_secret_jwt"}), ""},
		{"an unknown method", document(map[string]any{"token_endpoint_auth_method": "tls_client_auth"}), ""},
		{"C6: a secret", document(map[string]any{"client_secret": "s3cret"}), ""},
		{"C6: a secret that is null", append([]byte(`{"client_secret":null,`), document(nil)[1:]...), ""},
		{"C6: a secret's end", document(map[string]any{"client_secret_expires_at": 0}), ""},
		{"C6: a private key", withKeys(private, nil), ""},
		{"C6: a private key of a public client", withKeys(private, map[string]any{"token_endpoint_auth_method": "none"}), ""},
		{"C6: a symmetric key", withKeys(symmetric, nil), ""},
		{"C6: a private key of an unknown kind", withKeys(json.RawMessage(`{"keys":[{"kty":"new","d":"x"}]}`), nil), ""},
		{"C7: with its keys", withKeys(public, nil), "private_key_jwt"},
		{"C7: an unknown kind of key beside them", withKeys(json.RawMessage(strings.Replace(string(public), `{"keys":[`,
			`{"keys":[{"kty":"new","x":"y"},`, 1)), nil), "private_key_jwt"},
		{"C7: with the address of its keys", withKeys(nil, map[string]any{"jwks_uri": "https://client.example/keys"}),
			"private_key_jwt"},
		{"C7: both", withKeys(public, map[string]any{"jwks_uri": "https://client.example/keys"}), ""},
		{"C7: neither", withKeys(nil, nil), ""},
		{"C7: no key in the set", withKeys(json.RawMessage(`{"keys":[]}`), nil), ""},
		{"C7: more keys than anybody needs", withKeys(json.RawMessage(`{"keys":[`+strings.Repeat(`{"kty":"new"},`, maxKeys)+
			`{"kty":"new"}]}`), nil), ""},
		{"C7: something that is no key", withKeys(json.RawMessage(`{"keys":["x"]}`), nil), ""},
		{"C7: keys without TLS", withKeys(nil, map[string]any{"jwks_uri": "http://client.example/keys"}), ""},
		{"C7, C10: keys that are a file", withKeys(nil, map[string]any{"jwks_uri": "file:///etc/passwd"}), ""},
		{"altinity-mcp#118: ChatGPT leaves the choice", withKeys(public, map[string]any{
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt", "none"}}), "none"},
		{"the choice does not include none", withKeys(public, map[string]any{
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}), "private_key_jwt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := DocumentsOn.parseDocument(documentID, tt.raw)
			var refused *Error
			switch {
			case tt.want == "":
				if !errors.As(err, &refused) || refused.Code != "invalid_client" {
					t.Errorf("got %v, %v, want it refused", c, err)
				}
			case err != nil:
				t.Errorf("got %v", err)
			case c.AuthMethod != tt.want || c.ID != documentID || c.Name != "Test client":
				t.Errorf("got %+v, want the method %s", c, tt.want)
			}
		})
	}
	t.Run("redirect URIs that only other servers can use", func(t *testing.T) {
		c, err := DocumentsOn.parseDocument(documentID, document(map[string]any{"redirect_uris": []string{
			"http://dev.client.example/cb", "https://client.example/cb", "data:text/html,x", "cursor://x/cb"}}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"https://client.example/cb", "cursor://x/cb"}, c.RedirectURIs); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// FuzzClientDocument checks that a client is valid if its document is accepted, whatever a stranger's host responds.
func FuzzClientDocument(f *testing.F) {
	public, private, symmetric := testKeys()
	for _, changes := range []map[string]any{nil, {"jwks": public}, {"jwks": private}, {"jwks": symmetric},
		{"jwks_uri": "https://client.example/keys", "token_endpoint_auth_method": "private_key_jwt"},
		{"client_secret": "x"}, {"redirect_uris": []string{"cursor://a/b", "http://127.0.0.1/"}}} {
		f.Add(documentID, document(changes))
	}
	f.Add("http://localhost:3000/c",
		[]byte(`{"client_id":"http://localhost:3000/c","client_name":"x","redirect_uris":["https://a/"]}`))
	f.Fuzz(func(t *testing.T, id string, raw []byte) {
		_, notAddress := DocumentsOn.parseDocumentURL(id)
		c, err := DocumentsOn.parseDocument(id, raw)
		if err != nil {
			return
		}
		var same map[string]any
		switch {
		case json.Unmarshal(raw, &same) != nil || same["client_id"] != id:
			t.Error("the document names another client")
		case same["client_secret"] != nil:
			t.Error("a document with a secret")
		case c.Name == "" || len(c.RedirectURIs) == 0 || c.SecretHash != nil:
			t.Errorf("incomplete: %+v", c)
		case c.AuthMethod != authNone && c.AuthMethod != authJWT:
			t.Errorf("method %q", c.AuthMethod)
		case c.AuthMethod == authJWT && c.Keys == nil && c.KeysURI == "":
			t.Error("no key to authenticate with")
		}
		if notAddress == nil && !strings.HasPrefix(id, "https://") {
			t.Errorf("%q may be fetched", id)
		}
		for _, uri := range c.RedirectURIs {
			if _, err := parseRedirectURI(uri); err != nil {
				t.Errorf("redirect URI %q: %v", uri, err)
			}
		}
		if c.Keys != nil {
			set, err := parseKeySet(c.Keys)
			if err != nil {
				t.Fatalf("keys: %v", err)
			}
			for _, k := range set.Keys {
				if !k.IsPublic() {
					t.Error("a key that is not public")
				}
			}
		}
	})
}
