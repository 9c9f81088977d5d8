package sqlstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth"
)

func TestGrantsAreListed(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		second, first := signIn("octocat", "client", "second", t0), signIn("hubot", "another", "first", t0.Add(-time.Second))
		s := connected(t, url, second, first)
		must(t, s.SignIn(ctx, signIn("hubot", "client", "not redeemed", t0.Add(time.Second)), seal))
		list := func(at time.Time) (got []oauth.Grant) {
			must(t, s.Grants(ctx, at, func(g oauth.Grant) { got = append(got, g) }))
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
		wantError(t, s.Unblock(ctx, "b.example"), oauth.ErrNotFound)
		want("a.example")
	})
}
