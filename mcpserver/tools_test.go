package mcpserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/oauthtest"
)

func TestWhoami(t *testing.T) {
	octocat := oauthtest.Caller{Provider: "github", Subject: "583231", Login: "octocat", Name: "The Octocat",
		Emails: []string{"octocat@github.com"}, Client: "Notebook", Scopes: []string{"account:read"}}
	got := call[person](t, octocat, "whoami", noInput{})
	want := person{"github", "583231", "octocat", "The Octocat", []string{"octocat@github.com"}, "Notebook",
		[]string{"account:read"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// githubUser returns a user who allowed the client these scopes.
func githubUser(api http.Handler, scopes ...string) oauthtest.Caller {
	return oauthtest.Caller{Provider: "github", Login: "octocat", Scopes: scopes, API: api}
}

func TestListRepositoriesReturnsOnePage(t *testing.T) {
	api := http.NewServeMux()
	api.HandleFunc("GET /user/repos", func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("visibility") != "public" || q.Get("page") != "1" {
			t.Errorf("got request %s, want the first page of what is public", r.URL)
		}
		fmt.Fprint(w, `[{"full_name": "octocat/hello-world", "description": null, "forks": 3, "private": false,
			"html_url": "https://github.com/octocat/hello-world", "updated_at": "2026-01-02T03:04:05Z"}]`)
	})
	got := call[repositories](t, githubUser(api, "repos:read"), "list_repositories", listRepositoriesInput{})
	want := repositories{Repositories: []repository{{FullName: "octocat/hello-world",
		URL: "https://github.com/octocat/hello-world", UpdatedAt: "2026-01-02T03:04:05Z"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestListRepositoriesNamesTheNextPage(t *testing.T) {
	var pages []string
	api := http.NewServeMux()
	api.HandleFunc("GET /user/repos", func(w http.ResponseWriter, r *http.Request) {
		pages = append(pages, r.URL.Query().Get("page"))
		json.NewEncoder(w).Encode(make([]struct{}, 30))
	})
	in := listRepositoriesInput{Page: 4}
	got := call[repositories](t, githubUser(api, "repos:read"), "list_repositories", in)
	if len(got.Repositories) != 30 || got.NextPage != 5 || !slices.Equal(pages, []string{"4"}) {
		t.Errorf("got %d repositories of pages %q and next page %d, want 30 of page 4 and next page 5",
			len(got.Repositories), pages, got.NextPage)
	}
}

func TestCreateIssueSendsTitleAndBody(t *testing.T) {
	api := http.NewServeMux()
	api.HandleFunc("POST /repos/octocat/hello-world/issues", func(w http.ResponseWriter, r *http.Request) {
		var sent map[string]string
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(map[string]string{"title": "Bug", "body": "It *breaks*"}, sent); diff != "" {
			t.Error(diff)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"number": 7, "html_url": "https://github.com/octocat/hello-world/issues/7"}`)
	})
	in := createIssueInput{Repository: "octocat/hello-world", Title: "Bug", Body: "It *breaks*"}
	got := call[issue](t, githubUser(api, "issues:write"), "create_issue", in)
	if want := (issue{7, "https://github.com/octocat/hello-world/issues/7"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestCreateIssueRefusesOtherPaths checks names that would lead to another part of the API. No request is made.
func TestCreateIssueRefusesOtherPaths(t *testing.T) {
	for _, name := range []string{"hello-world", "octocat/..", "octocat/hello-world/issues/1?", "../user", ""} {
		in := createIssueInput{Repository: name, Title: "Bug"}
		a := callForError(t, githubUser(nil, "issues:write"), "create_issue", in)
		if !strings.Contains(a.String(), "status 200: the repository must be owner/name") {
			t.Errorf("%q: got %s", name, a)
		}
	}
}

// TestCreateIssueShowsGitHubsReason checks that the model can read why GitHub refused.
func TestCreateIssueShowsGitHubsReason(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
		fmt.Fprint(w, `{"message": "Issues are disabled for this repo"}`)
	})
	in := createIssueInput{Repository: "octocat/hello-world", Title: "Bug"}
	a := callForError(t, githubUser(api, "issues:write"), "create_issue", in)
	const want = "create_issue: status 200: github answered 410 Gone: Issues are disabled for this repo"
	if got := a.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestListCalendarEvents(t *testing.T) {
	api := http.NewServeMux()
	api.HandleFunc("GET /calendar/v3/calendars/primary/events", func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("timeMin") != "2026-06-01T09:00:00Z" || q.Get("pageToken") != "p2" {
			t.Errorf("got request %s, want page p2 from 2026-06-01T09:00:00Z", r.URL)
		}
		fmt.Fprint(w, `{"nextPageToken": "p3", "items": [
			{"summary": "Standup", "location": "Room 1", "htmlLink": "https://calendar.google.com/1",
				"start": {"dateTime": "2026-06-01T10:00:00Z"},
				"end": {"dateTime": "2026-06-01T10:15:00Z"}},
			{"summary": "Holiday", "start": {"date": "2026-06-02"}, "end": {"date": "2026-06-03"},
				"htmlLink": "https://calendar.google.com/2"}]}`)
	})
	ann := oauthtest.Caller{Provider: "google", Scopes: []string{"calendar:read"}, API: api}
	in := listCalendarEventsInput{From: "2026-06-01T09:00:00Z", PageToken: "p2"}
	got := call[calendar](t, ann, "list_calendar_events", in)
	want := calendar{NextPageToken: "p3", Events: []event{
		{"Standup", "2026-06-01T10:00:00Z", "2026-06-01T10:15:00Z", "Room 1", "https://calendar.google.com/1"},
		{Summary: "Holiday", Start: "2026-06-02", End: "2026-06-03", URL: "https://calendar.google.com/2"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCallWithoutScopeIsChallenged checks that the client learns which scopes to ask for.
func TestCallWithoutScopeIsChallenged(t *testing.T) {
	in := createIssueInput{Repository: "octocat/hello-world", Title: "Bug"}
	a := callForError(t, githubUser(nil, "account:read", "repos:read"), "create_issue", in)
	const want = `scope="account:read repos:read issues:write", error="insufficient_scope"`
	if a.status != http.StatusForbidden || !strings.Contains(a.challenge, want) {
		t.Errorf("%s: the challenge is %s, want %s", a, a.challenge, want)
	}
	if !strings.Contains(a.String(), "create_issue: status 403: this needs the scope issues:write") {
		t.Errorf("got %s, want the scope named", a)
	}
}

// TestToolOfAnotherProviderIsNotListed checks that a tool whose scope is merely missing is listed.
func TestToolOfAnotherProviderIsNotListed(t *testing.T) {
	ann := oauthtest.Caller{Provider: "google", Login: "ann@example.com", Scopes: []string{"account:read"}}
	for _, tt := range []struct {
		caller oauthtest.Caller
		want   []string
	}{
		{githubUser(nil, "account:read"), []string{"create_issue", "list_repositories", "whoami"}},
		{ann, []string{"list_calendar_events", "whoami"}},
	} {
		a := request(t, tt.caller, "tools/list", "", nil)
		if a.failed() {
			t.Fatal(a)
		}
		var got []string
		for _, tool := range a.Result.Tools {
			got = append(got, tool.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.caller.Provider, diff)
		}
	}
}
