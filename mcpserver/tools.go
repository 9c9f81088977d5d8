package mcpserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

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
	query := url.Values{"sort": {"updated"}, "per_page": {strconv.Itoa(perPage)}, "page": {strconv.Itoa(page)}}
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

// maxAnswer is the largest answer of the provider's API that a tool reads, in bytes.
const maxAnswer = 8 << 20

// get reads from the API of the caller's provider, as the caller.
func get(ctx context.Context, c *oauth.Caller, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.APIURL()+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s no longer accepts this sign-in: disconnect this server in the client and connect again",
			c.Identity().Provider)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %s", c.Identity().Provider, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.Identity().Provider, err)
	}
	return nil
}
