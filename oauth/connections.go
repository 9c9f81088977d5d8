package oauth

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

const connectionsPath = "/connections"

// handleConnections handles GET /connections. It lists the visitor's connections, or shows the ways to sign in. That
// sign-in involves no MCP client and creates only a visitor.
func (s *Server) handleConnections(w http.ResponseWriter, r *http.Request) {
	v := s.visitor(r)
	if v == nil {
		s.pages.SignIn(w, http.StatusOK, templates.SignInPage{Providers: s.buttons(), Development: s.development})
		return
	}
	grants, err := s.store.UserGrants(r.Context(), store.Hash(v.User), s.now())
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	page := templates.ConnectionsPage{Login: v.Login, Provider: v.Provider}
	if p := s.providers.Find(v.Provider); p != nil {
		page.Provider, page.Revokes = p.Name, p.Revokes()
	}
	for _, g := range grants {
		page.Connections = append(page.Connections, s.connection(&g))
	}
	s.pages.Connections(w, http.StatusOK, page)
}

// connection describes a grant in words.
func (s *Server) connection(g *store.Grant) templates.Connection {
	c := templates.Connection{ID: g.ID.String(), Name: g.Client.Name, Since: g.CreatedAt.UTC().Format("2 January 2006"),
		Renewed: "not yet"}
	if !g.LastUsedAt.IsZero() {
		c.Renewed = g.LastUsedAt.UTC().Format("2 January 2006, 15:04 UTC")
	}
	for _, raw := range g.Client.RedirectURIs {
		host := "your own computer" // http on loopback, and private schemes, lead to a program there
		if u, err := url.Parse(raw); err == nil && u.Scheme == "https" {
			host = u.Host
		}
		if !slices.Contains(c.Hosts, host) {
			c.Hosts = append(c.Hosts, host)
		}
	}
	for _, name := range g.Scopes {
		sentence := name // a scope that is no longer declared allows nothing
		if sc := s.scope(name); sc != nil {
			sentence = sc.Sentence
		}
		c.Scopes = append(c.Scopes, sentence)
	}
	return c
}

// handleVisit handles POST /connections/sign-in.
func (s *Server) handleVisit(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	p, another, err := s.chosenProvider(form)
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	s.startVisit(w, r, newFlow(p.ID, question{}, s.now()), p, another)
}

// handleDisconnect handles POST /connections/disconnect. It revokes the tokens of one connection immediately.
func (s *Server) handleDisconnect(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err == nil {
		err = s.disconnect(r.Context(), s.visitor(r), form.Get("grant"))
	}
	if err != nil {
		s.authorizeError(w, r, nil, err)
		return
	}
	http.Redirect(w, r, connectionsPath, http.StatusSeeOther)
}

// disconnect ends the visitor's grant with that ID. If the grant is another user's or has ended, it does nothing, and
// the response does not reveal that.
func (s *Server) disconnect(ctx context.Context, v *visitor, id string) error {
	if v == nil {
		return nil
	}
	grants, err := s.store.UserGrants(ctx, store.Hash(v.User), s.now())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(grants, func(g store.Grant) bool { return g.ID.String() == id })
	if i < 0 {
		return nil
	}
	return s.grants.End(ctx, &grants[i], "disconnected by the person")
}

// handleDisconnectAll handles POST /connections/disconnect-all. It starts another sign-in at the provider, because
// revoking the authorization there takes a fresh token of the user. The provider shows its accounts, so that no user
// disconnects everything by mistake, or as another user.
func (s *Server) handleDisconnectAll(w http.ResponseWriter, r *http.Request) {
	v := s.visitor(r)
	if v == nil || s.providers.Find(v.Provider) == nil {
		http.Redirect(w, r, connectionsPath, http.StatusSeeOther)
		return
	}
	f := newFlow(v.Provider, question{}, s.now())
	f.Disconnect = v.User
	s.startVisit(w, r, f, s.providers.Find(v.Provider), true)
}

// handleSignOut handles POST /connections/sign-out.
func (s *Server) handleSignOut(w http.ResponseWriter, r *http.Request) {
	s.deleteCookie(w, s.visitorCookie)
	http.Redirect(w, r, connectionsPath, http.StatusSeeOther)
}

