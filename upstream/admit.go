package upstream

import (
	"errors"
	"slices"
	"strings"
)

// ErrUndecided is returned by [Rules.Admit] if the answer hangs on memberships that nobody has asked for yet.
var ErrUndecided = errors.New("the access rules hang on what only the provider knows")

// Admit judges a person by what is known of them. It returns nil if they may come in, a [*Refusal] if not, and
// [ErrUndecided] if that hangs on memberships that are not known.
//
// What we are not told of memberships and addresses, because the person or their organization does not let it, admits
// nobody; and where a DENY rule asks, it turns them away: nobody gets past a rule by hiding from it.
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

// matches reports whether the rule is about this person, as far as that is known.
func (r rule) matches(id Identity) (is, known bool) {
	if !r.concerns(id.Provider) {
		return false, true
	}
	switch r.kind {
	case "anyone":
		is = true
	case "github":
		// DENY means whoever has the login, and whoever had it: a rename gets nobody past it, and it cannot be told from
		// here whether somebody else took the login since.
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
		is = slices.Contains(id.Groups, r.value) || r.deny && id.Groups == nil // we are not told
	case "github-org", "github-team":
		standing, asked := id.Memberships[r.name()]
		if !asked {
			return false, false
		}
		is = standing == member || r.deny && standing.isHidden()
	}
	return is, true
}

// Pin returns the login to pin an account to, in lower case, if an ALLOW rule names the login that the account has
// today and none names its present pin; else "". See [Identity.Pinned].
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

// DependOnFacts reports whether the verdict on a person hangs on more than which account is theirs, that is, on what may
// change at their provider any day: addresses, domain, groups and memberships.
func (r Rules) DependOnFacts(id Identity) bool {
	var byAccount, byFacts bool // what may admit them
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

// A Refusal says why a person may not come in. Its message may be shown to them: it names no rule's value, so that
// nobody learns who else may come in.
type Refusal struct {
	Kinds    []string // the rule kinds that could have admitted them: "github", "email"
	Remedies []Remedy // what may change the verdict; see [Provider.Admit]

	noEmail                bool
	denied                 bool // by DENY
	unseenOrg, unseenEmail bool // because we are not told whether a rule matches
}

// DependsOnToken reports whether the verdict hangs on what the token that was asked with may see. Another token of the same
// person may see more.
func (r *Refusal) DependsOnToken() bool { return r.unseenOrg }

// A Remedy is something that a person can do about a refusal.
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
