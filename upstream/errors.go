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
	// ErrUnavailable is what a failure is when it says nothing about the person or their sign-in: a time-out, a broken
	// connection, a 5xx, a rate limit, an answer that is not the provider's. Trying again later may work.
	ErrUnavailable = errors.New("the identity provider cannot be reached")
	// ErrMisconfigured is what a failure is when the operator can mend it: a wrong client id, secret, address or
	// registered redirect URI.
	ErrMisconfigured = errors.New("the identity provider is not configured correctly")
	// ErrBadAnswer is what a failure is when an answer is not the provider's, or not the answer to this sign-in:
	// somebody may be playing one against the other.
	ErrBadAnswer = errors.New("the answer does not belong to this sign-in")
	// ErrUnusable is an ErrBadAnswer that is the provider's, but lacks what this server needs, such as an account's id.
	// Neither the person nor an attacker causes it.
	ErrUnusable = fmt.Errorf("%w: it lacks what this server needs", ErrBadAnswer)
	// ErrClock is an ErrBadAnswer because of its time: one of the two clocks is wrong.
	ErrClock = fmt.Errorf("%w: it is of another time", ErrBadAnswer)
	// ErrRateLimited is an ErrUnavailable because of too many requests or sign-ins.
	ErrRateLimited = fmt.Errorf("%w: rate limit", ErrUnavailable)
	// ErrDenied is what a failure is when the person, or a rule at the provider, did not allow the sign-in.
	ErrDenied = errors.New("not allowed at the provider")
	// ErrInteraction is what a failure is when the provider has a question for the person or their administrator.
	ErrInteraction = errors.New("the provider has to ask somebody first")
	// ErrDead is what a failure is when the provider no longer accepts a token: the person has to sign in again.
	ErrDead = errors.New("the provider no longer accepts the token")
	// ErrOnlyAtSignIn is returned for what a provider says of a person only when they sign in.
	ErrOnlyAtSignIn = errors.New("the provider does not say this again without a sign-in")
)

// An Error is a failure at an identity provider. Match its kind with errors.Is and the errors above; if it is none of
// them, this one sign-in failed. It never holds a token, a code, a secret or a body.
type Error struct {
	Provider string // Provider.ID
	Op       string // what was attempted: "exchanging the code"
	Code     string // the provider's error code, such as bad_verification_code; empty if it gave none
	Status   int    // of the HTTP answer; 0 if there was none
	Reason   string // what we make of it; empty if Code says it all
	// Said is what the provider says of it in its own words: cleaned, and without what it quotes of our secrets. It may
	// be empty.
	Said string
	// ByBrowser means that the person's browser brought Code and Said, which are meant for the person (RFC 6749 section
	// 4.1.2.1). Otherwise Said is for the log alone.
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

// say records the code and description of an OAuth error response. A code that does not look like one is only kept
// along with the description.
func (e *Error) say(code, description string, secrets ...string) {
	code, description = quote(code, secrets), quote(description, secrets)
	if e.Code = code; !errorCode.MatchString(code) {
		e.Code, description = "unrecognised_error", strings.TrimSpace(code+" "+description)
	}
	e.Said = description
}

// errorCode is what codes look like: those of RFC 6749, and those with digits or hyphens that vendors make up.
var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,64}$`)

// tokenError makes an [Error] of what x/oauth2 returned, after the secrets were sent. Its own message would print the
// body when there is no code.
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
			// No word on what is wrong with the code, so nothing is: a firewall in between, perhaps.
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
