package upstream

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	maxName      = 255 // characters of a login or name, bytes of a group
	maxAddress   = 254 // bytes: RFC 5321 section 4.5.3.1.3, without the brackets
	maxAddresses = 100
	maxGroups    = 1000
)

// vet returns what may be kept of an identity that a provider described. What is only shown is cleaned. What rules
// compare is kept as it came, or not at all: cleaned, it could match what it is not.
func (p *Provider) vet(id Identity) (Identity, error) {
	refuse := func(reason string) (Identity, error) {
		return Identity{}, &Error{Provider: p.ID, Op: "reading who signed in", Reason: reason, kind: ErrUnusable}
	}
	lose := func(format string, args ...any) { id.Lost = append(id.Lost, fmt.Sprintf(format, args...)) }
	switch {
	case id.Subject == "":
		return refuse("the account has no id")
	// "It MUST NOT exceed 255 ASCII characters in length" (OpenID Connect Core 1.0 section 2).
	case !isPlain(id.Subject):
		return refuse("the account's id is not text of at most 255 ASCII characters")
	case p.ID == githubID && !isClean(id.Login, maxName):
		return refuse("the login has characters that no login at GitHub has")
	}
	id.Login = cmp.Or(CleanText(id.Login, maxName), id.Subject)
	id.Name = CleanText(id.Name, maxName)

	had := len(id.Emails)
	id.Emails = slices.DeleteFunc(id.Emails, func(a string) bool { return !isClean(a, maxAddress) || !isAddress(a) })
	if n := had - len(id.Emails); n > 0 {
		lose("e-mail addresses that are malformed: %d", n)
	}
	if n := len(id.Emails) - maxAddresses; n > 0 {
		lose("e-mail addresses beyond the first %d: %d", maxAddresses, n)
		id.Emails = id.Emails[:maxAddresses]
	}

	// A rule of DENY may name any group. So too many are as good as a list that we were not told.
	if n := len(id.Groups); n > maxGroups {
		lose("all groups, because there are more than %d: %d", maxGroups, n)
		id.Groups = nil
	}
	had = len(id.Groups)
	id.Groups = slices.DeleteFunc(id.Groups, func(g string) bool { return g == "" || !isClean(g, maxName) })
	if n := had - len(id.Groups); n > 0 {
		lose("groups with invisible characters, or longer than %d bytes: %d", maxName, n)
	}

	if !isClean(id.HostedDomain, maxName) {
		lose("the hosted domain, which is malformed")
		id.HostedDomain = ""
	}
	return id, nil
}

// isPlain reports whether s is made of 1 to 255 printable ASCII characters.
func isPlain(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
