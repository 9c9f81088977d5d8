package oauth

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"example.com/mcp-federated-login/upstream"
)

// A signInFailure is a callback that ends without a code: what the person reads, and what the client is told.
type signInFailure struct {
	status  int
	code    string // for the client (RFC 6749 section 4.1.2.1); empty: the client is not to be told
	title   string
	message string
	next    []string
	// remedies are what else the person can do, in the first place.
	remedies []upstream.Remedy
	cause    error
	back     template.URL // a page of ours to go back to; empty for a client's sign-in
}

const connectAgain = "Go back to your MCP client and connect again."

// explainSignIn says what a failed sign-in means, and how to do it again. A failure that is not listed is trouble of
// ours.
func explainSignIn(err error, provider, again string) signInFailure {
	f := signInFailure{cause: err, next: []string{again}}
	var refusal *upstream.Refusal
	var failed *upstream.Error
	switch {
	case errors.Is(err, errNoFlow):
		f.status = http.StatusBadRequest
		f.title = "This sign-in cannot go on here"
		f.message = "It was started in another browser, took longer than ten minutes, or is already finished."
		f.next = []string{"If your MCP client says that it is connected, all is well: close this page.",
			"Otherwise go back to your MCP client and connect again, and stay in the browser that it opens."}
	case errors.Is(err, errFlowUsed):
		f.status = http.StatusBadRequest
		f.title = "This sign-in is already finished"
		f.message = "Your MCP client got its answer the first time. Nothing was changed."
		f.next = []string{"If your MCP client says that it is not connected, connect again from there."}
	case errors.Is(err, errDenied):
		f.status, f.code = http.StatusForbidden, "access_denied"
		f.title = "Not allowed at " + provider
		f.message = "The sign-in was cancelled at " + provider + "."
	case errors.Is(err, errOtherAccount):
		f.status = http.StatusForbidden
		f.title = "That is another account"
		f.message = "At " + provider + " you signed in with another account than the one that you came from. Nothing " +
			"was disconnected."
	case errors.Is(err, upstream.ErrBadAnswer):
		f.status, f.code = http.StatusBadRequest, "server_error"
		f.title = "That answer did not come from " + provider
		f.message = "What arrived here is not the answer to your sign-in, so it was not used."
	case errors.Is(err, errNoScope):
		f.status, f.code = http.StatusForbidden, "access_denied"
		f.title = "Nothing was allowed"
		f.message = "At " + provider + " you did not allow anything that the application asked for."
		f.next = []string{"Go back to your MCP client, connect again, and leave the boxes ticked."}
	case errors.As(err, &refusal):
		f.status, f.code = http.StatusForbidden, "access_denied"
		f.title = "You may not come in with this account"
		f.message, f.remedies = refusal.Error(), refusal.Remedies
		f.next = []string{"If you have another account, begin again and choose to use that one.",
			"Otherwise ask the people who run this server to let you in."}
	case errors.Is(err, upstream.ErrMisconfigured):
		f.status, f.code = http.StatusInternalServerError, "server_error"
		f.title = "This server is not set up correctly for " + provider
		f.message = "Its application at " + provider + " refuses it. Nothing you did is wrong."
		f.next = []string{"Tell the people who run this server, with the reference below."}
	case errors.Is(err, errBusy):
		f.status, f.code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.title = "Too many people are signing in"
		f.message = "This server is busy. You are not signed in."
		f.next = []string{"Wait a few seconds and reload this page."}
	case errors.Is(err, upstream.ErrUnavailable):
		f.status, f.code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.title = provider + " does not answer"
		f.message = "Your sign-in could not be completed, because " + provider + " is not available right now."
		f.next = []string{"Wait a minute.", again}
	case errors.As(err, &failed):
		f.status, f.code = http.StatusBadRequest, "server_error"
		f.title = provider + " refused the sign-in"
		f.message = "It answered: " + cmp.Or(failed.Code, "something that is no answer") + "."
	default:
		f.status, f.code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.title = "This server cannot answer right now"
		f.message = "Something went wrong on our side. You are not signed in."
		f.next = []string{"Wait a minute.", again}
	}
	return f
}

func (f signInFailure) asError() *Error {
	return &Error{Code: f.code, Description: f.title, Status: f.status, Err: f.cause}
}

// params is the error response for the client.
func (f signInFailure) params() url.Values {
	return url.Values{"error": {f.code}, "error_description": {f.title}}
}

// signInError shows the person why their sign-in failed, with a link back to the client that tells it the same.
func (s *Server) signInError(w http.ResponseWriter, r *http.Request, req *authRequest, f signInFailure) {
	s.logError(r, f.asError())
	page := errorPage{Title: f.title, Message: f.message, Next: f.next, Remedies: f.remedies, Code: f.code,
		Reference: reference(r.Context()), BackURL: f.back, BackHost: s.base.Host}
	if req != nil && f.code != "" {
		s.wayBack(&page, req, f.code, f.title)
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	s.pages.error(w, f.status, page)
}
