package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// githubID is the ID of the provider that [GitHub] returns.
const githubID = "github"

// GitHubConfig describes an OAuth App or a GitHub App at github.com, at SUB.ghe.com, or on a GitHub Enterprise Server.
type GitHubConfig struct {
	ClientID     string // required
	ClientSecret string // required
	URL          string // the web address, an origin; empty: https://github.com
	APIURL       string // empty: derived from URL as GitHub documents it
	// Organizations makes every sign-in ask for read:org, which rules about organizations need. See [Rules.AskGitHub].
	Organizations bool
}

// GitHub returns the provider for an OAuth App or a GitHub App. GitHub has no discovery document that holds on every
// edition, and no ID tokens: addresses follow from the host, and the person is whoever the API says.
//
// The two kinds of app differ in their tokens alone. An OAuth App's have scopes, and expire only if the app is set up
// so. A GitHub App's have the permissions that stand on the app's page, whatever was asked for, and their answer names
// no scopes: they count as granted all that was asked, and an API call beyond the permissions gets GitHub's own 403.
//
// Its errors name the environment variable that is wrong, all of them at once, with an example.
func GitHub(c GitHubConfig) (*Provider, error) {
	var errs []error
	if c.ClientID == "" {
		errs = append(errs, errors.New("GITHUB_CLIENT_ID is empty; a client id looks like Ov23liAbCdEfGhIjKlMn"))
	}
	if c.ClientSecret == "" {
		errs = append(errs, errors.New("GITHUB_CLIENT_SECRET is empty; generate one on the page of your app"))
	}
	if c.URL == "" {
		c.URL = "https://github.com"
	}
	web, err := parseBase(c.URL)
	switch {
	case err != nil:
	case web.Path != "":
		err = errors.New("it has a path")
	case web.Host == "www.github.com":
		err = errors.New("GitHub's own address is https://github.com")
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("GITHUB_URL: %w; an example: GITHUB_URL=https://github.example.com", err))
	} else if c.APIURL == "" {
		c.APIURL = githubAPI(web)
	}
	api, err := parseBase(c.APIURL)
	if err != nil && c.APIURL != "" {
		const example = "https://github.example.com/api/v3"
		errs = append(errs, fmt.Errorf("GITHUB_API_URL: %w; an example: GITHUB_API_URL=%s", err, example))
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	scopes := []string{"read:user", "user:email"}
	if c.Organizations {
		scopes = append(scopes, readOrg)
	}
	base := web.String()
	return &Provider{
		ID:             githubID,
		Name:           "GitHub",
		IdentityIssuer: base,
		ResponseIssuer: base + "/login/oauth",
		APIURL:         api.String(),
		Scopes:         scopes,
		clientID:       c.ClientID,
		clientSecret:   c.ClientSecret,
		endpoint: oauth2.Endpoint{
			AuthURL:  base + "/login/oauth/authorize",
			TokenURL: base + "/login/oauth/access_token",
			// Left unset, x/oauth2 would try both styles and post the code a second time after any error.
			AuthStyle: oauth2.AuthStyleInParams,
		},
		client:   newClient(),
		timeout:  timeout,
		now:      time.Now,
		identify: identifyGitHub,
		identifyAgain: func(ctx context.Context, p *Provider, t *Token, _ Identity) (Identity, error) {
			return identifyGitHub(ctx, p, t, "")
		},
		whose:     func(_ context.Context, p *Provider) (string, error) { return p.APIURL + "/user", nil },
		discard:   discardGitHub,
		revoke:    revokeGitHub,
		grantsAll: func(access string, _ any) bool { return strings.HasPrefix(access, "ghu_") },
		implied:   githubImplied,
	}, nil
}

// githubImplied is the indentation of the list in GitHub's "Scopes for OAuth apps".
var githubImplied = map[string][]string{
	"user":             {"read:user", "user:email", "user:follow"},
	"repo":             {"public_repo", "repo:status", "repo_deployment", "repo:invite", "security_events"},
	"admin:org":        {"write:org", "read:org", "manage_runners:org"},
	"write:org":        {"read:org"},
	"admin:repo_hook":  {"write:repo_hook", "read:repo_hook"},
	"write:repo_hook":  {"read:repo_hook"},
	"admin:public_key": {"write:public_key", "read:public_key"},
	"write:public_key": {"read:public_key"},
	"admin:gpg_key":    {"write:gpg_key", "read:gpg_key"},
	"write:gpg_key":    {"read:gpg_key"},
	"project":          {"read:project"},
	"write:packages":   {"read:packages"},
	"write:discussion": {"read:discussion"},
	"audit_log":        {"read:audit_log"},
	"codespace":        {"codespace:secrets"},
	"admin:enterprise": {"manage_runners:enterprise", "manage_billing:enterprise", "read:enterprise"},
}

