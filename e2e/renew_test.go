package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

const (
	tokenPath  = "/login/oauth/access_token"
	githubLife = 8 * time.Hour // life of expiring tokens
)

// newExpiringWorld is a world whose GitHub issues tokens that expire and rotate. MCP tokens outlive them.
func newExpiringWorld(t *testing.T) *world {
	w := newWorld(t, map[string]string{"ACCESS_TOKEN_TTL": "24h"})
	w.app.DevIDP.SetAppKind(devidp.GitHubApp)
	return w
}

// renewals counts the refreshes that reached the provider.
func (w *world) renewals() (n int) {
	for _, c := range w.app.DevIDP.Calls() {
		if c.Path == tokenPath && slices.Contains(c.Params, "refresh_token") {
			n++
		}
	}
	return n
}

// callAPI calls list_repositories at one of the server's URLs, and returns the response.
func (w *world) callAPI(address, access string) answer {
	header, body := eras[0].call(access)
	header.Set("Host", strings.TrimPrefix(w.base, "http://"))
	return fetch(w.t, http.MethodPost, address+"/mcp", header, strings.NewReader(body))
}

func works(a answer) bool {
	return a.status == http.StatusOK && strings.Contains(string(a.body), "octocat/hello-world")
}

// wantSignIn checks that a response makes the client sign in again.
func wantSignIn(t *testing.T, what string, a answer) {
	t.Helper()
	challenge := a.header.Get("WWW-Authenticate")
	if a.status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) ||
		!strings.Contains(challenge, "resource_metadata=") {
		t.Errorf("%s: got %d with challenge %q, want a 401 that makes the client sign in", what, a.status, challenge)
	}
}

// GitHub revokes both tokens as soon as the refresh token is used. The second request must not use it again.
func TestTwoHundredCallsRenewACredentialOnce(t *testing.T) {
	w := newExpiringWorld(t)
	clients := []tokens{w.signIn(), w.signIn()}
	w.clock.advance(githubLife)
	second, _ := w.process(githubLife)
	addresses := []string{w.base, second}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if a := w.callAPI(addresses[i%2], clients[i/2%2].access); !works(a) {
				t.Errorf("call %d: got %d %s", i, a.status, a.body)
			}
		})
	}
	all.Wait()
	if got := w.renewals(); got != 1 {
		t.Errorf("the provider was asked %d times for a new token, want 1", got)
	}
}

// The process dies after the provider has rotated the tokens and before the new ones are saved. They are lost, but
// nobody can know: the next process finds the old ones revoked. The user signs in again, once, for all their clients.
func TestKilledBetweenRenewalAndSaving(t *testing.T) {
	w := newExpiringWorld(t)
	laptop, phone := w.signIn(), w.signIn()
	w.clock.advance(githubLife)
	address, kill := w.process(githubLife)
	w.app.DevIDP.FailNext(tokenPath, 1, devidp.Fault{AfterCommit: true, Then: kill, Drop: true})
	header, body := eras[0].call(laptop.access)
	header.Set("Host", strings.TrimPrefix(w.base, "http://"))
	req, err := http.NewRequest(http.MethodPost, address+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host = header, header.Get("Host")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		t.Fatalf("the process answered %d, but it was to be killed", resp.StatusCode)
	}
	w.clock.advance(time.Minute) // the dead process's lease runs out
	wantSignIn(t, "the call after that", w.callAPI(w.base, laptop.access))
	wantSignIn(t, "the other client's call", w.callAPI(w.base, phone.access))
	wantSignIn(t, "a tool that needs no upstream token", w.tool(phone.access, "whoami"))
	if a := w.refresh(phone.clientID, phone.refresh); a.str("error") != "invalid_grant" {
		t.Errorf("refresh: got %d %s, want invalid_grant", a.status, a.body)
	}
	if got := w.renewals(); got != 2 {
		t.Errorf("%d refreshes reached the provider, want the one that was lost and one more", got)
	}
	w.signIn()
	for name, c := range map[string]tokens{"laptop": laptop, "phone": phone} {
		if a := w.callAPI(w.base, c.access); !works(a) {
			t.Errorf("%s, after signing in again elsewhere: got %d %s", name, a.status, a.body)
		}
	}
}

// A failure at the provider proves nothing about the credential: nobody is signed out, and nothing is consumed.
func TestProviderTroubleDuringRenewal(t *testing.T) {
	for name, fault := range map[string]devidp.Fault{
		"error 500":           {Status: http.StatusInternalServerError},
		"rate limit":          {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"60"}}},
		"secondary limit":     {Status: http.StatusForbidden, Header: http.Header{"Retry-After": {"60"}}},
		"connection dropped":  {Drop: true},
		"a page for people":   {Body: "<html>We are down for maintenance</html>"},
		"unknown error code":  {Status: http.StatusBadRequest, Body: "error=something_new"},
		"wrong client secret": {Body: "error=incorrect_client_credentials"},
	} {
		t.Run("F4: "+name, func(t *testing.T) {
			w := newExpiringWorld(t)
			client := w.signIn()
			w.clock.advance(githubLife)
			w.app.DevIDP.FailNext(tokenPath, 2, fault)
			a := w.callAPI(w.base, client.access)
			if a.status != http.StatusOK || !strings.Contains(string(a.body), "try again in a minute") {
				t.Errorf("tool: got %d %s, want an error that says to try again", a.status, a.body)
			}
			a = w.refresh(client.clientID, client.refresh)
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("refresh: got %d %s, want 503 with Retry-After", a.status, a.body)
			}
			if a := w.refresh(client.clientID, client.refresh); a.status != http.StatusOK {
				t.Errorf("refresh afterwards: got %d %s", a.status, a.body)
			}
			if a := w.callAPI(w.base, client.access); !works(a) {
				t.Errorf("tool afterwards: got %d %s", a.status, a.body)
			}
		})
	}
}

