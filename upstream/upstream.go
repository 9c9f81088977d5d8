// Package upstream identifies users and decides whether they have access.
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

// A Provider is one way to sign in. Build one with [GitHub], [Google] or [OIDC]; the fields are read-only afterwards.
// Building one calls nobody, so a provider that is down does not keep the server from starting.
type Provider struct {
	// ID is the path segment of /callback/{id}. Each provider has its own redirect URI, so that one provider's response
	// is never mistaken for another's (RFC 9700 section 4.4).
	ID string
	// Name is the text on buttons: "GitHub".
	Name string
	// IdentityIssuer is the issuer half of every identity from this provider.
	IdentityIssuer string
	// ResponseIssuer is the required value of the callback's iss parameter, if it is present (RFC 9207 section 2.4).
	ResponseIssuer string
	// APIURL is the base URL of the provider's API, without a trailing slash; empty if it has none.
	APIURL string
	// Scopes are requested at every sign-in to identify the user.
	Scopes []string

	clientID, clientSecret string
	endpoint               oauth2.Endpoint // unless there is a discovery
	discovery              *discovery      // nil: the endpoint is known
	client                 *http.Client
	timeout                time.Duration // for each call that a method stands for, as a whole
	now                    func() time.Time
	identify               func(ctx context.Context, p *Provider, t *Token, nonce string) (Identity, error)
	identifyAgain          func(ctx context.Context, p *Provider, t *Token, was Identity) (Identity, error)
	discard                func(context.Context, *Provider, *Token) error // nil: nothing to be done
	revoke                 func(context.Context, *Provider, *Token) error // nil: the provider has no way to
	// whose returns the address that tells whose a token is, and thus whether it is alive; empty: there is none.
	whose func(context.Context, *Provider) (string, error)
	// offline reports whether a sign-in with these scopes asks for offline access, with consent. Nil: none does.
	offline func(scopes []string) bool
	// grantsAll reports whether an answer without scopes, be its scope member missing (nil) or empty, means that all
	// were granted that had been asked for.
	grantsAll func(access string, scope any) bool
	// groupsClaim and domainClaim are claims of an OpenID Connect provider: the one that lists a person's groups, and the
	// one that says which organization the account belongs to. Empty: it has none.
	groupsClaim, domainClaim string
	entra                    bool // Microsoft is the issuer
	// aliases are the provider's other names for scopes, and what we call them.
	aliases map[string]string
	// implied names the scopes that a granted scope includes: GitHub leaves those out of its answer.
	implied map[string][]string
}

// An Identity describes the user who signed in.
type Identity struct {
	Provider string   // Provider.ID
	Issuer   string   // Provider.IdentityIssuer
	Subject  string   // the provider's immutable id for the user
	Login    string   // for display and for rules; may change hands
	Name     string   // for display; may be empty
	Emails   []string // verified addresses only, lower-case, the primary one first
	// HostedDomain is the Google Workspace organization that the account belongs to, the hd claim. It is empty
	// if there is none. Unlike an address's domain, it cannot be had by opening a consumer account with such an address.
	HostedDomain string
	Groups       []string // of the OIDC provider's groups claim
	// Memberships are GitHub's responses about the organizations and teams that rules name, keyed by "github-org:acme".
	// Memberships that were not requested are missing.
	Memberships map[string]Standing
	// Pinned is the login that ALLOW knows the account by, in lower case. It is set when the provider says that the
	// account has a login that an ALLOW rule names, and stays while a rule names it. So the rule still matches
	// that account after a rename, and not the next user of the login. Empty if no rule names the account.
	Pinned string
	// FormerLogins are the logins that the account had here before, in lower case. Only DENY uses them.
	FormerLogins []string
	// Lost lists the data of the provider's response that was dropped, and why. It is for the log and is not stored.
	Lost []string
}

// maxFormerLogins limits the former logins that are stored per account.
const maxFormerLogins = 50

// Remember adds this server's own data on an account to the provider's: its pin and its former logins.
func (i *Identity) Remember(was Identity) {
	i.Pinned, i.FormerLogins = was.Pinned, was.FormerLogins
	login := lowerASCII(was.Login)
	if login == "" || login == lowerASCII(i.Login) || slices.Contains(was.FormerLogins, login) {
		return
	}
	i.FormerLogins = append(slices.Clone(was.FormerLogins), login)
	if extra := len(i.FormerLogins) - maxFormerLogins; extra > 0 {
		i.FormerLogins = i.FormerLogins[extra:]
	}
}

// UserID is the SHA-256 of (issuer, subject). A rewritten issuer or subject in the store is detected, because the
// id no longer matches.
func (i Identity) UserID() [sha256.Size]byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(i.Issuer)))
	b = append(b, i.Issuer...)
	return sha256.Sum256(append(b, i.Subject...))
}

