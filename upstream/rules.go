package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rules say who may come in. The zero value admits nobody.
type Rules []rule

type rule struct {
	kind  string // "anyone", "github" or "email"
	value string // in lower case
}

// ruleKinds lists what may stand before the colon, with an example of the whole and words for a refusal.
var ruleKinds = []struct{ kind, example, means string }{
	{"anyone", "anyone", ""},
	{"github", "github:octocat", "certain GitHub accounts"},
	{"email", "email:octocat@example.com", "certain verified e-mail addresses"},
}

// ParseRules parses the ALLOW variable: entries separated by commas, any of which admits a person.
//
//	anyone                     everybody who can sign in
//	github:octocat             the GitHub account with this login
//	email:octocat@example.com  whoever has verified this address with their provider
//
// Its error reports all entries that are wrong. An empty string is no error, and admits nobody.
func ParseRules(allow string) (Rules, error) {
	var rules Rules
	var errs []error
	for entry := range strings.SplitSeq(allow, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue // a comma too many
		}
		kind, value, colon := strings.Cut(entry, ":")
		value = lowerASCII(value)
		var problem string
		switch kind {
		case "anyone":
			if colon {
				problem = "anyone stands alone: ALLOW=anyone"
			}
		case "github":
			if !isLogin(value) {
				problem = "this is no GitHub login; an example: github:octocat"
			}
		case "email":
			if !isAddress(value) {
				problem = "this is no e-mail address; an example: email:octocat@example.com"
			}
		default:
			problem = fmt.Sprintf("there is no rule kind %q; the kinds are %s", kind, examples())
		}
		if problem != "" {
			errs = append(errs, fmt.Errorf("ALLOW: %q: %s", entry, problem))
		}
		rules = append(rules, rule{kind, value})
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return rules, nil
}

func examples() string {
	var list []string
	for _, k := range ruleKinds {
		list = append(list, k.example)
	}
	return strings.Join(list, ", ")
}

// AdmitsAnyone reports whether everybody who can sign in may come in.
func (r Rules) AdmitsAnyone() bool { return slices.Contains(r, rule{kind: "anyone"}) }

// Admit returns nil if a rule admits the person, and a [*Refusal] if none does.
func (r Rules) Admit(id Identity) error {
	for _, rule := range r {
		switch rule.kind {
		case "anyone":
			return nil
		case "github":
			if id.Provider == "github" && lowerASCII(id.Login) == rule.value {
				return nil
			}
		case "email":
			if slices.Contains(id.Emails, rule.value) {
				return nil
			}
		}
	}
	refusal := &Refusal{}
	for _, k := range ruleKinds {
		if slices.ContainsFunc(r, func(rule rule) bool { return rule.kind == k.kind }) {
			refusal.Kinds = append(refusal.Kinds, k.kind)
		}
	}
	refusal.noEmail = slices.Contains(refusal.Kinds, "email") && len(id.Emails) == 0
	return refusal
}

// A Refusal says that no rule admits a person. Its message may be shown to them: it names no rule's value, so that
// nobody learns who else may come in.
type Refusal struct {
	Kinds []string // the rule kinds that were tried: "github", "email"

	noEmail bool
}

func (r *Refusal) Error() string {
	var means []string
	for _, k := range ruleKinds {
		if slices.Contains(r.Kinds, k.kind) {
			means = append(means, k.means)
		}
	}
	switch {
	case len(means) == 0:
		return "This server does not admit anybody yet."
	case r.noEmail:
		return "This server admits only " + strings.Join(means, " and ") + ", and yours is not among them: " +
			"we were shown no verified e-mail address."
	}
	return "This server admits only " + strings.Join(means, " and ") + ", and yours is not among them."
}

// isLogin accepts letters, digits and hyphens, and the underscore of enterprise-managed users.
func isLogin(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, odd)
}

// isAddress accepts one @ with something on either side and no white space or control character.
func isAddress(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f }
	return local != "" && domain != "" && strings.Count(s, "@") == 1 && !strings.ContainsFunc(s, odd)
}
