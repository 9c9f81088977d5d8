package upstream_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

// TestWhyGitHubDoesNotTell checks that a user whose membership cannot be seen is not called "not a member".
func TestWhyGitHubDoesNotTell(t *testing.T) {
	const org, team = "github-org:acme", "github-team:acme/devs"
	const orgPath, teamPath = "/api/v3/user/memberships/orgs/acme", "/api/v3/orgs/acme/teams/devs/memberships/octo%2Fcat"
	withOrg := []string{"read:org", "user:email"}
	for _, tt := range []struct {
		name, rule, path string
		scopes           []string
		header           http.Header
		status           int
		body             string
		want             upstream.Standing // empty if unknown
		remedies         []string
	}{
		{"active", org, orgPath, withOrg, nil, 200, `{"state":"active"}`, "member", nil},
		{"by a broader scope", org, orgPath, []string{"admin:org"}, nil, 200, `{"state":"active"}`, "member", nil},
		{"on the team", team, teamPath, withOrg, nil, 200, `{"state":"active"}`, "member", nil},
		{"pending", org, orgPath, withOrg, nil, 200, `{"state":"pending"}`, "pending", []string{"/orgs/acme/invitation"}},
		{"a state that nobody knows", org, orgPath, withOrg, nil, 200, `{}`, "stranger", nil},
		{"not found", org, orgPath, withOrg, nil, 404, `{"message":"Not Found"}`, "stranger", nil},
		{"scope never granted, so there is no question", org, "", []string{"repo"}, nil, 200, "", "no scope", []string{""}},
		{"scope taken away since", org, orgPath, withOrg, http.Header{"X-Oauth-Scopes": {"user:email"}}, 404, "", "no scope",
			[]string{""}},
		{"all scopes taken away since", org, orgPath, withOrg, http.Header{"X-Oauth-Scopes": {""}}, 403, "", "no scope",
			[]string{""}},
		{"scope still there", org, orgPath, withOrg, http.Header{"X-Oauth-Scopes": {"write:org, repo"}}, 404, "", "stranger",
			nil},
		{"SSO", org, orgPath, withOrg, http.Header{"X-Github-Sso": {"required; url=https://evil.example/"}}, 403,
			`{"message":"Resource protected by organization SAML enforcement."}`, "needs SSO",
			[]string{"/orgs/acme/sso", "/settings/connections/applications/id"}},
		{"app not approved", org, orgPath, withOrg, nil, 403,
			`{"message":"the acme organization has enabled OAuth App access restrictions"}`, "forbidden",
			[]string{"/settings/connections/applications/id"}},
		{"app not installed", team, teamPath, withOrg, nil, 403, `{"message":"Resource not accessible by integration"}`,
			"no install", []string{""}},
		{"forbidden without a reason", org, orgPath, withOrg, nil, 403, "", "hidden",
			[]string{"/settings/connections/applications/id"}},
		{"rate limit", org, orgPath, withOrg, http.Header{"X-Ratelimit-Remaining": {"0"}}, 403, "", "", nil},
		{"secondary rate limit", org, orgPath, withOrg, nil, 403, `{"message":"You have exceeded a secondary rate limit"}`,
			"", nil},
		{"bad gateway", org, orgPath, withOrg, nil, 502, "", "", nil},
		{"web page", org, orgPath, withOrg, nil, 200, "<html>", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newGitHub(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.EscapedPath() != tt.path {
					t.Errorf("asked for %s", r.URL.EscapedPath())
				}
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			id := upstream.Identity{Provider: "github", Login: "octo/cat"}
			err := p.Admit(t.Context(), &upstream.Token{Access: "gho_T0ken", Scopes: tt.scopes}, &id, parseRules(t, tt.rule, ""))
			var refusal *upstream.Refusal
			switch {
			case tt.want == "" && !errors.Is(err, upstream.ErrUnavailable):
				t.Errorf("got %v, want ErrUnavailable", err)
			case tt.want == "member" && err != nil, tt.want != "member" && tt.want != "" && !errors.As(err, &refusal):
				t.Errorf("got %v", err)
			}
			if got := id.Memberships[tt.rule]; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			var links []string
			if refusal != nil {
				for _, r := range refusal.Remedies {
					links = append(links, strings.TrimPrefix(r.URL, p.IdentityIssuer))
				}
			}
			if diff := cmp.Diff(tt.remedies, links); diff != "" {
				t.Errorf("remedies (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOneAnswerIsEnough checks that no request is made after the decision, and that a failed request matters only if
// nothing else decides.
func TestOneAnswerIsEnough(t *testing.T) {
	for _, tt := range []struct {
		allow, deny string
		asked       []string
		unknown     bool
	}{
		{"github:octocat,github-org:yes", "", nil, false},
		{"github-org:yes,github-org:no", "", []string{"yes"}, false},
		{"github-org:no,github-org:yes,github-org:down", "", []string{"no", "yes"}, false},
		{"github-org:down,github-org:yes", "", []string{"down", "yes"}, false},
		{"github-org:down,github-org:no", "", []string{"down", "no"}, true},
		{"github-org:yes", "github-org:down", []string{"yes", "down"}, true},
		{"github:octocat", "github-org:no", []string{"no"}, false},
	} {
		var asked []string
		p := newGitHub(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
			asked = append(asked, name)
			switch name {
			case "yes":
				w.Write([]byte(`{"state":"active"}`))
			case "no":
				w.WriteHeader(http.StatusNotFound)
			default:
				w.WriteHeader(http.StatusBadGateway)
			}
		}))
		id := upstream.Identity{Provider: "github", Login: "octocat", Pinned: "octocat"}
		err := p.Admit(t.Context(), &upstream.Token{Scopes: []string{"read:org"}}, &id, parseRules(t, tt.allow, tt.deny))
		if tt.unknown != errors.Is(err, upstream.ErrUnavailable) || !tt.unknown && err != nil {
			t.Errorf("ALLOW=%s DENY=%s: got %v", tt.allow, tt.deny, err)
		}
		if diff := cmp.Diff(tt.asked, asked); diff != "" {
			t.Errorf("ALLOW=%s DENY=%s (-want +got):\n%s", tt.allow, tt.deny, diff)
		}
	}
}
