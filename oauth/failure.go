package oauth

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"

	"example.com/mcp-federated-login/upstream"
)

// A signInFailure is a callback that ends without a code. The page's Code is also what the client is told (RFC 6749
// section 4.1.2.1); if it is empty the client is not to be told.
type signInFailure struct {
	errorPage
	status int
	cause  error
}

const connectAgain = "Go back to your MCP client and connect again."

// explainSignIn says what a failed sign-in means, and how to do it again. A failure that is not listed is trouble of
// ours.
func explainSignIn(err error, provider, again string) signInFailure {
	f := signInFailure{errorPage: errorPage{Next: []string{again}}, cause: err}
	var refusal *upstream.Refusal
	var failed *upstream.Error
	switch {
	case errors.Is(err, errNoFlow):
		f.status = http.StatusBadRequest
		f.Title = "This sign-in cannot go on here"
		f.Message = "It was started in another browser, took longer than ten minutes, or is already finished."
		f.Next = []string{"If your MCP client says that it is connected, all is well: close this page.",
			"Otherwise go back to your MCP client and connect again, and stay in the browser that it opens."}
	case errors.Is(err, errFlowUsed):
		f.status = http.StatusBadRequest
		f.Title = "This sign-in is already finished"
		f.Message = "Your MCP client got its answer the first time. Nothing was changed."
		f.Next = []string{"If your MCP client says that it is not connected, connect again from there."}
	case errors.Is(err, errDenied):
		f.status, f.Code = http.StatusForbidden, "access_denied"
		f.Title = "Not allowed at " + provider
		f.Message = "The sign-in was cancelled at " + provider + "."
	case errors.Is(err, errOtherAccount):
		f.status = http.StatusForbidden
		f.Title = "That is another account"
		f.Message = "At " + provider + " you signed in with another account than the one that you came from. Nothing " +
			"was disconnected."
	case errors.Is(err, upstream.ErrBadAnswer):
		f.status, f.Code = http.StatusBadRequest, "server_error"
		f.Title = "That answer did not come from " + provider
		f.Message = "What arrived here is not the answer to your sign-in, so it was not used."
	case errors.Is(err, errNoScope):
		f.status, f.Code = http.StatusForbidden, "access_denied"
		f.Title = "Nothing was allowed"
		f.Message = "At " + provider + " you did not allow anything that the application asked for."
		f.Next = []string{"Go back to your MCP client, connect again, and leave the boxes ticked."}
	case errors.As(err, &refusal):
		f.status, f.Code = http.StatusForbidden, "access_denied"
		f.Title = "You may not come in with this account"
		f.Message, f.Remedies = refusal.Error(), refusal.Remedies
		f.Next = []string{"If you have another account, begin again and choose to use that one.",
			"Otherwise ask the people who run this server to let you in."}
	case errors.Is(err, upstream.ErrMisconfigured):
		f.status, f.Code = http.StatusInternalServerError, "server_error"
		f.Title = "This server is not set up correctly for " + provider
		f.Message = "Its application at " + provider + " refuses it. Nothing you did is wrong."
		f.Next = []string{"Tell the people who run this server, with the reference below."}
	case errors.Is(err, errBusy):
		f.status, f.Code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.Title = "Too many people are signing in"
		f.Message = "This server is busy. You are not signed in."
		f.Next = []string{"Wait a few seconds and reload this page."}
	case errors.Is(err, upstream.ErrUnavailable):
		f.status, f.Code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.Title = provider + " does not answer"
		f.Message = "Your sign-in could not be completed, because " + provider + " is not available right now."
		f.Next = []string{"Wait a minute.", again}
	case errors.As(err, &failed):
		f.status, f.Code = http.StatusBadRequest, "server_error"
		f.Title = provider + " refused the sign-in"
		f.Message = "It answered: " + cmp.Or(failed.Code, "something that is no answer") + "."
	default:
		f.status, f.Code = http.StatusServiceUnavailable, "temporarily_unavailable"
		f.Title = "This server cannot answer right now"
		f.Message = "Something went wrong on our side. You are not signed in."
		f.Next = []string{"Wait a minute.", again}
	}
	return f
}

func (f signInFailure) asError() *Error {
	return &Error{Code: f.Code, Description: f.Title, Status: f.status, Err: f.cause}
}

// params is the error response for the client.
func (f signInFailure) params() url.Values {
	return url.Values{"error": {f.Code}, "error_description": {f.Title}}
}

// signInError shows the person why their sign-in failed, with a link back to the client that tells it the same.
func (s *Server) signInError(w http.ResponseWriter, r *http.Request, req *authRequest, f signInFailure) {
	s.logError(r, f.asError())
	page := f.errorPage
	page.Reference, page.BackHost = reference(r.Context()), s.base.Host
	if req != nil && f.Code != "" {
		s.wayBack(&page, req, f.Code, f.Title)
	}
	s.pages.error(w, f.status, page)
}
