package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

const webhookSecret = "webhook-secret-that-is-easy-to-find"

func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends a webhook delivery from GitHub, and reports whose credentials it marked.
func (w *world) deliver(event, signature, body string) (a answer, suspect string) {
	w.t.Helper()
	a = w.call(http.MethodPost, "/webhook/github", http.Header{"X-Github-Event": {event},
		"X-Hub-Signature-256": {signature}, "Content-Type": {"application/json"}}, body)
	suspect = query[string](w, `SELECT COALESCE(group_concat(login, ' '), '')
		FROM (SELECT login FROM credentials c JOIN users u ON u.id = c.user_id WHERE suspect_at > 0 ORDER BY login)`)
	return a, suspect
}

// newWebhookWorld starts a world configured for GitHub, with a webhook, and the development provider that acts as
// GitHub.
func newWebhookWorld(t *testing.T) (*world, *devidp.Server) {
	t.Helper()
	w := newWorld(t, nil)
	github, err := devidp.Start(devidp.Config{BaseURL: w.base, Log: slog.New(slog.DiscardHandler), Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { github.Close() })
	w.env["GITHUB_WEBHOOK_SECRET"] = webhookSecret
	w.useGitHub(github.GitHub())
	return w, github
}

func TestGitHubWebhook(t *testing.T) {
	const event, octocat = "github_app_authorization", 583231
	revoked := func(id int64) string {
		return fmt.Sprintf(`{"action":"revoked","sender":{"login":"mallory","id":%d,"type":"User"}}`, id)
	}
	good := revoked(octocat)
	sha1mac := hmac.New(sha1.New, []byte(webhookSecret))
	sha1mac.Write([]byte(good))
	for _, test := range []struct {
		name, event, body, signature string // an empty signature means the right one
		status                       int
		suspect                      string
	}{
		{name: "octocat revokes", event: event, body: good, status: 204, suspect: "octocat"},
		{name: "somebody else with that login", event: event, body: revoked(octocat + 1), status: 204},
		{name: "nobody", event: event, body: revoked(0), status: 204},
		{name: "no sender", event: event, body: `{"action":"revoked"}`, status: 204},
		{name: "another action", event: event, body: strings.Replace(good, "revoked", "created", 1), status: 204},
		{name: "ping", event: "ping", body: `{"zen":"Keep it logically awesome."}`, status: 204},
		{name: "another event", event: "installation", body: good, status: 204},
		{name: "no event", event: "", body: good, status: 204},
		{name: "a form in place of JSON", event: event, body: "payload=%7B%7D", status: 400},

		{name: "no signature", event: event, body: good, signature: "none", status: 401},
		{name: "of another secret", event: event, body: good, signature: signature("x", good), status: 401},
		{name: "of no secret", event: event, body: good, signature: signature("", good), status: 401},
		{name: "of another body", event: event, body: good + " ", signature: signature(webhookSecret, good), status: 401},
		{name: "cut short", event: event, body: good, signature: signature(webhookSecret, good)[:20], status: 401},
		{name: "empty", event: event, body: good, signature: "sha256=", status: 401},
		{name: "not hex", event: event, body: good, signature: "sha256=" + strings.Repeat("x", 64), status: 401},
		{name: "without its name", event: event, body: good, signature: signature(webhookSecret, good)[7:], status: 401},
		{name: "SHA-1", event: event, body: good, signature: "sha1=" + hex.EncodeToString(sha1mac.Sum(nil)), status: 401},
		{name: "signed ping, unsigned", event: "ping", body: "{}", signature: "none", status: 401},
		{name: "5 MB", event: event, body: good + strings.Repeat(" ", 5<<20), status: 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, _ := newWebhookWorld(t)
			held := []tokens{w.signIn(), w.signInAs("mallory")}
			switch test.signature {
			case "":
				test.signature = signature(webhookSecret, test.body)
			case "none":
				test.signature = ""
			}
			a, suspect := w.deliver(test.event, test.signature, test.body)
			if a.status != test.status || suspect != test.suspect {
				t.Errorf("got status %d, suspect %q; want %d, %q: %s", a.status, suspect, test.status, test.suspect, a.body)
			}
			if a.status == 204 && len(a.body) > 0 {
				t.Errorf("204 with a body: %s", a.body)
			}
			for _, alive := range w.alive(held...) {
				if !alive {
					t.Error("the webhook by itself ended a grant")
				}
			}
			if strings.Contains(w.logs.String(), webhookSecret) {
				t.Error("the log holds the secret")
			}
		})
	}
}

// A delivery that is replayed long after has the same effect: the user's credentials are checked.
func TestGitHubWebhookReplayed(t *testing.T) {
	w, github := newWebhookWorld(t)
	body := `{"action":"revoked","sender":{"id":583231}}`
	w.signIn()
	if _, suspect := w.deliver("github_app_authorization", signature(webhookSecret, body), body); suspect != "octocat" {
		t.Fatalf("suspect: %q", suspect)
	}
	again := w.signIn() // replaces the credential: none is suspect any more
	if n := query[int](w, `SELECT count(*) FROM credentials WHERE suspect_at > 0`); n != 0 {
		t.Fatalf("%d credentials are suspect after a sign-in", n)
	}
	w.clock.advance(30 * time.Minute)
	grants := query[int](w, `SELECT count(*) FROM grants`)
	a, suspect := w.deliver("github_app_authorization", signature(webhookSecret, body), body)
	if a.status != http.StatusNoContent || suspect != "octocat" || query[int](w, `SELECT count(*) FROM grants`) != grants {
		t.Errorf("replay: got status %d, suspect %q", a.status, suspect)
	}
	if got := w.repositories(again.access); !strings.HasPrefix(got, "octocat/") {
		t.Errorf("list_repositories after the replay: got %q, want octocat's", got)
	}
	if n := query[int](w, `SELECT count(*) FROM credentials WHERE suspect_at > 0`); n != 0 {
		t.Error("GitHub was asked, and the credential is suspect still")
	}

	// This time the delivery tells the truth.
	if err := github.RevokeTokens("octocat"); err != nil {
		t.Fatal(err)
	}
	w.deliver("github_app_authorization", signature(webhookSecret, body), body)
	if a := w.tool(again.access, "list_repositories"); a.status != http.StatusUnauthorized {
		t.Errorf("list_repositories after the revocation: got status %d, want 401: %s", a.status, a.body)
	}
}

func TestGitHubWebhookIsOff(t *testing.T) {
	w := newWorld(t, nil)
	for _, signed := range []string{"", signature("", "{}"), signature(webhookSecret, "{}")} {
		if a, _ := w.deliver("ping", signed, "{}"); a.status != http.StatusNotFound {
			t.Errorf("got status %d, want 404", a.status)
		}
	}
}
