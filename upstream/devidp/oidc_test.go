package devidp_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
	"github.com/google/go-cmp/cmp"
)

const calendarScope = "https://www.googleapis.com/auth/calendar.readonly"

// newGoogleWorld puts Google's provider in front of the development provider, newOIDCWorld that of an OIDC vendor.
func newGoogleWorld(t *testing.T) *world {
	w := newWorld(t)
	w.use(upstream.Google(w.idp.Google()))
	return w
}

func newOIDCWorld(t *testing.T) *world {
	w := newWorld(t)
	w.use(upstream.OIDC(w.idp.OIDC()))
	return w
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func TestSignInWithGoogle(t *testing.T) {
	w := newGoogleWorld(t)
	token := w.signIn("octocat", calendarScope)
	if diff := cmp.Diff([]string{"email", calendarScope, "openid", "profile"}, token.Scopes); diff != "" {
		t.Errorf("scopes by the names that were asked for (-want +got):\n%s", diff)
	}
	got, err := w.provider.Identify(t.Context(), token, nonce)
	if err != nil {
		t.Fatal(err)
	}
	want := upstream.Identity{Provider: "google", Issuer: w.idp.URL() + "/google", Subject: "583231",
		Login: "octocat@example.com", Name: "The Octocat", Emails: []string{"octocat@example.com"},
		HostedDomain: "acme.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if w.count("/google/userinfo") != 0 {
		t.Error("userinfo was asked although the ID token says everything")
	}
	w.browser = newBrowser(t)
	if got, err := w.provider.Identify(t.Context(), w.signIn("mallory"), nonce); err != nil || got.Emails != nil ||
		got.HostedDomain != "" {
		t.Errorf("unverified address, consumer account: got %+v, %v", got, err)
	}
	if err := w.provider.Discard(t.Context(), token); err != nil {
		t.Errorf("discarding does nothing at Google: got %v", err)
	}
}

func TestGoogleOfflineAccess(t *testing.T) {
	w := newGoogleWorld(t)
	got := query(t, w.authURL(calendarScope))
	if got.Get("access_type") != "offline" || got.Get("prompt") != "consent" {
		t.Errorf("with an API scope: got %v", got)
	}
	for range 2 { // the second time Google would give no refresh token without a consent page
		if token := w.signIn("octocat", calendarScope); token.Refresh == "" || token.Expiry.IsZero() {
			t.Error("no refresh token, or one that is not needed")
		}
	}

	got = query(t, w.authURL("email"))
	if got.Has("access_type") || got.Has("prompt") || strings.Contains(got.Get("scope"), "offline_access") {
		t.Errorf("to know who somebody is: got %v", got)
	}
	token := w.signIn("octocat")
	if _, err := w.provider.Identify(t.Context(), token, nonce); err != nil || token.Refresh != "" {
		t.Errorf("without a refresh token: got one %t, %v", token.Refresh != "", err)
	}
}

func TestGoogleCalendarWithheld(t *testing.T) {
	w := newGoogleWorld(t)
	back := w.answer(w.authURL(calendarScope), "octocat", "authorize", calendarScope)
	token, err := w.provider.Exchange(t.Context(), w.callback(), back.Get("code"), verifier, []string{calendarScope})
	if err != nil {
		t.Fatal(err)
	}
	if w.provider.Covers(token, calendarScope) || !w.provider.Covers(token, "email") {
		t.Errorf("got %v, want all but the calendar", token.Scopes)
	}
}

func TestSignInWithOIDC(t *testing.T) {
	for _, tt := range []struct {
		name     string
		override string
		metadata any // token_endpoint_auth_methods_supported; nil means absent
		want     string
	}{
		{"both", "", []string{"client_secret_post", "client_secret_basic"}, "basic"},
		{"not said", "", nil, "basic"},
		{"post only", "", []string{"private_key_jwt", "client_secret_post"}, "form"},
		{"operator says post", "post", []string{"client_secret_basic"}, "form"},
		{"operator says basic", "basic", []string{"client_secret_post"}, "basic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.idp.Lie(devidp.Metadata, func(m map[string]any) {
				if m["token_endpoint_auth_methods_supported"] = tt.metadata; tt.metadata == nil {
					delete(m, "token_endpoint_auth_methods_supported")
				}
			})
			c := w.idp.OIDC() // the secret contains characters that Basic and forms must escape
			c.AuthMethod = tt.override
			w.use(upstream.OIDC(c))
			token := w.signIn("octocat")
			got, err := w.provider.Identify(t.Context(), token, nonce)
			if err != nil {
				t.Fatal(err)
			}
			want := upstream.Identity{Provider: "oidc", Issuer: w.idp.URL() + "/oidc", Subject: "583231", Login: "octocat",
				Name: "The Octocat", Emails: []string{"octocat@example.com"}, Groups: []string{"acme"}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
			for _, call := range w.idp.Calls() {
				if call.Path == "/oidc/token" && call.Auth != tt.want {
					t.Errorf("the secret was sent by %s, want %s", call.Auth, tt.want)
				}
			}
			if n := w.count("/oidc/token"); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestWrongOIDCSecret(t *testing.T) {
	w := newWorld(t)
	c := w.idp.OIDC()
	c.ClientSecret += "x"
	w.use(upstream.OIDC(c))
	_, err := w.provider.Exchange(t.Context(), w.callback(), w.code("octocat"), verifier, nil)
	checkError(t, err, "invalid_client", upstream.ErrMisconfigured)
	for _, want := range []string{"OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_AUTH_METHOD"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), c.ClientSecret) {
		t.Error("the error holds the secret")
	}
}

func TestGroups(t *testing.T) {
	for _, tt := range []struct {
		name  string
		claim any
		want  []string
	}{
		{"list", []string{"a", "b"}, []string{"a", "b"}},
		{"one", "a b", []string{"a b"}},
		{"objects", []map[string]any{{"name": "a"}, {"id": 1, "name": "b"}, {"id": 2}}, []string{"a", "b"}},
		{"numbers", []int{1, 2}, nil},
		{"mixed", []any{"a", 1}, nil},
		{"object", map[string]any{"name": "a"}, nil},
		{"true", true, nil},
		{"empty list", []string{}, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newOIDCWorld(t)
			inIDToken("groups", tt.claim)(w)
			got, err := w.exchangeAndIdentify()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Groups); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckIssuer(t *testing.T) {
	google, oidc := newGoogleWorld(t), newOIDCWorld(t)
	for _, tt := range []struct {
		name     string
		provider *upstream.Provider
		iss      string
		ok       bool
	}{
		{"right", oidc.provider, oidc.idp.URL() + "/oidc", true},
		{"another provider's", oidc.provider, oidc.idp.URL() + "/google", false},
		{"with a slash", oidc.provider, oidc.idp.URL() + "/oidc/", false},
		{"missing, and the metadata say that it is always there", oidc.provider, "", false},
		{"missing, and the metadata say nothing", google.provider, "", true},
		{"GitHub's, missing", newWorld(t).provider, "", true},
	} {
		t.Run("F8: "+tt.name, func(t *testing.T) {
			err := tt.provider.CheckIssuer(t.Context(), tt.iss)
			if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, upstream.ErrBadAnswer) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWrongOIDCAuthorizeRequests(t *testing.T) {
	for _, tt := range []struct {
		name, param, value, wantError string
		wantStatus                    int
	}{
		{"control", "state", "the-state", "", http.StatusOK},
		{"unknown client", "client_id", "other", "", http.StatusBadRequest},
		{"foreign redirect_uri", "redirect_uri", "https://evil.example/callback", "", http.StatusBadRequest},
		{"longer redirect_uri", "redirect_uri", baseURL + "/callback/google/", "", http.StatusBadRequest},
		{"no redirect_uri", "redirect_uri", "", "", http.StatusBadRequest},
		{"implicit flow", "response_type", "id_token", "unsupported_response_type", http.StatusFound},
		{"plain challenge", "code_challenge_method", "plain", "invalid_request", http.StatusFound},
		{"challenge without a method is plain", "code_challenge_method", "", "invalid_request", http.StatusFound},
		{"offline_access at Google", "scope", "openid offline_access", "invalid_scope", http.StatusFound},
		{"nobody signed in, and nobody may be asked", "prompt", "none", "login_required", http.StatusFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newGoogleWorld(t)
			status, _, back := w.get(with(w.authURL(), tt.param, tt.value))
			if status != tt.wantStatus || back.Get("error") != tt.wantError {
				t.Errorf("got %d, %v", status, back)
			}
		})
	}
}

func TestKeyOutlivesARestart(t *testing.T) {
	c := devidp.Config{BaseURL: baseURL, Dir: t.TempDir()}
	w := &world{T: t, idp: start(t, c), browser: newBrowser(t)}
	w.use(upstream.Google(w.idp.Google()))
	if _, err := w.exchangeAndIdentify(); err != nil {
		t.Fatal(err)
	}
	w.idp.Close()
	w.idp = start(t, c)
	// The same provider, which still has the old key.
	if _, err := w.exchangeAndIdentify(); err != nil {
		t.Fatal(err)
	}
	if n := w.count("/google/keys"); n != 0 {
		t.Error("the key has changed")
	}
}
