package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/places"
	"example.com/mcp-federated-login/upstream"
)

// The request to the provider and its response, for sign-ins with a client and for visits without one.

const (
	// maxExchanges is how many sign-ins may redeem a code at one provider at the same time. Others wait for at most
	// exchangeWait. A sign-in that has waited for the provider for exchangePatience makes room for them.
	maxExchanges     = 64
	exchangeWait     = 10 * time.Second
	exchangePatience = 2 * time.Second
)

// chosenProvider returns the provider whose button was pressed, and whether it was the button for another account.
func (s *Server) chosenProvider(form url.Values) (p *upstream.Provider, another bool, err error) {
	another = form.Has("another")
	if p = s.providers.Find(cmp.Or(form.Get("another"), form.Get("provider"))); p == nil {
		err = clients.InvalidRequest("The way to sign in is not one that this server offers.")
	}
	return p, another, err
}

// redirectToProvider starts a flow: it sets the cookie and redirects the browser to the provider with the scopes. If it
// returns an error, it has written no response. The error is [errTooLong] if the request is at fault.
func (s *Server) redirectToProvider(w http.ResponseWriter, r *http.Request, f *flow, p *upstream.Provider,
	scopes []string, another bool) error {
	to, err := p.AuthCodeURL(r.Context(), s.callbackURL(p), f.state(), f.verifier(), f.nonce(), scopes, another)
	if err != nil {
		return err
	}
	if err := s.startFlow(w, r, f); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// readAnswer returns the code in the provider's response.
func readAnswer(ctx context.Context, p *upstream.Provider, q url.Values) (string, error) {
	// "Clients MUST ... compare the result to the issuer identifier of the authorization server where the
	// authorization request was sent to" (RFC 9207 section 2.4), before the code is used.
	if err := p.CheckIssuer(ctx, q.Get("iss")); err != nil {
		return "", err
	}
	if q.Get("error") != "" {
		return "", p.AuthorizeError(q)
	}
	if q.Get("code") == "" {
		return "", fmt.Errorf("%w: no code", upstream.ErrBadAnswer)
	}
	return q.Get("code"), nil
}

// upstreamSignIn redeems the provider's code, identifies the user and checks that they are allowed. The token may be
// non-nil even with an error.
func (s *Server) upstreamSignIn(ctx context.Context, f *flow, p *upstream.Provider, code string, scopes []string) (
	*upstream.Token, upstream.Identity, error) {
	// A cookie can be sent any number of times, but a flow takes only one place.
	if _, twice := s.finishing.LoadOrStore(f.hash(), nil); twice {
		return nil, upstream.Identity{}, errFlowUsed
	}
	defer s.finishing.Delete(f.hash())
	exchanging, leave, err := s.exchanges.Wait(ctx, p.ID, exchangeWait)
	if err != nil {
		return nil, upstream.Identity{}, fmt.Errorf("%w: %w", errBusy, err)
	}
	token, err := p.Exchange(exchanging, s.callbackURL(p), code, f.verifier(), scopes)
	lost := context.Cause(exchanging)
	leave() // once its code was valid, a sign-in is not a stranger's, and others cannot displace it
	if err != nil && errors.Is(lost, places.ErrNone) {
		err = fmt.Errorf("%w: %w", errBusy, err)
	}
	if err != nil {
		return nil, upstream.Identity{}, err
	}
	if withheld := p.Withheld(token, scopes); withheld != nil {
		s.log.InfoContext(ctx, "the provider granted less than was asked for", "provider", p.ID, "withheld", withheld)
	}
	identity, err := p.Identify(ctx, token, f.nonce())
	if err == nil {
		if identity.Lost != nil {
			s.log.WarnContext(ctx, "part of what the provider says of a user is not used", "provider", p.ID,
				"subject", identity.Subject, "lost", identity.Lost)
		}
		err = s.grants.Admit(ctx, p, token, &identity)
	}
	return token, identity, err
}

func (s *Server) callbackURL(p *upstream.Provider) string { return s.baseURL + "/callback/" + p.ID }
