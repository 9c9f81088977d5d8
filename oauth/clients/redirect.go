package clients

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/store"
)

// maxRedirectURI is the longest redirect URI, in bytes.
const maxRedirectURI = 512

var (
	errRedirectURI = errors.New("a redirect URI is an absolute https URI, or http on localhost, 127.0.0.1 or [::1], " +
		"of at most 512 characters, without user name, fragment, or parameters of the answer")

	// notPrivate are the schemes that run code or read files in the browser, and those of the web.
	notPrivate = []string{"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source", "http",
		"https"}

	privateScheme = regexp.MustCompile(`^[a-z][a-z0-9.+-]*$`)
	// editorSchemes open VS Code and editors derived from it. See callbackOfExtension.
	editorSchemes = []string{"antigravity", "code-oss", "cursor", "kiro", "trae", "vscode", "vscode-insiders", "vscodium",
		"windsurf"}

	// callbackOfExtension matches a callback in an editor: "vscode://publisher.extension/mcp-auth/callback/1f2e". Other
	// URLs there install an extension or an MCP server ("cursor://anysphere.cursor-deeplink/mcp/install?..."), clone a
	// repository or open a file. Those take parameters, and their paths have no segment named callback.
	callbackOfExtension = regexp.MustCompile(`^[a-z-]+://[\w-]+\.[\w-]+` +
		`(/[\w~-][\w.~-]*)*/[\w-]*[cC]allback(/[\w~-][\w.~-]*)*/?$`)
)

// parseRedirectURI returns a redirect URI that may be registered. It accepts a subset of RFC 6749 section 3.1.2. The
// URI must survive a round trip through net/url byte for byte, so that the browser gets the URI that was checked. Its
// host must be plain, because net/url accepts hosts such as "a.com;sandbox", "*" and "'self'".
func parseRedirectURI(raw string) (*url.URL, error) {
	if raw == "" || len(raw) > maxRedirectURI || strings.ContainsAny(raw, "#\\") || !origin.Printable(raw) {
		return nil, errRedirectURI
	}
	u, err := url.Parse(raw)
	if err != nil || u.String() != raw || u.User != nil || u.Fragment != "" {
		return nil, errRedirectURI
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || slices.ContainsFunc(answerParams, query.Has) {
		return nil, errRedirectURI
	}
	switch u.Scheme {
	case "https":
		if !origin.ValidHost(u) {
			return nil, errRedirectURI
		}
	case "http":
		if !origin.IsLoopback(u.Hostname()) || !origin.ValidHost(u) {
			return nil, errRedirectURI
		}
	default:
		// A private scheme (RFC 8252 section 7.1) may be registered: an error would lock out a client that registers
		// several URIs at once. /authorize decides whether it may be used.
		if CheckRedirectScheme(u.Scheme) != nil || !origin.Printable(u.Host) {
			return nil, errRedirectURI
		}
	}
	return u, nil
}

// CheckRedirectScheme returns an error if no client may ever be redirected to that scheme: it is not a private scheme
// (RFC 8252 section 7.1), or a browser would run or read something instead of opening an application.
func CheckRedirectScheme(scheme string) error {
	if !privateScheme.MatchString(scheme) || slices.Contains(notPrivate, scheme) {
		return errors.New("not a private URI scheme that opens an application")
	}
	return nil
}

// answerParams are the parameters that an authorization response adds: "code", "state" and "iss" once each. So a
// redirect URI must not contain them.
var answerParams = []string{"code", "state", "iss", "error", "error_description"}

// matchesRedirect reports whether a requested redirect URI matches the registered one: "the authorization server MUST
// compare the two URIs using simple string comparison". Exception: a loopback http URI may have any port, because
// native apps learn theirs late (OAuth 2.1 sections 2.3.1 and 8.4.2).
func matchesRedirect(registered, requested string) bool {
	if registered == "" || requested == "" {
		return false
	}
	if registered == requested {
		return true
	}
	a, errA := parseRedirectURI(registered)
	b, errB := parseRedirectURI(requested)
	if errA != nil || errB != nil || a.Scheme != "http" || b.Scheme != "http" || a.Hostname() != b.Hostname() {
		return false
	}
	a.Host, b.Host = "loopback", "loopback"
	return a.String() == b.String()
}

// A Redirect is a redirect URI that is known to be the client's: it is registered ([redirectTo]), or was when this
// server sealed it into a question ([question.redirect]). Only newRedirect makes one, for those two. Only a Redirect
// can send a browser to a client, so an unvalidated URI cannot be used.
type Redirect struct{ uri *url.URL }

var (
	// errRedirectScheme is returned if the client's redirect URI has a scheme that this server does not allow.
	errRedirectScheme = errors.New("redirect_uri has a private scheme that is not in REDIRECT_SCHEMES")
	// errNotCallback is returned if the client's redirect URI makes the editor do more than receive a response.
	errNotCallback = errors.New("redirect_uri is not the callback of an extension, " +
		"for example vscode://publisher.extension/oauth/callback")
)

// Redirect returns the redirect URI for a request's redirect_uri parameter. The parameter may be omitted if the client
// registered exactly one (RFC 6749 section 3.1.2.3). A private scheme must be allowed by the operator.
func (reg *Registry) Redirect(c *store.Client, requested string) (Redirect, error) {
	to, err := redirectTo(c, requested, reg.redirectSchemes)
	return to, badRedirect(err)
}

// AskedRedirect returns the redirect URI that the user was shown on the consent page. The URI must come from the data
// that this server sealed then: the client may have removed it since. [ErrBlocked] is returned if the operator has
// blocked its host since.
func (reg *Registry) AskedRedirect(ctx context.Context, uri string) (Redirect, error) {
	to, err := newRedirect(uri, reg.redirectSchemes)
	if err != nil {
		return Redirect{}, badRedirect(err)
	}
	return to, reg.checkBlocked(ctx, &store.Client{RedirectURIs: []string{uri}})
}

// badRedirect returns the error that tells the user what is wrong with a redirect URI.
func badRedirect(err error) error {
	description := "The address to return to is not one that the application registered."
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errRedirectScheme):
		description = "This server does not open applications by the scheme of that address."
	case errors.Is(err, errNotCallback):
		description = "The address to return to is not a callback: it would make an editor do something else."
	}
	return &Error{Code: "invalid_request", Description: description, Status: http.StatusBadRequest, Err: err}
}

