package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/oauth2"
)

var (
	// ErrUnavailable is returned if the failure is unrelated to the user and the sign-in: a timeout, a broken
	// connection, a 5xx, a rate limit, a response that is not the provider's. A later retry may succeed.
	ErrUnavailable = errors.New("the identity provider cannot be reached")
	// ErrMisconfigured is returned if the operator can fix the failure: a wrong client id, secret, URL or registered
	// redirect URI.
	ErrMisconfigured = errors.New("the identity provider is not configured correctly")
	// ErrBadAnswer is returned if a response is not the provider's, or belongs to another sign-in. It may be a mix-up
	// attack between providers or sign-ins.
	ErrBadAnswer = errors.New("the answer does not belong to this sign-in")
	// ErrUnusable is an ErrBadAnswer for a genuine response that lacks required data, such as an account's id.
	// Neither the user nor an attacker causes it.
	ErrUnusable = fmt.Errorf("%w: it lacks what this server needs", ErrBadAnswer)
	// ErrClock is an ErrBadAnswer for a response with a wrong time: one of the two clocks is wrong.
	ErrClock = fmt.Errorf("%w: it is of another time", ErrBadAnswer)
	// ErrRateLimited is an ErrUnavailable caused by too many requests or sign-ins.
	ErrRateLimited = fmt.Errorf("%w: rate limit", ErrUnavailable)
	// ErrDenied is returned if the user, or a rule at the provider, denied the sign-in.
	ErrDenied = errors.New("not allowed at the provider")
	// ErrInteraction is returned if the provider needs input from the user or their administrator.
	ErrInteraction = errors.New("the provider has to ask somebody first")
	// ErrDead is returned if the provider no longer accepts a token. The user must sign in again.
	ErrDead = errors.New("the provider no longer accepts the token")
	// ErrOnlyAtSignIn is returned if the provider sends a user's data only at a sign-in.
	ErrOnlyAtSignIn = errors.New("the provider does not say this again without a sign-in")
)

// An Error is a failure at an identity provider. Match its kind with errors.Is and the errors above. If none matches,
// only this sign-in failed. An Error never contains a token, a code, a secret or a body.
type Error struct {
	Provider string // Provider.ID
	Op       string // what was attempted: "exchanging the code"
	Code     string // the provider's error code, such as bad_verification_code; empty if there was none
	Status   int    // of the HTTP response; zero if there was none
	Reason   string // this server's explanation; empty if Code is enough
	// Said is the provider's own error text, cleaned and without any secrets of this server that it quotes. It may be
	// empty.
	Said string
	// ByBrowser is set if the user's browser delivered Code and Said. They are then meant for the user (RFC 6749
	// section 4.1.2.1). Otherwise Said is only for the log.
	ByBrowser bool

	kind     error    // one of those above, or nil
	standing Standing // if it was about a membership at GitHub
}

const maxSaid = 500 // characters

func (e *Error) Error() string {
	s := e.Provider + ": " + e.Op
	for _, detail := range []string{e.Code, CleanText(e.Reason, maxSaid)} { // a reason may quote the other side
		if detail != "" {
			s += ": " + detail
		}
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Said != "" {
		s += "; it says: " + e.Said
	}
	return s
}

// Unwrap returns the kind of the failure.
func (e *Error) Unwrap() error { return e.kind }

// say records the code and description of an OAuth error response. A malformed code is moved into the description.
func (e *Error) say(code, description string, secrets ...string) {
	code, description = quote(code, secrets), quote(description, secrets)
	if e.Code = code; !errorCode.MatchString(code) {
		e.Code, description = "unrecognised_error", strings.TrimSpace(code+" "+description)
	}
	e.Said = description
}

// errorCode matches error codes: those of RFC 6749, and vendors' own codes with digits or hyphens.
var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,64}$`)

// tokenError converts an error of x/oauth2 into an [Error] and removes the secrets that were sent. The message of
// x/oauth2 would contain the body if there is no code.
func (p *Provider) tokenError(op string, err error, secrets ...string) *Error {
	e := &Error{Provider: p.ID, Op: op}
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		e.kind, e.Reason = ErrUnavailable, describe(err)
		return e
	}
	secrets = append(secrets, p.clientSecret)
	e.Status = answer.Response.StatusCode
	e.say(answer.ErrorCode, answer.ErrorDescription, secrets...)
	e.Reason, e.kind = p.kindOfCode(e.Code)
	switch {
	case e.Code == "":
		e.Reason, e.kind = kindOf(e.Status, answer.Response.Header, answer.Body)
		e.Said = saidIn(answer.Body, secrets)
		if e.kind == nil {
			// Without an error code the sign-in's code is not at fault: perhaps a firewall responded.
			e.kind, e.Reason = ErrUnavailable, "the answer carries no error code"
		}
	case e.kind == nil && e.Status == http.StatusTooManyRequests:
		e.kind = ErrRateLimited
	case e.kind == nil && e.Status >= 500:
		e.kind = ErrUnavailable
	}
	return e
}

// AuthorizeError returns the failure that the parameters of a callback report (RFC 6749 section 4.1.2.1).
func (p *Provider) AuthorizeError(q url.Values) error {
	e := &Error{Provider: p.ID, Op: "authorizing", ByBrowser: true}
	e.say(q.Get("error"), q.Get("error_description"), q.Get("state"), q.Get("code"), p.clientSecret)
	if e.Reason, e.kind = p.kindOfCode(e.Code); e.Code == "access_denied" {
		e.kind = ErrDenied
	}
	return e
}

// kindOfCode returns the reason and kind of an OAuth error code.
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
	case "invalid_scope", "unsupported_response_type", "unsupported_grant_type":
		return "the client there is not set up for what is asked: check its scopes and grants", ErrMisconfigured
	case "invalid_request":
		return "the provider does not accept what this server sends", ErrMisconfigured
	case "application_suspended":
		return "the provider has suspended the application", ErrMisconfigured
	case "too_many_requests":
		return "", ErrRateLimited
	case "server_error", "temporarily_unavailable":
		return "", ErrUnavailable
	// OpenID Connect Core 1.0 section 3.1.2.6.
	case "interaction_required", "login_required", "account_selection_required", "consent_required":
		return "", ErrInteraction
	}
	return "", nil
}

// kindOf judges an answer that carries no OAuth error code.
func kindOf(status int, h http.Header, body []byte) (reason string, kind error) {
	switch {
	case status >= 500:
		return "the provider has a problem", ErrUnavailable
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && rateLimited(h, body):
		return "rate limit", ErrRateLimited
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