// A Token holds the provider's tokens for a user. It is stored sealed, as JSON.
type Token struct {
	Access        string    `json:"access"`
	Refresh       string    `json:"refresh,omitempty"`
	Expiry        time.Time `json:"expiry,omitzero"`         // zero if it does not expire
	RefreshExpiry time.Time `json:"refresh_expiry,omitzero"` // zero if unknown
	Scopes        []string  `json:"scopes"`                  // really granted, sorted, without duplicates
	IDToken       string    `json:"-"`                       // only for Identify; not stored
}

// AuthCodeURL returns the URL at the provider where a sign-in begins. The scopes asked for are p.Scopes and the
// given ones, and they are always sent: without any, GitHub silently grants all that the user ever granted before.
// The verifier is a PKCE code verifier (RFC 7636), whose S256 challenge is sent, also to providers that do not say that
// they know PKCE. The nonce is for providers that issue ID tokens; GitHub does not. Another says that the person wants
// to choose an account, where a provider that knows them already would answer without a question.
//
// Errors are of type [*Error]: the provider's addresses may have to be asked for first.
func (p *Provider) AuthCodeURL(ctx context.Context, redirectURI, state, verifier, nonce string, scopes []string,
	another bool) (string, error) {
	c, err := p.config(ctx, redirectURI)
	if err != nil {
		return "", err
	}
	c.Scopes = p.askFor(scopes)
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	if p.discovery != nil {
		options = append(options, oauth2.SetAuthURLParam("nonce", nonce))
	}
	var prompts []string // a list by the specification, one parameter in the URL
	if another {
		prompts = append(prompts, p.accountPrompt(ctx))
	}
	if p.offline != nil && p.offline(c.Scopes) {
		options = append(options, oauth2.AccessTypeOffline)
		prompts = append(prompts, "consent")
	}
	if prompts != nil {
		options = append(options, oauth2.SetAuthURLParam("prompt", strings.Join(prompts, " ")))
	}
	return c.AuthCodeURL(state, options...), nil
}

// accountPrompt returns the prompt that lets a person change accounts (OpenID Connect Core 1.0 section 3.1.2.1). Only
// login is known everywhere: Clerk, GitLab and others answer select_account with an error. Google is the other way
// round.
func (p *Provider) accountPrompt(ctx context.Context) string {
	if p.ID == oidcID {
		if m, err := p.metadata(ctx); err != nil || !slices.Contains(m.Prompts, "select_account") {
			return "login"
		}
	}
	return "select_account"
}

// Unavailable reports whether sign-ins with the provider are currently known to fail.
func (p *Provider) Unavailable() bool { return p.discovery != nil && p.discovery.failing(p.now()) }

// CheckIssuer compares the iss parameter of a callback, which is empty if there was none, before its code is used:
// the code may be another provider's (RFC 9207 section 2.4). A provider that says it always sends iss must have.
//
// Errors are of type [*Error].
func (p *Provider) CheckIssuer(ctx context.Context, iss string) error {
	e := &Error{Provider: p.ID, Op: "checking who answered", kind: ErrBadAnswer}
	switch {
	case iss == p.ResponseIssuer:
		return nil
	case iss != "":
		e.Reason, e.Said = "iss is not "+p.ResponseIssuer, quote(iss, nil)
		return e
	case p.discovery == nil:
		return nil
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return err
	}
	if m.SendsIssuer {
		e.Reason = "iss is missing, which this provider always sends"
		return e
	}
	return nil
}

// Exchange redeems the code of a callback. It sends one request, whatever happens: a code that may have reached the
// provider is spent. The redirectURI, the verifier and the scopes are those given to [Provider.AuthCodeURL].
//
// Errors are of type [*Error].
func (p *Provider) Exchange(ctx context.Context, redirectURI, code, verifier string, scopes []string) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	c, err := p.config(ctx, redirectURI)
	if err != nil {
		return nil, err
	}
	// x/oauth2 reads at most 1 MiB of the answer.
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.client)
	t, err := c.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, p.tokenError("exchanging the code", err, code, verifier)
	}
	var otherwise []string // what an answer without scopes means
	if p.grantsAll(t.AccessToken, t.Extra("scope")) {
		otherwise = p.askFor(scopes)
	}
	return p.token(t, otherwise), nil
}

// token reads the answer of a token endpoint.
func (p *Provider) token(t *oauth2.Token, otherwise []string) *Token {
	idToken, _ := t.Extra("id_token").(string)
	scope, _ := t.Extra("scope").(string)
	return &Token{
		Access:        t.AccessToken,
		Refresh:       t.RefreshToken,
		Expiry:        p.after(t.Extra("expires_in")),
		RefreshExpiry: p.after(t.Extra("refresh_token_expires_in")),
		Scopes:        p.granted(scope, otherwise),
		IDToken:       idToken,
	}
}

