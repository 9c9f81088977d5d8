package upstream

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	expLeeway = time.Minute     // how far the provider's clock may be behind ours
	iatLeeway = 5 * time.Minute // how far it may be ahead
)

// verifyIDToken verifies the ID token of a sign-in and returns it with all of its claims (OpenID Connect Core 1.0
// section 3.1.3.7). The errors say which rule it breaks.
func (p *Provider) verifyIDToken(ctx context.Context, m *metadata, t *Token, nonce string) (*oidc.IDToken, claims,
	error) {
	fail := func(kind error, reason string) (*oidc.IDToken, claims, error) {
		return nil, nil, &Error{Provider: p.ID, Op: "verifying the ID token", Reason: reason, kind: kind}
	}
	refuse := func(reason string) (*oidc.IDToken, claims, error) { return fail(ErrBadAnswer, reason) }
	if t.IDToken == "" {
		return fail(ErrUnusable, "there is none")
	}
	// By itself first, because Verify reports keys that cannot be fetched as it does a signature that is wrong.
	payload, err := m.keys.VerifySignature(ctx, t.IDToken)
	if err != nil {
		var fetching *Error
		switch {
		case errors.As(err, &fetching):
			return nil, nil, fetching
		case ctx.Err() != nil:
			return nil, nil, &Error{Provider: p.ID, Op: fetchingKeys, Reason: describe(err),
				kind: ErrUnavailable}
		}
		return refuse(err.Error())
	}
	// Signature, algorithm, iss, aud, exp and nbf. For Google, it takes iss without https:// as well.
	id, err := oidc.NewVerifier(p.IdentityIssuer, m.keys, &oidc.Config{
		ClientID:             p.clientID,
		SupportedSigningAlgs: m.Algorithms,
		Now:                  func() time.Time { return p.now().Add(-expLeeway) },
	}).Verify(ctx, t.IDToken)
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return fail(ErrUnusable, "the claims are no JSON object")
	}
	switch expired := new(oidc.TokenExpiredError); {
	case errors.As(err, &expired):
		return fail(ErrClock, err.Error()+": are both clocks right?")
	case err != nil && c["sub"] != nil && c.text("sub") == "":
		return fail(ErrUnusable, "sub is not text") // go-oidc cannot read such a token
	case err != nil:
		return refuse(err.Error())
	}
	_, hasAZP := c["azp"]
	switch {
	// An ID token of another sign-in must not end this one, not even if both are without a nonce.
	case nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return refuse("the nonce is not the one that was sent")
	case id.Subject == "":
		return fail(ErrUnusable, "sub is missing")
	case c.text("sub") != id.Subject || c.text("nonce") != id.Nonce || c.text("iss") == "":
		// encoding/json takes claims of other spellings for these, such as SUB.
		return refuse("a claim comes in two spellings")
	case hasAZP && c.text("azp") != p.clientID:
		return refuse("azp is another client")
	case !hasAZP && len(id.Audience) > 1:
		return refuse("azp is missing, though there are several audiences")
	case id.IssuedAt.After(p.now().Add(iatLeeway)):
		return fail(ErrClock, "iat is in the future: are both clocks right?")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(t.Access) != nil:
		return refuse("at_hash is that of another access token")
	}
	return id, p.withEDOV(c), nil
}

// claims are what a provider says of a person. Those of an unexpected type count as absent.
type claims map[string]json.RawMessage

func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// truth reads a boolean. Some providers send it as a string.
func (c claims) truth(name string) bool {
	s := string(c[name])
	return s == "true" || s == `"true"`
}

// at returns the claim with this name, or else the one that the name leads to through objects, with dots in between:
// realm_access.roles. The name of a claim may have dots of its own: https://acme.example/groups.
func (c claims) at(path string) json.RawMessage {
	if value := c[path]; value != nil && string(value) != "null" {
		return value
	}
	for i := len(path) - 1; i > 0; i-- {
		var inner claims
		if path[i] == '.' && json.Unmarshal(c[path[:i]], &inner) == nil {
			if value := inner.at(path[i+1:]); value != nil {
				return value
			}
		}
	}
	return nil
}

// list reads a list of names, which may also be one name, or a list of objects with a name.
func list(claim json.RawMessage) []string {
	var one string
	var names []string
	var objects []struct{ Name string }
	switch {
	case json.Unmarshal(claim, &one) == nil && one != "":
		return []string{one}
	case json.Unmarshal(claim, &names) == nil:
		return names
	case json.Unmarshal(claim, &objects) != nil:
		return nil
	}
	names = nil // what fits of a list that is not one of names
	for _, o := range objects {
		if o.Name != "" {
			names = append(names, o.Name)
		}
	}
	return names
}
