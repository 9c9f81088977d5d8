package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// minClientSecret is the minimum length of a client's secret. Its hash is in the database, where a short secret could
// be guessed.
const minClientSecret = 32 // characters

// clientMetadata describes a client that the operator registers, with the names of RFC 7591 section 2.
type clientMetadata struct {
	ID           string   `json:"client_id"`
	Name         string   `json:"client_name"`
	RedirectURIs []string `json:"redirect_uris"`
	AuthMethod   string   `json:"token_endpoint_auth_method"`
	Secret       string   `json:"client_secret"`
}

var clientMembers = []string{"client_id", "client_name", "redirect_uris", "token_endpoint_auth_method", "client_secret"}

// ParseClients reads the clients that an operator registered: a JSON array of objects with the members client_id,
// client_name, redirect_uris, token_endpoint_auth_method and client_secret (RFC 7591 section 2). The default method is
// client_secret_basic with a secret, else none. A client_id may be the URL of a client ID metadata document, which is
// then not fetched. A redirect URI must be allowed with these private schemes.
//
// The error lists all mistakes, one per line, and contains no secret. Clients returned with an error are only for
// further checks.
func ParseClients(file []byte, redirectSchemes []string) ([]store.Client, error) {
	var entries []json.RawMessage
	if json.Unmarshal(file, &entries) != nil || len(entries) == 0 {
		return nil, errors.New(`CLIENTS must be a file with a JSON array of clients, for example [{"client_id": ` +
			`"my-app", "client_name": "My app", "redirect_uris": ["https://app.example.com/callback"]}]`)
	}
	var clients []store.Client
	var wrong []error
	for i, entry := range entries {
		c, mistakes := parseClient(entry, redirectSchemes)
		name := fmt.Sprintf("client %d", i+1)
		if c.ID != "" {
			name = fmt.Sprintf("client %q", c.ID)
		}
		if slices.ContainsFunc(clients, func(o store.Client) bool { return o.ID == c.ID && c.ID != "" }) {
			mistakes = append(mistakes, `has the client_id of another one, for example "client_id": "my-other-app"`)
		}
		for _, mistake := range mistakes {
			wrong = append(wrong, fmt.Errorf("CLIENTS: %s %s", name, mistake))
		}
		clients = append(clients, c)
	}
	return clients, errors.Join(wrong...)
}

// parseClient reads a client. Its ID is empty if the client_id is invalid.
func parseClient(entry []byte, redirectSchemes []string) (c store.Client, mistakes []string) {
	var m clientMetadata
	var members map[string]any
	if json.Unmarshal(entry, &members) != nil || json.Unmarshal(entry, &m) != nil {
		return c, []string{`must be an object whose members are strings, and redirect_uris an array of strings, for ` +
			`example {"client_id": "my-app", "redirect_uris": ["https://app.example.com/callback"]}`}
	}
	wrong := func(mistake string) { mistakes = append(mistakes, mistake) }
	for _, member := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(clientMembers, member) {
			wrong(fmt.Sprintf("has a member %q, which is none of %s", member, strings.Join(clientMembers, ", ")))
		}
	}

	if m.ID == "" || len(m.ID) > maxClientID || !origin.Printable(m.ID) || strings.HasPrefix(m.ID, clientIDPrefix) {
		wrong(`needs a client_id of at most 1024 visible ASCII characters that does not begin with ` + clientIDPrefix +
			`, for example "client_id": "my-app"`)
	} else {
		c.ID = m.ID
	}
	if c.Name = m.Name; c.Name == "" || c.Name != upstream.CleanText(c.Name, maxClientName) {
		wrong(`needs a client_name of at most 100 characters, for example "client_name": "My app"`)
	}

	if c.RedirectURIs = m.RedirectURIs; len(c.RedirectURIs) == 0 {
		wrong(`needs redirect_uris, for example "redirect_uris": ["https://app.example.com/callback"]`)
	}
	for i, uri := range c.RedirectURIs {
		if _, err := redirectTo(&c, uri, redirectSchemes); errors.Is(err, errRedirectScheme) {
			wrong(fmt.Sprintf("has a private scheme in redirect URI %d that REDIRECT_SCHEMES does not list, for example "+
				"REDIRECT_SCHEMES=cursor,my-app", i+1))
		} else if errors.Is(err, errNotCallback) {
			wrong(fmt.Sprintf("has a redirect URI (number %d) that makes an editor do something else than take an answer; "+
				`for example "vscode://publisher.extension/oauth/callback"`, i+1))
		} else if err != nil {
			wrong(fmt.Sprintf("has a redirect URI (number %d) that may not be used: %v, for example "+
				`"https://app.example.com/callback"`, i+1, errRedirectURI))
		}
	}

	c.AuthMethod = m.AuthMethod
	if c.AuthMethod == "" {
		c.AuthMethod = authNone
		if m.Secret != "" {
			c.AuthMethod = authBasic
		}
	}
	switch c.AuthMethod {
	case authNone:
		if m.Secret != "" {
			wrong(`has a client_secret although its token_endpoint_auth_method is none: leave one of them out`)
		}
	case authBasic, authPost:
		if len(m.Secret) < minClientSecret || !origin.Printable(m.Secret) {
			wrong(`needs a random client_secret of at least 32 characters, for example "client_secret": "the output of: ` +
				`openssl rand -base64 32"`)
		}
		if m.Secret != "" {
			hash := store.HashOf(m.Secret)
			c.SecretHash = hash[:]
		}
	default:
		wrong(`has a token_endpoint_auth_method that is not none, client_secret_basic or client_secret_post, for ` +
			`example "token_endpoint_auth_method": "client_secret_basic"`)
	}
	return c, mistakes
}

func byID(clients []store.Client) map[string]*store.Client {
	m := map[string]*store.Client{}
	for _, c := range clients {
		m[c.ID] = &c
	}
	return m
}
