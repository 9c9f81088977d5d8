package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// A signInTrouble is one way for a callback to fail, and the expected page and log line.
type signInTrouble struct {
	name     string
	provider string // its ID
	// make causes it, after the provider was contacted and before its response arrives. It can change the response.
	make   func(w *world, idp *devidp.Server, q url.Values)
	status int
	title  string
	next   string // one of the next steps
	cause  string // in the log
}

const (
	thisIsOurs = "Tell the people who run this server, with the reference below."
	tryAgain   = "Go back to your app and connect again."
	waitFirst  = "Wait a minute."
)

// answers changes the parameters of the callback.
func answers(pairs ...string) func(*world, *devidp.Server, url.Values) {
	return func(_ *world, _ *devidp.Server, q url.Values) {
		q.Del("code")
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
	}
}

// fails makes the next request to the path meet a fault.
func fails(path string, status int, body string) func(*world, *devidp.Server, url.Values) {
	return func(_ *world, idp *devidp.Server, _ url.Values) {
		mediaType := "application/x-www-form-urlencoded"
		if strings.HasPrefix(body, "{") {
			mediaType = "application/json"
		}
		idp.FailNext(path, 1, devidp.Fault{Status: status, Body: body, Header: http.Header{"Content-Type": {mediaType}}})
	}
}

// claims changes the claims in the document; nil leaves one out. The ID token is made when the code is redeemed.
func claims(d devidp.Document, name string, value any) func(*world, *devidp.Server, url.Values) {
	return func(_ *world, idp *devidp.Server, _ url.Values) {
		idp.Lie(d, func(c map[string]any) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		})
	}
}

// thin makes an ID token with few claims, so that userinfo is requested.
func thin(then func(*world, *devidp.Server, url.Values)) func(*world, *devidp.Server, url.Values) {
	return func(w *world, idp *devidp.Server, q url.Values) {
		claims(devidp.IDToken, "email", nil)(w, idp, q)
		then(w, idp, q)
	}
}

const (
	githubToken, githubUser, githubEmails = "/login/oauth/access_token", "/api/v3/user", "/api/v3/user/emails"
	oidcToken, oidcUserinfo               = "/oidc/token", "/oidc/userinfo"
)

