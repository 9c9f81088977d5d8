package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rules decide who has access: users who match an ALLOW rule and no DENY rule. The zero value denies everyone.
type Rules []rule

type rule struct {
	deny  bool
	kind  string // of ruleKinds
	value string // in lower case, but for groups
}

// name returns the key of the rule in an identity's memberships: "github-team:acme/devs".
func (r rule) name() string { return r.kind + ":" + r.value }

// concerns reports whether the rule can match people of the provider.
func (r rule) concerns(provider string) bool {
	only := kindNamed(r.kind).provider
	return only == "" || only == provider
}

// byEmail reports whether the rule is about verified addresses.
func (r rule) byEmail() bool { return r.kind == "email" || r.kind == "email-domain" }

// asksGitHub reports whether only GitHub knows if the rule matches.
func (r rule) asksGitHub() bool { return r.kind == "github-org" || r.kind == "github-team" }

// A ruleKind is what may stand before the colon.
type ruleKind struct {
	kind     string
	provider string // the only one whose people such a rule can match; empty: any
	example  string
	wrong    string // what a value is that is not valid
	valid    func(value string) bool
	means    string // words for a refusal
}

var ruleKinds = []ruleKind{
	{"anyone", "", "anyone", "anyone stands alone", isEmpty, ""},
	{"github", githubID, "github:octocat", "this is no GitHub login", isLogin, "certain GitHub accounts"},
	{"github-org", githubID, "github-org:acme", "this is no GitHub organization", isLogin,
		"members of certain GitHub organizations"},
	{"github-team", githubID, "github-team:acme/devs", "this is no team's address: ORGANIZATION/TEAM", isTeam,
		"members of certain GitHub teams"},
	{"google-domain", googleID, "google-domain:example.com", "this is no domain", isDomain,
		"accounts of certain Google Workspace organizations"},
	{"email", "", "email:octocat@example.com", "this is no e-mail address of somebody's own", isMailAddress,
		"certain verified e-mail addresses"},
	{"email-domain", "", "email-domain:example.com", "this is no domain that is somebody's own", isMailDomain,
		"verified e-mail addresses of certain domains"},
	{"oidc-group", oidcID, "oidc-group:admins", "the group has no name, or one with invisible characters", isName,
		"members of certain groups"},
}

// kindNamed returns the zero value for a kind that is none.
func kindNamed(kind string) ruleKind {
	for _, k := range ruleKinds {
		if k.kind == kind {
			return k
		}
	}
	return ruleKind{}
}

// ParseRules parses the variables ALLOW and DENY: entries separated by commas.
//
//	anyone                     everybody who can sign in; in ALLOW only
//	github:octocat             the GitHub account with this login; see [Identity.Pinned]
//	github-org:acme            active members of this GitHub organization
//	github-team:acme/devs      active members of this team of it, as its address spells it
//	google-domain:example.com  accounts of this Google Workspace organization, by the claim hd
//	email:octocat@example.com  whoever has verified this address with their provider
//	email-domain:example.com   whoever has verified an address of exactly this domain
//	oidc-group:admins          members of this group, in just this spelling, by the OIDC provider's groups claim
//
// Its error reports all entries that are wrong; the rules beside it are those of the others, so that they can be
// checked as well. Empty strings are no error, and admit nobody.
func ParseRules(allow, deny string) (Rules, error) {
	lists := map[bool]string{false: allow, true: deny}
	var rules Rules
	var errs []error
	for _, deny := range []bool{false, true} {
		for entry := range strings.SplitSeq(lists[deny], ",") {
			entry = strings.TrimSpace(entry)
			if entry == "" {
				continue // a comma too many
			}
			r, err := parseRule(entry, deny)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %q: %w", variableOf(deny), entry, err))
				continue
			}
			rules = append(rules, r)
		}
	}
	return rules, errors.Join(errs...)
}

func variableOf(deny bool) string {
	if deny {
		return "DENY"
	}
	return "ALLOW"
}

func parseRule(entry string, deny bool) (rule, error) {
	kind, value, _ := strings.Cut(entry, ":")
	k := kindNamed(kind)
	if kind != "oidc-group" {
		value = lowerASCII(value)
	}
	switch {
	case k.kind == "":
		var examples []string
		for _, k := range ruleKinds {
			examples = append(examples, k.example)
		}
		return rule{}, fmt.Errorf("there is no rule kind %q; the kinds are %s", kind, strings.Join(examples, ", "))
	case kind == "anyone" && deny:
		return rule{}, errors.New("nobody could come in; say whom to turn away, for example DENY=github:octocat")
	case !k.valid(value):
		return rule{}, fmt.Errorf("%s; an example: %s", k.wrong, k.example)
	}
	return rule{deny, kind, value}, nil
}

