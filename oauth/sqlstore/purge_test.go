package sqlstore_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
)

const tick = time.Millisecond // the store's resolution

func TestPurge(t *testing.T) {
	// Octocat's client has redeemed its code after a minute and refreshed after ten. Hubot's never redeemed its code.
	var (
		redeemed = t0.Add(time.Minute)
		rotated  = t0.Add(10 * time.Minute)
		idle     = rotated.Add(refreshLife)
		later    = t0.Add(30 * 24 * time.Hour)
		retired  = t0.Add(20 * time.Minute)
	)
	retire := func(t *testing.T, url string) {
		_, err := database(t, url).Exec(`UPDATE tokens SET retired_at = $1 WHERE spent_at > 0`, retired.UnixMilli())
		must(t, err)
	}
	all := []string{
		"client a", "client b", "code abandoned", "code live erased",
		"credential read:user user:email v1", "credential read:user user:email v1",
		"grant abandoned 0", "grant live 2",
		"token live access1", "token live access2", "token live refresh1 spent", "token live refresh2",
		"user hubot", "user octocat",
	}
	without := func(gone ...string) []string {
		left := slices.Clone(all)
		for _, row := range gone {
			i := slices.Index(left, row)
			left = slices.Delete(left, i, i+1)
		}
		return left
	}
	abandoned := []string{"code abandoned", "credential read:user user:email v1", "grant abandoned 0"}
	expired := append([]string{"code live erased", "token live access1", "token live access2"}, abandoned...)
	replaced := func(rows []string, old, new string) []string {
		rows[slices.Index(rows, old)] = new
		slices.Sort(rows)
		return rows
	}

	for _, tt := range []struct {
		name    string
		limits  store.PurgeLimits
		want    []string
		changed int
	}{
		{"no limits", store.PurgeLimits{}, all, 0},
		{"just before the codes expire", store.PurgeLimits{At: t0.Add(codeLife - tick)}, all, 0},
		{"codes expire, and a grant that has nothing else", store.PurgeLimits{At: t0.Add(codeLife)},
			without(append(abandoned, "code live erased")...), 2},
		{"an access token expires", store.PurgeLimits{At: redeemed.Add(accessLife)},
			without(append(abandoned, "code live erased", "token live access1")...), 3},
		{"spent, but its successor was never presented", store.PurgeLimits{RetiredBefore: later, EraseBefore: later}, all, 0},
		{"retired just now", store.PurgeLimits{RetiredBefore: retired, EraseBefore: retired}, all, 0},
		{"a retired token's window is over", store.PurgeLimits{EraseBefore: retired.Add(tick)},
			replaced(without(), "token live refresh1 spent", "token live refresh1 spent erased"), 1},
		{"a retired token is forgotten", store.PurgeLimits{RetiredBefore: retired.Add(tick)},
			without("token live refresh1 spent"), 1},
		{"last seen long ago, but connected", store.PurgeLimits{At: redeemed, SeenBefore: redeemed}, all, 4},
		{"last seen long ago, and one is not connected", store.PurgeLimits{At: later, SeenBefore: later},
			without(append(expired, "user hubot", "client b")...), 8},
		{"just before the live grant expires", store.PurgeLimits{At: idle.Add(-tick)}, without(expired...), 4},
		{"the live grant expires", store.PurgeLimits{At: idle},
			[]string{"client a", "client b", "user hubot", "user octocat"}, 2},
		{"nothing is left", store.PurgeLimits{At: idle, SeenBefore: idle}, nil, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, url string) {
				s := connected(t, url, signIn("octocat", "a", "live", t0))
				must(t, s.Rotate(ctx, pair("live", 1, "", t0).Refresh.Hash, 1, rotated, pair("live", 2, "", rotated)))
				must(t, s.SignIn(ctx, signIn("hubot", "b", "abandoned", t0), seal))
				if strings.Contains(tt.name, "retired") {
					retire(t, url)
				}
				tt.limits.Limit = 100
				changed, err := s.Purge(ctx, tt.limits)
				must(t, err)
				if diff := cmp.Diff(tt.want, rows(t, database(t, url))); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if changed != tt.changed {
					t.Errorf("changed %d rows, want %d", changed, tt.changed)
				}
				if changed, err = s.Purge(ctx, tt.limits); err != nil || changed != 0 {
					t.Errorf("a second pass changed %d rows, error %v", changed, err)
				}
			})
		})
	}
}

func TestPurgeInBatches(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		var people []store.SignIn
		for _, name := range []string{"one", "two", "three", "four", "five"} {
			people = append(people, signIn(name, "client of "+name, name, t0))
		}
		s, db := connected(t, url, people...), database(t, url)
		limits := store.PurgeLimits{At: t0.Add(2 * time.Hour), SeenBefore: t0.Add(time.Hour), Limit: 2}
		count := func(kind string) int { return len(texts(t, db, "SELECT 'x' FROM "+kind)) }
		for pass, want := range []int{3, 1, 0} {
			if _, err := s.Purge(ctx, limits); err != nil {
				t.Fatal(err)
			}
			if got := count("codes"); got != want {
				t.Errorf("pass %d left %d codes, want %d", pass, got, want)
			}
			if got := count("tokens WHERE kind = 'access'"); got != want {
				t.Errorf("pass %d left %d access tokens, want %d", pass, got, want)
			}
		}
		if got := count("users") + count("clients") + count("grants"); got != 15 {
			t.Errorf("%d users, clients and grants are left, want all 15", got)
		}
	})
}

// TestPurgeDuringASignIn checks a user who signs in, after a long absence, at the moment when they would be purged.
func TestPurgeDuringASignIn(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		prepare := func() *sqlstore.Store {
			s := connected(t, url, signIn("octocat", "client", "old", t0))
			must(t, s.EndGrant(ctx, id("old")))
			return s
		}
		db, back := database(t, url), t0.Add(365*24*time.Hour)
		limits := store.PurgeLimits{At: back, SeenBefore: back.Add(-time.Hour), Limit: 10}

		s := prepare()
		purged := make(chan error, 1)
		during := func(c store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
			go func() {
				ctx, cancel := context.WithTimeout(ctx, time.Minute) // else a deadlock would hang the test
				defer cancel()
				_, err := s.Purge(ctx, limits)
				purged <- err
			}()
			if isPostgres(url) { // which skips the locked rows; SQLite waits for its turn
				must(t, <-purged)
				purged <- nil
			}
			return seal(c, version, to)
		}
		must(t, s.SignIn(ctx, signIn("octocat", "client", "new", back), during))
		must(t, <-purged)
		want := []string{
			"client client", "code new", "credential read:user user:email v1", "grant new 0", "user octocat",
		}
		if diff := cmp.Diff(want, rows(t, db)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}

		// Without the sign-in the user is purged.
		must(t, s.EndGrant(ctx, id("new")))
		limits.SeenBefore = back.Add(tick)
		_, err := s.Purge(ctx, limits)
		must(t, err)
		if left := rows(t, db); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