var signInTroubles = []signInTrouble{
	// Failures in the browser's request.
	{"refused by a policy", "oidc", answers("error", "consent_required", "error_description", "AADSTS65001: No consent."),
		403, "Example ID needs an answer first", "If Example ID wants the approval of an administrator, ask yours.",
		"oidc: authorizing: consent_required; it says: AADSTS65001: No consent."},
	{"a vendor's own code", "oidc", answers("error", "AADSTS-50020", "error_description", "User account is not there."),
		400, "Example ID rejected the sign-in", tryAgain, "AADSTS-50020; it says: User account is not there."},
	{"a code that is none", "oidc", answers("error", "no such: code", "error_description", "Hm."), 400,
		"Example ID rejected the sign-in", tryAgain, "unrecognised_error; it says: no such: code Hm."},
	{"the client there may not", "oidc", answers("error", "unauthorized_client", "error_description", "Not enabled."), 500,
		"This server is not set up correctly for Example ID", thisIsOurs, "check OIDC_CLIENT_ID"},
	{"the scope is unknown there", "oidc", answers("error", "invalid_scope"), 500,
		"This server is not set up correctly for Example ID", thisIsOurs, "check its scopes and grants"},
	{"the request is unknown there", "oidc", answers("error", "invalid_request", "error_description", "Bad prompt."), 500,
		"This server is not set up correctly for Example ID", thisIsOurs, "it says: Bad prompt."},
	{"trouble there", "oidc", answers("error", "server_error"), 503, "Example ID does not answer", waitFirst,
		"oidc: authorizing: server_error"},
	{"suspended", "github", answers("error", "application_suspended"), 500,
		"This server is not set up correctly for GitHub",
		thisIsOurs, "suspended the application"},
	{"mismatch", "github", answers("error", "redirect_uri_mismatch"), 500,
		"This server is not set up correctly for GitHub",
		thisIsOurs, "register BASE_URL/callback/github"},
	{"another issuer", "github", answers("iss", "https://issuer.example.com"), 400, "This sign-in could not be verified",
		tryAgain, "it says: https://issuer.example.com"},
	{"no issuer", "oidc", func(_ *world, _ *devidp.Server, q url.Values) { q.Del("iss") }, 400,
		"This sign-in could not be verified", tryAgain, "iss is missing"},
	{"no code", "github", answers(), 400, "This sign-in could not be verified", tryAgain, "no code"},
	{"discovery fails after a restart", "oidc", func(w *world, idp *devidp.Server, _ url.Values) {
		w.restart()
		idp.FailNext("/oidc/.well-known/openid-configuration", 1, devidp.Fault{Status: 502})
	}, 503, "Example ID does not answer", waitFirst, "reading the discovery document: the provider has a problem (HTTP 502)"},

	// Failures in the response of the token endpoint.
	{"wrong client secret", "github", fails(githubToken, 200,
		"error=incorrect_client_credentials&error_description=Wrong."),
		500, "This server is not set up correctly for GitHub", thisIsOurs, "check GITHUB_CLIENT_ID"},
	{"unknown client", "oidc", fails(oidcToken, 400,
		`{"error":"unauthorized_client","error_description":"AADSTS700016: Application not found"}`), 500,
		"This server is not set up correctly for Example ID", thisIsOurs, "it says: AADSTS700016: Application not found"},
	{"code expired at GitHub", "github", fails(githubToken, 200, "error=bad_verification_code"), 400,
		"This sign-in has expired", tryAgain, "bad_verification_code"},
	{"code expired elsewhere", "oidc", fails(oidcToken, 400, `{"error":"invalid_grant"}`), 400, "This sign-in has expired",
		tryAgain, "invalid_grant (HTTP 400)"},
	{"address not verified", "github", fails(githubToken, 200, "error=unverified_user_email"), 403,
		"Your e-mail address is not verified at GitHub", "Verify your primary e-mail address at GitHub.",
		"unverified_user_email"},
	{"too many sign-ins", "github", fails(githubToken, 429, "error=too_many_requests"), 503,
		"GitHub is receiving too many requests", "Wait a few minutes.", "too_many_requests (HTTP 429)"},
	{"rate limit", "oidc", fails(oidcToken, 429, ""), 503, "Example ID is receiving too many requests",
		"Wait a few minutes.", "rate limit (HTTP 429)"},
	{"error at the token endpoint", "github", fails(githubToken, 500, ""), 503, "GitHub does not answer", waitFirst,
		"the provider has a problem (HTTP 500)"},
	{"a firewall's page", "github", fails(githubToken, 200, "<html>"), 503, "GitHub does not answer", waitFirst,
		"not one of an identity provider"},
	{"a redirect", "github", fails(githubToken, 302, ""), 500, "This server is not set up correctly for GitHub",
		thisIsOurs,
		"answered with a redirect"},
	{"another error", "oidc", fails(oidcToken, 400, `{"error":"odd_thing","error_description":"Odd."}`), 400,
		"Example ID rejected the sign-in", "If that leads here again, tell the people", "odd_thing (HTTP 400); it says: Odd."},
	{"no ID token", "oidc", fails(oidcToken, 200, `{"access_token":"a","token_type":"Bearer"}`), 500,
		"Example ID did not say who you are", thisIsOurs, "verifying the ID token: there is none"},

	// Failures in the ID token.
	{"of another sign-in", "oidc", claims(devidp.IDToken, "nonce", "another"), 400, "This sign-in could not be verified",
		tryAgain, "the nonce is not the one"},
	{"for another client", "oidc", claims(devidp.IDToken, "aud", "another"), 400, "This sign-in could not be verified",
		tryAgain, "expected audience"},
	{"of another issuer", "oidc", claims(devidp.IDToken, "iss", "https://evil.example"), 400,
		"This sign-in could not be verified", tryAgain, "different provider"},
	{"for another party", "oidc", claims(devidp.IDToken, "azp", "another"), 400, "This sign-in could not be verified",
		tryAgain, "azp is another client"},
	{"of another token", "oidc", claims(devidp.IDToken, "at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), 400,
		"This sign-in could not be verified", tryAgain, "at_hash"},
	{"signed by another", "oidc", func(_ *world, idp *devidp.Server, _ url.Values) { idp.SetSignature(devidp.UnknownKey) },
		400, "This sign-in could not be verified", tryAgain, "signature"},
	{"expired", "oidc", claims(devidp.IDToken, "exp", 1), 500, "The clocks of this server and Example ID differ",
		"If that leads here again, tell the people", "are both clocks right?"},
	{"from the future", "oidc", func(w *world, idp *devidp.Server, q url.Values) {
		claims(devidp.IDToken, "iat", w.clock.now().Add(time.Hour).Unix())(w, idp, q)
	}, 500, "The clocks of this server and Example ID differ", tryAgain, "iat is in the future"},
	{"sub as a number", "oidc", claims(devidp.IDToken, "sub", 583231), 500, "Example ID did not say who you are",
		thisIsOurs, "sub is not text"},
	{"no sub", "oidc", claims(devidp.IDToken, "sub", nil), 500, "Example ID did not say who you are", thisIsOurs,
		"sub is missing"},
	{"sub too long", "oidc", claims(devidp.IDToken, "sub", strings.Repeat("1", 256)), 500,
		"Example ID did not say who you are", thisIsOurs, "at most 255 ASCII characters"},
	{"keys fail", "oidc", fails("/oidc/keys", 500, ""), 503, "Example ID does not answer", waitFirst,
		"fetching the keys of ID tokens"},

	// Failures in the provider's data about the user.
	{"pushed out before /user", "github", fails(githubUser, 401, `{"message":"Bad credentials"}`), 503,
		"GitHub ended the sign-in at once", tryAgain, "asking who signed in (HTTP 401); it says: Bad credentials"},
	{"pushed out before /user/emails", "github", fails(githubEmails, 401, `{"message":"Bad credentials"}`), 503,
		"GitHub ended the sign-in at once", tryAgain, "asking for e-mail addresses (HTTP 401); it says: Bad credentials"},
	{"pushed out before userinfo", "oidc", thin(fails(oidcUserinfo, 401, `{"error":"invalid_token"}`)), 503,
		"Example ID ended the sign-in at once", tryAgain, "asking for userinfo (HTTP 401)"},
	{"not allowed to know", "github", fails(githubUser, 403, `{"message":"Sorry. Your account was suspended."}`), 403,
		"GitHub does not share your account", "Sign in at GitHub and see whether your account has a problem.",
		"(HTTP 403); it says: Sorry. Your account was suspended."},
	{"not the API", "github", fails(githubUser, 404, ""), 500, "This server is not set up correctly for GitHub",
		thisIsOurs,
		"check its address"},
	{"secondary rate limit", "github", fails(githubUser, 403, `{"message":"You have exceeded a secondary rate limit."}`),
		503,
		"GitHub is receiving too many requests", "Wait a few minutes.", "secondary rate limit"},
	{"half an answer", "github", fails(githubUser, 200, `{"id":583231,`), 503, "GitHub does not answer", waitFirst,
		"not what the provider documents"},
	{"a login that is none", "github", fails(githubUser, 200, `{"id":583231,"login":"octo\u200bcat"}`), 500,
		"GitHub did not say who you are", thisIsOurs, "no login at GitHub has"},
	{"another user's userinfo", "oidc", thin(claims(devidp.Userinfo, "sub", "666")), 400,
		"This sign-in could not be verified", tryAgain, "it is about somebody else"},
	{"userinfo with sub as a number", "oidc", thin(claims(devidp.Userinfo, "sub", 583231)), 500,
		"Example ID did not say who you are", thisIsOurs, "sub is missing, or not text"},
	{"signed userinfo", "oidc", thin(func(_ *world, idp *devidp.Server, _ url.Values) {
		idp.FailNext(oidcUserinfo, 1, devidp.Fault{Header: http.Header{"Content-Type": {"application/jwt"}}, Body: "x"})
	}), 500, "This server is not set up correctly for Example ID", thisIsOurs, "have it sent as JSON"},
	{"pushed out before the memberships", "github", fails("/api/v3/user/memberships/orgs/acme", 401, ""), 503,
		"GitHub ended the sign-in at once", tryAgain, "asking for a membership (HTTP 401)"},
	{"error for memberships", "github", fails("/api/v3/user/memberships/orgs/acme", 502, ""), 503,
		"GitHub does not answer",
		waitFirst, "asking for a membership"},
}

// TestEachSignInFailureHasItsPage causes every failure of a callback through HTTP. The page says what happened and what
// to do, the log says why, and the next try, undisturbed, signs the user in.
func TestEachSignInFailureHasItsPage(t *testing.T) {
	for _, trouble := range signInTroubles {
		t.Run(trouble.provider+"/"+trouble.name, func(t *testing.T) {
			w := newWorld(t, nil)
			idp, button := w.app.DevIDP, "GitHub"
			if trouble.provider == "oidc" {
				idp, button = w.standIn(), "Example ID"
				w.useOIDC(idp.OIDC())
			} else if strings.Contains(trouble.name, "membership") {
				w.env["ALLOW"] = "github-org:acme"
				w.restart()
				idp = w.app.DevIDP
			}
			id := w.register(callbackURI)
			p := w.atCallbackOf(trouble.provider, button, id)
			q := p.url.Query()
			trouble.make(w, idp, q)
			p.url.RawQuery = q.Encode()
			end := p.b.open(p.url.String())
			assertErrorPage(t, end, trouble.status, "/callback/"+trouble.provider, trouble.title)
			if !strings.Contains(end.text, trouble.next) {
				t.Errorf("the page lacks the step %q:\n%s", trouble.next, end.text)
			}
			if said := q.Get("error_description"); said != "" && (!strings.Contains(end.text, button+" says: ") ||
				!strings.Contains(end.text, said)) {
				t.Errorf("the page does not say that the provider says %q:\n%s", said, end.text)
			}
			if log := w.logs.String(); !strings.Contains(log, trouble.cause) {
				t.Errorf("the log lacks %q:\n%s", trouble.cause, log[max(0, strings.LastIndex(log, "msg=refused")):])
			}

			idp.Lie(devidp.IDToken, nil)
			idp.Lie(devidp.Userinfo, nil)
			idp.SetSignature(devidp.RightKey)
			w.clock.advance(time.Minute) // for a provider that was left alone
			p = w.atCallbackOf(trouble.provider, button, id)
			end = p.b.open(p.url.String())
			for try := 0; end.status == http.StatusServiceUnavailable && try < 100; try++ {
				p = w.atCallbackOf(trouble.provider, button, id) // go-oidc may still return the old key fetch error
				end = p.b.open(p.url.String())
			}
			if end.status != 0 {
				t.Errorf("control, undisturbed: got status %d:\n%s", end.status, end.text)
			}
		})
	}
}

// atCallbackOf walks a new browser to the point where the provider sends it back, and stops before our callback.
func (w *world) atCallbackOf(provider, button, clientID string) *page {
	w.t.Helper()
	b := w.browser()
	b.stopAt = "/callback/" + provider
	p := b.open(w.authorizeURL(clientID, nil)).press("Continue with "+button, nil)
	if p.status != 0 { // the provider asks again now and then
		p = p.press("Authorize", nil)
	}
	b.stopAt = ""
	if p.url.Path != "/callback/"+provider {
		w.t.Fatalf("stopped at %s:\n%s", p.url.Path, p.text)
	}
	return p
}

// TestProvidersWordsAreInert checks an error description at the callback, which anybody can make a browser send. It is
// shown only to a browser with a running sign-in, as text and as the provider's, and is logged without secrets.
func TestProvidersWordsAreInert(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	say := func(p *page, description string) *page {
		q := p.url.Query()
		q.Set("error", "consent_required")
		q.Set("error_description", strings.ReplaceAll(description, "CODE", q.Get("code")))
		p.url.RawQuery = q.Encode()
		return p.b.open(p.url.String())
	}
	const evil = `<script>alert(1)</script><a href="https://evil.example/">Click</a> https://evil.example`
	end := say(w.atCallback(id), evil)
	if !strings.Contains(end.text, "GitHub says: "+evil) || strings.Contains(strings.Join(end.links, " "), "evil") {
		t.Errorf("got links %q and the text\n%s", end.links, end.text)
	}
	const zoë = "Zoë 李雷 🐙: Übersicht"
	end = say(w.atCallback(id), "\x1b[31m\u202eRed\x00 "+zoë+" "+strings.Repeat("é", 10_000))
	if log := w.logs.String(); !strings.Contains(end.text, "[31mRed "+zoë) || len(end.text) > 3000 ||
		!strings.Contains(log, zoë) || strings.ContainsAny(end.text+log, "\x1b\u202e\x00") || strings.Contains(log,
		strings.Repeat("é", 501)) {
		t.Errorf("got %d bytes of text:\n%.600s", len(end.text), end.text)
	}
	p := w.atCallback(id)
	code := p.url.Query().Get("code")
	end = say(p, "The code CODE was used, and so was gho_16C7e42F292c6912E7710c838347Ae178B4a.")
	const redacted = "The code [redacted] was used, and so was [redacted]."
	if log := w.logs.String(); !strings.Contains(end.text, redacted) || !strings.Contains(log, redacted) ||
		strings.Contains(log, code) {
		t.Errorf("got the text:\n%s", end.text)
	}
	const words = "You have been chosen"
	stranger := w.atCallback(id)
	stranger.b = w.browser() // without the cookie
	if end := say(stranger, words); strings.Contains(end.text+w.logs.String(), words) {
		t.Errorf("somebody without a sign-in is shown:\n%s", end.text)
	}
	if end := say(w.atCallback(id), words); !strings.Contains(end.text, words) {
		t.Errorf("control: with the cookie:\n%s", end.text)
	}
}

// TestLogSaysWhatTheProviderLeftOut checks the log of a sign-in that grants fewer scopes than requested, or none.
func TestLogSaysWhatTheProviderLeftOut(t *testing.T) {
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	ask := func(scope string) *page {
		return w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("scope", scope) })).
			press("Continue with GitHub", nil)
	}
	ask("account:read").press("Authorize", nil)
	if strings.Contains(w.logs.String(), "withheld") {
		t.Error("control: the log says that something is withheld")
	}
	ask("account:read issues:write").press("Authorize", url.Values{"scope": {"read:user", "user:email"}})
	if want := "provider=github withheld=[public_repo]"; !strings.Contains(w.logs.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, w.logs)
	}
	w.browser().open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil).press("Deny", nil)
	if want := "it says: The user has denied your application access."; !strings.Contains(w.logs.String(), want) {
		t.Errorf("the log lacks %q", want)
	}
}
