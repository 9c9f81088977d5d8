package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// A Caller is on whose behalf an MCP request is made: one person, through one client. It is good for the time of the
// request.
type Caller struct {
	server  *Server
	session *session
	needs   atomic.Pointer[string] // the scope that Require found missing
}

type callerKey struct{}

// CallerFrom returns the caller of the request whose context this is. It panics outside of the gate, where nobody has
// been authenticated.
func CallerFrom(ctx context.Context) *Caller {
	return ctx.Value(callerKey{}).(*Caller)
}

// Identity is who the person is at their provider.
func (c *Caller) Identity() upstream.Identity {
	id := c.session.grant.User.Identity
	id.Emails = slices.Clone(id.Emails)
	return id
}

// ClientName is what the MCP client calls itself. Nobody has verified it.
func (c *Caller) ClientName() string { return displayName(c.session.grant.Client.Name) }

// Scopes are what the person allowed the client.
func (c *Caller) Scopes() []string { return slices.Clone(c.session.grant.Scopes) }

// Require returns an error if the caller was not granted the scope. The HTTP answer then is 403 with a challenge that
// names the scope (RFC 6750 section 3.1), if nothing of it has been sent yet.
func (c *Caller) Require(scope string) error {
	if slices.Contains(c.session.grant.Scopes, scope) {
		return nil
	}
	c.needs.Store(&scope)
	return fmt.Errorf("this needs the scope %s, which was not granted (granted: %s)", scope,
		strings.Join(c.session.grant.Scopes, " "))
}

// missing returns the scopes to ask for if one is missing: the granted ones as well, because a client that signs in
// again asks for just what the challenge names.
func (c *Caller) missing() []string {
	scope := c.needs.Load()
	if scope == nil {
		return nil
	}
	return append(c.Scopes(), *scope)
}

// APIURL is the base address of the provider's API, such as https://api.github.com, without a trailing slash.
func (c *Caller) APIURL() string { return c.server.provider(c.Identity().Provider).APIURL }

// apiTimeout bounds one call of a tool to the provider's API.
const apiTimeout = 30 * time.Second

// HTTPClient returns a client that acts as the person at their provider's API. It adds the upstream token to requests
// to that API and to nothing else, so that no redirect can carry it away.
func (c *Caller) HTTPClient() *http.Client {
	return &http.Client{Timeout: apiTimeout, Transport: asUser{c}}
}

// asUser adds the person's upstream token to requests to their provider's API, at every hop.
type asUser struct{ *Caller }

func (c asUser) RoundTrip(r *http.Request) (*http.Response, error) {
	if !c.server.provider(c.Identity().Provider).ServesAPI(r.URL) {
		return http.DefaultTransport.RoundTrip(r)
	}
	token, err := c.upstreamToken(r.Context())
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as http.RoundTripper demands
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token.Access)
	return http.DefaultTransport.RoundTrip(r)
}

// upstreamToken opens the credential that the caller's grant is bound to. Its errors are for a tool to show; what is
// behind them is for the log.
func (c *Caller) upstreamToken(ctx context.Context) (*upstream.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	g := &c.session.grant
	credential, err := c.server.store.Credential(ctx, g.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, errors.New("the grant has ended: sign in again")
	}
	var token *upstream.Token
	if err == nil {
		token, err = c.server.ring.openCredential(c.session.private, g, &credential)
	}
	if err != nil {
		c.server.log.ErrorContext(ctx, "upstream credential not opened", "grant", g.ID, "cause", err)
		return nil, errors.New("this server cannot get at the sign-in right now: try again in a few seconds")
	}
	if !token.Expiry.IsZero() && !c.server.now().Before(token.Expiry) {
		return nil, errors.New("the provider's token has expired: sign in again")
	}
	return token, nil
}