func redirectTo(c *store.Client, requested string, schemes []string) (Redirect, error) {
	if requested == "" {
		if len(c.RedirectURIs) != 1 {
			return Redirect{}, errors.New("redirect_uri is missing, and the client registered more than one")
		}
		requested = c.RedirectURIs[0]
	}
	if !slices.ContainsFunc(c.RedirectURIs, func(r string) bool { return matchesRedirect(r, requested) }) {
		return Redirect{}, errors.New("redirect_uri is not one that the client registered")
	}
	return newRedirect(requested, schemes)
}

// newRedirect returns the redirect to a URI that is known to be the client's, if it may be used now.
func newRedirect(uri string, schemes []string) (Redirect, error) {
	u, err := parseRedirectURI(uri)
	if err != nil {
		return Redirect{}, err
	}
	to := Redirect{u}
	switch {
	case to.Private() && !slices.Contains(schemes, u.Scheme):
		return Redirect{}, errRedirectScheme
	case slices.Contains(editorSchemes, u.Scheme) && !callbackOfExtension.MatchString(uri):
		return Redirect{}, errNotCallback
	}
	return to, nil
}

// URL returns the URL to send the browser to, keeping the redirect URI's own query (RFC 6749 section 3.1.2). Its type
// makes html/template link to it whatever its scheme is. The scheme has been checked.
func (r Redirect) URL(params url.Values) template.URL {
	u := *r.uri
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += params.Encode()
	return template.URL(u.String())
}

// String returns the redirect URI.
func (r Redirect) String() string { return r.uri.String() }

// Private reports whether the URI has a private scheme. The system then opens the application that claimed the scheme,
// and the browser stays.
func (r Redirect) Private() bool { return r.uri.Scheme != "https" && r.uri.Scheme != "http" }

// Local reports whether the browser is sent to a program on the user's own computer.
func (r Redirect) Local() bool { return r.Private() || origin.IsLoopback(r.uri.Hostname()) }

// Place returns where the browser is sent, for display: the host with its port, after the scheme if that is private.
func (r Redirect) Place() string {
	switch {
	case !r.Private():
		return r.uri.Host
	case r.uri.Host == "":
		return r.uri.Scheme + ":"
	}
	return r.uri.Scheme + "://" + r.uri.Host
}
