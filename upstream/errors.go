package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

var (
	// ErrUnavailable is what a failure is when it says nothing about the person or their sign-in: a time-out, a broken
	// connection, a 5xx, a rate limit, an answer that is not the provider's. Trying again later may work.
	ErrUnavailable = errors.New("the identity provider cannot be reached")
	// ErrMisconfigured is what a failure is when the operator can mend it: a wrong client id, secret, address or
	// registered redirect URI.
	ErrMisconfigured = errors.New("the identity provider is not configured correctly")
	// ErrBadAnswer is what a failure is when an answer is not the provider's, or not the answer to this sign-in:
	// somebody may be playing one against the other.
	ErrBadAnswer = errors.New("the answer does not belong to this sign-in")
	// ErrDead is what a failure is when the provider no longer accepts a token: the person has to sign in again.
	ErrDead = errors.New("the provider no longer accepts the token")
	// ErrOnlyAtSignIn is returned for what a provider says of a person only when they sign in.
	ErrOnlyAtSignIn = errors.New("the provider does not say this again without a sign-in")
)

// An Error is a failure at an identity provider. Match its kind with errors.Is and [ErrUnavailable],
// [ErrMisconfigured], [ErrBadAnswer] or [ErrDead]; if it is none, this one sign-in failed. It never holds a token, a
// code, a secret or a body.
type Error struct {
	Provider string // Provider.ID
	Op       string // what was attempted: "exchanging the code"
	Code     string // the provider's error code, such as bad_verification_code; empty if it gave none
	Status   int    // of the HTTP answer; 0 if there was none
	Reason   string // what we make of it; empty if Code says it all

	kind     error    // one of those above, or nil
	standing Standing // if it was about a membership at GitHub
}

func (e *Error) Error() string {
	s := e.Provider + ": " + e.Op
	for _, detail := range []string{e.Code, e.Reason} {
		if detail != "" {
			s += ": " + detail
		}
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	return s
}

// Unwrap returns the kind of the failure.
func (e *Error) Unwrap() error { return e.kind }

// tokenError makes an [Error] of what x/oauth2 returned. Its own message would print the body when there is no code.
func (p *Provider) tokenError(op string, err error) *Error {
	e := &Error{Provider: p.ID, Op: op}
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		e.kind, e.Reason = ErrUnavailable, describe(err)
		return e
	}
	e.Status = answer.Response.StatusCode
	e.Code = errorCode(answer.ErrorCode)
	e.Reason, e.kind = p.kindOfCode(e.Code)
	switch {
	case e.Code == "":
		e.Reason, e.kind = kindOf(e.Status, answer.Response.Header, answer.Body)
		if e.kind == nil {
			// No word on what is wrong with the code, so nothing is: a firewall in between, perhaps.
			e.kind, e.Reason = ErrUnavailable, "the answer carries no error code"
		}
	case e.kind == nil && (e.Status >= 500 || e.Status == http.StatusTooManyRequests):
		e.kind = ErrUnavailable
	}
	return e
}

// AuthorizeError returns the failure that the error parameter of a callback reports (RFC 6749 section 4.1.2.1). Anybody
// can make a browser bring one, so nothing is kept of what does not look like a code.
func (p *Provider) AuthorizeError(code string) error {
	e := &Error{Provider: p.ID, Op: "authorizing", Code: errorCode(code)}
	e.Reason, e.kind = p.kindOfCode(e.Code)
	return e
}

// kindOfCode judges an OAuth error code.
func (p *Provider) kindOfCode(code string) (reason string, kind error) {
	switch code {
	case "incorrect_client_credentials", "invalid_client", "unauthorized_client":
		env := strings.ToUpper(p.ID)
		reason = "check " + env + "_CLIENT_ID and " + env + "_CLIENT_SECRET"
		if p.ID == oidcID {
			reason += ", and try another OIDC_AUTH_METHOD"
		}
		return reason, ErrMisconfigured
	case "redirect_uri_mismatch":
		return "register BASE_URL/callback/" + p.ID + " as the callback there", ErrMisconfigured
	case "invalid_scope", "unsupported_response_type":
		return "the client there is not set up for what is asked: check its scopes and grants", ErrMisconfigured
	case "application_suspended":
		return "the provider has suspended the application", ErrMisconfigured
	case "too_many_requests", "server_error", "temporarily_unavailable":
		return "", ErrUnavailable
	}
	return "", nil
}

// kindOf judges an answer that carries no OAuth error code.
func kindOf(status int, h http.Header, body []byte) (reason string, kind error) {
	switch {
	case status >= 500:
		return "the provider has a problem", ErrUnavailable
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && rateLimited(h, body):
		return "rate limit", ErrUnavailable
	case status >= 300 && status < 400:
		return "it answered with a redirect, which is not followed; check its address", ErrMisconfigured
	case status == http.StatusNotFound:
		return "there is nothing here; check its address and the client id", ErrMisconfigured
	}
	return "", nil
}

// rateLimited tells GitHub's rate limits from its other reasons for a 403. A secondary limit may show in nothing but
// the message.
func rateLimited(h http.Header, body []byte) bool {
	return h.Get("X-RateLimit-Remaining") == "0" || h.Get("Retry-After") != "" ||
		strings.Contains(strings.ToLower(string(body)), "rate limit")
}

// errorCode returns the code if it looks like one, so that no other text from outside reaches a log.
func errorCode(code string) string {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }
	if len(code) > 64 || strings.ContainsFunc(code, odd) {
		return "unrecognised_error"
	}
	return code
}

// describe says why there was no answer, without repeating anything that the other side may have sent.
func describe(err error) string {
	var netErr net.Error
	var opErr *net.OpError
	var dnsErr *net.DNSError
	var certErr *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &dnsErr):
		return dnsErr.Error()
	case errors.As(err, &certErr):
		return certErr.Error()
	case errors.As(err, &opErr):
		return opErr.Error()
	}
	return "the answer is not one of an identity provider, or broke off"
}
