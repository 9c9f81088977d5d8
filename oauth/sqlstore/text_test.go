package sqlstore_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// nasty lists what a provider might send as any text.
var nasty = map[string]string{
	"control: accents":  "Zoë",
	"control: Chinese":  "李雷",
	"control: emoji":    "Cat 🐙",
	"NUL":               "a\x00b",
	"terminal colours":  "\x1b[31mred",
	"direction":         "a\u202eb",
	"lone surrogate":    "a\ufffdb", // encoding/json turns it, and invalid UTF-8, into this
	"ten thousand":      strings.Repeat("é", 10_000),
	"nothing but space": "\u3164 \u2060",
}

// TestForeignTextIsStoredAlike checks that a user whom a provider describes with such text can sign in on either
// database, and that both return the same text.
func TestForeignTextIsStoredAlike(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, url)
		for name, text := range nasty {
			t.Run(name, func(t *testing.T) {
				in := signIn("octocat", "client", "grant of "+name, t0)
				in.Grant.User.Identity = identified(t, text)
				in.Grant.User.ID = in.Grant.User.UserID()
				in.Grant.Client.Name = upstream.CleanText(text, 100)
				must(t, s.SignIn(ctx, in, seal))
				got, err := s.User(ctx, in.Grant.User.ID)
				must(t, err)
				want := in.Grant.User
				want.Lost = nil
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
		if !isPostgres(url) {
			return
		}
		raw := signIn("octocat", "client", "raw", t0)
		raw.Grant.User.Name = nasty["NUL"]
		if err := s.SignIn(ctx, raw, seal); err == nil || !strings.Contains(err.Error(), "22021") {
			t.Errorf("as it came: got %v, want PostgreSQL's refusal, or this test tests nothing", err)
		}
	})
}

// identified returns octocat's identity from an ID token with this text in every claim.
func identified(t *testing.T, text string) upstream.Identity {
	t.Helper()
	const base, verifier, nonce = "http://localhost:20200", "a-verifier-of-more-than-forty-three-characters", "nonce"
	idp, err := devidp.Start(devidp.Config{BaseURL: base, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer idp.Close()
	idp.Lie(devidp.IDToken, func(c map[string]any) {
		c["name"], c["preferred_username"], c["groups"] = text, text, []string{text, "group"}
		c["email"], c["email_verified"] = text+"@example.com", true
	})
	p, err := upstream.OIDC(idp.OIDC())
	must(t, err)
	callback := base + "/callback/" + p.ID
	address, err := p.AuthCodeURL(context.Background(), callback, "state", verifier, nonce, nil, false)
	must(t, err)
	page, request, _ := strings.Cut(address, "?")
	form := url.Values{"request": {request}, "login": {"octocat"}, "decision": {"authorize"}}
	req, err := http.NewRequest(http.MethodPost, page, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {idp.URL()}}
	res, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	res.Body.Close()
	back, err := res.Location()
	must(t, err)
	token, err := p.Exchange(ctx, callback, back.Query().Get("code"), verifier, nil)
	must(t, err)
	id, err := p.Identify(ctx, token, nonce)
	must(t, err)
	return id
}
