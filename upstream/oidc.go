package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"golang.org/x/oauth2"
)

// oidcID is the ID of the provider that [OIDC] returns.
const oidcID = "oidc"

// OIDCConfig describes a client at an OpenID Connect provider: Auth0, Entra, Keycloak, Okta, Stytch, or any other that
// has a discovery document.
type OIDCConfig struct {
	Issuer       string   // required; as the discovery document spells it, with a slash at the end or without
	ClientID     string   // required
	ClientSecret string   // required
	Name         string   // on the button; empty: the issuer's host
	Scopes       []string // of every sign-in, with openid; empty: openid email profile
	AuthMethod   string   // of the token endpoint: basic or post; empty: as the metadata say
	// GroupsClaim is the claim that lists a person's groups, or the path to it through objects: realm_access.roles.
	// If it is empty, groups are not looked at.
	GroupsClaim string
}

// OIDC returns the provider for a client of an OpenID Connect provider. Its addresses are discovered when somebody
// first signs in.
//
// Its errors name the environment variable that is wrong, all of them at once, with an example.
func OIDC(c OIDCConfig) (*Provider, error) {
	var errs []error
	issuer, err := parseIssuer(c.Issuer)
	if err != nil {
		errs = append(errs, err)
	}
	if c.ClientID == "" {
		errs = append(errs, errors.New("OIDC_CLIENT_ID is empty; copy it from the page of the client at your provider"))
	}
	if c.ClientSecret == "" {
		errs = append(errs, errors.New("OIDC_CLIENT_SECRET is empty; copy it from the page of the client at your provider"))
	}
	if len(c.Scopes) == 0 {
		c.Scopes = signInScopes
	}
	if !slices.Contains(c.Scopes, "openid") {
		errs = append(errs, errors.New("OIDC_SCOPES must contain openid, or there is no ID token; "+
			"an example: OIDC_SCOPES=openid email profile"))
	}
	style, known := map[string]oauth2.AuthStyle{"": oauth2.AuthStyleAutoDetect, "basic": oauth2.AuthStyleInHeader,
		"post": oauth2.AuthStyleInParams}[c.AuthMethod]
	if !known {
		errs = append(errs, errors.New("OIDC_AUTH_METHOD is basic or post; leave it out to use what the provider says"))
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	p := newOIDC(c.Issuer, c.ClientID, c.ClientSecret, style)
	p.ID, p.Name, p.Scopes, p.groupsClaim = oidcID, cmp.Or(c.Name, issuer.Hostname()), c.Scopes, c.GroupsClaim
	p.entra = slices.Contains(entraHosts, issuer.Host)
	return p, nil
}

// signInScopes are what it takes to learn who somebody is (OpenID Connect Core 1.0 section 5.4).
var signInScopes = []string{"openid", "email", "profile"}

// newOIDC returns what all OpenID Connect providers have in common.
func newOIDC(issuer, clientID, clientSecret string, style oauth2.AuthStyle) *Provider {
	return &Provider{
		IdentityIssuer: issuer,
		ResponseIssuer: issuer,
		clientID:       clientID,
		clientSecret:   clientSecret,
		discovery:      newDiscovery(style),
		now:            time.Now,
		whose: func(ctx context.Context, p *Provider) (string, error) {
			m, err := p.metadata(ctx)
			if err != nil {
				return "", err
			}
			return m.UserinfoURL, nil
		},
		client:        newClient(),
		timeout:       timeout,
		identify:      identifyOIDC,
		identifyAgain: identifyOIDCAgain,
		// "If identical to the scope requested by the client", the answer may leave the scope out (RFC 6749 section 5.1).
		grantsAll: func(_ string, scope any) bool { return scope == nil },
	}
}

// identifyOIDC reads the person from the ID token. What a thin one lacks comes from the userinfo endpoint: Okta and
// others put little into ID tokens where there is also an access token.
func identifyOIDC(ctx context.Context, p *Provider, t *Token, nonce string) (Identity, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return Identity{}, err
	}
	id, c, err := p.verifyIDToken(ctx, m, t, nonce)
	if err != nil {
		return Identity{}, err
	}
	noEmail := slices.Contains(t.Scopes, "email") && (c.text("email") == "" || c["email_verified"] == nil)
	noGroups := p.groupsClaim != "" && c.at(p.groupsClaim) == nil
	if m.UserinfoURL != "" && (noEmail || noGroups) {
		more, err := p.userinfo(ctx, m.UserinfoURL, t, id.Subject)
		if err != nil {
			return Identity{}, err
		}
		if noEmail { // the address and what is said of it belong together
			c["email"], c["email_verified"] = more["email"], more["email_verified"]
		}
		if noGroups {
			c[p.groupsClaim] = more.at(p.groupsClaim)
		}
		for _, name := range []string{"name", "preferred_username"} {
			if c[name] == nil {
				c[name] = more[name]
			}
		}
	}
	return p.identity(c, id.Subject), nil
}

