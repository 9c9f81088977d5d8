package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream/devidp"
)

// allScopes are a client's scopes after it has stepped up for create_issue. newIssue are that tool's arguments.
const (
	allScopes = githubScopes + " issues:write"
	newIssue  = `{"repository":"octocat/hello-world","title":"It does not work"}`
)

// callIn calls a tool with arguments in an era, one of eras by name.
func (w *world) callIn(era, access, tool, arguments string) answer {
	w.t.Helper()
	header, meta := legacyHeader(access), ""
	if era == "modern" {
		header, meta = mcpHeader(access, "tools/call", tool), `,"_meta":`+modernMeta
	}
	return w.call(http.MethodPost, "/mcp", header, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+
		tool+`","arguments":`+arguments+meta+`}}`)
}

// wantStepUp checks that a response makes the client request these scopes, and tells the model why.
func (w *world) wantStepUp(a answer, granted, missing string) {
	w.t.Helper()
	want := map[string]string{"error": "insufficient_scope", "scope": granted + " " + missing,
		"resource_metadata": w.base + "/.well-known/oauth-protected-resource/mcp",
		"error_description": "The call needs " + missing + ", which was not granted."}
	if diff := cmp.Diff(want, challengeOf(w.t, a)); diff != "" || a.status != http.StatusForbidden {
		w.t.Fatalf("got status %d, want 403; challenge (-want +got):\n%s", a.status, diff)
	}
	for _, part := range []string{"needs the scope " + missing, "granted: " + granted + ")", "server again"} {
		if !strings.Contains(string(a.body), part) {
			w.t.Errorf("the answer lacks %q: %s", part, a.body)
		}
	}
}

// isToolError reports whether a response is a tool's own error, not a challenge.
func isToolError(a answer) bool {
	result, _ := a.json["result"].(map[string]any)
	return a.status == http.StatusOK && result["isError"] == true && a.header.Get("WWW-Authenticate") == ""
}

// TestStoryOfStepUp checks that a user whose client can only read can let it open an issue. The scopes for that are
// requested when they are needed, here and at GitHub, and the user's other client notices nothing.
func TestStoryOfStepUp(t *testing.T) {
	for name, kind := range map[string]devidp.AppKind{"OAuth App": devidp.OAuthApp,
		"OAuth App with expiring tokens": devidp.ExpiringOAuthApp, "GitHub App": devidp.GitHubApp} {
		for _, era := range eras {
			t.Run(name+"/"+era.name, func(t *testing.T) {
				w := newWorld(t, map[string]string{"TOKEN_CACHE": "1m"})
				w.app.DevIDP.SetAppKind(kind)
				id := w.register(callbackURI)
				atGitHub := w.browser().open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil)
				if got := atGitHub.url.Query().Get("scope"); got != "read:user user:email" {
					t.Errorf("at first GitHub was asked for %q, want who it is alone", got)
				}
				laptop := w.redeem(id, atGitHub.press("Authorize", nil).url.Query().Get("code"))
				phone := w.signIn()
				if laptop.scope != githubScopes || phone.scope != githubScopes {
					t.Fatalf("at first granted %q and %q, want %q", laptop.scope, phone.scope, githubScopes)
				}

				// The call is refused, and the client follows the challenge.
				refused := w.callIn(era.name, laptop.access, "create_issue", newIssue)
				w.wantStepUp(refused, githubScopes, "issues:write")
				asked := challengeOf(t, refused)["scope"]
				consent := w.browser().open(w.authorizeURL(id, func(q url.Values) { q.Set("scope", asked) }))
				for _, want := range []string{"List your public repositories", "Open issues in your name"} {
					if !strings.Contains(consent.text, want) {
						t.Errorf("the consent page lacks %q:\n%s", want, consent.text)
					}
				}
				atGitHub = consent.press("Continue with GitHub", nil)
				if got := atGitHub.url.Query().Get("scope"); got != "public_repo read:user user:email" {
					t.Errorf("GitHub was asked for %q, want public_repo as well", got)
				}
				code := atGitHub.press("Authorize", nil).url.Query().Get("code")
				if diff := cmp.Diff([]bool{true, true}, w.alive(laptop, phone)); diff != "" {
					t.Errorf("before the code is redeemed: alive (-want +got):\n%s", diff)
				}

				// The old grant ends when the new grant exists. The new one has a separate credential.
				wider := w.redeem(id, code)
				if wider.scope != allScopes {
					t.Errorf("granted %q, want %q", wider.scope, allScopes)
				}
				if diff := cmp.Diff([]bool{false, true, true}, w.alive(laptop, phone, wider)); diff != "" {
					t.Errorf("laptop's old token, phone, laptop's new one: alive (-want +got):\n%s", diff)
				}
				assertJSONError(t, w.refresh(id, laptop.refresh), http.StatusBadRequest, "invalid_grant")
				if n := query[int](w, `SELECT count(*) FROM credentials`); n != 2 {
					t.Errorf("%d upstream credentials, want one for each set of scopes", n)
				}
				a := w.callIn(era.name, wider.access, "create_issue", newIssue)
				if a.status != http.StatusOK || !strings.Contains(string(a.body), "/octocat/hello-world/issues/1") {
					t.Errorf("create_issue: got %d %s", a.status, a.body)
				}
				for who, access := range map[string]string{"phone": phone.access, "laptop": wider.access} {
					if a := w.callIn(era.name, access, "list_repositories", "{}"); !works(a) {
						t.Errorf("list_repositories on the %s: got %d %s", who, a.status, a.body)
					}
				}
				w.wantStepUp(w.callIn(era.name, phone.access, "create_issue", newIssue), githubScopes, "issues:write")
			})
		}
	}
}