// AdmitAnyone reports whether every user who can sign in has access, except users who match a DENY rule.
func (r Rules) AdmitAnyone() bool { return slices.Contains(r, rule{kind: "anyone"}) }

// AskGitHub reports whether a rule is about GitHub organizations: see [GitHubConfig.Organizations].
func (r Rules) AskGitHub() bool { return slices.ContainsFunc(r, rule.asksGitHub) }

// Check reports the rules that could never match: those about a provider that is not among the given ones, by ID, and
// those about groups if there is no claim to read them from. The error says what to set.
func (r Rules) Check(providers []string, groupsClaim string) error {
	fixes := map[string]string{
		githubID: "set GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET, for example GITHUB_CLIENT_ID=Ov23liAbCdEfGhIjKlMn",
		googleID: "set GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, for example " +
			"GOOGLE_CLIENT_ID=1234567890-abc123.apps.googleusercontent.com",
		oidcID: "set OIDC_ISSUER, for example OIDC_ISSUER=https://example.eu.auth0.com/",
	}
	var errs []error
	for _, rule := range r {
		var fix string
		switch provider := kindNamed(rule.kind).provider; {
		case provider != "" && !slices.Contains(providers, provider):
			fix = fixes[provider]
		case rule.kind == "oidc-group" && groupsClaim == "":
			fix = "set OIDC_GROUPS_CLAIM, for example OIDC_GROUPS_CLAIM=groups"
		default:
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %q can never match: %s", variableOf(rule.deny), rule.name(), fix))
	}
	return errors.Join(errs...)
}

// CheckTogether returns an error for ALLOW rules without effect: rules beside anyone, which exclude nobody, and rules
// whose users all match a DENY rule, which allow nobody. Their author expects an effect. The error names the rules to
// remove.
func (r Rules) CheckTogether() error {
	var errs []error
	for _, allow := range r {
		if allow.deny || allow.kind == "anyone" {
			continue
		}
		if r.AdmitAnyone() {
			errs = append(errs, fmt.Errorf("ALLOW: %q keeps nobody out beside \"anyone\": leave one of them out, for "+
				"example ALLOW=%s", allow.name(), allow.name()))
			continue
		}
		for _, deny := range r {
			if deny.deny && deny.coversAll(allow) {
				errs = append(errs, fmt.Errorf("ALLOW: %q lets nobody in, because DENY has %q: leave one of them out, "+
					"for example ALLOW=github:your-login", allow.name(), deny.name()))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// coversAll reports whether this rule matches every user whom the other rule matches.
func (r rule) coversAll(o rule) bool {
	org, _, _ := strings.Cut(o.value, "/")
	_, domain, _ := strings.Cut(o.value, "@")
	return r.kind == o.kind && r.value == o.value ||
		r.kind == "github-org" && o.kind == "github-team" && r.value == org ||
		r.kind == "email-domain" && o.kind == "email" && r.value == domain
}

func isEmpty(s string) bool { return s == "" }

// isName leaves out the names that no provider's group can have here: see [Provider.vet].
func isName(s string) bool { return s != "" && strings.TrimSpace(s) == s && isClean(s, maxName) }

// isLogin accepts letters, digits and hyphens, and the underscore of enterprise-managed users. Teams are spelt alike.
func isLogin(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, odd)
}

func isTeam(s string) bool {
	org, team, _ := strings.Cut(s, "/")
	return isLogin(org) && isLogin(team)
}

// isAddress accepts one @ with something on either side and no white space or control character.
func isAddress(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f }
	return local != "" && domain != "" && strings.Count(s, "@") == 1 && !strings.ContainsFunc(s, odd)
}

// isDomain accepts two labels or more. Names in other alphabets are given as mail carries them: xn--...
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLogin(label) {
			return false
		}
	}
	return strings.Contains(s, ".")
}

// isMailAddress leaves out the addresses of that kind as well: they follow the login.
func isMailAddress(s string) bool {
	_, domain, _ := strings.Cut(s, "@")
	return isAddress(s) && isMailDomain(domain)
}

// isMailDomain leaves out the domain where GitHub gives a verified address to everybody.
func isMailDomain(s string) bool { return isDomain(s) && !strings.HasPrefix(s, "users.noreply.") }
