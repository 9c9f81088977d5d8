package upstream

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// entraHosts are where Microsoft signs people in: in most of the world, for the US government, and in China.
var entraHosts = []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"}

// entraTenant is the path of a tenant's issuer. The tenant's id must be in it: documents at another spelling of the
// tenant, such as its domain, name an issuer that is not the one that was asked for.
var entraTenant = regexp.MustCompile(`^/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/v2\.0$`)

const (
	exampleIssuer = "OIDC_ISSUER=https://example.eu.auth0.com/"
	exampleTenant = "/00000000-0000-0000-0000-000000000000/v2.0"
	// Everybody with a personal Microsoft account is in this tenant.
	consumersTenant = "/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
)

// parseIssuer reads OIDC_ISSUER. The slash at its end counts.
func parseIssuer(raw string) (*url.URL, error) {
	u, err := parseBase(raw)
	if err != nil {
		return nil, fmt.Errorf("OIDC_ISSUER: %w; for example %s", err, exampleIssuer)
	}
	if strings.HasSuffix(raw, "/") {
		u.Path += "/"
	}
	if problem, example := checkIssuer(u); problem != "" {
		return nil, fmt.Errorf("OIDC_ISSUER %s; for example %s", problem, example)
	}
	return u, nil
}

// checkIssuer returns what is wrong with an issuer that cannot work as it is written, and a setting that would. Nobody
// has to be asked for that, so it is found out at the start rather than at the first sign-in.
func checkIssuer(u *url.URL) (problem, example string) {
	entra := "OIDC_ISSUER=https://" + u.Host
	switch path := u.Path; {
	case strings.Contains(path, "/.well-known/"):
		return "is the address of a document; leave out everything from /.well-known on", exampleIssuer
	case u.Host == "github.com":
		return "is GitHub, which issues no ID tokens to people; leave it out, and set GITHUB_CLIENT_ID",
			"GITHUB_CLIENT_ID=Ov23liAbCdEfGhIjKlMn"
	case u.Host == "accounts.google.com" && path != "":
		return "has a path or slash that Google's issuer does not have", "OIDC_ISSUER=https://accounts.google.com"
	case strings.HasSuffix(u.Host, ".auth0.com") && path != "/":
		return "does not end as Auth0's issuers do, with a slash after the host", exampleIssuer
	case !slices.Contains(entraHosts, u.Host) || entraTenant.MatchString(path):
		return "", ""
	case strings.HasPrefix(path, "/consumers"):
		return "must name the tenant of personal Microsoft accounts by its id", entra + consumersTenant
	case strings.HasPrefix(path, "/common"), strings.HasPrefix(path, "/organizations"):
		return "stands for any tenant of Entra, and anybody can make one; name yours by its id", entra + exampleTenant
	}
	return "must be your Entra tenant's id, in lower case, and then /v2.0", entra + exampleTenant
}