// A client that returns for a scope which the user withholds at GitHub gets only the scopes that the user allows, and
// each time the user has to answer a page. The same refusal has the same challenge: clients that have seen it give up,
// as the TypeScript SDK does ("Server returned 403 after trying upscoping").
func TestPersonWithholdsTheScope(t *testing.T) {
	for _, era := range eras {
		t.Run(era.name, func(t *testing.T) {
			w := newWorld(t, nil)
			held, b := w.signIn(), w.browser()
			var first string
			for round := range 3 {
				refused := w.callIn(era.name, held.access, "create_issue", newIssue)
				w.wantStepUp(refused, githubScopes, "issues:write")
				challenge := refused.header.Get("WWW-Authenticate")
				if round == 0 {
					first = challenge
				} else if challenge != first {
					t.Errorf("round %d: got challenge\n%s\nwant the first one's\n%s", round, challenge, first)
				}
				consent := b.open(w.authorizeURL(held.clientID, func(q url.Values) { q.Set("scope", allScopes) }))
				back := consent.press("Continue with GitHub", nil).press("Authorize",
					url.Values{"scope": {"read:user", "user:email"}})
				// "If the issued access token scope is different from the one requested by the client, the authorization
				// server MUST include the scope response parameter" (RFC 6749 section 3.3).
				if held = w.redeem(held.clientID, back.url.Query().Get("code")); held.scope != githubScopes {
					t.Fatalf("round %d: granted %q, want %q", round, held.scope, githubScopes)
				}
			}
			if got := w.repositories(held.access); !strings.HasPrefix(got, "octocat/") {
				t.Errorf("what was granted does not work: %q", got)
			}

			// A client that requests only this scope gets nothing, and the page tells the user how to change their
			// mind.
			alone := func(q url.Values) { q.Set("scope", "issues:write") }
			p := b.open(w.authorizeURL(held.clientID, alone)).press("Continue with GitHub", nil).
				press("Authorize", url.Values{"scope": {"read:user", "user:email"}})
			if p.status != http.StatusForbidden || !strings.Contains(p.text, "No permissions were granted") ||
				!strings.Contains(p.text, "leave the boxes ticked") {
				t.Errorf("nothing allowed: got status %d:\n%s", p.status, p.text)
			}
			if !w.alive(held)[0] {
				t.Error("the refusal ended what the client has")
			}
			wider := w.signInFor(held.clientID, allScopes)
			if a := w.callIn(era.name, wider.access, "create_issue", newIssue); a.status != http.StatusOK {
				t.Errorf("control: allowed at last: got %d %s", a.status, a.body)
			}
		})
	}
}

