package upstream

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Standing is GitHub's information on a user's membership in an organization or team.
type Standing string

const (
	member    Standing = "member"
	pending   Standing = "pending" // invited
	stranger  Standing = "stranger"
	noScope   Standing = "no scope"   // all from here on: GitHub does not tell us
	needsSSO  Standing = "needs SSO"  // the token has no session with the organization's identity provider
	forbidden Standing = "forbidden"  // the organization has not approved the OAuth App
	noInstall Standing = "no install" // the GitHub App is not installed there, or may not read members
	hidden    Standing = "hidden"     // for a reason that we do not know
)

// isHidden reports whether GitHub hides the membership.
func (s Standing) isHidden() bool { return s != "" && s != member && s != pending && s != stranger }

// readOrg is the scope that an OAuth App needs to see private memberships. To a GitHub App it means nothing.
const readOrg = "read:org"

// Admit decides like [Rules.Admit], but first requests the memberships that the decision depends on and id.Memberships
// lacks. It adds the responses to id.Memberships. A refusal includes its remedies.
//
// Errors are a [*Refusal], or of type [*Error] if the request to the provider failed.
func (p *Provider) Admit(ctx context.Context, t *Token, id *Identity, rules Rules) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	id.Memberships = maps.Clone(id.Memberships)
	var failed error
	verdict := rules.Admit(*id)
	for _, rule := range rules {
		if !errors.Is(verdict, ErrUndecided) {
			break
		}
		if _, known := rule.matches(*id); known {
			continue
		}
		standing, err := p.membership(ctx, t, *id, rule)
		if err != nil {
			failed = err // another rule may decide without this one
			continue
		}
		if id.Memberships == nil {
			id.Memberships = map[string]Standing{}
		}
		id.Memberships[rule.name()] = standing
		verdict = rules.Admit(*id)
	}
	var refusal *Refusal
	switch {
	case errors.Is(verdict, ErrUndecided):
		return failed
	case errors.As(verdict, &refusal):
		refusal.Remedies = p.remedies(*id)
	}
	return verdict
}

// membership asks GitHub about one organization or team, with the person's own token: the endpoints work for OAuth Apps
// and GitHub Apps alike, and for memberships that are private.
func (p *Provider) membership(ctx context.Context, t *Token, id Identity, r rule) (Standing, error) {
	if !p.Covers(t, readOrg) {
		return noScope, nil
	}
	org, team, isTeam := strings.Cut(r.value, "/")
	address := p.APIURL + "/user/memberships/orgs/" + org
	if isTeam {
		address = p.APIURL + "/orgs/" + org + "/teams/" + team + "/memberships/" + url.PathEscape(id.Login)
	}
	var answer struct{ State string }
	_, err := p.get(ctx, t, "asking for a membership", address, &answer)
	var e *Error
	switch {
	case err == nil && answer.State == "active":
		return member, nil
	case err == nil && answer.State == "pending":
		return pending, nil
	case err == nil:
		return stranger, nil
	case errors.As(err, &e) && e.standing != "" && !errors.Is(err, ErrUnavailable):
		return e.standing, nil
	}
	return "", err
}

// standingOf reads from a 403 or 404 of GitHub's API why we are told nothing of a membership. GitHub also says 404 of
// what it does not want to show; so whoever is a stranger by it may be a member of a secret team.
func (p *Provider) standingOf(status int, h http.Header, body []byte) Standing {
	text := strings.ToLower(string(body))
	scopes := strings.FieldsFunc(h.Get("X-OAuth-Scopes"), func(r rune) bool { return r == ',' || r == ' ' })
	switch {
	case status != http.StatusForbidden && status != http.StatusNotFound:
		return ""
	case strings.HasPrefix(h.Get("X-GitHub-SSO"), "required"):
		return needsSSO
	case len(h.Values("X-OAuth-Scopes")) > 0 && !p.Covers(&Token{Scopes: scopes}, readOrg): // edited since the sign-in
		return noScope
	case strings.Contains(text, "not accessible by integration"):
		return noInstall
	case strings.Contains(text, "access restrictions"):
		return forbidden
	case status == http.StatusForbidden:
		return hidden
	}
	return stranger
}

// remedies says what the person can do so that GitHub counts them in, or tells us that it does. An organization is
// named only to those whom GitHub told that they belong to it.
func (p *Provider) remedies(id Identity) []Remedy {
	access := p.IdentityIssuer + "/settings/connections/applications/" + url.PathEscape(p.clientID)
	var list []Remedy
	for _, name := range slices.Sorted(maps.Keys(id.Memberships)) {
		_, org, _ := strings.Cut(name, ":")
		org, _, _ = strings.Cut(org, "/")
		var more []Remedy
		switch id.Memberships[name] {
		case pending:
			more = []Remedy{{"You are invited to " + org + " and have not accepted yet. Accept, then connect again:",
				p.IdentityIssuer + "/orgs/" + org + "/invitation"}}
		case noScope:
			more = []Remedy{{"This server may not see your organizations. Connect again, and allow read:org.", ""}}
		case needsSSO:
			more = []Remedy{{org + " has a single sign-on of its own. Sign in there, then connect again:",
				p.IdentityIssuer + "/orgs/" + org + "/sso"},
				{"If that is not enough, revoke this server's access first:", access}}
		case forbidden:
			more = []Remedy{{"Your organization has not approved this application. Request access here, and have an owner " +
				"approve it:", access}}
		case noInstall:
			more = []Remedy{{"This server's GitHub App cannot see the members of your organization. Ask an owner to " +
				"install it there, with the permission Members: read.", ""}}
		case hidden:
			more = []Remedy{{"GitHub does not tell this server whether you are a member. See what it may know here:", access}}
		}
		for _, r := range more {
			if !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	return list
}
