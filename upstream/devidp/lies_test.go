package devidp_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// lies are what a provider, or an impostor, might send. The world's clock stands still.
var lies = []struct {
	name   string
	tell   func(w *world)
	kind   error
	reason string // in the error
}{
	{"F8: iss of another provider", inIDToken("iss", "https://evil.example"), upstream.ErrBadAnswer, "different provider"},
	{"F8: aud of another client", inIDToken("aud", "another-client"), upstream.ErrBadAnswer, "audience"},
	{"F8: nonce of another sign-in", inIDToken("nonce", "b-nonce"), upstream.ErrBadAnswer, "nonce"},
	{"F8: no nonce", inIDToken("nonce", nil), upstream.ErrBadAnswer, "nonce"},
	{"at_hash of another token", inIDToken("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), upstream.ErrBadAnswer, "at_hash"},
	{"unknown key", func(w *world) { w.idp.SetSignature(devidp.UnknownKey) }, upstream.ErrBadAnswer, "signature"},
	{"expired", inIDToken("exp", func(w *world) any { return w.clock.Now().Add(-61 * time.Second).Unix() }),
		upstream.ErrClock, "expired"},
	{"no exp", inIDToken("exp", nil), upstream.ErrClock, "expired"},
	{"no sub", inIDToken("sub", nil), upstream.ErrUnusable, "sub is missing"},
	{"long sub", inIDToken("sub", strings.Repeat("1", 256)), upstream.ErrUnusable, "at most 255 ASCII"},
	{"sub as a number", inIDToken("sub", 583231), upstream.ErrUnusable, "sub is not text"},
	{"sub that is empty", inIDToken("sub", ""), upstream.ErrUnusable, "sub is missing"},
	{"sub with a NUL", inIDToken("sub", "583231\x00"), upstream.ErrUnusable, "at most 255 ASCII"},
	{"sub in another alphabet", inIDToken("sub", "李雷"), upstream.ErrUnusable, "at most 255 ASCII"},
	{"alg none", func(w *world) { w.idp.SetSignature(devidp.AlgNone) }, upstream.ErrBadAnswer, "algorithm"},
	{"alg none, and metadata that allow it", func(w *world) {
		w.idp.SetSignature(devidp.AlgNone)
		w.idp.Lie(devidp.Metadata, func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"none"} })
	}, upstream.ErrBadAnswer, "algorithm"},
	{"alg HS256 under the client secret", func(w *world) { w.idp.SetSignature(devidp.AlgHS256) },
		upstream.ErrBadAnswer, "algorithm"},
	{"alg HS256, and metadata that allow it", func(w *world) {
		w.idp.SetSignature(devidp.AlgHS256)
		w.idp.Lie(devidp.Metadata, func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"HS256"} })
	}, upstream.ErrBadAnswer, "algorithm"},
	{"500 at the token endpoint", func(w *world) { w.fail("/token", devidp.Fault{Status: 500, Body: leaked}) },
		upstream.ErrUnavailable, "exchanging the code"},
	{"500 at userinfo", func(w *world) {
		inIDToken("email", nil)(w)
		w.fail("/userinfo", devidp.Fault{Status: 500, Body: leaked})
	}, upstream.ErrUnavailable, "userinfo"},
	{"thin ID token and somebody else's userinfo", func(w *world) {
		inIDToken("email", nil)(w)
		w.idp.Lie(devidp.Userinfo, func(c map[string]any) { c["sub"] = "666" })
	}, upstream.ErrBadAnswer, "somebody else"},

	{"azp of another client", inIDToken("azp", "another-client"), upstream.ErrBadAnswer, "azp"},
	{"azp that is no text", inIDToken("azp", 1), upstream.ErrBadAnswer, "azp"},
	{"two audiences and no azp", func(w *world) {
		w.idp.Lie(devidp.IDToken, func(c map[string]any) {
			c["aud"] = []any{c["aud"], "another-client"}
			delete(c, "azp")
		})
	}, upstream.ErrBadAnswer, "azp is missing"},
	{"iat in the future", inIDToken("iat", func(w *world) any { return w.clock.Now().Add(301 * time.Second).Unix() }),
		upstream.ErrClock, "iat"},
	{"500 for keys", func(w *world) { w.fail("/keys", devidp.Fault{Status: 500, Body: leaked}) },
		upstream.ErrUnavailable, "keys"},
	{"a web page for keys", func(w *world) { w.fail("/keys", devidp.Fault{Body: "<h1>" + leaked}) },
		upstream.ErrUnavailable, "keys"},
	{"keys that are no keys", func(w *world) { w.fail("/keys", devidp.Fault{Body: `{"keys":["` + leaked + `"]}`}) },
		upstream.ErrUnavailable, "keys"},
	{"no keys", func(w *world) { w.fail("/keys", devidp.Fault{Body: `{"keys":[]}`}) }, upstream.ErrUnavailable, "keys"},
	{"sub in a second spelling", inIDToken("\u017fub", func(*world) any { return "1" }), upstream.ErrBadAnswer,
		"two spellings"},
	{"401 at userinfo", func(w *world) {
		inIDToken("email", nil)(w)
		w.fail("/userinfo", devidp.Fault{Status: 401, Body: leaked})
	}, upstream.ErrDead, "userinfo"},
	{"thin ID token and userinfo with sub as a number", func(w *world) {
		inIDToken("email", nil)(w)
		w.idp.Lie(devidp.Userinfo, func(c map[string]any) { c["sub"] = 583231 })
	}, upstream.ErrUnusable, "not text"},
}