// githubAPI derives the address of the REST API from that of the web site.
func githubAPI(web *url.URL) string {
	switch sub, ghe := strings.CutSuffix(web.Host, ".ghe.com"); {
	case web.Host == "github.com":
		return "https://api.github.com"
	case ghe && !strings.Contains(sub, "."):
		return "https://api." + web.Host
	}
	return web.String() + "/api/v3"
}

// identifyGitHub reads GET /user and GET /user/emails. The numeric id is the subject: logins are given up and taken by
// others. The e-mail address in /user is not looked at: it is the public one, and may be unverified.
func identifyGitHub(ctx context.Context, p *Provider, t *Token, _ string) (Identity, error) {
	var user struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Name  string `json:"name"`
	}
	const op = "asking who signed in"
	if _, err := p.get(ctx, t, op, p.APIURL+"/user", &user); err != nil {
		return Identity{}, err
	}
	if user.ID <= 0 || user.Login == "" {
		return Identity{}, &Error{Provider: p.ID, Op: op, Reason: "the answer names nobody", kind: ErrUnavailable}
	}
	emails, err := githubEmails(ctx, p, t)
	var lost []string
	if e := new(Error); errors.As(err, &e) && !errors.Is(err, ErrUnavailable) &&
		(e.Status == http.StatusForbidden || e.Status == http.StatusNotFound) {
		// The person withheld the scope user:email, or the GitHub App lacks the permission.
		lost, err = []string{"all e-mail addresses: " + e.Error()}, nil
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		Provider: p.ID,
		Issuer:   p.IdentityIssuer,
		Subject:  strconv.FormatInt(user.ID, 10),
		Login:    user.Login,
		Name:     user.Name,
		Emails:   emails,
		Lost:     lost,
	}, nil
}

// githubEmails returns the verified addresses, the primary one first. GitHub answers 404 to who may not know them, or
// 403 to a GitHub App.
func githubEmails(ctx context.Context, p *Provider, t *Token) ([]string, error) {
	const op = "asking for e-mail addresses"
	const maxPages = 10
	var emails []string
	next := p.APIURL + "/user/emails?per_page=100"
	for range maxPages {
		var page []struct {
			Email    string `json:"email"`
			Primary  bool   `json:"primary"`
			Verified bool   `json:"verified"`
		}
		header, err := p.get(ctx, t, op, next, &page)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			address := lowerASCII(e.Email)
			switch {
			case !e.Verified || slices.Contains(emails, address):
			case e.Primary:
				emails = slices.Insert(emails, 0, address)
			default:
				emails = append(emails, address)
			}
		}
		if next = nextPage(header); next == "" {
			return emails, nil
		}
		// A link to anywhere else would carry the person's token there.
		if u, err := url.Parse(next); err != nil || !p.ServesAPI(u) {
			return nil, &Error{Provider: p.ID, Op: op, Reason: "the next page is not on the API", kind: ErrMisconfigured}
		}
	}
	return nil, &Error{Provider: p.ID, Op: op, Reason: fmt.Sprintf("more than %d pages", maxPages)}
}

// nextPage returns the target of rel="next" in a Link header (RFC 8288), as GitHub writes it; empty if there is none.
func nextPage(h http.Header) string {
	for link := range strings.SplitSeq(h.Get("Link"), ",") {
		target, params, _ := strings.Cut(link, ";")
		target = strings.TrimSpace(target)
		if strings.Contains(params, `rel="next"`) && strings.HasPrefix(target, "<") && strings.HasSuffix(target, ">") {
			return target[1 : len(target)-1]
		}
	}
	return ""
}

// lowerASCII leaves all but A-Z alone. strings.ToLower maps the Kelvin sign to k: somebody could own, and have
// verified, an address that becomes another person's.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// discardGitHub is DELETE /applications/{client_id}/token. A token that is not there is as good as deleted.
func discardGitHub(ctx context.Context, p *Provider, t *Token) error {
	err := p.deleteGitHub(ctx, t, "/token", "discarding a token")
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// revokeGitHub is DELETE /applications/{client_id}/grant.
func revokeGitHub(ctx context.Context, p *Provider, t *Token) error {
	return p.deleteGitHub(ctx, t, "/grant", "revoking the authorization")
}

// deleteGitHub deletes, as the app, the token or what it stands for.
func (p *Provider) deleteGitHub(ctx context.Context, t *Token, what, op string) error {
	body, err := json.Marshal(map[string]string{"access_token": t.Access})
	if err != nil {
		return err
	}
	address := p.APIURL + "/applications/" + url.PathEscape(p.clientID) + what
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(p.clientID, p.clientSecret)
	req.Header.Set("Content-Type", "application/json")
	_, err = p.call(req, op, nil, t.Access)
	return err
}
