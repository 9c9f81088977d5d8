package devidp_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

func checkError(t *testing.T, err error, code string, kind error) {
	t.Helper()
	var e *upstream.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *upstream.Error", err)
	}
	if e.Code != code {
		t.Errorf("code: got %q, want %q", e.Code, code)
	}
	for _, k := range []error{upstream.ErrUnavailable, upstream.ErrMisconfigured} {
		if errors.Is(err, k) != (k == kind) {
			t.Errorf("got %v, want the kind %v", err, kind)
		}
	}
}

func TestTokenEndpointFaults(t *testing.T) {
	const secret = "gho_Leaked1"
	form := func(code string) devidp.Fault { // CODE stands for the code that was sent
		return devidp.Fault{Body: "error=" + code + "&error_description=not+CODE+again"}
	}
	tests := []struct {
		name  string
		fault devidp.Fault
		code  string
		kind  error
	}{
		{"bad_verification_code", form("bad_verification_code"), "bad_verification_code", nil},
		{"unverified_user_email", form("unverified_user_email"), "unverified_user_email", nil},
		{"access_denied", form("access_denied"), "access_denied", nil},
		{"incorrect_client_credentials", form("incorrect_client_credentials"), "incorrect_client_credentials",
			upstream.ErrMisconfigured},
		{"redirect_uri_mismatch", form("redirect_uri_mismatch"), "redirect_uri_mismatch", upstream.ErrMisconfigured},
		{"too_many_requests", form("too_many_requests"), "too_many_requests", upstream.ErrUnavailable},
		{"a vendor's own code", form("AADSTS70008-x.1"), "AADSTS70008-x.1", nil},
		{"an error code that is no code", form("no such thing"), "unrecognised_error", nil},
		{"our code as the error code", form("CODE"), "unrecognised_error", nil},
		{"an error code with a 500", devidp.Fault{Status: 500, Body: "error=oops"}, "oops", upstream.ErrUnavailable},
		{"500", devidp.Fault{Status: 500, Body: secret}, "", upstream.ErrUnavailable},
		{"429", devidp.Fault{Status: 429, Body: secret}, "", upstream.ErrUnavailable},
		{"a firewall's 403", devidp.Fault{Status: 403, Body: secret}, "", upstream.ErrUnavailable},
		{"404 at another kind of server", devidp.Fault{Status: 404, Body: secret}, "", upstream.ErrMisconfigured},
		{"a web page with 200", devidp.Fault{Body: "<h1>" + secret, Header: http.Header{"Content-Type": {"text/html"}}},
			"", upstream.ErrUnavailable},
		{"an empty answer", devidp.Fault{}, "", upstream.ErrUnavailable},
		{"a dropped connection", devidp.Fault{Drop: true}, "", upstream.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			code := w.code("octocat")
			described := strings.Contains(tt.fault.Body, "CODE")
			tt.fault.Body = strings.ReplaceAll(tt.fault.Body, "CODE", code)
			w.idp.FailNext(tokenPath, 1, tt.fault)
			_, err := w.provider.Exchange(t.Context(), callback, code, verifier, nil)
			checkError(t, err, tt.code, tt.kind)
			if described && !strings.Contains(err.Error(), "not [redacted] again") {
				t.Errorf("got %v, want what it says, without the code", err)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), code) {
				t.Error("the error holds the body or the code")
			}
			if n := w.count(tokenPath); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestLostAnswerSpendsTheCode(t *testing.T) {
	w := newWorld(t)
	code := w.code("octocat")
	w.idp.FailNext(tokenPath, 1, devidp.Fault{Drop: true, AfterCommit: true})
	_, err := w.provider.Exchange(t.Context(), callback, code, verifier, nil)
	checkError(t, err, "", upstream.ErrUnavailable)
	_, err = w.provider.Exchange(t.Context(), callback, code, verifier, nil)
	checkError(t, err, "bad_verification_code", nil)
}

func TestRedirectFromTheTokenEndpointIsNotFollowed(t *testing.T) {
	w := newWorld(t)
	thief := start(t, devidp.Config{BaseURL: baseURL})
	code := w.code("octocat")
	w.idp.FailNext(tokenPath, 1, devidp.Fault{
		Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {thief.URL() + tokenPath}}})
	_, err := w.provider.Exchange(t.Context(), callback, code, verifier, nil)
	checkError(t, err, "", upstream.ErrMisconfigured)
	if calls := thief.Calls(); len(calls) != 0 {
		t.Errorf("the other server got %v", calls)
	}
}

func TestAPIFaults(t *testing.T) {
	const secret = "gho_Leaked1"
	limit := http.Header{"X-Ratelimit-Remaining": {"0"}}
	secondary := `{"message":"You have exceeded a secondary rate limit."}`
	tests := []struct {
		name  string
		path  string
		fault devidp.Fault
		kind  error
	}{
		{"500", "/user", devidp.Fault{Status: 500, Body: secret}, upstream.ErrUnavailable},
		{"502 for e-mails", "/user/emails", devidp.Fault{Status: 502, Body: secret}, upstream.ErrUnavailable},
		{"rate limit by header", "/user", devidp.Fault{Status: 403, Header: limit}, upstream.ErrUnavailable},
		{"rate limit by header for e-mails", "/user/emails", devidp.Fault{Status: 403, Header: limit},
			upstream.ErrUnavailable},
		{"secondary rate limit", "/user", devidp.Fault{Status: 403, Body: secondary}, upstream.ErrUnavailable},
		{"429", "/user", devidp.Fault{Status: 429}, upstream.ErrUnavailable},
		{"dropped connection", "/user/emails", devidp.Fault{Drop: true}, upstream.ErrUnavailable},
		{"a web page", "/user", devidp.Fault{Body: "<h1>" + secret}, upstream.ErrUnavailable},
		{"nobody", "/user", devidp.Fault{Body: `{"id":0,"login":"octocat"}`}, upstream.ErrUnavailable},
		{"redirect", "/user", devidp.Fault{Status: 302, Header: http.Header{"Location": {"/"}}},
			upstream.ErrMisconfigured},
		{"not the API", "/user", devidp.Fault{Status: 404}, upstream.ErrMisconfigured},
		{"a plain 403 is the person's", "/user", devidp.Fault{Status: 403, Body: secret}, nil},
		{"401 is the token's", "/user", devidp.Fault{Status: 401, Body: secret}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			token := w.signIn("octocat")
			w.idp.FailNext("/api/v3"+tt.path, 2, tt.fault) // twice, because net/http repeats a dropped GET
			_, err := w.provider.Identify(t.Context(), token, "")
			checkError(t, err, "", tt.kind)
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), token.Access) {
				t.Error("the error holds the body or the token")
			}
		})
	}
}
