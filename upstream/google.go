package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// googleID is the ID of the provider that [Google] returns.
const googleID = "google"

// GoogleConfig describes a client of the type "Web application" at Google.
type GoogleConfig struct {
	ClientID     string // required
	ClientSecret string // required
	Issuer       string // empty: Google itself; else a stand-in
	APIURL       string // empty: https://www.googleapis.com
}

// Google returns the provider for a client at Google. An identity has the claim hd as its HostedDomain.
//
// Where more is asked for than who the person is, tools will act as them, so that a refresh token is needed. Google
// gives one only to those who ask for offline access, and only along with a consent page, so both are asked for every
// time: at a sign-in, what an earlier one got cannot be read (it is sealed to that client's tokens). The scope
// offline_access of other providers is an error at Google.
//
// Tokens are not discarded: revoking one at Google ends all that the person ever granted the project.
//
// Its errors name the environment variable that is wrong, all of them at once, with an example.
func Google(c GoogleConfig) (*Provider, error) {
	var errs []error
	if !strings.HasSuffix(c.ClientID, ".apps.googleusercontent.com") {
		errs = append(errs, errors.New("GOOGLE_CLIENT_ID is not a Google client id; one looks like "+
			"1234567890-abc123.apps.googleusercontent.com"))
	}
	if c.ClientSecret == "" {
		errs = append(errs, errors.New("GOOGLE_CLIENT_SECRET is empty; it begins with GOCSPX- on the page of the client"))
	}
	c.Issuer = cmp.Or(c.Issuer, "https://accounts.google.com")
	c.APIURL = cmp.Or(c.APIURL, "https://www.googleapis.com")
	for _, address := range []string{c.Issuer, c.APIURL} {
		if _, err := parseBase(address); err != nil {
			errs = append(errs, fmt.Errorf("the address of Google %q: %w", address, err))
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	p := newOIDC(c.Issuer, c.ClientID, c.ClientSecret, oauth2.AuthStyleInParams)
	p.ID, p.Name, p.Scopes, p.APIURL = googleID, "Google", signInScopes, c.APIURL
	p.grantsAll = func(string, any) bool { return false } // Google always says what was granted
	p.domainClaim = "hd"
	p.offline = func(scopes []string) bool { return !slices.Equal(scopes, p.askFor(nil)) }
	p.revoke = revokeGoogle
	// Asked for the short names, Google answers with the long ones.
	p.aliases = map[string]string{
		"https://www.googleapis.com/auth/userinfo.email":   "email",
		"https://www.googleapis.com/auth/userinfo.profile": "profile",
	}
	return p, nil
}

// revokeGoogle is RFC 7009 in form only: whichever token is sent, Google ends all that the person granted the project.
func revokeGoogle(ctx context.Context, p *Provider, t *Token) error {
	m, err := p.metadata(ctx)
	if err != nil {
		return err
	}
	form := url.Values{"token": {t.Access}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.RevocationURL, strings.NewReader(form))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = p.call(req, "revoking the authorization", nil, t.Access)
	return err
}
