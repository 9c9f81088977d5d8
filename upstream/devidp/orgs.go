package devidp

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// An OrgAccess defines which member data an organization at GitHub shows to the app.
type OrgAccess int

// The ways an organization can treat the app.
const (
	OrgOpen       OrgAccess = iota
	OrgRestricted           // an OAuth App is not approved, a GitHub App not installed
	OrgNeedsSSO             // the token has no session with the organization's identity provider
)

// An org has members, each "active" or "pending", and teams of active members. Keys are lower-case.
type org struct {
	members map[string]string
	teams   map[string][]string
	access  OrgAccess
}

// newOrgs returns the only organization that there is: acme, with octocat on its team devs.
func newOrgs() map[string]*org {
	return map[string]*org{"acme": {
		members: map[string]string{"octocat": "active"},
		teams:   map[string][]string{"devs": {"octocat"}},
	}}
}

// SetMember makes a person an "active" or "pending" member of acme; "" ends it, on its team as well.
func (s *Server) SetMember(login, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	acme := s.orgs["acme"]
	if acme.members[login] = state; state == "" {
		delete(acme.members, login)
		acme.teams["devs"] = slices.DeleteFunc(acme.teams["devs"], func(l string) bool { return l == login })
	}
}

// SetOrgAccess changes what acme lets the app see.
func (s *Server) SetOrgAccess(a OrgAccess) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orgs["acme"].access = a
}

// Rename changes what an account is called, which makes its old name free for another one to take. The page where one
// picks a person goes on to show the first name.
func (s *Server) Rename(login, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renamed[login] = to
}

// called returns a user's current login.
func (s *Server) called(p *person) string {
	if login, ok := s.renamed[p.Login]; ok {
		return login
	}
	return p.Login
}

// orgsOf returns the organizations that a person is an active member of.
func (s *Server) orgsOf(p *person) []string {
	names := []string{}
	for _, name := range slices.Sorted(maps.Keys(s.orgs)) {
		if s.orgs[name].members[p.Login] == "active" {
			names = append(names, name)
		}
	}
	return names
}

// getOrgMembership is GET /user/memberships/orgs/{org}.
func (s *Server) getOrgMembership(c apiCall) {
	name := strings.ToLower(c.r.PathValue("org"))
	o := s.visibleOrg(c, name)
	if o == nil {
		return
	}
	s.writeMembership(c, o.members[c.person.Login], map[string]any{"role": "member",
		"organization_url": s.origin + "/api/v3/orgs/" + name, "organization": map[string]any{"login": name},
		"user": s.userJSON(c.person)})
}

// getTeamMembership is GET /orgs/{org}/teams/{team}/memberships/{login}.
func (s *Server) getTeamMembership(c apiCall) {
	o := s.visibleOrg(c, strings.ToLower(c.r.PathValue("org")))
	if o == nil {
		return
	}
	state := ""
	onTeam := slices.Contains(o.teams[c.r.PathValue("team")], c.person.Login)
	if onTeam && strings.EqualFold(c.r.PathValue("login"), s.called(c.person)) {
		state = o.members[c.person.Login]
	}
	s.writeMembership(c, state, map[string]any{"role": "member"})
}

func (s *Server) writeMembership(c apiCall, state string, answer map[string]any) {
	if state == "" {
		writeProblem(c.w, http.StatusNotFound, "Not Found")
		return
	}
	answer["state"], answer["url"] = state, s.origin+c.r.URL.Path
	writeJSON(c.w, http.StatusOK, answer)
}

// visibleOrg returns the organization. If the caller may not know of their membership it answers, and returns nil.
// GitHub lets an app that a member uses know why; to everybody else it says that there is nothing.
func (s *Server) visibleOrg(c apiCall, name string) *org {
	c.w.Header().Set("X-Accepted-OAuth-Scopes", "admin:org, read:org, repo, user, write:org")
	o := s.orgs[name]
	switch {
	case s.kind == GitHubApp && (o == nil || o.access == OrgRestricted):
		writeProblem(c.w, http.StatusForbidden, "Resource not accessible by integration")
	case !s.covers(c.scopes, "read:org"):
		writeProblem(c.w, http.StatusForbidden, "You need at least read:org scope or user scope to list your organizations.")
	case o == nil || o.members[c.person.Login] == "":
		writeProblem(c.w, http.StatusNotFound, "Not Found")
	case o.access == OrgRestricted:
		writeProblem(c.w, http.StatusForbidden, "Although you appear to have the correct authorization credentials, the `"+
			name+"` organization has enabled OAuth App access restrictions, meaning that data access to third-parties is "+
			"limited.")
	case o.access == OrgNeedsSSO:
		c.w.Header().Set("X-GitHub-SSO", "required; url="+s.origin+"/orgs/"+name+"/sso?authorization_request=fake")
		writeProblem(c.w, http.StatusForbidden, "Resource protected by organization SAML enforcement. You must grant your "+
			"OAuth token access to this organization.")
	default:
		return o
	}
	return nil
}
