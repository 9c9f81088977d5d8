// Package upstream says who a person is, and whether they may come in.
//
// To the identity providers this server is an ordinary OAuth client. A [Provider] holds what differs between them:
// mostly values (addresses, scopes, names), and the few functions that cannot be values. The same code path signs
// people in everywhere, with PKCE S256, an explicit AuthStyle, a deadline on every call and no redirect followed.
//
// An identity is the pair (issuer, subject). Logins and e-mail addresses are shown to people and matched by access
// rules, but never identify anybody: both can be given up and taken by somebody else.
package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// A Provider is one way to sign in. Build one with [GitHub]; the fields are read-only afterwards.
type Provider struct {
	// ID is the path segment of /callback/{id}: each provider has a redirect URI of its own, so that one provider's
	// answer can never be taken for another's (RFC 9700 section 4.4).
	ID string
	// Name is what buttons say: "GitHub".
	Name string
	// IdentityIssuer is the issuer half of every identity from this provider.
	IdentityIssuer string
	// ResponseIssuer is what the callback's iss parameter must equal when it is present (RFC 9207 section 2.4).
	ResponseIssuer string
	// APIURL is the base address of the provider's API, without a trailing slash.
	APIURL string
	// Scopes are what every sign-in asks for, so that we learn who the person is.
	Scopes []string

	clientID, clientSecret string
	endpoint               oauth2.Endpoint
	client                 *http.Client
	timeout                time.Duration // for each of Exchange, Identify and Discard as a whole
	identify               func(context.Context, *Provider, *Token) (Identity, error)
	discard                func(context.Context, *Provider, *Token) error
	// implied names the scopes that a granted scope includes: GitHub leaves those out of its answer.
	implied map[string][]string
}

// An Identity is who signed in.
type Identity struct {
	Provider string   // Provider.ID
	Issuer   string   // Provider.IdentityIssuer
	Subject  string   // the provider's immutable id for the person
	Login    string   // for display and for rules; may change hands
	Name     string   // for display; may be empty
	Emails   []string // verified addresses only, lower-case, the primary one first
}

// UserID is the SHA-256 of (issuer, subject). Whoever rewrites the stored issuer or subject of a user is found out,
// because the id no longer matches.
func (i Identity) UserID() [sha256.Size]byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(i.Issuer)))
	b = append(b, i.Issuer...)
	return sha256.Sum256(append(b, i.Subject...))
}

// A Token is what the provider gave us for a person. It is stored sealed, as JSON.
type Token struct {
	Access        string    `json:"access"`
	Refresh       string    `json:"refresh,omitempty"`
	Expiry        time.Time `json:"expiry,omitzero"`         // zero: does not expire
	RefreshExpiry time.Time `json:"refresh_expiry,omitzero"` // zero: not said
	Scopes        []string  `json:"scopes"`                  // really granted, sorted, without duplicates
}

// AuthCodeURL returns the address at the provider where a sign-in begins. The scopes asked for are p.Scopes and the
// given ones, and they are always sent: without any, GitHub silently grants all that the person ever granted before.
// The verifier is a PKCE code verifier (RFC 7636), whose S256 challenge is sent. The nonce is for providers that issue
// ID tokens; GitHub does not.
func (p *Provider) AuthCodeURL(redirectURI, state, verifier, nonce string, scopes []string) string {
	c := p.config(redirectURI)
	c.Scopes = sortedSet(slices.Concat(p.Scopes, scopes))
	return c.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))
}

// Exchange redeems the code of a callback. It sends one request, whatever happens: a code that may have reached the
// provider is spent. The redirectURI and the verifier are those given to [Provider.AuthCodeURL].
//
// Errors are of type [*Error].
func (p *Provider) Exchange(ctx context.Context, redirectURI, code, verifier string) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	// x/oauth2 reads at most 1 MiB of the answer.
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.client)
	t, err := p.config(redirectURI).Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, p.tokenError(err)
	}
	granted, _ := t.Extra("scope").(string)
	return &Token{
		Access:        t.AccessToken,
		Refresh:       t.RefreshToken,
		Expiry:        t.Expiry,
		RefreshExpiry: after(t.Extra("refresh_token_expires_in")),
		Scopes:        sortedSet(strings.FieldsFunc(granted, func(r rune) bool { return r == ',' || r == ' ' })),
	}, nil
}

// Identify asks the provider whose token it is. The nonce is the one given to [Provider.AuthCodeURL].
//
// Errors are of type [*Error].
func (p *Provider) Identify(ctx context.Context, t *Token, nonce string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.identify(ctx, p, t)
}

// Discard deletes a token at the provider, for a sign-in that is refused: a token that nobody keeps would still push
// another one out of the ten that GitHub allows. The person's other tokens live on. A token that is already dead is
// not an error.
//
// Errors are of type [*Error].
func (p *Provider) Discard(ctx context.Context, t *Token) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.discard(ctx, p, t)
}

// Covers reports whether the token's scopes include want, in their own right or through a broader one.
func (p *Provider) Covers(t *Token, want string) bool {
	return slices.ContainsFunc(t.Scopes, func(s string) bool {
		return s == want || slices.Contains(p.implied[s], want)
	})
}

// ServesAPI reports whether u is on the origin of the provider's API: the only place that may see the person's token.
func (p *Provider) ServesAPI(u *url.URL) bool {
	api, err := url.Parse(p.APIURL)
	return err == nil && u.Host != "" && origin(u) == origin(api)
}

func (p *Provider) config(redirectURI string) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     p.clientID,
		ClientSecret: p.clientSecret,
		Endpoint:     p.endpoint,
		RedirectURL:  redirectURI,
	}
}

func origin(u *url.URL) string {
	ports := map[string]string{"http": "80", "https": "443"}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + cmp.Or(u.Port(), ports[u.Scheme])
}

// after reads a number of seconds from now: a float64 in JSON, an int64 in a form, or a string in either.
func after(seconds any) time.Time {
	var n int64
	switch v := seconds.(type) {
	case int64:
		n = v
	case float64:
		n = int64(v)
	case string:
		n, _ = strconv.ParseInt(v, 10, 64)
	}
	if n <= 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(n) * time.Second)
}

func sortedSet(s []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(s)))
}
