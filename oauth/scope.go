package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/upstream"
)

// A Scope is a permission that a user can grant to a client. Scopes are declared beside the tools that need them.
type Scope struct {
	// Name is the name that clients request and tools require, for example "repos:read".
	Name string
	// Sentence tells the user on the consent page what they allow: "See your public repositories".
	Sentence string
	// Provider is the ID of the only provider that the scope makes sense for; empty means any.
	Provider string
	// Upstream are the provider's scopes that tools with this scope need, besides those of every sign-in. The scope
	// is granted only if the provider granted all of them.
	Upstream []string
	// AtSignIn means that the scope is advertised, and is requested by default if a client names no scopes. The other
	// scopes are requested when a tool needs them: see [Caller.Require].
	AtSignIn bool
	// IncludedIn is the name of a broader scope that includes this one, as "repos:write" might include "repos:read".
	// It is empty if there is none. The broader scope's Upstream must be enough for both. The scopes that are requested,
	// shown and granted are still those that the client named.
	IncludedIn string
}

// scopeToken is the syntax of RFC 6749 section 3.3, without the characters that a challenge would have to quote.
var scopeToken = regexp.MustCompile(`^[a-zA-Z0-9:._/-]+$`)

// checkScopes returns an error if the declared scopes are not valid.
func checkScopes(scopes []Scope) error {
	var errs []error
	broader := map[string]string{}
	for _, sc := range scopes {
		broader[sc.Name] = sc.IncludedIn
	}
	seen := map[string]bool{}
	for _, sc := range scopes {
		switch {
		case !scopeToken.MatchString(sc.Name):
			errs = append(errs, fmt.Errorf("scope name %q: want letters, digits and : . _ / -", sc.Name))
		case seen[sc.Name]:
			errs = append(errs, fmt.Errorf("scope %s is declared twice", sc.Name))
		case sc.Sentence == "":
			errs = append(errs, fmt.Errorf("scope %s has no sentence for the consent page", sc.Name))
		}
		seen[sc.Name] = true
		if _, ok := broader[sc.IncludedIn]; sc.IncludedIn != "" && !ok {
			errs = append(errs, fmt.Errorf("scope %s is included in %q, which is not declared", sc.Name, sc.IncludedIn))
		}
		for up, n := sc.IncludedIn, 0; up != "" && n < len(scopes); up, n = broader[up], n+1 {
			if up == sc.Name {
				errs = append(errs, fmt.Errorf("scope %s is included in itself", sc.Name))
				break
			}
		}
	}
	if !slices.ContainsFunc(scopes, func(sc Scope) bool { return sc.AtSignIn && sc.Provider == "" }) {
		errs = append(errs, errors.New("no scope is asked for at every sign-in: set AtSignIn on one without a Provider"))
	}
	return errors.Join(errs...)
}

// requestedScopes returns the scopes that a scope parameter names, in the order of their declaration. Unknown scopes
// are left out, as RFC 6749 section 3.3 allows, because clients also request offline_access and scopes of other
// servers. If none is left, it returns the sign-in scopes. The user sees them, and the token response names the granted
// scopes.
func (s *Server) requestedScopes(param string) []Scope {
	if named := s.declaredScopes(strings.Fields(param)); len(named) > 0 {
		return named
	}
	return s.pickScopes(func(sc Scope) bool { return sc.AtSignIn })
}

// declaredScopes returns the scopes of these names, in the order of their declaration.
func (s *Server) declaredScopes(names []string) []Scope {
	return s.pickScopes(func(sc Scope) bool { return slices.Contains(names, sc.Name) })
}

// pickScopes returns the scopes that are wanted, except those whose provider is not configured.
func (s *Server) pickScopes(want func(Scope) bool) (picked []Scope) {
	for _, sc := range s.scopes {
		if want(sc) && (sc.Provider == "" || s.providers.Find(sc.Provider) != nil) {
			picked = append(picked, sc)
		}
	}
	return picked
}

// scopeNames returns the value of a scope parameter (RFC 6749 section 3.3).
func scopeNames(scopes []Scope) string {
	var names []string
	for _, sc := range scopes {
		names = append(names, sc.Name)
	}
	return strings.Join(names, " ")
}

// ofProvider returns the scopes that make sense with the provider.
func ofProvider(scopes []Scope, p *upstream.Provider) []Scope {
	return slices.DeleteFunc(slices.Clone(scopes), func(sc Scope) bool {
		return sc.Provider != "" && sc.Provider != p.ID
	})
}

// upstreamScopes returns the scopes to request from the provider, in addition to those of every sign-in.
func upstreamScopes(scopes []Scope, p *upstream.Provider) []string {
	var all []string
	for _, sc := range ofProvider(scopes, p) {
		all = append(all, sc.Upstream...)
	}
	return all
}

// grantedScopes returns the names of the scopes whose Upstream scopes the provider has all granted.
func grantedScopes(scopes []Scope, p *upstream.Provider, t *upstream.Token) []string {
	var names []string
	for _, sc := range scopes {
		if !slices.ContainsFunc(sc.Upstream, func(up string) bool { return !p.Covers(t, up) }) {
			names = append(names, sc.Name)
		}
	}
	return names
}

// signInScopes returns the names of the scopes that are advertised and requested by default, and also those that a
// client had: a sign-in that requests them all repairs the credential that its grant is bound to.
func (s *Server) signInScopes(had ...string) []string {
	var names []string
	for _, sc := range s.requestedScopes("") {
		names = append(names, sc.Name)
	}
	for _, name := range had {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// scope returns the declared scope of that name, or nil.
func (s *Server) scope(name string) *Scope {
	i := slices.IndexFunc(s.scopes, func(sc Scope) bool { return sc.Name == name })
	if i < 0 {
		return nil
	}
	return &s.scopes[i]
}

// checkResource validates the resource indicators of a request (RFC 8707 section 2). There is one resource; clients
// that found only the metadata of the origin name the origin. Without any, it is the default. A query, which that
// section recognizes and ChatGPT sends, does not name another resource.
func (s *Server) checkResource(resources []string) error {
	for _, raw := range resources {
		u, err := url.Parse(raw)
		if raw == "" { // an empty parameter counts as absent
			continue
		}
		if err == nil && u.Fragment == "" && u.User == nil && !strings.HasSuffix(raw, "#") &&
			strings.ToLower(u.Scheme+"://"+u.Host) == s.baseURL && slices.Contains([]string{"", "/", "/mcp", "/mcp/"}, u.Path) {
			continue
		}
		return &clients.Error{Code: "invalid_target", Description: "The resource of this server is " + s.resource + ".",
			Status: http.StatusBadRequest}
	}
	return nil
}
