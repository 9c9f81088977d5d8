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

// A Caller is the user and client behind an MCP request. It is valid only during that request.
type Caller struct {
	server  *Server
	session *grants.Session
	needs   atomic.Pointer[string] // the name of the scope that Require found missing
	// signInAgain is set if the provider no longer accepts the user's token.
	signInAgain atomic.Bool
}

type callerKey struct{}

// CallerFrom returns the caller from the context of a request. It panics outside the gate, where no user has been
// authenticated.
func CallerFrom(ctx context.Context) *Caller {
	return ctx.Value(callerKey{}).(*Caller)
}

// WithoutChallenge returns a context for one of several calls in a request. Such a call cannot turn the response into a
// challenge: after a challenge the client would resend all calls, also those that are done.
func WithoutChallenge(ctx context.Context) context.Context {
	c := CallerFrom(ctx)
	return context.WithValue(ctx, callerKey{}, &Caller{server: c.server, session: c.session})
}

// Identity returns the identity of the user at their provider.
func (c *Caller) Identity() upstream.Identity {
	id := c.session.Grant.User.Identity
	id.Emails, id.Groups = slices.Clone(id.Emails), slices.Clone(id.Groups)
	id.FormerLogins, id.Memberships = slices.Clone(id.FormerLogins), maps.Clone(id.Memberships)
	return id
}

// ClientName returns the name that the MCP client chose. It is not verified.
func (c *Caller) ClientName() string { return templates.DisplayName(c.session.Grant.Client.Name) }

// Scopes returns the scopes that the user granted to the client.
func (c *Caller) Scopes() []string { return slices.Clone(c.session.Grant.Scopes) }

// Require returns an error, for a model to read, if the caller was granted neither the scope nor a broader one that
// includes it. The HTTP response is then a 403 with a challenge that names the scope (RFC 6750 section 3.1), unless
// it has already started. For a scope of another provider there is no challenge, because no sign-in would help.
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

// APIURL returns the base URL of the provider's API, such as https://api.github.com, without a trailing slash.
func (c *Caller) APIURL() string { return c.provider().APIURL }

func (c *Caller) provider() *upstream.Provider {
	return c.server.providers.Find(c.session.Grant.User.Provider)
}

// apiTimeout bounds one call of a tool to the provider's API.
const apiTimeout = 30 * time.Second

// HTTPClient returns a client that acts as the user at their provider's API. It adds the upstream token only to
// requests to that API, so that a redirect cannot leak the token.
func (c *Caller) HTTPClient() *http.Client {
	return &http.Client{Timeout: apiTimeout, Transport: asUser{c}}
}

// asUser adds the user's upstream token to requests to their provider's API. It checks every redirect.
type asUser struct{ *Caller }

func (c asUser) RoundTrip(r *http.Request) (*http.Response, error) {
	if !c.provider().ServesAPI(r.URL) {
		return http.DefaultTransport.RoundTrip(r)
	}
	credential, err := c.upstreamToken(r.Context(), 0)
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as http.RoundTripper requires
		}
		return nil, err
	}
	resp, err := send(r, r.Body, &credential.Token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	// Either the token was revoked, or another instance has just renewed it, or it is so new that not all of the
	// provider's servers know it yet.
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

// upstreamToken returns the user's token. A tool may show its errors; their causes are only logged.
func (c *Caller) upstreamToken(ctx context.Context, broken int64) (*grants.Credential, error) {
	credential, err := c.server.grants.UpstreamToken(ctx, &c.session.Grant, c.session.Private, broken)
	return credential, c.toolError(ctx, err)
}

// toolError converts an upstream credential error into one that a tool may show. If the user has to sign in again, the
// response becomes a 401, because clients do not act on the text of a tool result.
func (c *Caller) toolError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case grants.SignInAgain(err):
		c.signInAgain.Store(true)
		return fmt.Errorf("%s no longer accepts this sign-in: sign in again", c.session.Grant.User.Provider)
	}
	if !errors.Is(err, context.Canceled) { // the client disconnected
		c.server.log.Failure(ctx, slog.LevelError, "no upstream token", storm.Class(err), "grant", c.session.Grant.ID,
			"cause", err)
	}
	return errors.New("this server cannot act at the provider right now: try again in a minute")
}
