package clients

import (
	"cmp"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"example.com/mcp-federated-login/oauth/store"
)

// A Requester is a client that has authenticated itself.
type Requester struct {
	*store.Client
	assertion *assertion // must be spent; nil means that it authenticated in another way
}

// Authenticate returns the client that makes a request (RFC 6749 sections 2.3 and 3.2.1). A confidential client may
// send its secret in either way, whichever it registered, because clients confuse them. A public client needs no
// secret; one that it sends is ignored. The assertion of a client whose keys we do not know is also ignored, for
// example if the operator registered it as public. If we know the keys, the assertion must be valid even if the client
// does not need one: "the authorization server MUST validate the JWT" (RFC 7523 section 3), so that its developer
// notices the mistake.
func (reg *Registry) Authenticate(w http.ResponseWriter, r *http.Request, form url.Values) (*Requester, error) {
	invalid := &Error{Code: "invalid_client", Status: http.StatusUnauthorized,
		Description: "The client is unknown, or its authentication is missing or wrong. Register again."}
	id, secret := form.Get("client_id"), form.Get("client_secret")
	twoWays := InvalidRequest("The client must authenticate in one way only.")
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return nil, twoWays
	}
	if len(headers) > 0 {
		// "If the client attempted to authenticate via the Authorization request header field, the authorization
		// server MUST respond with ... the WWW-Authenticate response header field matching the authentication scheme"
		// (RFC 6749 section 5.2).
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") {
		user, password, ok := r.BasicAuth()
		basicID, errID := url.QueryUnescape(user) // form-encoded first: section 2.3.1
		basicSecret, errSecret := url.QueryUnescape(password)
		if !ok || errID != nil || errSecret != nil {
			return nil, invalid
		}
		if secret != "" || form.Get("client_assertion") != "" || id != "" && id != basicID {
			return nil, twoWays
		}
		id, secret = basicID, basicSecret
	}
	assertion, err := readAssertion(form)
	if err != nil {
		return nil, err
	}
	if assertion != nil {
		if secret != "" {
			return nil, twoWays
		}
		id = cmp.Or(id, assertion.claims.Subject) // it may be left out (RFC 7521 section 4.2)
	}
	client, err := reg.client(r.Context(), id)
	if errors.Is(err, ErrUnknown) {
		return nil, invalid
	}
	if err != nil {
		return nil, err
	}
	// This comes before any fetch for the client. A blocked client gets no invalid_client: it would register again.
	if err := reg.checkBlocked(r.Context(), client); errors.Is(err, ErrBlocked) {
		return nil, &Error{Code: "invalid_grant", Status: http.StatusBadRequest, Err: err,
			Description: "The operator of this server has blocked the client."}
	} else if err != nil {
		return nil, err
	}
	by := &Requester{Client: client}
	switch hash := store.HashOf(secret); {
	case assertion != nil && (len(client.Keys) > 0 || client.KeysURI != ""):
		if err := reg.checkAssertion(r.Context(), client, assertion, r.URL.Path); err != nil {
			return nil, err
		}
		by.assertion = assertion
	case client.AuthMethod == authJWT:
		return nil, badAssertion("is missing, with which this client authenticates (private_key_jwt)")
	case client.AuthMethod == authNone:
	case secret == "" || subtle.ConstantTimeCompare(hash[:], client.SecretHash) != 1:
		return nil, invalid
	}
	w.Header().Del("WWW-Authenticate")
	return by, nil
}
