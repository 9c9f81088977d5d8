package upstream

import (
	"errors"
	"slices"
	"strings"
)

// ErrUndecided is returned by [Rules.Admit] if the decision depends on memberships that were not requested yet.
var ErrUndecided = errors.New("the access rules hang on what only the provider knows")

// Admit decides from the known facts whether a user has access. It returns nil if access is allowed, a [*Refusal] if it
// is denied, and [ErrUndecided] if the decision depends on unknown memberships.
//
// The user or their organization can hide memberships and addresses. A hidden fact never matches an ALLOW rule and
// always matches a DENY rule, so that hiding does not evade a rule.
func (r Rules) Admit(id Identity) error {
	refusal := &Refusal{noEmail: len(id.Emails) == 0}
	admitted, undecided := false, false // by ALLOW
	denyUndecided := false
	for _, rule := range r {
		is, known := rule.matches(id)
		switch {
		case rule.deny && is:
			return &Refusal{denied: true,
				unseenOrg:   id.Memberships[rule.name()].isHidden(),
				unseenEmail: rule.byEmail() && len(id.Emails) == 0}
		case rule.deny:
			denyUndecided = denyUndecided || !known
		default:
			admitted = admitted || is
			undecided = undecided || !known
			refusal.unseenOrg = refusal.unseenOrg || id.Memberships[rule.name()].isHidden()
			if !slices.Contains(refusal.Kinds, rule.kind) {
				refusal.Kinds = append(refusal.Kinds, rule.kind)
			}
		}
	}
	switch {
	case !admitted && !undecided:
		return refusal
	case !admitted || denyUndecided:
		return ErrUndecided
	}
	return nil
}

// matches reports whether the rule matches the user, and whether that is known.
func (r rule) matches(id Identity) (is, known bool) {
	if !r.concerns(id.Provider) {
		return false, true
	}
	switch r.kind {
	case "anyone":
		is = true
	case "github":
		// DENY matches current and former users of the login, so that a rename does not evade it. This server cannot
		// know whether another account has taken the login since.
		is = id.Pinned == r.value ||
			r.deny && (lowerASCII(id.Login) == r.value || slices.Contains(id.FormerLogins, r.value))
	case "google-domain":
		is = lowerASCII(id.HostedDomain) == r.value
	case "email":
		is = slices.Contains(id.Emails, r.value) || r.deny && len(id.Emails) == 0
	case "email-domain":
		is = slices.ContainsFunc(id.Emails, func(address string) bool {
			_, domain, _ := strings.Cut(address, "@")
			return domain == r.value
		}) || r.deny && len(id.Emails) == 0
	case "oidc-group":
		is = slices.Contains(id.Groups, r.value) || r.deny && id.Groups == nil // the groups are unknown
	case "github-org", "github-team":
		standing, asked := id.Memberships[r.name()]
		if !asked {
			return false, false
		}
		is = standing == member || r.deny && standing.isHidden()
	}
	return is, true
}

// Pin returns the account's current login, in lower case, if an ALLOW rule names it and none names the account's
// current pin. Otherwise it returns "". See [Identity.Pinned].
func (r Rules) Pin(id Identity) string {
	names := func(login string) bool {
		return slices.Contains(r, rule{kind: "github", value: login})
	}
	login := lowerASCII(id.Login)
	if id.Provider != githubID || !names(login) || names(id.Pinned) {
		return ""
	}
	return login
}

// DependOnFacts reports whether the decision depends on data that can change at the provider at any time: addresses,
// domain, groups and memberships.
func (r Rules) DependOnFacts(id Identity) bool {
	var byAccount, byFacts bool // which kinds of ALLOW rule can match
	for _, rule := range r {
		account := rule.kind == "anyone" || rule.kind == "github"
		is, _ := rule.matches(id)
		switch {
		case !rule.concerns(id.Provider), rule.deny && account:
		case rule.deny:
			return true
		case account:
			byAccount = byAccount || is
		default:
			byFacts = true
		}
	}
	return byFacts && !byAccount
}

// A Refusal describes why a user's access is denied. Its message can be shown to the user: it contains no rule value,
// so that it does not reveal who else has access.
type Refusal struct {
	Kinds    []string // the rule kinds that could have allowed access: "github", "email"
	Remedies []Remedy // actions that may change the decision; see [Provider.Admit]

	noEmail                bool
	denied                 bool // by DENY
	unseenOrg, unseenEmail bool // hidden data, so it is unknown whether a rule matches
}

// DependsOnToken reports whether the decision depends on the access of the token that was used. Another token of the
// same user may see more.
func (r *Refusal) DependsOnToken() bool { return r.unseenOrg }

// A Remedy is an action that a user can take after a refusal.
type Remedy struct {
	Text string // a sentence; it ends in a colon if there is a URL
	URL  string // may be empty
}

func (r *Refusal) Error() string {
	switch {
	case r.denied && r.unseenOrg:
		return "Members of certain GitHub organizations have no access, and this server cannot see whether you are a member."
	case r.unseenEmail:
		return "Certain e-mail addresses have no access, and this server was shown no verified address of yours."
	case r.denied:
		return "The people who run this server have excluded this account."
	}
	var means []string
	for _, k := range ruleKinds {
		if slices.Contains(r.Kinds, k.kind) {
			means = append(means, k.means)
		}
	}
	if len(means) == 0 {
		return "Nobody has access to this server yet."
	}
	s := "Only " + means[0]
	for i, more := range means[1:] {
		if i == len(means)-2 {
			s += " and " + more
		} else {
			s += ", " + more
		}
	}
	if r.unseenOrg {
		return s + " have access, and this server cannot see that you are a member."
	}
	s += " have access, and your account does not qualify"
	if r.noEmail && (slices.Contains(r.Kinds, "email") || slices.Contains(r.Kinds, "email-domain")) {
		s += ": this server was shown no verified e-mail address"
	}
	return s + "."
}
