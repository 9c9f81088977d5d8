package mcpserver

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"example.com/mcp-federated-login/oauth"
)

type noInput struct{}

type person struct {
	Provider string   `json:"provider" jsonschema:"how the person signed in, such as github"`
	Subject  string   `json:"subject" jsonschema:"the provider's permanent id of the person"`
	Login    string   `json:"login" jsonschema:"the name the person has there at present"`
	Name     string   `json:"name,omitempty" jsonschema:"the person's full name, if they gave one"`
	Emails   []string `json:"emails,omitempty" jsonschema:"verified e-mail addresses, the primary one first"`
	Client   string   `json:"client" jsonschema:"what the MCP client calls itself"`
	Scopes   []string `json:"scopes" jsonschema:"what the person allowed the client"`
}

func whoami(_ context.Context, c *oauth.Caller, _ noInput) (person, error) {
	id := c.Identity()
	return person{id.Provider, id.Subject, id.Login, id.Name, id.Emails, c.ClientName(), c.Scopes()}, nil
}

type listRepositoriesInput struct {
	Page int `json:"page,omitempty" jsonschema:"which page of 30 to return, from 1"`
}

type repositories struct {
	Repositories []repository `json:"repositories"`
	NextPage     int          `json:"next_page,omitempty" jsonschema:"ask for this page to see more; absent on the last"`
}

type repository struct {
	FullName    string `json:"full_name" jsonschema:"owner/name"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url"`
	Private     bool   `json:"private"`
	UpdatedAt   string `json:"updated_at" jsonschema:"RFC 3339"`
}

func listRepositories(ctx context.Context, c *oauth.Caller, in listRepositoriesInput) (repositories, error) {
	const perPage = 30
	page := max(1, in.Page)
	// The token may allow more than the user was told: a GitHub App's token works wherever the app is installed.
	query := url.Values{"visibility": {"public"}, "sort": {"updated"}, "per_page": {strconv.Itoa(perPage)},
		"page": {strconv.Itoa(page)}}
	var found []struct {
		FullName    string `json:"full_name"`
		Description string `json:"description"`
		URL         string `json:"html_url"`
		Private     bool   `json:"private"`
		UpdatedAt   string `json:"updated_at"`
	}
	if err := get(ctx, c, "/user/repos?"+query.Encode(), &found); err != nil {
		return repositories{}, err
	}
	out := repositories{Repositories: []repository{}}
	for _, r := range found {
		out.Repositories = append(out.Repositories, repository(r))
	}
	if len(found) == perPage {
		out.NextPage = page + 1
	}
	return out, nil
}

type createIssueInput struct {
	Repository string `json:"repository" jsonschema:"owner/name"`
	Title      string `json:"title"`
	Body       string `json:"body,omitempty" jsonschema:"in Markdown"`
}

type issue struct {
	Number int    `json:"number"`
	URL    string `json:"url"`
}

// fullName matches a repository's owner/name. Other characters in a path could reach another part of the API.
var fullName = regexp.MustCompile(`^[A-Za-z0-9_-]+/[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

func createIssue(ctx context.Context, c *oauth.Caller, in createIssueInput) (issue, error) {
	if !fullName.MatchString(in.Repository) {
		return issue{}, errors.New("the repository must be owner/name, such as octocat/hello-world")
	}
	var created struct {
		Number int    `json:"number"`
		URL    string `json:"html_url"`
	}
	err := post(ctx, c, "/repos/"+in.Repository+"/issues", map[string]string{"title": in.Title, "body": in.Body}, &created)
	return issue(created), err
}

type listCalendarEventsInput struct {
	From      string `json:"from,omitempty" jsonschema:"when to begin, in RFC 3339; by default now"`
	PageToken string `json:"page_token,omitempty" jsonschema:"the next_page_token of an earlier answer"`
}

type calendar struct {
	Events        []event `json:"events" jsonschema:"in the order of their beginnings"`
	NextPageToken string  `json:"next_page_token,omitempty" jsonschema:"ask with this to see more; absent on the last"`
}

type event struct {
	Summary  string `json:"summary"`
	Start    string `json:"start" jsonschema:"RFC 3339, or just the date of an event that takes all day"`
	End      string `json:"end" jsonschema:"as start"`
	Location string `json:"location,omitempty"`
	URL      string `json:"url"`
}

func listCalendarEvents(ctx context.Context, c *oauth.Caller, in listCalendarEventsInput) (calendar, error) {
	from := cmp.Or(in.From, time.Now().UTC().Format(time.RFC3339))
	if _, err := time.Parse(time.RFC3339, from); err != nil {
		return calendar{}, errors.New("from must be a time such as 2026-06-01T09:00:00Z")
	}
	query := url.Values{"singleEvents": {"true"}, "orderBy": {"startTime"}, "maxResults": {"50"}, "timeMin": {from}}
	if in.PageToken != "" {
		query.Set("pageToken", in.PageToken)
	}
	type moment struct {
		DateTime string `json:"dateTime"`
		Date     string `json:"date"` // set for all-day events
	}
	var found struct {
		Items []struct {
			Summary  string `json:"summary"`
			Start    moment `json:"start"`
			End      moment `json:"end"`
			Location string `json:"location"`
			URL      string `json:"htmlLink"`
		} `json:"items"`
		NextPageToken string `json:"nextPageToken"`
	}
	if err := get(ctx, c, "/calendar/v3/calendars/primary/events?"+query.Encode(), &found); err != nil {
		return calendar{}, err
	}
	out := calendar{Events: []event{}, NextPageToken: found.NextPageToken}
	for _, e := range found.Items {
		out.Events = append(out.Events, event{e.Summary, cmp.Or(e.Start.DateTime, e.Start.Date),
			cmp.Or(e.End.DateTime, e.End.Date), e.Location, e.URL})
	}
	return out, nil
}
