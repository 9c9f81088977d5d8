package devidp_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
	"github.com/google/go-cmp/cmp"
)

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	back := w.answer(w.authURL("public_repo"), "octocat", "authorize")
	if got := back.Get("state"); got != "the-state" {
		t.Errorf("state: got %q", got)
	}
	if got := back.Get("iss"); got != w.provider.ResponseIssuer {
		t.Errorf("iss: got %q, want %q", got, w.provider.ResponseIssuer)
	}
	token, err := w.provider.Exchange(t.Context(), callback, back.Get("code"), verifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(token.Access, "gho_fake") || token.Refresh != "" || !token.Expiry.IsZero() {
		t.Error("the token is not one of an OAuth App without expiry")
	}
	if diff := cmp.Diff([]string{"public_repo", "read:user", "user:email"}, token.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	got, err := w.provider.Identify(t.Context(), token, "")
	if err != nil {
		t.Fatal(err)
	}
	want := upstream.Identity{
		Provider: "github",
		Issuer:   w.idp.URL(),
		Subject:  "583231",
		Login:    "octocat",
		Name:     "The Octocat",
		Emails:   []string{"octocat@example.com", "583231+octocat@users.noreply.github.com"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	var call devidp.Call
	for _, c := range w.idp.Calls() {
		if c.Path == tokenPath {
			call = c
		}
	}
	wantCall := devidp.Call{Method: "POST", Path: tokenPath, Auth: "form", Params: []string{
		"client_id", "client_secret", "code", "code_verifier", "grant_type", "redirect_uri"}}
	if diff := cmp.Diff(wantCall, call); diff != "" {
		t.Errorf("token request (-want +got):\n%s", diff)
	}
}

func TestMalloryHasNoVerifiedEmail(t *testing.T) {
	w := newWorld(t)
	got, err := w.provider.Identify(t.Context(), w.signIn("mallory"), "")
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "666" || len(got.Emails) != 0 {
		t.Errorf("got %s with %v, want 666 without e-mail addresses", got.Subject, got.Emails)
	}
}

func TestFewerScopesThanAskedFor(t *testing.T) {
	w := newWorld(t)
	back := w.answer(w.authURL("public_repo"), "octocat", "authorize", "user:email", "public_repo")
	token, err := w.provider.Exchange(t.Context(), callback, back.Get("code"), verifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"read:user"}, token.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	got, err := w.provider.Identify(t.Context(), token, "")
	if err != nil || got.Login != "octocat" || len(got.Emails) != 0 {
		t.Errorf("got %+v, %v, want octocat without e-mail addresses", got, err)
	}
}

func TestDenied(t *testing.T) {
	w := newWorld(t)
	back := w.answer(w.authURL(), "octocat", "deny")
	if back.Get("error") != "access_denied" || back.Get("state") != "the-state" || back.Has("code") {
		t.Errorf("got %v", back)
	}
	if _, _, back := w.get(w.authURL()); back != nil {
		t.Error("somebody who denied is sent back without being asked")
	}
}

func TestExchangeRefusals(t *testing.T) {
	tests := []struct {
		name     string
		exchange func(w *world, code string) error
		want     string
		kind     error
	}{
		{"wrong verifier", func(w *world, code string) error {
			_, err := w.provider.Exchange(w.Context(), callback, code, verifier+"x", nil)
			if _, again := w.provider.Exchange(w.Context(), callback, code, verifier, nil); again != nil {
				w.Errorf("control: the right verifier gets %v", again)
			}
			return err
		}, "bad_verification_code", nil},
		{"no verifier", func(w *world, code string) error {
			_, err := w.provider.Exchange(w.Context(), callback, code, "", nil)
			return err
		}, "bad_verification_code", nil},
		{"replayed code", func(w *world, code string) error {
			if _, first := w.provider.Exchange(w.Context(), callback, code, verifier, nil); first != nil {
				w.Errorf("control: the first time gets %v", first)
			}
			_, err := w.provider.Exchange(w.Context(), callback, code, verifier, nil)
			return err
		}, "bad_verification_code", nil},
		{"code after ten minutes", func(w *world, code string) error {
			w.clock.add(10 * time.Minute)
			_, err := w.provider.Exchange(w.Context(), callback, code, verifier, nil)
			return err
		}, "bad_verification_code", nil},
		{"another redirect_uri", func(w *world, code string) error {
			_, err := w.provider.Exchange(w.Context(), callback+"/x", code, verifier, nil)
			return err
		}, "redirect_uri_mismatch", upstream.ErrMisconfigured},
		{"wrong client secret", func(w *world, code string) error {
			c := w.idp.GitHub()
			c.ClientSecret += "x"
			p, err := upstream.GitHub(c)
			if err != nil {
				w.Fatal(err)
			}
			_, err = p.Exchange(w.Context(), callback, code, verifier, nil)
			return err
		}, "incorrect_client_credentials", upstream.ErrMisconfigured},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			code := w.code("octocat")
			err := tt.exchange(w, code)
			checkError(t, err, tt.want, tt.kind)
			for _, secret := range []string{code, verifier, w.idp.GitHub().ClientSecret} {
				if strings.Contains(err.Error(), secret) {
					t.Error("the error holds a secret")
				}
			}
		})
	}
}

func TestCancelledCallIsNobodysFault(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.provider.Identify(ctx, &upstream.Token{Access: "gho_x"}, "")
	checkError(t, err, "", upstream.ErrUnavailable)
}

func TestDiscardEndsOneToken(t *testing.T) {
	w := newWorld(t)
	first, second := w.signIn("octocat"), w.signIn("octocat")
	for range 2 { // the second time there is nothing left to delete
		if err := w.provider.Discard(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if w.works(first) {
		t.Error("the discarded token still works")
	}
	if !w.works(second) {
		t.Error("control: the other token is dead, too")
	}
	w.idp.FailNext("/api/v3/applications/"+w.idp.GitHub().ClientID+"/token", 1, devidp.Fault{Status: 500})
	checkError(t, w.provider.Discard(t.Context(), second), "", upstream.ErrUnavailable)
}

func TestEleventhToken(t *testing.T) {
	w := newWorld(t)
	other := w.signIn("octocat", "public_repo")
	var tokens []*upstream.Token
	for range 11 {
		tokens = append(tokens, w.signIn("octocat"))
		w.clock.add(time.Hour)
	}
	if w.works(tokens[0]) {
		t.Error("the first of eleven tokens still works")
	}
	for i, token := range append(tokens[1:], other) {
		if !w.works(token) {
			t.Errorf("control: token %d is dead", i)
		}
	}
}

func TestRevokedByThePerson(t *testing.T) {
	w := newWorld(t)
	octocat := w.signIn("octocat")
	w.browser = newBrowser(t)
	mallory := w.signIn("mallory")
	if err := w.idp.RevokeTokens("octocat"); err != nil {
		t.Fatal(err)
	}
	if w.works(octocat) || !w.works(mallory) {
		t.Error("want octocat's token dead and mallory's alive")
	}
}
