package oauth

import (
	"errors"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
)

// TestTitlesOfFailuresFitErrorDescription checks the titles that clients get after a failed sign-in: RFC 6749 section
// 4.1.2.1 allows neither quotes nor backslashes. It includes the failures that tests cannot cause through HTTP.
func TestTitlesOfFailuresFitErrorDescription(t *testing.T) {
	titles := map[string]error{}
	for _, err := range []error{errNoFlow, errFlowUsed, errOtherAccount, errNoScope, errBusy, errMaybeStored,
		upstream.ErrDenied, upstream.ErrUnusable, upstream.ErrClock, upstream.ErrBadAnswer, upstream.ErrMisconfigured,
		upstream.ErrDead, upstream.ErrRateLimited, upstream.ErrUnavailable, upstream.ErrInteraction,
		new(upstream.Refusal), &upstream.Error{Op: "x", Code: "unverified_user_email"},
		&upstream.Error{Op: "x", Code: "invalid_grant"}, &upstream.Error{Op: "x", Status: 403}, &upstream.Error{Op: "x"}} {
		f := explainSignIn(err, "GitHub", connectAgain)
		if f.Title == "" || f.Message == "" || len(f.Next) == 0 || f.status < 400 || strings.ContainsFunc(f.Title,
			func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			t.Errorf("%v: got status %d and %+v", err, f.status, f.ErrorPage)
		}
		if same := titles[f.Title]; same != nil {
			t.Errorf("%v and %v have one title: %s", err, same, f.Title)
		}
		titles[f.Title] = err
	}
	if f := explainSignIn(errors.New("anything else"), "GitHub", connectAgain); titles[f.Title] != errMaybeStored {
		t.Errorf("control: trouble of ours: got the title %q", f.Title)
	}
}