// startVisit redirects the browser to the provider. Identifying the user needs only the scopes of every sign-in.
func (s *Server) startVisit(w http.ResponseWriter, r *http.Request, f *flow, p *upstream.Provider, another bool) {
	r = withReference(r, f.state())
	if err := s.redirectToProvider(w, r, f, p, nil, another); err != nil {
		s.signInError(w, r, nil, s.explainVisit(err, p))
	}
}

func (s *Server) explainVisit(err error, p *upstream.Provider) signInFailure {
	failure := explainSignIn(err, p.Name, "Go back to the page of your connections and sign in again.")
	failure.BackURL = template.URL(s.baseURL + connectionsPath)
	return failure
}

// finishVisit handles the callback of a flow that began at /connections. It sets a visitor or ends grants. It never
// creates a grant or a code, and does not keep the upstream token.
func (s *Server) finishVisit(ctx context.Context, w http.ResponseWriter, r *http.Request, f *flow, p *upstream.Provider,
	q url.Values) {
	token, id, err := s.identifyVisitor(ctx, f, p, q)
	var news *templates.ErrorPage
	switch user := id.UserID(); {
	case err != nil:
	case f.Disconnect == nil:
		err = s.setVisitor(w, id)
	case !bytes.Equal(f.Disconnect, user[:]):
		err = errOtherAccount
	default:
		news, err = s.disconnectAll(ctx, p, token, user)
	}
	if token != nil { // even if it has been revoked
		s.grants.Discard(ctx, p, token)
	}
	if err != nil {
		failure := s.explainVisit(err, p)
		if failure.status != http.StatusServiceUnavailable {
			s.endFlow(w, f)
		}
		s.signInError(w, r, nil, failure)
		return
	}
	s.endFlow(w, f)
	if news != nil {
		s.pages.Error(w, http.StatusOK, *news)
		return
	}
	s.log.InfoContext(ctx, "signed in to /connections", "provider", p.ID, "subject", id.Subject)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, connectionsPath, http.StatusSeeOther)
}

// identifyVisitor redeems the code in the provider's response. The token may be non-nil even with an error.
func (s *Server) identifyVisitor(ctx context.Context, f *flow, p *upstream.Provider, q url.Values) (
	*upstream.Token, upstream.Identity, error) {
	code, err := readAnswer(ctx, p, q)
	if err != nil {
		return nil, upstream.Identity{}, err
	}
	return s.upstreamSignIn(ctx, f, p, code, nil)
}

// disconnectAll ends a user's grants, and then revokes their authorization of this server at the provider. It returns
// the page to show. The grants stay ended even if the provider cannot be reached.
func (s *Server) disconnectAll(ctx context.Context, p *upstream.Provider, token *upstream.Token, user store.Hash) (
	*templates.ErrorPage, error) {
	err := s.store.EndGrants(ctx, user)
	s.grants.Ended(err, func(_ store.Hash, g *store.Grant) bool { return g.User.ID == user })
	if err != nil {
		return nil, fmt.Errorf("ending all grants of a person: %w", err)
	}
	s.log.WarnContext(ctx, "all grants ended", "provider", p.ID, "reason", "the person disconnected everything")
	page := &templates.ErrorPage{Title: "Everything is disconnected", Reference: reference(ctx),
		Message: "No application can use this server for you any more.",
		BackURL: template.URL(s.baseURL + connectionsPath), BackHost: s.base.Host}
	if p.Revokes() {
		err = p.Revoke(ctx, token)
	}
	switch {
	case err != nil:
		s.log.WarnContext(ctx, "authorization not revoked", "provider", p.ID, "cause", err)
		page.Next = []string{"At " + p.Name + " this server still has your permission: withdrawing it did not work. " +
			"Do that in the settings of your account there, or try again later."}
	case !p.Revokes():
		page.Next = []string{"At " + p.Name + " this server still has your permission: there is no way to withdraw it " +
			"from here. You can do that in the settings of your account there."}
	default:
		page.Message += " It has given up your permission at " + p.Name + " as well."
	}
	return page, nil
}
