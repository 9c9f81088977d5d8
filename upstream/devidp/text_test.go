package devidp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// TestForeignNamesAreCleaned checks that a user's name from a provider can be stored and shown.
func TestForeignNamesAreCleaned(t *testing.T) {
	for in, want := range map[string]string{
		"Zoë":                       "Zoë", // control
		"李雷":                        "李雷",  // control
		"Cat 🐙":                     "Cat 🐙",
		"a\x00b":                    "ab",
		"\x1b[31mred":               "[31mred",
		"a\u202eb":                  "ab",
		strings.Repeat("é", 10_000): strings.Repeat("é", 254) + "…",
	} {
		w := newOIDCWorld(t)
		w.idp.Lie(devidp.IDToken, func(c map[string]any) { c["name"], c["preferred_username"] = in, in })
		got, err := w.exchangeAndIdentify()
		if err != nil || got.Name != want || got.Login != want {
			t.Errorf("%.20q: got name %.20q and login %.20q, %v", in, got.Name, got.Login, err)
		}
	}
	w := newOIDCWorld(t)
	inIDToken("preferred_username", "\u202e\x00")(w)
	if got, err := w.exchangeAndIdentify(); err != nil || got.Login != got.Subject {
		t.Errorf("a login of nothing visible: got %q, %v, want the subject", got.Login, err)
	}
}

// TestNothingIsCleanedIntoAMatch checks that a value that access rules compare is kept unchanged or not at all.
func TestNothingIsCleanedIntoAMatch(t *testing.T) {
	rules := func(allow, deny string) upstream.Rules {
		r, err := upstream.ParseRules(allow, deny)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		name, claim string
		world       func(*testing.T) *world
		value       any
		rules       upstream.Rules
		admitted    bool
		lost        string
	}{
		{"control: address", "email", newOIDCWorld, "boss@acme.example", rules("email:boss@acme.example", ""), true, ""},
		{"address with a NUL", "email", newOIDCWorld, "boss\x00@acme.example", rules("email:boss@acme.example", ""), false,
			"malformed: 1"},
		{"address with an invisible character", "email", newOIDCWorld, "bo\u200bss@acme.example",
			rules("email:boss@acme.example", ""), false, "malformed: 1"},
		{"address of ten thousand characters", "email", newOIDCWorld, strings.Repeat("a", 10_000) + "@acme.example",
			rules("email-domain:acme.example", ""), false, "malformed: 1"},
		{"address that is not told does not get past DENY", "email", newOIDCWorld, "bo\u200bss@acme.example",
			rules("anyone", "email-domain:acme.example"), false, "malformed: 1"},
		{"control: domain", "hd", newGoogleWorld, "acme.example", rules("google-domain:acme.example", ""), true, ""},
		{"domain with an invisible character", "hd", newGoogleWorld, "ac\u00adme.example",
			rules("google-domain:acme.example", ""), false, "hosted domain"},
		{"control: group", "groups", newOIDCWorld, []string{"Entwickler & Prüfer"},
			rules("oidc-group:Entwickler & Prüfer", ""), true, ""},
		{"group with an invisible character", "groups", newOIDCWorld, []string{"users", "ad\u2060mins"},
			rules("oidc-group:admins", ""), false, "groups with invisible characters, or longer than 255 bytes: 1"},
		{"the other groups stay", "groups", newOIDCWorld, []string{"users", "ad\u2060mins"}, rules("oidc-group:users", ""),
			true, "longer than 255 bytes: 1"},
		{"control: a thousand groups", "groups", newOIDCWorld, numbered(1000), rules("oidc-group:g1", "oidc-group:x"), true,
			""},
		{"too many groups", "groups", newOIDCWorld, numbered(1001), rules("oidc-group:g1", ""), false,
			"more than 1000: 1001"},
		{"too many groups do not get past DENY", "groups", newOIDCWorld, numbered(1001), rules("anyone", "oidc-group:x"),
			false, "more than 1000: 1001"},
		{"groups that are elsewhere", "_claim_names", newOIDCWorld, map[string]string{"groups": "src1"},
			rules("oidc-group:acme", ""), false, "elsewhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.world(t)
			w.idp.Lie(devidp.IDToken, func(c map[string]any) {
				if c[tt.claim] = tt.value; tt.claim == "_claim_names" {
					delete(c, "groups")
					c["_claim_sources"] = map[string]any{"src1": map[string]string{"endpoint": "https://graph.example/"}}
				}
			})
			w.idp.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "groups") })
			id, err := w.exchangeAndIdentify()
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.rules.Admit(id); (err == nil) != tt.admitted {
				t.Errorf("got %v, want admitted: %t", err, tt.admitted)
			}
			if lost := strings.Join(id.Lost, "; "); (lost == "") != (tt.lost == "") || !strings.Contains(lost, tt.lost) {
				t.Errorf("lost: got %q, want %q", lost, tt.lost)
			}
		})
	}
}

