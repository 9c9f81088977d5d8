package upstream_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

const (
	entraTenant = "/11111111-2222-3333-4444-555555555555/v2.0"
	entraIssuer = "https://login.microsoftonline.com" + entraTenant
)

// elsewhere sends requests for an issuer to the development provider.
type elsewhere struct{ issuer, address string }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := url.Parse(strings.Replace(r.URL.String(), e.issuer, e.address, 1))
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL, r.Host = at, ""
	return http.DefaultTransport.RoundTrip(r)
}

// A vendor is the development provider under an issuer's name, which can differ from its own.
type vendor struct {
	*testing.T
	idp      *devidp.Server
	provider *upstream.Provider
	elsewhere
}

func newVendor(t *testing.T, issuer string) *vendor {
	t.Helper()
	idp, err := devidp.Start(devidp.Config{BaseURL: "http://localhost:20700", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { idp.Close() })
	c := idp.OIDC()
	v := &vendor{t, idp, nil, elsewhere{issuer, c.Issuer}}
	c.Issuer = issuer
	if v.provider, err = upstream.OIDC(c); err != nil {
		t.Fatal(err)
	}
	v.provider.SetTransport(v.elsewhere)
	idp.Lie(devidp.Metadata, func(m map[string]any) {
		for name, value := range m {
			if s, ok := value.(string); ok {
				m[name] = strings.Replace(s, v.address, issuer, 1)
			}
		}
	})
	return v
}

// signIn signs octocat in. The function changes the claims of the ID token.
func (v *vendor) signIn(change func(claims map[string]any)) (upstream.Identity, error) {
	v.Helper()
	const callback = "http://localhost:20700/callback/oidc"
	v.idp.Lie(devidp.IDToken, func(c map[string]any) {
		c["iss"] = v.issuer
		change(c)
	})
	address, err := v.provider.AuthCodeURL(v.Context(), callback, "state", "verifier", "nonce", nil, false)
	if err != nil {
		v.Fatal(err)
	}
	page, request, _ := strings.Cut(strings.Replace(address, v.issuer, v.address, 1), "?")
	form := url.Values{"request": {request}, "login": {"octocat"}, "decision": {"authorize"}}
	req, err := http.NewRequest(http.MethodPost, page, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {v.idp.URL()}}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		v.Fatal(err)
	}
	res.Body.Close()
	back, err := res.Location()
	if err != nil {
		v.Fatal(err)
	}
	token, err := v.provider.Exchange(v.Context(), callback, back.Query().Get("code"), "verifier", nil)
	if err != nil {
		v.Fatal(err)
	}
	return v.provider.Identify(v.Context(), token, "nonce")
}

// TestEntraVerifiesByEDOV checks the claim in which Entra says that a domain's owner has verified an address. At
// another issuer, the user might have chosen the claim of that name.
func TestEntraVerifiesByEDOV(t *testing.T) {
	const other = "https://login.microsoftonline.com.evil.example" + entraTenant
	for _, tt := range []struct {
		name           string
		issuer         string
		edov, verified any // xms_edov and email_verified; nil means absent
		want           bool
	}{
		{"true", entraIssuer, true, nil, true},
		{"1", entraIssuer, 1, nil, true},
		{`"1"`, entraIssuer, "1", nil, true},
		{`"true"`, entraIssuer, "true", nil, true},
		{"Entra for the US government", "https://login.microsoftonline.us" + entraTenant, true, nil, true},
		{"false", entraIssuer, false, nil, false},
		{"0", entraIssuer, 0, nil, false},
		{"a list", entraIssuer, []bool{true}, nil, false},
		{"absent", entraIssuer, nil, nil, false},
		{"email_verified goes first", entraIssuer, true, false, false},
		{"another issuer's", other, true, nil, false},
		{"control: another issuer's email_verified", other, nil, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVendor(t, tt.issuer)
			v.idp.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "email_verified") })
			tell := func(c map[string]any) {
				delete(c, "email_verified")
				if tt.edov != nil {
					c["xms_edov"] = tt.edov
				}
				if tt.verified != nil {
					c["email_verified"] = tt.verified
				}
			}
			if id, err := v.signIn(tell); err != nil || (len(id.Emails) == 1) != tt.want {
				t.Errorf("got %q, %v, want verified: %t", id.Emails, err, tt.want)
			}
			id, err := v.signIn(func(c map[string]any) { tell(c); delete(c, "email") })
			if err != nil || id.Emails != nil {
				t.Errorf("the address is in userinfo alone, and another: got %q, %v", id.Emails, err)
			}
		})
	}
}

// TestIssuersThatCannotWork checks that start-up finds the problems that the first sign-in would find.
func TestIssuersThatCannotWork(t *testing.T) {
	for _, tt := range []struct{ issuer, problem, example string }{
		{entraIssuer, "", ""}, // valid issuers
		{"https://login.microsoftonline.us" + entraTenant, "", ""},
		{"https://example.eu.auth0.com/", "", ""},
		{"https://accounts.google.com", "", ""},
		{"https://id.example.com/realms/acme", "", ""},
		{"https://id.example.com/common/v2.0", "", ""},

		{"https://login.microsoftonline.com/common/v2.0", "any tenant", "/00000000-0000-0000-0000-000000000000/v2.0"},
		{"https://login.microsoftonline.com/organizations/v2.0", "any tenant", "-000000000000/v2.0"},
		{"https://login.microsoftonline.com/consumers/v2.0", "personal", "/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"},
		{"https://login.microsoftonline.com/acme.onmicrosoft.com/v2.0", "tenant's id", "-000000000000/v2.0"},
		{"https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555", "then /v2.0", "-000000000000/v2.0"},
		{entraIssuer + "/", "then /v2.0", "-000000000000/v2.0"},
		{"https://login.microsoftonline.com/AAAAAAAA-2222-3333-4444-555555555555/v2.0", "lower case", "/v2.0"},
		{"https://login.microsoftonline.com", "tenant's id", "https://login.microsoftonline.com/00000000-"},
		{"https://LOGIN.microsoftonline.com/common/v2.0", "any tenant", "https://login.microsoftonline.com/00000000-"},
		{"https://id.example.com/.well-known/openid-configuration", "from /.well-known on", "https://example.eu.auth0.com/"},
		{entraIssuer + "/.well-known/openid-configuration", "from /.well-known on", "https://example.eu.auth0.com/"},
		{"https://example.eu.auth0.com", "slash", "https://example.eu.auth0.com/"},
		{"https://accounts.google.com/", "slash", "https://accounts.google.com"},
		{"https://github.com", "no ID tokens", "GITHUB_CLIENT_ID=Ov23li"},
	} {
		_, err := upstream.OIDC(upstream.OIDCConfig{Issuer: tt.issuer, ClientID: "id", ClientSecret: "secret"})
		if tt.problem == "" {
			if err != nil {
				t.Errorf("control: %s: got %v", tt.issuer, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: got no error", tt.issuer)
			continue
		}
		for _, want := range []string{"OIDC_ISSUER", tt.problem, "; for example ", tt.example} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want it to say %q", tt.issuer, err, want)
			}
		}
	}
}
