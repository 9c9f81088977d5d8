package e2e

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream/devidp"
)

const orgPath = "/api/v3/user/memberships/orgs/acme"

// arrive signs a user in with a new client as far as possible: to the client's redirect URI, or to a page. Scopes that
// the user withholds are left unticked.
func (w *world) arrive(clientID, provider, login string, withhold ...string) *page {
	w.t.Helper()
	p := w.browser().open(w.authorizeURL(clientID, nil)).press("Continue with "+provider, nil)
	set := url.Values{"login": {login}}
	if withhold != nil {
		set["scope"] = slices.DeleteFunc(slices.Clone(p.forms[0].fields["scope"]), func(scope string) bool {
			return slices.Contains(withhold, scope)
		})
	}
	return p.press("Authorize", set)
}

// TestWhoMayComeIn checks the decision at sign-in for every kind of rule, over HTTP all the way.
func TestWhoMayComeIn(t *testing.T) {
	const (
		notYou  = "This account does not have access"
		orgOnly = "Only members of certain GitHub organizations have access, and your account does not qualify."
		unseen  = "Only members of certain GitHub organizations have access, and this server cannot see that you are a member."
		access  = "/settings/connections/applications/"
		acme    = "ALLOW=github-org:acme"
	)
	orgAccess := func(a devidp.OrgAccess) func(*devidp.Server) {
		return func(idp *devidp.Server) { idp.SetOrgAccess(a) }
	}
	gitHubApp := func(idp *devidp.Server) { idp.SetAppKind(devidp.GitHubApp) }
	for _, tt := range []struct {
		name, rules     string
		provider, login string
		change          func(*devidp.Server)
		withhold        string
		status          int // 0 if the user is let in
		want            []string
		link            string
	}{
		{"login", "ALLOW=github:octocat", "GitHub", "octocat", nil, "", 0, nil, ""},
		{"another login", "ALLOW=github:octocat", "GitHub", "mallory", nil, "", 403,
			[]string{notYou, "certain GitHub accounts"}, ""},
		{"a login at another provider", "ALLOW=github:octocat", "Example ID", "octocat", nil, "", 403, []string{notYou}, ""},
		{"verified e-mail", "ALLOW=email:octocat@example.com", "GitHub", "octocat", nil, "", 0, nil, ""},
		{"unverified e-mail", "ALLOW=email:mallory@example.com", "GitHub", "mallory", nil, "", 403,
			[]string{"no verified e-mail address"}, ""},
		{"unverified e-mail at Google", "ALLOW=email:mallory@example.com", "Google", "mallory", nil, "", 403,
			[]string{"no verified e-mail address"}, ""},
		{"e-mail domain", "ALLOW=email-domain:example.com", "Example ID", "octocat", nil, "", 0, nil, ""},
		{"another e-mail domain", "ALLOW=email-domain:ample.com", "Example ID", "octocat", nil, "", 403,
			[]string{notYou}, ""},
		{"hd", "ALLOW=google-domain:acme.example", "Google", "octocat", nil, "", 0, nil, ""},
		{"hd suffix trick", "ALLOW=google-domain:example.com", "Google", "octocat", nil, "", 403,
			[]string{"accounts of certain Google Workspace organizations"}, ""},
		{"no hd", "ALLOW=google-domain:acme.example", "Google", "mallory", nil, "", 403, []string{notYou}, ""},
		{"group", "ALLOW=oidc-group:acme", "Example ID", "octocat", nil, "", 0, nil, ""},
		{"not in the group", "ALLOW=oidc-group:acme", "Example ID", "mallory", nil, "", 403,
			[]string{"members of certain groups"}, ""},

		{"organization", acme, "GitHub", "octocat", nil, "", 0, nil, ""},
		{"organization, GitHub App", acme, "GitHub", "octocat", gitHubApp, "", 0, nil, ""},
		{"no member", acme, "GitHub", "mallory", nil, "", 403, []string{orgOnly}, ""},
		{"left", acme, "GitHub", "octocat", func(idp *devidp.Server) { idp.SetMember("octocat", "") }, "", 403,
			[]string{orgOnly}, ""},
		{"invited", acme, "GitHub", "mallory", func(idp *devidp.Server) { idp.SetMember("mallory", "pending") }, "", 403,
			[]string{orgOnly, "You are invited to acme"}, "/orgs/acme/invitation"},
		{"scope withheld", acme, "GitHub", "octocat", nil, "read:org", 403, []string{unseen, "allow read:org"}, ""},
		{"OAuth App not approved", acme, "GitHub", "octocat", orgAccess(devidp.OrgRestricted), "", 403,
			[]string{unseen, "has not approved this application"}, access},
		{"GitHub App not installed", acme, "GitHub", "octocat", func(idp *devidp.Server) {
			gitHubApp(idp)
			idp.SetOrgAccess(devidp.OrgRestricted)
		}, "", 403, []string{unseen, "Ask an owner to install it", "Members: read"}, ""},
		{"no session with the organization's SSO", acme, "GitHub", "octocat", orgAccess(devidp.OrgNeedsSSO), "", 403,
			[]string{unseen, "acme has a single sign-on"}, "/orgs/acme/sso"},
		{"a stranger learns nothing of the organization's rules", acme, "GitHub", "mallory", orgAccess(devidp.OrgNeedsSSO),
			"", 403, []string{orgOnly}, ""},
		{"team", "ALLOW=github-team:Acme/devs", "GitHub", "octocat", nil, "", 0, nil, ""},
		{"team, GitHub App", "ALLOW=github-team:acme/devs", "GitHub", "octocat", gitHubApp, "", 0, nil, ""},
		{"another team", "ALLOW=github-team:acme/ops", "GitHub", "octocat", nil, "", 403,
			[]string{"members of certain GitHub teams"}, ""},
		{"in the organization, not on the team", "ALLOW=github-team:acme/devs", "GitHub", "mallory",
			func(idp *devidp.Server) { idp.SetMember("mallory", "active") }, "", 403, []string{notYou}, ""},

		{"DENY another", "DENY=github:mallory", "GitHub", "octocat", nil, "", 0, nil, ""},
		{"DENY", "DENY=github:mallory", "GitHub", "mallory", nil, "", 403, []string{"excluded this account"}, ""},
		{"DENY members", "DENY=github-org:acme", "GitHub", "octocat", nil, "", 403, []string{"excluded this account"}, ""},
		{"DENY members, and no member", "DENY=github-org:acme", "GitHub", "mallory", nil, "", 0, nil, ""},
		{"DENY members, and hiding it", "DENY=github-org:acme", "GitHub", "octocat", nil, "read:org", 403,
			[]string{"cannot see whether you are a member", "allow read:org"}, ""},
		{"GitHub does not say", acme, "GitHub", "octocat", func(idp *devidp.Server) {
			idp.FailNext(orgPath, 1, devidp.Fault{Status: 502})
		}, "", 503, []string{"GitHub does not answer"}, ""},
		{"GitHub's rate limit", acme, "GitHub", "octocat", func(idp *devidp.Server) {
			idp.FailNext(orgPath, 1, devidp.Fault{Status: 403, Header: http.Header{"X-Ratelimit-Remaining": {"0"}}})
		}, "", 503, []string{"GitHub is receiving too many requests"}, ""},
		{"GitHub does not say, but another rule admits", "ALLOW=github-org:acme,email:octocat@example.com", "GitHub",
			"octocat", func(idp *devidp.Server) { idp.FailNext(orgPath, 1, devidp.Fault{Status: 502}) }, "", 0, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			if tt.provider == "Example ID" {
				idp := w.standIn()
				w.useGitHub(idp.GitHub())
				w.useOIDC(idp.OIDC())
			}
			name, value, _ := strings.Cut(tt.rules, "=")
			w.env[name] = value
			w.restart()
			gitHub := "no address"
			if tt.provider != "Example ID" {
				gitHub = w.app.DevIDP.URL()
			}
			if tt.change != nil {
				tt.change(w.app.DevIDP)
			}
			var withhold []string
			if tt.withhold != "" {
				withhold = []string{tt.withhold}
			}
			id := w.register(callbackURI)
			p := w.arrive(id, tt.provider, tt.login, withhold...)
			if p.status != tt.status {
				t.Fatalf("got status %d, want %d:\n%s", p.status, tt.status, p.text)
			}
			if tt.status == 0 {
				session := w.redeem(id, p.url.Query().Get("code"))
				if got := w.tool(session.access, "whoami").status; got != http.StatusOK {
					t.Errorf("whoami: got status %d", got)
				}
				return
			}
			for _, want := range tt.want {
				if !strings.Contains(p.text, want) {
					t.Errorf("the page lacks %q:\n%s", want, p.text)
				}
			}
			var link string // the first link to GitHub
			for _, l := range slices.Backward(p.links) {
				if path, ok := strings.CutPrefix(l, gitHub); ok {
					link = path
				}
			}
			if (link == "") != (tt.link == "") || !strings.HasPrefix(link, tt.link) {
				t.Errorf("link to GitHub: got %q, want %q", link, tt.link)
			}
			if tt.status == http.StatusForbidden {
				if rows := w.stored().rows; rows["users"] != 0 || rows["grants"] != 0 {
					t.Errorf("something was written: %v", rows)
				}
			}
		})
	}
}

// TestRulesAtConnections checks that /connections is only for allowed users, and that it looks up memberships too.
func TestRulesAtConnections(t *testing.T) {
	w := newWorld(t, map[string]string{"ALLOW": "github-org:acme"})
	w.browser().visit("GitHub", "octocat")
	p := w.browser().open(w.base+"/connections").press("Continue with GitHub", nil)
	if p = p.press("Authorize", url.Values{"login": {"mallory"}}); p.status != http.StatusForbidden {
		t.Errorf("a stranger: got status %d, want 403:\n%s", p.status, p.text)
	}
}