// mcp-go checks the arguments of a call before it checks whether the call is allowed.
func TestMissingScopeComesBeforeBadArguments(t *testing.T) {
	w := newWorld(t, nil)
	narrow := w.signIn()
	wide := w.signInFor(w.register(callbackURI), allScopes)
	for _, era := range eras {
		for _, arguments := range []string{`{}`, `{"repository":5,"title":"x"}`, `[]`, `null`, newIssue} {
			t.Run(era.name+"/"+arguments, func(t *testing.T) {
				a := w.callIn(era.name, narrow.access, "create_issue", arguments)
				if got := challengeOf(t, a); a.status != http.StatusForbidden || got["scope"] != allScopes {
					t.Errorf("got %d with challenge %v, want 403 with all scopes", a.status, got)
				}
				a = w.callIn(era.name, wide.access, "create_issue", arguments)
				if isToolError(a) != (arguments != newIssue) {
					t.Errorf("control: with the scope: got %d %s", a.status, a.body)
				}
			})
		}
		// No sign-in would help with these.
		for _, tool := range []string{"list_calendar_events", "no_such_tool", ""} {
			t.Run(era.name+"/tool "+tool, func(t *testing.T) {
				a := w.callIn(era.name, narrow.access, tool, `{"from":5}`)
				if a.header.Get("WWW-Authenticate") != "" || a.json["error"] == nil {
					t.Errorf("got %d with challenge %q: %s", a.status, a.header.Get("WWW-Authenticate"), a.body)
				}
			})
		}
	}
}

// A GitHub App's permissions are those on its page, whatever was requested. GitHub refuses anything else: the client is
// told so, and not sent to sign in again, which would change nothing.
func TestRefusalByTheProviderIsNoStepUp(t *testing.T) {
	for name, kind := range map[string]devidp.AppKind{"OAuth App": devidp.OAuthApp, "GitHub App": devidp.GitHubApp} {
		for _, era := range eras {
			t.Run(name+"/"+era.name, func(t *testing.T) {
				w := newWorld(t, nil)
				w.app.DevIDP.SetAppKind(kind)
				wide := w.signInFor(w.register(callbackURI), allScopes)
				w.app.DevIDP.FailNext("/api/v3/repos/octocat/hello-world/issues", 1, devidp.Fault{
					Status: http.StatusForbidden, Body: `{"message":"Resource not accessible by integration"}`})
				a := w.callIn(era.name, wide.access, "create_issue", newIssue)
				if !isToolError(a) || !strings.Contains(string(a.body), "github answered 403 Forbidden") {
					t.Errorf("got %d %s, want a tool's error that says so", a.status, a.body)
				}
				if a := w.callIn(era.name, wide.access, "create_issue", newIssue); a.status != http.StatusOK || isToolError(a) {
					t.Errorf("control: got %d %s", a.status, a.body)
				}
			})
		}
	}
}

// The 401 for a revoked credential requests all scopes of its grant, also if the gate finds out. A sign-in with fewer
// scopes would leave the user's other clients with a credential that stays revoked.
func TestChallengeHealsAWiderCredential(t *testing.T) {
	for name, kind := range map[string]devidp.AppKind{"OAuth App": devidp.OAuthApp, "GitHub App": devidp.GitHubApp} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.app.DevIDP.SetAppKind(kind)
			laptop, phone := w.signInFor(w.register(callbackURI), allScopes), w.signInFor(w.register(callbackURI), allScopes)
			if err := w.app.DevIDP.RevokeTokens("octocat"); err != nil {
				t.Fatal(err)
			}
			const want = githubScopes + " calendar:read issues:write"
			for what, a := range map[string]answer{
				"the tool that finds out": w.callIn("modern", laptop.access, "create_issue", newIssue),
				"at the gate":             w.tool(phone.access, "whoami"),
			} {
				if got := challengeOf(t, a); a.status != http.StatusUnauthorized || got["scope"] != want {
					t.Errorf("%s: got %d with challenge %v, want 401 with %s", what, a.status, got, want)
				}
			}
			w.signIn()
			if w.alive(phone)[0] {
				t.Error("a sign-in for less has healed the credential: this test shows nothing")
			}
			w.signInFor(laptop.clientID, want)
			if a := w.callIn("modern", phone.access, "create_issue", newIssue); a.status != http.StatusOK || isToolError(a) {
				t.Errorf("the phone, after signing in on the laptop: got %d %s", a.status, a.body)
			}
		})
	}
}
