package upstream

import (
	"context"
	"slices"

	"golang.org/x/oauth2"
)

// deadCodes are the ways in which providers say that only the person can help: GitHub's, that of all others (RFC 6749
// section 5.2), and those of OpenID Connect Core 1.0 section 3.1.2.6. The status does not tell: GitHub says it with
// 200, Auth0 with 403. But a server in trouble, with 5xx, is not believed.
var deadCodes = []string{"bad_refresh_token", "invalid_grant", "unauthorized_client", "interaction_required",
	"login_required", "consent_required"}

// Renew trades the refresh token for a new token (RFC 6749 section 6). It sends one request, whatever happens: with
// GitHub and others that rotate, a refresh token that may have reached the provider is spent, and the old access token
// with it. So the caller makes sure that nobody else renews the same token, and keeps the new one before using it.
//
// Errors are of type [*Error]. [ErrDead] means that the person has to sign in again; a failure that is nothing known is
// [ErrUnavailable].
func (p *Provider) Renew(ctx context.Context, t *Token) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	c, err := p.config(ctx, "")
	if err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.client)
	answer, err := c.TokenSource(ctx, &oauth2.Token{RefreshToken: t.Refresh}).Token()
	if err != nil {
		e := p.tokenError("renewing the token", err, t.Refresh)
		switch {
		case slices.Contains(deadCodes, e.Code) && e.Status < 500:
			e.kind = ErrDead
		case e.kind == nil:
			e.kind = ErrUnavailable
		}
		return nil, e
	}
	// "If the scope is omitted, it is treated as equal to the scope originally granted".
	renewed := p.token(answer, t.Scopes)
	if renewed.Refresh == t.Refresh && renewed.RefreshExpiry.IsZero() {
		renewed.RefreshExpiry = t.RefreshExpiry // Google answers without a refresh token: the old one stays good
	}
	return renewed, nil
}

// Check asks the provider whether it still accepts the token. A provider without a URL for
// that counts as accepting it.
//
// Errors are of type [*Error], and [ErrDead] if it does not.
func (p *Provider) Check(ctx context.Context, t *Token) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	address, err := p.whose(ctx, p)
	if err != nil || address == "" {
		return err
	}
	_, err = p.get(ctx, t, "asking whether the token is alive", address, nil)
	return err
}
