package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

const (
	// codeLife is how long a client has to redeem a code. A user may have to paste it from another computer.
	codeLife = 5 * time.Minute
	// signInTimeout bounds the calls to the provider and the store together.
	signInTimeout = 30 * time.Second
)

// handleCallback handles GET /callback/{provider}, to which the provider redirects the browser. It binds the upstream
// token to a new grant and redirects the browser to the client with our code, or it finishes a visit to /connections.
// It works once per flow: every response except a 503 deletes the flow's cookie, and the store rejects a second grant
// of the flow.
func (s *Server) handleCallback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p, f := s.providers.Find(chi.URLParam(r, "provider")), s.flowOf(r, q.Get("state"))
	if p == nil || f == nil || f.Provider != p.ID {
		s.signInError(w, withReference(r, r.URL.RawQuery), nil, explainSignIn(errNoFlow, "", connectAgain))
		return
	}
	r = withReference(r, cmp.Or(f.Request, f.state()))
	// The provider's code is spent even if the browser disconnects, so the sign-in must go on without it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), signInTimeout)
	defer cancel()
	if f.Request == "" {
		s.finishVisit(ctx, w, r, f, p, q)
		return
	}
	req, err := s.parseAuthorize(ctx, f.Request, &f.question)
	if err != nil {
		if clients.AsError(err).Status != http.StatusServiceUnavailable {
			s.endFlow(w, f)
		}
		s.authorizeError(w, r, req, err)
		return
	}
	code, err := s.signIn(ctx, f, p, req, q)
	if err == nil {
		s.endFlow(w, f)
		s.redirectToClient(w, r, req, url.Values{"code": {code}})
		return
	}
	failure := explainSignIn(err, p.Name, connectAgain)
	if failure.status != http.StatusServiceUnavailable {
		s.endFlow(w, f)
	}
	if errors.Is(err, upstream.ErrDenied) { // no page is needed: the user pressed the button
		s.logError(r, failure.asError())
		s.redirectToClient(w, r, req, failure.params())
		return
	}
	s.signInError(w, r, req, failure)
}

// signIn completes a flow with the provider's response and returns the client's code.
func (s *Server) signIn(ctx context.Context, f *flow, p *upstream.Provider, req *authRequest, q url.Values) (
	string, error) {
	upstreamCode, err := readAnswer(ctx, p, q)
	if err != nil {
		return "", err
	}
	if used, err := s.store.FlowUsed(ctx, f.hash()); err != nil {
		return "", fmt.Errorf("looking up flow: %w", err)
	} else if used {
		return "", errFlowUsed
	}
	token, identity, err := s.upstreamSignIn(ctx, f, p, upstreamCode, upstreamScopes(req.scopes, p))
	var code string
	if err == nil {
		code, err = s.bind(ctx, f, p, req, identity, token)
	}
	if err != nil && token != nil && !errors.Is(err, errMaybeStored) {
		s.grants.Discard(ctx, p, token)
	}
	return code, err
}

// bind stores a grant for the user, bound to their upstream token, and returns its code. Nothing is written before
// this.
func (s *Server) bind(ctx context.Context, f *flow, p *upstream.Provider, req *authRequest,
	identity upstream.Identity, token *upstream.Token) (string, error) {
	scopes := grantedScopes(ofProvider(req.scopes, p), p, token)
	if len(scopes) == 0 {
		return "", errNoScope
	}
	if req.client.Document != nil {
		s.clients.SnapshotDocument(ctx, req.client)
	}
	now, seed, code := s.now(), seal.NewSecret(), seal.NewSecret()
	in := store.SignIn{
		Flow: f.hash(),
		Grant: store.Grant{
			ID:        store.NewID(),
			User:      store.User{ID: identity.UserID(), Identity: identity},
			Client:    *req.client,
			Scopes:    scopes,
			Audience:  s.resource,
			PublicKey: seal.PrivateKey(seed).PublicKey().Bytes(),
			CreatedAt: now,
		},
		Code: store.Code{Hash: store.HashOf(code.Format(seal.CodePrefix)), Challenge: req.challenge,
			RedirectURI: req.redirect.String(), ExpiresAt: now.Add(codeLife)},
		UpstreamScopes: token.Scopes,
		At:             now,
	}
	in.WrapCode = func(credential store.ID) store.Wrap {
		g := in.Grant
		g.Credential = credential
		return s.ring.WrapCode(&in.Code, &g, code, seed)
	}
	err := s.store.SignIn(ctx, in, s.ring.SealCredential(in.Grant.User.ID, token, seal.AnyRecipient))
	if errors.Is(err, store.ErrConflict) {
		return "", errFlowUsed
	}
	if err != nil {
		// The commit may have succeeded although its response was lost. Then the grant exists and uses the token.
		if stored, lookUpErr := s.store.FlowUsed(ctx, in.Flow); lookUpErr != nil {
			return "", fmt.Errorf("%w: %w", errMaybeStored, err)
		} else if !stored {
			return "", fmt.Errorf("storing sign-in: %w", err)
		}
	}
	s.log.InfoContext(ctx, "signed in", "provider", p.ID, "subject", identity.Subject, "grant", in.Grant.ID,
		"scopes", scopes)
	return code.Format(seal.CodePrefix), nil
}
