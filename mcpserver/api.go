package mcpserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/upstream"
)

// maxAnswer is how much of a response from the provider's API a tool reads, in bytes.
const maxAnswer = 8 << 20

// maxProblem limits an API error that the model sees, in characters.
const maxProblem = 500

// get sends a GET request to the API of the caller's provider, as the caller, and decodes the JSON response into into.
func get(ctx context.Context, c *oauth.Caller, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.APIURL()+path, nil)
	if err != nil {
		return err
	}
	return do(c, req, into)
}

// post sends JSON to the API of the caller's provider, as the caller, and decodes the JSON response into into.
func post(ctx context.Context, c *oauth.Caller, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.APIURL()+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return do(c, req, into)
}

func do(c *oauth.Caller, req *http.Request, into any) error {
	req.Header.Set("Accept", "application/json")
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return errors.New(upstream.CleanText(err.Error(), maxProblem))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s no longer accepts this sign-in: disconnect this server in the client and connect again",
			c.Identity().Provider)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		// GitHub and Google put the error message in different places.
		var said struct {
			Message string
			Error   struct{ Message string }
		}
		json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&said) // if it is not JSON, said stays empty
		problem := resp.Status
		if message := cmp.Or(said.Message, said.Error.Message); message != "" {
			problem += ": " + message
		}
		return fmt.Errorf("%s answered %s", c.Identity().Provider, upstream.CleanText(problem, maxProblem))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of %s: %s", c.Identity().Provider,
			upstream.CleanText(err.Error(), maxProblem))
	}
	return nil
}
