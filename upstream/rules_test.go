package upstream_test

import (
	"errors"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

func TestAdmit(t *testing.T) {
	octocat := upstream.Identity{Provider: "github", Login: "Octocat", Emails: []string{"octocat@example.com"}}
	impostor := upstream.Identity{Provider: "oidc", Login: "octocat", Emails: []string{"x@example.com"}}
	kelvin := upstream.Identity{Provider: "github", Login: "\u212aate"}
	tests := []struct {
		name    string
		allow   string
		id      upstream.Identity
		refused []string // kinds; nil if admitted
	}{
		{"anyone", "anyone", impostor, nil},
		{"login, in any case", "github:oCTOCAT", octocat, nil},
		{"login at another provider", "github:octocat", impostor, []string{"github"}},
		{"part of a login", "github:octo", octocat, []string{"github"}},
		{"the Kelvin sign is not a k", "github:kate", kelvin, []string{"github"}},
		{"address, in any case", "email:Octocat@Example.com", octocat, nil},
		{"unverified address, which an Identity does not hold", "email:octocat@example.com",
			upstream.Identity{Provider: "github", Login: "octocat"}, []string{"email"}},
		{"the second of two rules", "email:a@example.com , github:octocat,", octocat, nil},
		{"neither of two rules", "email:a@example.com,github:hubot", octocat, []string{"github", "email"}},
		{"no rule", "", octocat, []string{}},
		{"a person without login and address", "github:octocat", upstream.Identity{Provider: "github"},
			[]string{"github"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := upstream.ParseRules(tt.allow)
			if err != nil {
				t.Fatal(err)
			}
			err = rules.Admit(tt.id)
			if tt.refused == nil {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			var refusal *upstream.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if diff := cmp.Diff(tt.refused, append([]string{}, refusal.Kinds...)); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
			for _, private := range []string{"hubot", "a@example.com", "octocat", "kate"} {
				if strings.Contains(strings.ToLower(err.Error()), private) {
					t.Errorf("the refusal names %s", private)
				}
			}
		})
	}
	if err := (upstream.Rules{}).Admit(octocat); err == nil {
		t.Error("the zero value admits somebody")
	}
}

func TestRefusalSaysWhatWasTried(t *testing.T) {
	rules, err := upstream.ParseRules("github:hubot,email:a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	const want = "This server admits only certain GitHub accounts and certain verified e-mail addresses, " +
		"and yours is not among them: we were shown no verified e-mail address."
	if got := rules.Admit(upstream.Identity{Provider: "github", Login: "mallory"}).Error(); got != want {
		t.Errorf("got %q", got)
	}
}

func TestRuleMistakes(t *testing.T) {
	tests := []struct {
		name, allow string
		want        []string
	}{
		{"unknown kind", "github-org:acme", []string{"github-org", "anyone", "github:octocat", "email:octocat@example.com"}},
		{"bare login", "octocat", []string{"octocat", "github:octocat"}},
		{"anyone with a value", "anyone:octocat", []string{"ALLOW=anyone"}},
		{"upper-case kind", "Anyone", []string{"anyone"}},
		{"empty login", "github:", []string{"github:octocat"}},
		{"e-mail address as a login", "github:a@example.com", []string{"github:octocat"}},
		{"login with a space", "github:octo cat", []string{"github:octocat"}},
		{"login as an e-mail address", "email:octocat", []string{"email:octocat@example.com"}},
		{"two @", "email:a@b@example.com", []string{"email:octocat@example.com"}},
		{"no domain", "email:a@", []string{"email:octocat@example.com"}},
		{"newline", "email:a\n@example.com", []string{"email:octocat@example.com"}},
		{"all at once", "x,github:octocat,y", []string{`"x"`, `"y"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := upstream.ParseRules(tt.allow)
			if err == nil || len(rules) != 0 {
				t.Fatalf("got %v, %v, want an error", rules, err)
			}
			for _, want := range append(tt.want, "ALLOW") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to name %s", err, want)
				}
			}
		})
	}
}

func TestAdmitsAnyone(t *testing.T) {
	for allow, want := range map[string]bool{
		"anyone": true, "github:octocat, anyone": true, "github:anyone": false, "": false,
	} {
		rules, err := upstream.ParseRules(allow)
		if err != nil {
			t.Fatal(err)
		}
		if got := rules.AdmitsAnyone(); got != want {
			t.Errorf("%q: got %t, want %t", allow, got, want)
		}
	}
}