// identifyOIDCAgain reads the person from the userinfo endpoint. A claim that was there at the sign-in and is not any
// more may have changed, or stand nowhere but in ID tokens, as Entra's and Okta's groups do: that cannot be told apart.
func identifyOIDCAgain(ctx context.Context, p *Provider, t *Token, was Identity) (Identity, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return Identity{}, err
	}
	if m.UserinfoURL == "" {
		return Identity{}, ErrOnlyAtSignIn
	}
	c, err := p.userinfo(ctx, m.UserinfoURL, t, was.Subject)
	if err != nil {
		return Identity{}, err
	}
	if len(was.Emails) > 0 && (c["email"] == nil || c["email_verified"] == nil) ||
		was.HostedDomain != "" && c[p.domainClaim] == nil || len(was.Groups) > 0 && c.at(p.groupsClaim) == nil {
		return Identity{}, ErrOnlyAtSignIn
	}
	id := p.identity(c, was.Subject)
	if c.text("preferred_username") == "" {
		id.Login = was.Login
	}
	id.Name = cmp.Or(id.Name, was.Name)
	return id, nil
}

// identity returns the person whom the claims describe.
func (p *Provider) identity(c claims, subject string) Identity {
	email := lowerASCII(c.text("email"))
	identity := Identity{
		Provider: p.ID,
		Issuer:   p.IdentityIssuer,
		Subject:  subject,
		Login:    cmp.Or(c.text("preferred_username"), email, subject),
		Name:     c.text("name"),
	}
	if c.truth("email_verified") && email != "" {
		identity.Emails = []string{email}
	}
	if p.groupsClaim != "" {
		identity.Groups = list(c.at(p.groupsClaim))
		// Entra leaves out the groups of a person who has more than 200, and says where they are instead (OpenID Connect
		// Core 1.0 section 5.6.2).
		var elsewhere claims
		if json.Unmarshal(c["_claim_names"], &elsewhere) == nil && elsewhere[p.groupsClaim] != nil &&
			identity.Groups == nil {
			identity.Lost = append(identity.Lost, "all groups, because the provider says that they are elsewhere")
		}
	}
	if p.domainClaim != "" {
		identity.HostedDomain = c.text(p.domainClaim)
	}
	return identity
}

// withEDOV puts what Entra says of an address where all others say it. Entra sends no email_verified, but xms_edov: the
// domain's owner has verified it. Elsewhere a claim of that name may be whatever a person wrote into their profile.
func (p *Provider) withEDOV(c claims) claims {
	if p.entra && c["email_verified"] == nil && c["xms_edov"] != nil {
		yes := slices.Contains([]string{`true`, `"true"`, `1`, `"1"`}, string(c["xms_edov"]))
		c["email_verified"] = json.RawMessage(strconv.FormatBool(yes))
	}
	return c
}

// userinfo reads the claims of the userinfo endpoint (OpenID Connect Core 1.0 section 5.3). "The sub Claim in the
// UserInfo Response MUST be verified to exactly match the sub Claim in the ID Token" (section 5.3.2).
func (p *Provider) userinfo(ctx context.Context, address string, t *Token, subject string) (claims, error) {
	const op = "asking for userinfo"
	var c claims
	if _, err := p.get(ctx, t, op, address, &c); err != nil {
		return nil, err
	}
	switch sub := c.text("sub"); {
	case sub == "":
		return nil, &Error{Provider: p.ID, Op: op, Reason: "sub is missing, or not text", kind: ErrUnusable}
	case sub != subject:
		return nil, &Error{Provider: p.ID, Op: op, Reason: "it is about somebody else: another sub than the ID token's",
			kind: ErrBadAnswer}
	}
	return p.withEDOV(c), nil
}
