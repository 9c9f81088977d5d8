package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// metadata holds the used fields of a provider's discovery document (OpenID Connect Discovery 1.0 section 3).
type metadata struct {
	Issuer        string   `json:"issuer"`
	AuthURL       string   `json:"authorization_endpoint"`
	TokenURL      string   `json:"token_endpoint"`
	KeysURL       string   `json:"jwks_uri"`
	UserinfoURL   string   `json:"userinfo_endpoint"`   // may be empty
	RevocationURL string   `json:"revocation_endpoint"` // RFC 8414 section 2; may be empty
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	Prompts       []string `json:"prompt_values_supported"`                        // may be empty
	SendsIssuer   bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 section 3

	endpoint oauth2.Endpoint
	keys     oidc.KeySet
}

// A discovery finds a provider's metadata when they are first needed. A provider that does not answer is left alone for
// a while, and what it once said stays good until it says something else.
type discovery struct {
	authStyle oauth2.AuthStyle // AuthStyleAutoDetect: as the metadata say
	asking    singleflight.Group
	last      atomic.Pointer[discovered]
}

// discovered is the result of a request: metadata or an error.
type discovered struct {
	metadata *metadata
	err      error
	until    time.Time     // when to ask again
	wait     time.Duration // how long the provider was left alone after a failure
}

const (
	metadataLife = 24 * time.Hour
	minWait      = time.Second
	maxWait      = time.Minute
)

func newDiscovery(style oauth2.AuthStyle) *discovery {
	d := &discovery{authStyle: style}
	d.last.Store(&discovered{})
	return d
}

func (d *discovery) failing(now time.Time) bool {
	last := d.last.Load()
	return last.err != nil && now.Before(last.until)
}

// metadata returns what the provider says of itself. One caller asks for all. Those who have an older answer do not
// wait for the new one, and nobody waits for longer than they want to.
func (p *Provider) metadata(ctx context.Context) (*metadata, error) {
	last := p.discovery.last.Load()
	if p.now().Before(last.until) {
		return last.metadata, last.err
	}
	asking := p.discovery.asking.DoChan("", func() (any, error) { return p.ask(), nil })
	if last.metadata != nil {
		return last.metadata, nil
	}
	select {
	case answer := <-asking:
		next := answer.Val.(*discovered)
		return next.metadata, next.err
	case <-ctx.Done():
		return nil, &Error{Provider: p.ID, Op: discovering, Reason: describe(ctx.Err()), kind: ErrUnavailable}
	}
}

// ask asks the provider, unless somebody has just done so, and keeps the outcome. It depends on no caller's context,
// because the answer is for everybody.
func (p *Provider) ask() *discovered {
	last := p.discovery.last.Load()
	if p.now().Before(last.until) {
		return last
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	next := &discovered{until: p.now().Add(metadataLife)}
	if next.metadata, next.err = p.discover(ctx); next.err != nil {
		next.wait = min(max(minWait, 2*last.wait), maxWait)
		next.until = p.now().Add(next.wait)
		if last.metadata != nil {
			next.metadata, next.err = last.metadata, nil
		}
	} else if last.metadata != nil && last.metadata.KeysURL == next.metadata.KeysURL {
		next.metadata.keys = last.metadata.keys // with those that it has fetched
	}
	p.discovery.last.Store(next)
	return next
}

const discovering = "reading the discovery document"

// discover reads the discovery document.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	refuse := func(reason string) (*metadata, error) {
		return nil, &Error{Provider: p.ID, Op: discovering, Reason: reason, kind: ErrMisconfigured}
	}
	address := strings.TrimSuffix(p.IdentityIssuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	m := &metadata{}
	if _, err := p.call(req, discovering, m); err != nil {
		return nil, err
	}
	m.endpoint = oauth2.Endpoint{AuthURL: m.AuthURL, TokenURL: m.TokenURL, AuthStyle: p.discovery.authStyle}
	if m.endpoint.AuthStyle == oauth2.AuthStyleAutoDetect {
		m.endpoint.AuthStyle = authStyle(m.AuthMethods)
	}
	switch own := p.IdentityIssuer; {
	// "The issuer value returned MUST be identical to the Issuer URL that was used as the prefix" (section 4.3).
	case m.Issuer != own && strings.TrimSuffix(m.Issuer, "/") == strings.TrimSuffix(own, "/"):
		return refuse(fmt.Sprintf("the issuer is configured as %q, but calls itself %q: the slash counts", own, m.Issuer))
	case m.Issuer != own:
		return refuse(fmt.Sprintf("the issuer is configured as %q, but calls itself %q", own, m.Issuer))
	case !p.secure(m.AuthURL):
		return refuse("authorization_endpoint is missing or not https")
	case !p.secure(m.TokenURL):
		return refuse("token_endpoint is missing or not https")
	case !p.secure(m.KeysURL):
		return refuse("jwks_uri is missing or not https")
	case m.UserinfoURL != "" && !p.secure(m.UserinfoURL):
		return refuse("userinfo_endpoint is not https")
	case m.RevocationURL != "" && !p.secure(m.RevocationURL):
		return refuse("revocation_endpoint is not https")
	case m.endpoint.AuthStyle == oauth2.AuthStyleAutoDetect: // x/oauth2 would try, and send the code twice
		return refuse("its token endpoint takes neither client_secret_basic nor client_secret_post")
	}
	// Neither none nor a symmetric algorithm, whatever the document says: the key would be the client secret at best.
	m.Algorithms = slices.DeleteFunc(m.Algorithms, func(a string) bool { return !slices.Contains(algorithms, a) })
	client := &http.Client{Timeout: p.timeout, Transport: keysTransport{p}}
	m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(ctx, client), m.KeysURL)
	return m, nil
}

// secure reports whether an address is https, or on this machine if the issuer is.
func (p *Provider) secure(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return false
	}
	local := strings.HasPrefix(p.IdentityIssuer, "http://")
	return u.Scheme == "https" || local && u.Scheme == "http" && isLoopback(u.Hostname())
}

var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// authStyle chooses how to send the client secret. "If omitted, the default is client_secret_basic" (section 3).
func authStyle(methods []string) oauth2.AuthStyle {
	switch {
	case len(methods) == 0, slices.Contains(methods, "client_secret_basic"):
		return oauth2.AuthStyleInHeader
	case slices.Contains(methods, "client_secret_post"):
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleAutoDetect
}

// keysTransport is for go-oidc's requests for keys. By itself it would read answers of any length, quote what is not a
// key set in its errors, and forget the keys that it has for an answer without any.
type keysTransport struct{ p *Provider }

const fetchingKeys = "fetching the keys of ID tokens"

func (k keysTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	header, err := k.p.call(req.Clone(req.Context()), fetchingKeys, &keys)
	if err != nil {
		return nil, err
	}
	keys.Keys = slices.DeleteFunc(keys.Keys, func(raw json.RawMessage) bool {
		return new(jose.JSONWebKey).UnmarshalJSON(raw) != nil // of a kind that we do not know, for one
	})
	if len(keys.Keys) == 0 {
		return nil, &Error{Provider: k.p.ID, Op: fetchingKeys, Reason: "there are none", kind: ErrUnavailable}
	}
	body, err := json.Marshal(keys)
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(body))}, err
}
