package sqlstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/store"
)

func TestGrantsAreListed(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		second, first := signIn("octocat", "client", "second", t0), signIn("hubot", "another", "first", t0.Add(-time.Second))
		s := connected(t, url, second, first)
		must(t, s.SignIn(ctx, signIn("hubot", "client", "not redeemed", t0.Add(time.Second)), seal))
		list := func(at time.Time) (got []store.Grant) {
			must(t, s.Grants(ctx, at, func(g store.Grant) { got = append(got, g) }))
			return got
		}
		var names []string
		for _, g := range list(t0) {
			names = append(names, g.Audience)
		}
		if diff := cmp.Diff([]string{"first", "second", "not redeemed"}, names); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for _, g := range list(t0) {
			if g.Audience != "second" {
				continue
			}
			want := second.Grant
			want.Credential, want.Counter, want.LastUsedAt = g.Credential, 1, t0.Add(time.Minute)
			if diff := cmp.Diff(want, g); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		}
		if got := list(t0.Add(codeLife + time.Second)); len(got) != 2 {
			t.Errorf("%d grants when the code has expired, want 2", len(got))
		}
		if got := list(t0.Add(time.Minute + refreshLife)); len(got) != 0 {
			t.Errorf("%d grants when all have expired", len(got))
		}
	})
}

func TestBlocks(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s, other := open(t, url), open(t, url)
		want := func(names ...string) {
			t.Helper()
			got, err := other.Blocks(ctx)
			must(t, err)
			if diff := cmp.Diff(names, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		}
		want()
		must(t, s.Block(ctx, "b.example", t0))
		must(t, s.Block(ctx, "a.example", t0))
		must(t, s.Block(ctx, "b.example", t0.Add(time.Hour)))
		want("a.example", "b.example")
		must(t, s.Unblock(ctx, "b.example"))
		wantError(t, s.Unblock(ctx, "b.example"), store.ErrNotFound)
		want("a.example")
	})
}

func TestSuspectCredentials(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		in, wider := signIn("octocat", "client", "one", t0), signIn("octocat", "client", "two", t0)
		wider.UpstreamScopes = append(wider.UpstreamScopes, "repo")
		s := connected(t, url, in, wider, signIn("hubot", "client", "another person's", t0))
		suspect := func() []string {
			return texts(t, database(t, url), `SELECT login || ' ' || scopes || ' ' || suspect_at
				FROM credentials c JOIN users u ON u.id = c.user_id WHERE suspect_at > 0 ORDER BY scopes`)
		}
		if got := suspect(); len(got) > 0 {
			t.Fatalf("suspect from the beginning: %v", got)
		}
		must(t, s.SuspectCredentials(ctx, in.Grant.User.ID, time.UnixMilli(7)))
		want := []string{"octocat read:user repo user:email 7", "octocat read:user user:email 7"}
		if diff := cmp.Diff(want, suspect()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		must(t, s.SignIn(ctx, signIn("octocat", "client", "three", t0), seal))
		if diff := cmp.Diff(want[:1], suspect()); diff != "" {
			t.Errorf("after a sign-in, whose token is new (-want +got):\n%s", diff)
		}
	})
}
