package upstream_test

import (
	"strings"
	"testing"
)

// TestRulesThatCancelEachOtherOut checks that an ALLOW entry is reported if it excludes no user, or allows no user.
func TestRulesThatCancelEachOtherOut(t *testing.T) {
	for _, tt := range []struct {
		name, allow, deny string
		want              []string // one for each error; empty if the rules make sense together
	}{
		{"anyone and a login", "github:octocat,anyone", "", []string{`"github:octocat" keeps nobody out`}},
		{"anyone and two", "anyone,github:octocat,email:a@a.example", "",
			[]string{`"github:octocat" keeps nobody out`, `"email:a@a.example" keeps nobody out`}},
		{"the same in both", "github:octocat,github:hubot", "github:Octocat",
			[]string{`"github:octocat" lets nobody in`}},
		{"a team of the organization", "github-team:acme/devs", "github-org:acme",
			[]string{`DENY has "github-org:acme"`}},
		{"an address of the domain", "email:a@a.example", "email-domain:a.example",
			[]string{`DENY has "email-domain:a.example"`}},
		{"twice", "github-team:acme/devs", "github-org:acme,github-team:acme/devs",
			[]string{`DENY has "github-org:acme"`}},

		{"control: anyone but", "anyone", "github:octocat,email-domain:a.example", nil},
		{"control: the organization without a team", "github-org:acme", "github-team:acme/devs", nil},
		{"control: the domain without an address", "email-domain:a.example", "email:a@a.example", nil},
		{"control: a team of another organization", "github-team:acme/devs", "github-org:acm", nil},
		{"control: an address of another domain", "email:a@b.a.example", "email-domain:a.example", nil},
		{"control: another kind of the same name", "github:acme", "github-org:acme", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parseRules(t, tt.allow, tt.deny).CheckTogether()
			if err == nil {
				if tt.want != nil {
					t.Errorf("no error, want %q", tt.want)
				}
				return
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("got %q, want %d errors", lines, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(lines[i], "ALLOW: ") || !strings.Contains(lines[i], want) ||
					!strings.Contains(lines[i], "for example ALLOW=") {
					t.Errorf("got %q, want it to say %q", lines[i], want)
				}
			}
		})
	}
}