// A token that is still valid for some minutes is used while the provider cannot renew it.
func TestOldTokenServesUntilItExpires(t *testing.T) {
	w := newExpiringWorld(t)
	client := w.signIn()
	w.clock.advance(githubLife - time.Minute)
	w.app.DevIDP.FailNext(tokenPath, 1, devidp.Fault{Status: http.StatusBadGateway})
	if a := w.callAPI(w.base, client.access); !works(a) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if got := w.renewals(); got != 1 {
		t.Errorf("%d attempts to renew, want 1", got)
	}
	if !strings.Contains(w.logs.String(), `msg="upstream credential not renewed" provider=github`) {
		t.Error("the log says nothing of the renewal that failed")
	}
}

// The user removes the application at GitHub.
func TestRevokedAtTheProvider(t *testing.T) {
	for name, kind := range map[string]devidp.AppKind{"OAuth App": devidp.OAuthApp, "GitHub App": devidp.GitHubApp} {
		t.Run("F3: "+name, func(t *testing.T) {
			w := newExpiringWorld(t)
			w.app.DevIDP.SetAppKind(kind)
			laptop, phone := w.signIn(), w.signIn()
			if err := w.app.DevIDP.RevokeTokens("octocat"); err != nil {
				t.Fatal(err)
			}
			wantSignIn(t, "the tool that finds out", w.callAPI(w.base, laptop.access))
			wantSignIn(t, "the other client, at the gate", w.tool(phone.access, "whoami"))
			w.signIn()
			for name, c := range map[string]tokens{"laptop": laptop, "phone": phone} {
				if a := w.callAPI(w.base, c.access); !works(a) {
					t.Errorf("%s, after signing in again elsewhere: got %d %s", name, a.status, a.body)
				}
			}
		})
	}
}

// A 401 from the API is not final: parts of GitHub do not know a new token for some 100 ms, and an endpoint can return
// 401 for other reasons.
func TestOne401IsNotBelieved(t *testing.T) {
	unauthorized := devidp.Fault{Status: http.StatusUnauthorized, Body: `{"message":"Bad credentials"}`}
	for _, tt := range []struct {
		name           string
		kind           devidp.AppKind
		atAPI, atCheck int // how often each answers 401
		want           bool
	}{
		{"the API once", devidp.GitHubApp, 1, 0, true},
		{"the API once, and the check three times", devidp.GitHubApp, 1, 3, true},
		{"the API once, and the check three times, of a token that cannot be renewed", devidp.OAuthApp, 1, 3, true},
		{"the endpoint always, though the token is alive", devidp.GitHubApp, 2, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newExpiringWorld(t)
			w.app.DevIDP.SetAppKind(tt.kind)
			client := w.signIn()
			w.app.DevIDP.FailNext("/api/v3/user/repos", tt.atAPI, unauthorized)
			if tt.atCheck > 0 {
				w.app.DevIDP.FailNext("/api/v3/user", tt.atCheck, unauthorized)
			}
			if got := works(w.callAPI(w.base, client.access)); got != tt.want {
				t.Errorf("worked: got %v, want %v", got, tt.want)
			}
			if a := w.tool(client.access, "whoami"); a.status != http.StatusOK {
				t.Errorf("afterwards the client is signed out: %d %s", a.status, a.body)
			}
			if a := w.callAPI(w.base, client.access); !works(a) {
				t.Errorf("afterwards: got %d %s", a.status, a.body)
			}
		})
	}
}

// GitHub's rate limits are a 403 or a 429. They end no grant.
func TestRateLimitOfTheAPIIsNotARevocation(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusTooManyRequests} {
		w := newExpiringWorld(t)
		client := w.signIn()
		w.app.DevIDP.FailNext("/api/v3/user/repos", 1, devidp.Fault{Status: status,
			Header: http.Header{"X-RateLimit-Remaining": {"0"}}, Body: `{"message":"API rate limit exceeded"}`})
		a := w.callAPI(w.base, client.access)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), strconv.Itoa(status)) {
			t.Errorf("%d: got %d %s, want a tool's error that says so", status, a.status, a.body)
		}
		if a := w.callAPI(w.base, client.access); !works(a) {
			t.Errorf("%d, afterwards: got %d %s", status, a.status, a.body)
		}
	}
}

// TestRefreshKeepsTheUpstreamCredentialAlive checks F4: an idle client's refreshes keep the upstream credential alive,
// though no tool is called for months.
func TestRefreshKeepsTheUpstreamCredentialAlive(t *testing.T) {
	w := newExpiringWorld(t)
	client := w.signIn()
	for range 10 { // 300 days; GitHub forgets a refresh token after 184
		w.clock.advance(30 * 24 * time.Hour)
		a := w.refresh(client.clientID, client.refresh)
		if a.status != http.StatusOK {
			t.Fatalf("refresh: got %d %s", a.status, a.body)
		}
		client.access, client.refresh = a.str("access_token"), a.str("refresh_token")
	}
	if a := w.callAPI(w.base, client.access); !works(a) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// Google's response to a refresh has no refresh token: the old one stays valid.
func TestGoogleIsRenewedAgainAndAgain(t *testing.T) {
	w := newWorld(t, map[string]string{"ACCESS_TOKEN_TTL": "24h"})
	client := w.signInWith("Google", "octocat")
	for range 3 {
		w.clock.advance(time.Hour)
		if problem := w.use(client.access, "list_calendar_events", nil, new(any)); problem != "" {
			t.Fatal(problem)
		}
	}
}
