package sqlstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

func TestSaveUser(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "grant", t0), signIn("hubot", "client", "other", t0))
		other, err := s.User(ctx, signIn("hubot", "client", "other", t0).Grant.User.ID)
		must(t, err)
		read, err := s.User(ctx, signIn("octocat", "client", "grant", t0).Grant.User.ID)
		must(t, err)
		first, second := read, read
		first.Login, first.Name, first.Emails, first.HostedDomain = "renamed", "Z", []string{"z@example.com"}, "z.example"
		first.Groups, first.Pinned, first.FormerLogins = []string{"z"}, "octocat", []string{"octocat"}
		first.Memberships = map[string]upstream.Standing{"github-org:z": "pending"}
		first.FactsAt, first.UnreachableSince = t0.Add(time.Hour), t0.Add(2*time.Hour)
		second.Login, second.FactsAt = "too late", t0.Add(time.Minute)
		must(t, s.SaveUser(ctx, first, read.FactsAt))
		must(t, s.SaveUser(ctx, second, read.FactsAt))
		for want, name := range map[*store.User]string{&first: "the first to save", &other: "somebody else"} {
			got, err := s.User(ctx, want.ID)
			must(t, err)
			if diff := cmp.Diff(*want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

// TestPinnedLogins checks that a login stays pinned forever. Otherwise a user who takes the login over would be allowed
// once its owner is purged.
func TestPinnedLogins(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		pinned, plain := signIn("octocat", "client", "grant", t0), signIn("hubot", "client", "other", t0)
		pinned.Grant.User.Pinned = "octocat"
		s := connected(t, url, pinned, plain)
		for _, in := range []store.SignIn{pinned, plain} {
			must(t, s.EndGrant(ctx, in.Grant.ID))
		}
		limits := store.PurgeLimits{At: t0.Add(time.Hour), SeenBefore: t0.Add(time.Hour), Limit: 10}
		_, err := s.Purge(ctx, limits)
		must(t, err)
		if diff := cmp.Diff([]string{"user octocat"}, rows(t, database(t, url))); diff != "" {
			t.Errorf("after a purge (-want +got):\n%s", diff)
		}
		for _, tt := range []struct {
			issuer, login string
			want          bool
		}{
			{"https://github.com", "octocat", true},
			{"https://github.com", "hubot", false},
			{"https://github.com", "", false},
			{"https://git.example.com", "octocat", false},
		} {
			if got, err := s.PinTaken(ctx, tt.issuer, tt.login); err != nil || got != tt.want {
				t.Errorf("%q at %s: got %t, %v", tt.login, tt.issuer, got, err)
			}
		}
		taker := signIn("mallory", "client", "again", t0)
		taker.Grant.User.Pinned = "octocat"
		if err := s.SignIn(ctx, taker, seal); err == nil {
			t.Error("a login is pinned to two accounts")
		}
	})
}
