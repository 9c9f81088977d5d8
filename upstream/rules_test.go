package upstream_test

import (
	"errors"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

func parseRules(t *testing.T, allow, deny string) upstream.Rules {
	t.Helper()
	rules, err := upstream.ParseRules(allow, deny)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// at returns what GitHub said about a user and an organization or team.
func at(name string, standing upstream.Standing) upstream.Identity {
	return upstream.Identity{Provider: "github", Login: "octocat",
		Memberships: map[string]upstream.Standing{name: standing}}
}

func TestAdmit(t *testing.T) {
	const in, out, open = "in", "out", "open"
	octocat := upstream.Identity{Provider: "github", Login: "Renamed", Pinned: "octocat",
		Emails: []string{"octocat@example.com", "583231+octocat@users.noreply.github.com"}}
	impostor := upstream.Identity{Provider: "oidc", Login: "octocat", Pinned: "octocat", HostedDomain: "example.com",
		Emails: []string{"x@sub.example.com"}, Groups: []string{"Admins", "team, the", "/acme/devs"}}
	workspace := upstream.Identity{Provider: "google", HostedDomain: "Example.com", Emails: []string{"a@example.com"},
		Groups: []string{"Admins"}}
	consumer := upstream.Identity{Provider: "google", Emails: []string{"a@example.com"}}
	kelvin := upstream.Identity{Provider: "google", HostedDomain: "\u212aate.example"}
	const org, team = "github-org:acme", "github-team:acme/devs"
	tests := []struct {
		name, allow, deny string
		id                upstream.Identity
		want              string
	}{
		{"no rule", "", "", octocat, out},
		{"anyone", "anyone", "", impostor, in},
		{"the second of two rules", "email:b@example.com , github:octocat,", "", octocat, in},
		{"neither of two rules", "email:b@example.com,github:hubot", "", octocat, out},
		{"nothing is known of them", "github:octocat,email:octocat@example.com", "",
			upstream.Identity{Provider: "github"}, out},

		{"login, whatever the account is called by now", "github:oCTOCAT", "", octocat, in},
		{"login that is somebody else's by now", "github:renamed", "", octocat, out},
		{"login at another provider", "github:octocat", "", impostor, out},
		{"part of a login", "github:octo", "", octocat, out},

		{"address, in any case", "email:Octocat@Example.com", "", octocat, in},
		{"address that is not verified, which an Identity does not hold", "email:octocat@example.com", "",
			upstream.Identity{Provider: "github", Login: "octocat"}, out},
		{"domain of an address, in any case", "email-domain:EXAMPLE.com", "", octocat, in},
		{"domain above", "email-domain:example.com", "", impostor, out},
		{"domain below", "email-domain:sub.example.com", "", octocat, out},
		{"domain that ends alike", "email-domain:ple.com", "", octocat, out},

		{"hd, in any case", "google-domain:example.COM", "", workspace, in},
		{"hd suffix trick: a consumer account with such an address", "google-domain:example.com", "", consumer, out},
		{"hd of another provider", "google-domain:example.com", "", impostor, out},
		{"the Kelvin sign is not a k", "google-domain:kate.example", "", kelvin, out},

		{"group", "oidc-group:Admins", "", impostor, in},
		{"group with a slash", "oidc-group:/acme/devs", "", impostor, in},
		{"group in other letters", "oidc-group:admins", "", impostor, out},
		{"group at another provider", "oidc-group:Admins", "", workspace, out},

		{"member of an organization", "github-org:Acme", "", at(org, "member"), in},
		{"invited to it", org, "", at(org, "pending"), out},
		{"no member of it", org, "", at(org, "stranger"), out},
		{"not asked about it", org, "", octocat, open},
		{"asked about another one", org, "", at("github-org:other", "member"), open},
		{"not asked, and another rule admits", org + ",github:octocat", "", octocat, in},
		{"not asked, and no account at GitHub", org, "", workspace, out},
		{"on a team", "github-team:Acme/Devs", "", at(team, "member"), in},
		{"in the organization of a team", team, "", at(org, "member"), open},
		{"SSO has lapsed", org, "", at(org, "needs SSO"), out},
		{"scope withheld", org, "", at(org, "no scope"), out},
		{"app not approved", org, "", at(org, "forbidden"), out},
		{"app not installed", org, "", at(org, "no install"), out},
		{"hidden for another reason", org, "", at(org, "hidden"), out},

		{"DENY wins", "anyone,github:octocat", "email:octocat@example.com", octocat, out},
		{"DENY somebody else", "anyone", "github:hubot,email:hubot@example.com,oidc-group:Admins", octocat, in},
		{"DENY by the login of before a rename", "anyone", "github:octocat", octocat, out},
		{"DENY by the login of today", "anyone", "github:renamed", octocat, out},
		{"DENY an address", "anyone", "email-domain:example.com", workspace, out},
		{"DENY another address", "anyone", "email:b@example.com,email-domain:b.example", workspace, in},
		{"DENY an address, and hiding them all", "anyone", "email:b@example.com",
			upstream.Identity{Provider: "github", Login: "mallory"}, out},
		{"DENY a domain, and hiding all addresses", "anyone", "email-domain:b.example",
			upstream.Identity{Provider: "github", Login: "mallory"}, out},
		{"DENY without ALLOW", "", "github:hubot", octocat, out},
		{"DENY members", "anyone", org, at(org, "member"), out},
		{"DENY members, and invited", "anyone", org, at(org, "pending"), in},
		{"DENY members, and no member", "anyone", org, at(org, "stranger"), in},
		{"DENY members, and not asked", "anyone", org, octocat, open},
		{"DENY members, and not asked, but nobody admits them anyway", "github:hubot", org, octocat, out},
		{"DENY members, and hiding by withholding the scope", "anyone", org, at(org, "no scope"), out},
		{"DENY members, and hiding by a lapsed SSO", "anyone", org, at(org, "needs SSO"), out},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := parseRules(t, tt.allow, tt.deny).Admit(tt.id)
			var refusal *upstream.Refusal
			got := map[bool]string{true: in}[err == nil]
			if errors.As(err, &refusal) {
				got = out
			} else if errors.Is(err, upstream.ErrUndecided) {
				got = open
			}
			if got != tt.want {
				t.Fatalf("got %q (%v), want %q", got, err, tt.want)
			}
			for _, private := range []string{"hubot", "example.com", "octocat", "acme", "renamed"} {
				if refusal != nil && strings.Contains(strings.ToLower(err.Error()), private) {
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
	nobody := upstream.Identity{Provider: "github", Login: "mallory"}
	for _, tt := range []struct {
		allow, deny string
		id          upstream.Identity
		want        string
	}{
		{"", "", nobody, "Nobody has access to this server yet."},
		{"google-domain:example.com", "", nobody,
			"Only accounts of certain Google Workspace organizations have access, and your account does not qualify."},
		{"email:a@example.com,github:hubot,github:x,github-org:acme", "", at("github-org:acme", "stranger"),
			"Only certain GitHub accounts, members of certain GitHub organizations and certain verified e-mail addresses " +
				"have access, and your account does not qualify: this server was shown no verified e-mail address."},
		{"anyone", "github:mallory", nobody, "The people who run this server have excluded this account."},
		{"github-org:acme", "", at("github-org:acme", "needs SSO"),
			"Only members of certain GitHub organizations have access, and this server cannot see that you are a member."},
		{"anyone", "email:a@example.com", nobody,
			"Certain e-mail addresses have no access, and this server was shown no verified address of yours."},
		{"anyone", "github-org:acme", at("github-org:acme", "member"),
			"The people who run this server have excluded this account."},
		{"anyone", "github-org:acme", at("github-org:acme", "no scope"),
			"Members of certain GitHub organizations have no access, and this server cannot see whether you are a member."},
	} {
		if got := parseRules(t, tt.allow, tt.deny).Admit(tt.id); got == nil || got.Error() != tt.want {
			t.Errorf("ALLOW=%s DENY=%s: got %q", tt.allow, tt.deny, got)
		}
	}
}

func TestRuleMistakes(t *testing.T) {
	const login, org, team = "github:octocat", "github-org:acme", "github-team:acme/devs"
	const address, domain = "email:octocat@example.com", "email-domain:example.com"
	tests := []struct {
		name, allow, deny string
		want              []string
	}{
		{"unknown kind", "gitlab:acme", "", []string{"gitlab", "anyone", login, org, team, address, domain,
			"google-domain:example.com", "oidc-group:admins"}},
		{"bare login", "octocat", "", []string{"octocat", login}},
		{"anyone with a value", "anyone:octocat", "", []string{"anyone stands alone"}},
		{"anyone in DENY", "github:a", "anyone", []string{"DENY", "nobody could come in", "DENY=github:octocat"}},
		{"upper-case kind", "Anyone", "", []string{"anyone"}},
		{"empty login", "github:", "", []string{login}},
		{"e-mail address as a login", "github:a@example.com", "", []string{login}},
		{"login with a space", "github:octo cat", "", []string{login}},
		{"organization with a team", "github-org:acme/devs", "", []string{org}},
		{"team without an organization", "github-team:devs", "", []string{team}},
		{"team by its name", "github-team:acme/The Devs", "", []string{team}},
		{"team that leads elsewhere", "github-team:acme/../x", "", []string{team}},
		{"team of a team", "github-team:acme/devs/x", "", []string{team}},
		{"login as an e-mail address", "email:octocat", "", []string{address}},
		{"two @", "email:a@b@example.com", "", []string{address}},
		{"no domain", "email:a@", "", []string{address}},
		{"newline", "email:a\n@example.com", "", []string{address}},
		{"address as a domain", "email-domain:a@example.com", "", []string{domain}},
		{"@ before the domain", "email-domain:@example.com", "", []string{domain}},
		{"all domains below", "email-domain:*.example.com", "", []string{domain}},
		{"dot before the domain", "google-domain:.example.com", "", []string{"google-domain:example.com"}},
		{"top-level domain", "google-domain:com", "", []string{"google-domain:example.com"}},
		{"the domain where everybody at GitHub has an address", "email-domain:users.noreply.github.com", "",
			[]string{"no domain that is somebody's own"}},
		{"such an address, which follows the login", "email:octocat@users.noreply.github.com", "", []string{address}},
		{"the same on an enterprise server", "email-domain:Users.Noreply.git.example.com", "", []string{domain}},
		{"group without a name", "oidc-group: ", "", []string{"oidc-group:admins"}},
		{"all at once", "x,github:octocat,y", "z", []string{`ALLOW: "x"`, `ALLOW: "y"`, `DENY: "z"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := upstream.ParseRules(tt.allow, tt.deny)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to name %s", err, want)
				}
			}
		})
	}
}

func TestRulesThatCannotMatch(t *testing.T) {
	const github, google, oidc = "github:a,github-org:a,github-team:a/b", "google-domain:a.example", "oidc-group:a"
	for _, tt := range []struct {
		name, allow, deny, groupsClaim string
		providers                      []string
		want                           []string // empty if they can
	}{
		{"each with its provider", "anyone,email:a@a.example,email-domain:a.example," + github + "," + google + "," + oidc,
			oidc, "groups", []string{"github", "google", "oidc"}, nil},
		{"e-mail addresses with any", "email:a@a.example,email-domain:a.example", "", "", []string{"oidc"}, nil},
		{"without GitHub", github, "", "", []string{"google"},
			[]string{"github:a", "github-org:a", "github-team:a/b", "GITHUB_CLIENT_ID=Ov23li"}},
		{"without Google", "anyone", google, "", []string{"github", "oidc"},
			[]string{"DENY", "google-domain:a.example", "GOOGLE_CLIENT_ID=1234567890"}},
		{"without OpenID Connect", oidc, "", "groups", []string{"google"}, []string{"oidc-group:a", "OIDC_ISSUER=https://"}},
		{"without a claim", oidc, "", "", []string{"oidc"}, []string{"oidc-group:a", "OIDC_GROUPS_CLAIM=groups"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parseRules(t, tt.allow, tt.deny).Check(tt.providers, tt.groupsClaim)
			if (err != nil) != (tt.want != nil) {
				t.Errorf("got %v", err)
			}
			for _, want := range tt.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to name %s", err, want)
				}
			}
		})
	}
}

func TestWhatTheRulesAskFor(t *testing.T) {
	octocat := upstream.Identity{Provider: "github", Login: "Octocat", Pinned: "former"}
	type asks struct {
		Anyone, GitHub, Facts bool
		Pin                   string
	}
	for _, tt := range []struct {
		allow, deny string
		want        asks
	}{
		{"", "github:hubot", asks{}},
		{"anyone", "github:octocat", asks{Anyone: true}},                // DENY remembers all logins
		{"anyone,github:octocat,github:former", "", asks{Anyone: true}}, // a pin stays while a rule names it
		{"github:anyone", "", asks{}},
		{"github:hubot,github:octocat", "", asks{Pin: "octocat"}},
		{"github:octocat,email:a@a.example,github-org:acme", "", asks{Pin: "octocat", GitHub: true, Facts: true}},
		{"github:hubot,email:a@a.example", "", asks{Facts: true}},
		{"github:hubot,google-domain:a.example", "oidc-group:a", asks{}},
		{"anyone", "github-team:acme/devs", asks{Anyone: true, GitHub: true, Facts: true}},
	} {
		r := parseRules(t, tt.allow, tt.deny)
		got := asks{r.AdmitAnyone(), r.AskGitHub(), r.DependOnFacts(octocat), r.Pin(octocat)}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ALLOW=%s DENY=%s (-want +got):\n%s", tt.allow, tt.deny, diff)
		}
	}
	if got := parseRules(t, "github:octocat", "").Pin(upstream.Identity{Provider: "oidc", Login: "octocat"}); got != "" {
		t.Errorf("the rule knows an account of another provider as %q", got)
	}
}