// granted returns the scopes that an answer names, by the names that they were asked for.
func (p *Provider) granted(answered string, otherwise []string) []string {
	scopes := strings.FieldsFunc(answered, func(r rune) bool { return r == ',' || r == ' ' })
	if len(scopes) == 0 {
		return sortedSet(otherwise)
	}
	scopes = slices.DeleteFunc(scopes, func(s string) bool { return !isPlain(s) }) // RFC 6749 section 3.3
	for i, s := range scopes {
		scopes[i] = cmp.Or(p.aliases[s], s)
	}
	scopes = sortedSet(scopes)
	for len(strings.Join(scopes, " ")) > maxScopes {
		scopes = scopes[:len(scopes)-1]
	}
	return scopes
}

// maxScopes is how many bytes of granted scopes are kept. They are in an index of the database, and an entry of
// PostgreSQL's has at most 2,704 bytes.
const maxScopes = 2000

// askFor returns the scopes of a sign-in that needs the given ones.
func (p *Provider) askFor(scopes []string) []string {
	return sortedSet(slices.Concat(p.Scopes, scopes))
}

// Identify returns the user of a token, from the provider's API or from the ID token that came with it. The nonce must
// be the nonce given to [Provider.AuthCodeURL].
//
// Errors are of type [*Error].
func (p *Provider) Identify(ctx context.Context, t *Token, nonce string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	id, err := p.identify(ctx, p, t, nonce)
	if err != nil {
		return Identity{}, err
	}
	return p.vet(id)
}

// IdentifyAgain fetches the current names of a user who signed in before, and the data that rules use. Memberships are
// left to [Provider.Admit].
//
// It returns [ErrOnlyAtSignIn] if the provider sends this data only at a sign-in. Other errors are of type [*Error]. If
// its Status is 401, the token is no longer valid.
func (p *Provider) IdentifyAgain(ctx context.Context, t *Token, was Identity) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	id, err := p.identifyAgain(ctx, p, t, was)
	if err == nil {
		id, err = p.vet(id)
	}
	if err == nil && id.Subject != was.Subject {
		err = &Error{Provider: p.ID, Op: "asking about somebody again", Reason: "the token is somebody else's",
			kind: ErrBadAnswer}
	}
	if err != nil {
		return Identity{}, err
	}
	id.Remember(was)
	return id, nil
}

// Discard deletes a token at the provider, for a sign-in that is refused: a token that nobody keeps would still push
// another one out of the ten that GitHub allows. The person's other tokens live on. A token that is already dead is
// not an error. Where the provider cannot delete one token alone, as Google, nothing happens.
//
// Errors are of type [*Error].
func (p *Provider) Discard(ctx context.Context, t *Token) error {
	if p.discard == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.discard(ctx, p, t)
}

// Revokes reports whether the provider can end a user's authorization of this server: see [Provider.Revoke].
func (p *Provider) Revokes() bool { return p.revoke != nil }

// Revoke ends, at the provider, the person's whole authorization of this server, with all tokens that came of it. The
// token must be alive. It is for a provider that [Provider.Revokes].
//
// Errors are of type [*Error].
func (p *Provider) Revoke(ctx context.Context, t *Token) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.revoke(ctx, p, t)
}

// SetClock replaces the system's clock, for tests. It is called before anything else.
func (p *Provider) SetClock(now func() time.Time) { p.now = now }

// Covers reports whether the token's scopes include want, in their own right or through a broader one.
func (p *Provider) Covers(t *Token, want string) bool {
	return slices.ContainsFunc(t.Scopes, func(s string) bool {
		return s == want || slices.Contains(p.implied[s], want)
	})
}

// Withheld returns the scopes that a sign-in with these requested and the token does not cover.
func (p *Provider) Withheld(t *Token, scopes []string) []string {
	var withheld []string
	for _, s := range p.askFor(scopes) {
		if !p.Covers(t, s) {
			withheld = append(withheld, s)
		}
	}
	return withheld
}

// ServesAPI reports whether u is on the origin of the provider's API: only it may receive the user's token.
func (p *Provider) ServesAPI(u *url.URL) bool {
	api, err := url.Parse(p.APIURL)
	return err == nil && p.APIURL != "" && u.Host != "" && origin(u) == origin(api)
}

func (p *Provider) config(ctx context.Context, redirectURI string) (*oauth2.Config, error) {
	c := &oauth2.Config{
		ClientID:     p.clientID,
		ClientSecret: p.clientSecret,
		Endpoint:     p.endpoint,
		RedirectURL:  redirectURI,
	}
	if p.discovery != nil {
		m, err := p.metadata(ctx)
		if err != nil {
			return nil, err
		}
		c.Endpoint = m.endpoint
	}
	return c, nil
}

func origin(u *url.URL) string {
	ports := map[string]string{"http": "80", "https": "443"}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + cmp.Or(u.Port(), ports[u.Scheme])
}

// after reads a number of seconds from now: a float64 in JSON, an int64 in a form, or a string in either.
func (p *Provider) after(seconds any) time.Time {
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
	n = min(n, 10*365*24*60*60) // so that no number overflows
	return p.now().Add(time.Duration(n) * time.Second)
}

func sortedSet(s []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(s)))
}
