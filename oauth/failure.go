package oauth

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

var (
	errNoFlow       = errors.New("no such sign-in in this browser")
	errFlowUsed     = errors.New("sign-in is already complete")
	errBusy         = errors.New("too many sign-ins at once")
	errNoScope      = errors.New("nothing of what was asked for was allowed at the provider")
	errOtherAccount = errors.New("signed in with another account than the one to disconnect")
	// errMaybeStored is returned if the store failed and it is unknown whether the sign-in was stored.
	errMaybeStored = errors.New("storing sign-in, outcome unknown")
)

// A signInFailure describes a failed callback. Code is also sent to the client (RFC 6749 section 4.1.2.1) unless it is
// empty.
type signInFailure struct {
	templates.ErrorPage
	status int
	cause  error
}

const connectAgain = "Go back to your app and connect again."

// Next steps for failures that only the operators can fix, or may have to.
const (
	tellOperators = "Tell the people who run this server, with the reference below."
	tellIfAgain   = "If that leads here again, tell the people who run this server, with the reference below."
)

// explainSignIn explains a failed sign-in and how to try again. An error that is not listed is this server's failure.
func explainSignIn(err error, provider, again string) signInFailure {
	f := signInFailure{ErrorPage: templates.ErrorPage{Next: []string{again}}, cause: err}
	// set fills in the page. The title is also sent to the client.
	set := func(status int, code, title, message string, next ...string) {
		f.status, f.Code, f.Title, f.Message = status, code, title, message
		if next != nil {
			f.Next = next
		}
	}
	const denied, ours, later = "access_denied", "server_error", "temporarily_unavailable"
	var refusal *upstream.Refusal
	failed := new(upstream.Error)
	if errors.As(err, &failed) && failed.ByBrowser {
		f.Said, f.Speaker = failed.Said, provider
	}
	switch {
	case errors.Is(err, errNoFlow):
		set(http.StatusBadRequest, "", "This sign-in cannot continue",
			"It was started in another browser, took longer than ten minutes, or is already complete.",
			"If your app says that it is connected, close this page.",
			"Otherwise connect again from the app, and use the browser window that it opens.")
	case errors.Is(err, errFlowUsed):
		set(http.StatusBadRequest, "", "This sign-in is already complete",
			"Your app already received the result. Nothing was changed.",
			"If your app says that it is not connected, connect again from there.")
	case errors.Is(err, upstream.ErrDenied):
		set(http.StatusForbidden, denied, "Not allowed at "+provider,
			"You cancelled the sign-in at "+provider+", or "+provider+" did not allow it.")
	case errors.Is(err, errOtherAccount):
		set(http.StatusForbidden, "", "You signed in with a different account",
			"At "+provider+" you chose another account than the one that you came from. Nothing was disconnected.")
	case errors.Is(err, errNoScope):
		set(http.StatusForbidden, denied, "No permissions were granted",
			"You did not allow anything that the app asked for at "+provider+".",
			"Go back to your app, connect again, and leave the boxes ticked.")
	case errors.As(err, &refusal):
		set(http.StatusForbidden, denied, "This account does not have access", refusal.Error(),
			"If you have another account, begin again and choose to use that one.",
			"Otherwise ask the people who run this server to let you in.")
		f.Remedies = refusal.Remedies
	case errors.Is(err, errBusy):
		set(http.StatusServiceUnavailable, later, "Too many people are signing in",
			"This server is busy. You are not signed in.", "Wait a few seconds and reload this page.")
	case errors.Is(err, upstream.ErrUnusable):
		set(http.StatusInternalServerError, ours, provider+" did not say who you are",
			"Its response lacks an account ID that this server can use. This is not your fault.", tellOperators)
	case errors.Is(err, upstream.ErrClock):
		set(http.StatusInternalServerError, ours, "The clocks of this server and "+provider+" differ",
			"The response of "+provider+" is too old, or from the future. This is not your fault.", again,
			tellIfAgain)
	case errors.Is(err, upstream.ErrBadAnswer):
		set(http.StatusBadRequest, ours, "This sign-in could not be verified",
			"The response does not belong to your sign-in at "+provider+", so it was not used.", again,
			tellIfAgain)
	case errors.Is(err, upstream.ErrMisconfigured):
		set(http.StatusInternalServerError, ours, "This server is not set up correctly for "+provider,
			provider+" rejected this server's registration. This is not your fault.", tellOperators)
	case errors.Is(err, upstream.ErrDead) && failed.Status != http.StatusForbidden: // else the account is suspended
		set(http.StatusServiceUnavailable, later, provider+" ended the sign-in at once",
			"That can happen if you connect many apps in a short time. This is not your fault.", "Wait a minute.", again)
	case errors.Is(err, upstream.ErrRateLimited):
		set(http.StatusServiceUnavailable, later, provider+" is receiving too many requests",
			provider+" limits how often this server may ask it. You are not signed in.", "Wait a few minutes.", again)
	case errors.Is(err, upstream.ErrUnavailable):
		set(http.StatusServiceUnavailable, later, provider+" does not answer",
			"Your sign-in could not be completed, because "+provider+" is not available right now.",
			"Wait a minute.", again)
	case errors.Is(err, upstream.ErrInteraction):
		set(http.StatusForbidden, denied, provider+" needs an answer first",
			provider+" has a question for you or for an administrator.", again+" Answer what "+provider+" asks.",
			"If "+provider+" wants the approval of an administrator, ask yours.")
	case failed.Code == "unverified_user_email":
		set(http.StatusForbidden, denied, "Your e-mail address is not verified at "+provider,
			provider+" signs you in here only after that.", "Verify your primary e-mail address at "+provider+".", again)
	case failed.Code == "bad_verification_code", failed.Code == "invalid_grant":
		set(http.StatusBadRequest, ours, "This sign-in has expired",
			provider+" no longer accepts it: it took too long, or the page was loaded twice.")
	case failed.Status == http.StatusForbidden:
		set(http.StatusForbidden, denied, provider+" does not share your account",
			provider+" does not tell this server who you are. Your account or its organization may not allow it.",
			"Sign in at "+provider+" and see whether your account has a problem.", again)
	case failed.Op != "":
		set(http.StatusBadRequest, ours, provider+" rejected the sign-in", "Error from "+provider+": "+
			cmp.Or(failed.Code, "HTTP "+strconv.Itoa(failed.Status))+".", again, tellIfAgain)
	default:
		set(http.StatusServiceUnavailable, later, "This server cannot answer right now",
			"Something went wrong on our side. You are not signed in.", "Wait a minute.", again)
	}
	return f
}

func (f signInFailure) asError() *clients.Error {
	return &clients.Error{Code: f.Code, Description: f.Title, Status: f.status, Err: f.cause}
}

// params returns the error response for the client.
func (f signInFailure) params() url.Values {
	return url.Values{"error": {f.Code}, "error_description": {f.Title}}
}

// signInError shows the user why the sign-in failed, with a link that returns the same error to the client.
func (s *Server) signInError(w http.ResponseWriter, r *http.Request, req *authRequest, f signInFailure) {
	s.logError(r, f.asError())
	page := f.ErrorPage
	page.Reference, page.BackHost = reference(r.Context()), s.base.Host
	if req != nil && f.Code != "" {
		s.addReturnLink(&page, req, f.Code, f.Title)
	}
	s.pages.Error(w, f.status, page)
}