const leaked = "ya29.Leaked1"

// inIDToken returns a lie in one claim: a value, a function that returns it, or nil to leave it out.
func inIDToken(claim string, value any) func(w *world) {
	return func(w *world) {
		w.idp.Lie(devidp.IDToken, func(c map[string]any) {
			switch v := value.(type) {
			case nil:
				delete(c, claim)
			case func(*world) any:
				c[claim] = v(w)
			default:
				c[claim] = v
			}
		})
	}
}

func (w *world) fail(path string, f devidp.Fault) {
	w.idp.FailNext("/"+w.provider.ID+path, 1, f)
}

// exchangeAndIdentify does what a callback does.
func (w *world) exchangeAndIdentify() (upstream.Identity, error) {
	w.Helper()
	token, err := w.provider.Exchange(w.Context(), w.callback(), w.code("octocat"), verifier, nil)
	if err != nil {
		return upstream.Identity{}, err
	}
	id, err := w.provider.Identify(w.Context(), token, nonce)
	if err != nil && strings.Contains(err.Error(), token.Access) {
		w.Error("the error holds the token")
	}
	return id, err
}

func TestLies(t *testing.T) {
	for name, newWorld := range map[string]func(*testing.T) *world{"google": newGoogleWorld, "oidc": newOIDCWorld} {
		for _, lie := range lies {
			t.Run(name+"/"+lie.name, func(t *testing.T) {
				w := newWorld(t)
				lie.tell(w)
				got, err := w.exchangeAndIdentify()
				checkError(t, err, "", lie.kind)
				for _, kind := range []error{upstream.ErrUnusable, upstream.ErrClock, upstream.ErrDead} {
					if errors.Is(err, kind) != (lie.kind == kind) {
						t.Errorf("got %v, want the kind %v", err, lie.kind)
					}
				}
				if lie.kind != nil && !errors.Is(err, lie.kind) {
					t.Errorf("got %v, want the kind %v", err, lie.kind)
				}
				if !strings.Contains(err.Error(), lie.reason) || strings.Contains(err.Error(), leaked) {
					t.Errorf("got %v, want it to name %q and not to hold the body", err, lie.reason)
				}
				if got.Subject != "" {
					t.Error("the identity is there beside the error")
				}

				w.idp.Lie(devidp.IDToken, nil)
				w.idp.Lie(devidp.Userinfo, nil)
				w.idp.SetSignature(devidp.RightKey)
				got, err = w.exchangeAndIdentify()
				for try := 0; errors.Is(err, upstream.ErrUnavailable) && try < 100; try++ {
					got, err = w.exchangeAndIdentify() // go-oidc might still return the failed fetch of keys
				}
				if err != nil || got.Subject != "583231" {
					t.Errorf("control, without the lie: got %+v, %v", got, err)
				}
			})
		}
	}
}

// TestOddIDTokens checks ID tokens that look odd but are valid.
func TestOddIDTokens(t *testing.T) {
	ago := func(d time.Duration) func(*world) any {
		return func(w *world) any { return w.clock.Now().Add(-d).Unix() }
	}
	for _, tt := range []struct {
		name string
		tell func(w *world)
	}{
		{"email_verified in quotes", inIDToken("email_verified", "true")},
		{"a clock one minute behind", inIDToken("exp", ago(59*time.Second))},
		{"a clock five minutes ahead", inIDToken("iat", ago(-299*time.Second))},
		{"no at_hash", inIDToken("at_hash", nil)},
		{"no azp", inIDToken("azp", nil)},
		{"a list of one audience", func(w *world) {
			w.idp.Lie(devidp.IDToken, func(c map[string]any) { c["aud"] = []any{c["aud"]} })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newGoogleWorld(t)
			tt.tell(w)
			got, err := w.exchangeAndIdentify()
			if err != nil || len(got.Emails) != 1 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("nobody sent a nonce", func(t *testing.T) {
		w := newGoogleWorld(t)
		inIDToken("nonce", nil)(w)
		if _, err := w.provider.Identify(t.Context(), w.signIn("octocat"), ""); !errors.Is(err, upstream.ErrBadAnswer) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("no ID token", func(t *testing.T) {
		w := newGoogleWorld(t)
		token := w.signIn("octocat")
		token.IDToken = ""
		if _, err := w.provider.Identify(t.Context(), token, nonce); !errors.Is(err, upstream.ErrBadAnswer) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

func TestThinIDToken(t *testing.T) {
	w := newOIDCWorld(t)
	w.idp.Lie(devidp.IDToken, func(c map[string]any) {
		for _, claim := range []string{"email", "name", "preferred_username", "groups"} {
			delete(c, claim) // email_verified stays, but does not apply to userinfo's address
		}
	})
	got, err := w.exchangeAndIdentify()
	if err != nil {
		t.Fatal(err)
	}
	if got.Login != "octocat" || got.Name != "The Octocat" || len(got.Emails) != 1 || len(got.Groups) != 1 {
		t.Errorf("got %+v, want what userinfo says", got)
	}
	w.idp.Lie(devidp.Userinfo, func(c map[string]any) { c["email"], c["email_verified"] = "boss@example.com", false })
	if got, err := w.exchangeAndIdentify(); err != nil || got.Emails != nil {
		t.Errorf("an unverified address in userinfo: got %+v, %v", got, err)
	}
}