func numbered(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("g", i+1))
	}
	return names
}

// TestGitHubLoginIsNotCleanedIntoAnother checks that no user becomes octocat through an invisible character.
func TestGitHubLoginIsNotCleanedIntoAnother(t *testing.T) {
	for login, want := range map[string]error{"octocat": nil, "octo\u200bcat": upstream.ErrUnusable,
		"octocat\x00": upstream.ErrUnusable, strings.Repeat("o", 256): upstream.ErrUnusable} {
		w := newWorld(t)
		body, err := json.Marshal(map[string]any{"id": 583231, "login": login, "name": "The\x00 Octocat"})
		if err != nil {
			t.Fatal(err)
		}
		token := w.signIn("octocat")
		w.idp.FailNext("/api/v3/user", 1, devidp.Fault{Body: string(body)})
		got, err := w.provider.Identify(t.Context(), token, "")
		if !errors.Is(err, want) || want == nil && got.Name != "The Octocat" {
			t.Errorf("%.10q: got %+v, %v", login, got, err)
		}
	}
}

// TestGitHubAddressesAreBounded checks that the first hundred addresses are kept, and that this can be logged.
func TestGitHubAddressesAreBounded(t *testing.T) {
	w := newWorld(t)
	var entries []map[string]any
	for _, name := range append(numbered(101), "bad\u200b", "") {
		entries = append(entries, map[string]any{"email": name + "@example.com", "verified": true})
	}
	body, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	token := w.signIn("octocat")
	w.idp.FailNext("/api/v3/user/emails", 1, devidp.Fault{Body: string(body)})
	got, err := w.provider.Identify(t.Context(), token, "")
	if err != nil || len(got.Emails) != 100 || got.Emails[99] != "g100@example.com" {
		t.Errorf("got %d addresses, %v", len(got.Emails), err)
	}
	want := []string{"e-mail addresses that are malformed: 2", "e-mail addresses beyond the first 100: 1"}
	if diff := cmp.Diff(want, got.Lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

// TestForeignScopesAreBounded checks that a scope that cannot be stored counts as withheld.
func TestForeignScopesAreBounded(t *testing.T) {
	for answer, want := range map[string]string{
		"read:user,user:email":              "read:user user:email", // control
		"read:user,a%00b,%1b%5b31m,user%ff": "read:user",
	} {
		w := newWorld(t)
		code := w.code("octocat")
		w.idp.FailNext(tokenPath, 1, devidp.Fault{Body: "access_token=gho_x&token_type=bearer&scope=" + answer})
		token, err := w.provider.Exchange(t.Context(), callback, code, verifier, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(token.Scopes, " "); got != want {
			t.Errorf("%s: got %q, want %q", answer, got, want)
		}
		if withheld := w.provider.Withheld(token, nil); (withheld == nil) != (want == "read:user user:email") {
			t.Errorf("%s: withheld: %q", answer, withheld)
		}
	}
	w := newWorld(t)
	code := w.code("octocat")
	w.idp.FailNext(tokenPath, 1, devidp.Fault{Body: "access_token=gho_x&token_type=bearer&scope=" +
		strings.Join(numbered(10_000), ",")})
	token, err := w.provider.Exchange(t.Context(), callback, code, verifier, nil)
	if n := len(strings.Join(token.Scopes, " ")); err != nil || n < 1900 || n > 2000 {
		t.Errorf("ten thousand scopes: got %d bytes, %v", n, err)
	}
}

// TestWithheldAddressesAreSaidToTheLog checks that a GitHub App's missing permission is logged, because the operator
// must know.
func TestWithheldAddressesAreSaidToTheLog(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("octocat")
	got, err := w.provider.Identify(t.Context(), token, "")
	if err != nil || len(got.Emails) == 0 || got.Lost != nil {
		t.Errorf("control: got %q, lost %q, %v", got.Emails, got.Lost, err)
	}
	w.idp.FailNext("/api/v3/user/emails", 1, devidp.Fault{Status: 403,
		Body: `{"message":"Resource not accessible by integration"}`})
	got, err = w.provider.Identify(t.Context(), token, "")
	want := []string{"all e-mail addresses: github: asking for e-mail addresses (HTTP 403); it says: " +
		"Resource not accessible by integration"}
	if err != nil || got.Emails != nil || !cmp.Equal(want, got.Lost) {
		t.Errorf("got %q, lost %q, %v", got.Emails, got.Lost, err)
	}
}
