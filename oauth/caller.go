package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

// A Caller is on whose behalf an MCP request is made: one person, through one client. It is good for the time of the
// request.
type Caller struct {
	server  *Server
	session *grants.Session
	needs   atomic.Pointer[string] // the name of the scope that Require found missing
	// signInAgain: the provider no longer accepts the person's token.
	signInAgain atomic.Bool
}

type callerKey struct{}

// CallerFrom returns the caller of the request whose context this is. It panics outside of the gate, where nobody has
// been authenticated.
func CallerFrom(ctx context.Context) *Caller {
	return ctx.Value(callerKey{}).(*Caller)
}

// WithoutChallenge returns a context for one of several calls in a request. Such a call cannot turn the request's
// answer into a challenge: the client would send the others again as well, although they have been done.
func WithoutChallenge(ctx context.Context) context.Context {
	c := CallerFrom(ctx)
	return context.WithValue(ctx, callerKey{}, &Caller{server: c.server, session: c.session})
}

// Identity is who the person is at their provider.
func (c *Caller) Identity() upstream.Identity {
	id := c.session.Grant.User.Identity
	id.Emails, id.Groups = slices.Clone(id.Emails), slices.Clone(id.Groups)
	id.FormerLogins, id.Memberships = slices.Clone(id.FormerLogins), maps.Clone(id.Memberships)
	return id
}

// ClientName is what the MCP client calls itself. Nobody has verified it.
func (c *Caller) ClientName() string { return templates.DisplayName(c.session.Grant.Client.Name) }

// Scopes are what the person allowed the client.
func (c *Caller) Scopes() []string { return slices.Clone(c.session.Grant.Scopes) }

// Require returns an error, for a model to read, if the caller was granted neither the scope nor a broader one that
// includes it. The HTTP answer then is 403 with a challenge that names the scope (RFC 6750 section 3.1), if nothing
// of it has been sent yet. For a scope of another provider there is no challenge, because no sign-in would help.
func (c *Caller) Require(scope string) error {
	g, wanted := &c.session.Grant, c.server.scope(scope)
	if wanted == nil || wanted.Provider != "" && wanted.Provider != g.User.Provider {
		return fmt.Errorf("this needs the scope %s, which no sign-in with %s grants", scope, g.User.Provider)
	}
	for sc := wanted; sc != nil; sc = c.server.scope(sc.IncludedIn) {
		if slices.Contains(g.Scopes, sc.Name) {
			return nil
		}
	}
	c.needs.Store(&scope)
	return fmt.Errorf("this needs the scope %s, which was not granted (granted: %s); the person can connect this "+
		"server again, and allow it", scope, strings.Join(g.Scopes, " "))
}

// APIURL is the base address of the provider's API, such as https://api.github.com, without a trailing slash.
func (c *Caller) APIURL() string { return c.provider().APIURL }

func (c *Caller) provider() *upstream.Provider {
	return c.server.providers.Find(c.session.Grant.User.Provider)
}

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
	if !c.provider().ServesAPI(r.URL) {
		return http.DefaultTransport.RoundTrip(r)
	}
	credential, err := c.upstreamToken(r.Context(), 0)
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as http.RoundTripper demands
		}
		return nil, err
	}
	resp, err := send(r, r.Body, &credential.Token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	// Either the token is dead, or another instance has renewed it in between, or it is so new that not all of the
	// provider knows it yet.
	g, private := &c.session.Grant, c.session.Private
	token, err := c.server.grants.TokenAfter401(r.Context(), g, private, &credential.Token, credential.Version)
	c.toolError(r.Context(), err)
	if token == nil || r.Body != nil && r.GetBody == nil {
		return resp, nil
	}
	body := r.Body
	if r.GetBody != nil {
		if body, err = r.GetBody(); err != nil {
			return resp, nil
		}
	}
	resp.Body.Close()
	return send(r, body, token)
}

func send(r *http.Request, body io.ReadCloser, t *upstream.Token) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = body
	r.Header.Set("Authorization", "Bearer "+t.Access)
	return http.DefaultTransport.RoundTrip(r)
}

// upstreamToken returns the person's token. Its errors are for a tool to show; what is behind them is for the log.
func (c *Caller) upstreamToken(ctx context.Context, broken int64) (*grants.Credential, error) {
	credential, err := c.server.grants.UpstreamToken(ctx, &c.session.Grant, c.session.Private, broken)
	return credential, c.toolError(ctx, err)
}

// toolError turns what is wrong with the upstream credential into what a tool may show. If the person has to sign in
// again the answer becomes a 401, because clients do not act on what a tool says.
func (c *Caller) toolError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case grants.SignInAgain(err):
		c.signInAgain.Store(true)
		return fmt.Errorf("%s no longer accepts this sign-in: sign in again", c.session.Grant.User.Provider)
	}
	if !errors.Is(err, context.Canceled) { // whoever asked has gone
		c.server.log.Failure(ctx, slog.LevelError, "no upstream token", storm.Class(err), "grant", c.session.Grant.ID,
			"cause", err)
	}
	return errors.New("this server cannot act at the provider right now: try again in a minute")
}
