package devidp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

// api sends a request to the API and reads the JSON answer into v.
func (w *world) api(method, address, token, body string, v any) *http.Response {
	w.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(b, v); err != nil {
			w.Fatalf("%s %s: %v", method, address, err)
		}
	}
	return res
}

func TestRepositories(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name   string
		scopes []string
		want   []string
	}{
		{"public ones", nil, []string{"hello-world", "spoon-knife", "octo-notes"}},
		{"public_repo shows no private one", []string{"public_repo"}, []string{"hello-world", "spoon-knife", "octo-notes"}},
		{"repo shows all", []string{"repo"}, []string{"hello-world", "spoon-knife", "octo-notes", "reef-plans", "garden"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := w.signIn("octocat", tt.scopes...)
			var got []string
			next := w.provider.APIURL + "/user/repos?per_page=2"
			for next != "" {
				var page []struct{ Name string }
				res := w.api("GET", next, token.Access, "", &page)
				for _, r := range page {
					got = append(got, r.Name)
				}
				next = ""
				link := regexp.MustCompile(`<([^>]*)>; rel="next"`).FindStringSubmatch(res.Header.Get("Link"))
				if link != nil {
					next = link[1]
				}
				if len(page) > 2 {
					t.Errorf("a page of %d", len(page))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPIStatuses(t *testing.T) {
	w := newWorld(t)
	plain, public := w.signIn("octocat"), w.signIn("octocat", "public_repo")
	private := w.signIn("octocat", "repo")
	member := w.signIn("octocat", "read:org")
	w.browser = newBrowser(t)
	mallory := w.signIn("mallory", "repo", "read:org")
	nobody := &upstream.Token{}
	const title = `{"title":"It does not work"}`
	tests := []struct {
		name         string
		method, path string
		body         string
		token        *upstream.Token
		want         int
	}{
		{"no token", "GET", "/user", "", nobody, 401},
		{"unknown token", "GET", "/user", "", &upstream.Token{Access: "gho_fakex"}, 401},
		{"public repository", "GET", "/repos/octocat/hello-world", "", plain, 200},
		{"somebody else's public repository", "GET", "/repos/Octocat/Hello-World", "", mallory, 200},
		{"private repository without the scope", "GET", "/repos/octocat/garden", "", public, 404},
		{"private repository", "GET", "/repos/octocat/garden", "", private, 200},
		{"somebody else's private repository", "GET", "/repos/octocat/garden", "", mallory, 404},
		{"no such owner", "GET", "/repos/nobody/garden", "", private, 404},
		{"no such path", "GET", "/gists", "", plain, 404},
		{"membership without the scope", "GET", "/user/memberships/orgs/acme", "", plain, 403},
		{"membership", "GET", "/user/memberships/orgs/Acme", "", member, 200},
		{"membership of another", "GET", "/user/memberships/orgs/acme", "", mallory, 404},
		{"no such organization", "GET", "/user/memberships/orgs/nothing", "", member, 404},
		{"team", "GET", "/orgs/acme/teams/devs/memberships/octocat", "", member, 200},
		{"team without the scope", "GET", "/orgs/acme/teams/devs/memberships/octocat", "", plain, 403},
		{"no such team", "GET", "/orgs/acme/teams/ops/memberships/octocat", "", member, 404},
		{"issue without the scope", "POST", "/repos/octocat/hello-world/issues", title, plain, 404},
		{"issue", "POST", "/repos/octocat/hello-world/issues", title, public, 201},
		{"issue in somebody else's repository", "POST", "/repos/octocat/hello-world/issues", title, mallory, 201},
		{"issue in somebody else's private repository", "POST", "/repos/octocat/garden/issues", title, mallory, 404},
		{"issue without a title", "POST", "/repos/octocat/hello-world/issues", "{}", public, 422},
		{"issue that is no JSON", "POST", "/repos/octocat/hello-world/issues", "title", public, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var answer struct{ Message string }
			res := w.api(tt.method, w.provider.APIURL+tt.path, tt.token.Access, tt.body, &answer)
			if res.StatusCode != tt.want {
				t.Errorf("got %d, want %d", res.StatusCode, tt.want)
			}
			if tt.want >= 400 && answer.Message == "" {
				t.Error("the error has no message")
			}
		})
	}

	var issues []struct {
		Number int
		User   struct{ Login string }
	}
	w.api("GET", w.provider.APIURL+"/repos/octocat/hello-world/issues", plain.Access, "", &issues)
	if len(issues) != 2 || issues[0].Number != 2 || issues[0].User.Login != "mallory" {
		t.Errorf("got %+v, want mallory's issue 2 and then octocat's", issues)
	}
}

func TestHeadersOfTheAPI(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("octocat", "public_repo")
	res := w.api("GET", w.provider.APIURL+"/user", token.Access, "", nil)
	if got := res.Header.Get("X-OAuth-Scopes"); got != "public_repo, read:user, user:email" {
		t.Errorf("X-OAuth-Scopes: got %q", got)
	}
}

func TestAppEndpoints(t *testing.T) {
	w := newWorld(t)
	first, second := w.signIn("octocat"), w.signIn("octocat", "public_repo")
	app := w.idp.GitHub()
	call := func(method, path, secret, token string) int {
		body := strings.NewReader(`{"access_token":"` + token + `"}`)
		req, err := http.NewRequest(method, w.provider.APIURL+"/applications/"+app.ClientID+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(app.ClientID, secret)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, tt := range []struct {
		name, method, path, secret, token string
		want                              int
	}{
		{"delete an unknown token", "DELETE", "/token", app.ClientSecret, "gho_fakex", 404},
		{"delete nothing", "DELETE", "/token", app.ClientSecret, "", 422},
		{"wrong secret", "DELETE", "/grant", "wrong", first.Access, 401},
		{"delete the authorization", "DELETE", "/grant", app.ClientSecret, first.Access, 204},
		{"delete it again", "DELETE", "/grant", app.ClientSecret, second.Access, 404},
	} {
		if got := call(tt.method, tt.path, tt.secret, tt.token); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	if w.works(second) {
		t.Error("a token outlives its authorization")
	}
	if _, _, back := w.get(w.authURL()); back != nil {
		t.Error("the authorization is still there")
	}
}
