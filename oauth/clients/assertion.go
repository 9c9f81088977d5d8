package clients

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// A client whose metadata document names keys authenticates at /token with a signed assertion: a JSON Web Token for
// this server, valid for a short time and for one request (RFC 7523 sections 2.2 and 3).

const (
	assertionType   = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLeeway = 30 * time.Second // maximum error of a client's clock
	assertionLife   = time.Hour        // maximum time until exp; jtis are remembered that long
	maxAssertionID  = 256              // bytes
	// keysAge is the minimum age of a copied key set to be fetched again if no key in it fits. It limits how often
	// forged assertions cause a fetch.
	keysAge = time.Minute
	// A shorter RSA key can be broken (RFC 7518 section 3.3); with a longer one, verifying costs too much.
	minRSA, maxRSA = 2048, 8192 // bits
)

var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// An assertion is a client's assertion as it was sent. Nothing in it has been verified.
type assertion struct {
	token  *jwt.JSONWebToken
	claims jwt.Claims
}

// badAssertion returns the error for a client whose assertion is invalid. The problem is for its developers.
func badAssertion(problem string) *Error {
	return &Error{Code: "invalid_client", Status: http.StatusUnauthorized,
		Description: "The client_assertion " + problem + "."}
}

// readAssertion returns the assertion in a request, or nil. Its errors have no cause, because that would quote it.
func readAssertion(form url.Values) (*assertion, error) {
	kind, raw := form.Get("client_assertion_type"), form.Get("client_assertion")
	if kind == "" && raw == "" {
		return nil, nil
	}
	if kind != assertionType || raw == "" {
		return nil, InvalidRequest("client_assertion needs client_assertion_type to be " + assertionType + ".")
	}
	a := new(assertion)
	var err error
	if a.token, err = jwt.ParseSigned(raw, assertionAlgorithms); err != nil {
		return nil, badAssertion("is not a JWT signed with RS256 or ES256")
	}
	if a.token.UnsafeClaimsWithoutVerification(&a.claims) != nil {
		return nil, badAssertion("has claims that cannot be read")
	}
	// "If any of the listed extension Header Parameters are not understood and supported by the recipient, then the JWS
	// is invalid" (RFC 7515 section 4.1.11). We support none.
	if _, critical := a.token.Headers[0].ExtraHeaders["crit"]; critical {
		return nil, badAssertion("has critical header parameters")
	}
	return a, nil
}

// checkAssertion returns an error if an assertion at that path does not authenticate the client. Cheap checks come
// first, so that only plausible assertions cause a fetch of keys.
func (reg *Registry) checkAssertion(ctx context.Context, client *store.Client, a *assertion, path string) error {
	if err := reg.checkClaims(a.claims, client.ID, path); err != nil {
		return err
	}
	return reg.checkSignature(ctx, client, a)
}

// SpendAssertion ensures that the Requester's assertion is used only once. It is called last, right before a code or
// token of the Requester is used. So a request that fails on anything else can be sent again unchanged, and a client
// without a grant writes nothing.
func (reg *Registry) SpendAssertion(ctx context.Context, r *Requester) error {
	if r.assertion == nil {
		return nil
	}
	claims := r.assertion.claims
	// Another instance's clock may be behind, hence twice.
	until := claims.Expiry.Time().Add(2 * assertionLeeway)
	err := reg.store.UseAssertion(ctx, store.HashOf(string(seal.LengthPrefixed(r.ID, claims.ID))), until)
	if errors.Is(err, store.ErrConflict) {
		return badAssertion("was used before: each needs a jti of its own")
	}
	if err != nil {
		return fmt.Errorf("noting assertion: %w", err)
	}
	r.assertion = nil
	return nil
}

// checkClaims checks the claims that RFC 7523 section 3 requires. It also requires a jti, and no other server in aud:
// that server could use the assertion here.
func (reg *Registry) checkClaims(c jwt.Claims, clientID, path string) error {
	ours := []string{reg.baseURL, reg.baseURL + "/", reg.baseURL + "/token", reg.baseURL + path}
	foreign := func(audience string) bool { return !slices.Contains(ours, audience) }
	switch now := reg.now(); {
	case c.Issuer != clientID || c.Subject != clientID:
		return badAssertion("must have the client_id for iss and sub")
	case len(c.Audience) == 0 || slices.ContainsFunc(c.Audience, foreign):
		return badAssertion("must be for this server alone: aud must be the issuer or the token endpoint")
	case !now.Before(c.Expiry.Time().Add(assertionLeeway)):
		return badAssertion("has expired, or lacks exp")
	case c.Expiry.Time().After(now.Add(assertionLife + assertionLeeway)):
		return badAssertion("must expire within an hour")
	case c.NotBefore.Time().After(now.Add(assertionLeeway)) || c.IssuedAt.Time().After(now.Add(assertionLeeway)):
		return badAssertion("is not valid yet: nbf or iat lies ahead")
	case c.ID == "" || len(c.ID) > maxAssertionID:
		return badAssertion("must have a jti of at most 256 bytes")
	}
	return nil
}

// checkSignature checks the signature with the client's current keys or, if these cannot be fetched, the last known
// ones. If they cannot be fetched and no known key fits, the client may still be right, so the error is not its fault.
func (reg *Registry) checkSignature(ctx context.Context, client *store.Client, a *assertion) error {
	forged := badAssertion("is not signed with a key of the client's")
	began := reg.now()
	var err error
	// The second attempt is for a key that is newer than our copies, or has moved.
	for _, after := range []time.Time{{}, began.Add(-keysAge)} {
		var keys []byte
		var at time.Time
		keys, at, err = reg.currentKeys(ctx, client, after)
		switch named, signed := a.signedBy(keys); {
		case signed:
			return nil
		case err == nil && (!at.Before(began) || named && !after.IsZero()):
			return forged
		}
	}
	if err != nil && !errors.Is(err, ErrNotFetched) {
		bad := badAssertion("cannot be verified: what is at the client_id or the jwks_uri cannot be used")
		bad.Err = err
		return bad
	}
	// The key may be newer than our copy, which is too recent to be fetched again or cannot be fetched.
	return fmt.Errorf("the client's newest keys %w", ErrNotFetched)
}

// signedBy reports whether the assertion names a key in the set, and whether a key in the set signed it. Keys in the
// assertion itself are ignored.
func (a *assertion) signedBy(keySet []byte) (named, signed bool) {
	set, err := parseKeySet(keySet)
	if err != nil {
		return false, false
	}
	header := a.token.Headers[0]
	named = header.KeyID != "" && len(set.Key(header.KeyID)) > 0
	return named, slices.ContainsFunc(set.Keys, func(k jose.JSONWebKey) bool {
		if header.KeyID != "" && k.KeyID != header.KeyID || k.Use != "" && k.Use != "sig" ||
			k.Algorithm != "" && k.Algorithm != header.Algorithm {
			return false
		}
		if public, ok := k.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSA || public.N.BitLen() > maxRSA) {
			return false
		}
		return a.token.Claims(k.Key) == nil
	})
}
