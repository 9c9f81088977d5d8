package sqlstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/store"
)

// live returns the names of the redeemed grants.
func live(t *testing.T, url string) []string {
	return texts(t, database(t, url), `SELECT audience FROM grants WHERE counter > 0 ORDER BY audience`)
}

func TestRedeemedGrantReplaces(t *testing.T) {
	for _, tt := range []struct {
		name     string
		replaces bool
		want     []string
	}{
		{"a registered client's", true, []string{"another client's", "another person's", "new"}},
		{"control: one of many of a document's", false,
			[]string{"another client's", "another person's", "new", "old", "older"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, url string) {
				wider := signIn("octocat", "client", "older", t0)
				wider.UpstreamScopes = append(wider.UpstreamScopes, "repo")
				s := connected(t, url, wider, signIn("octocat", "client", "old", t0),
					signIn("octocat", "another client", "another client's", t0), signIn("hubot", "client", "another person's", t0))
				// Two more sign-ins wait for their code to be redeemed. Neither they nor failures replace anything.
				in, pending := signIn("octocat", "client", "new", t0), signIn("octocat", "client", "pending", t0)
				must(t, s.SignIn(ctx, in, seal))
				must(t, s.SignIn(ctx, pending, seal))
				_, err := s.RedeemCode(ctx, store.HashOf("no code"), t0, pair("new", 1, "", t0), true)
				wantError(t, err, store.ErrConflict)
				if diff := cmp.Diff([]string{"another client's", "another person's", "old", "older"}, live(t, url)); diff != "" {
					t.Errorf("before (-want +got):\n%s", diff)
				}

				ended, err := s.RedeemCode(ctx, in.Code.Hash, t0.Add(time.Minute), pair("new", 1, "", t0), tt.replaces)
				must(t, err)
				if diff := cmp.Diff(tt.want, live(t, url)); diff != "" {
					t.Errorf("after (-want +got):\n%s", diff)
				}
				for _, grant := range []string{"old", "older"} {
					if slices.Contains(ended, id(grant)) != tt.replaces {
						t.Errorf("ended %v, which has %s (%s)", ended, grant, id(grant))
					}
					if _, err := s.Token(ctx, pair(grant, 1, "", t0).Access.Hash); (err != nil) != tt.replaces {
						t.Errorf("token of %s: got error %v", grant, err)
					}
				}
				left := texts(t, database(t, url), `SELECT scopes FROM credentials WHERE scopes LIKE '%repo%'`)
				if (len(left) == 0) != tt.replaces {
					t.Errorf("the credential of an ended grant: left are %v", left)
				}
				wantSealed(t, s, "new", "another client's", "pending")

				// The second redemption changes nothing. The other sign-in is still valid.
				_, err = s.RedeemCode(ctx, in.Code.Hash, t0, pair("new", 1, " again", t0), tt.replaces)
				wantError(t, err, store.ErrConflict)
				must(t, redeem(s, pending.Code.Hash, t0, pair("pending", 1, "", t0)))
			})
		})
	}
}

func TestFiftyGrantsOfAPerson(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("hubot", "client", "another person's", t0.Add(-time.Hour)))
		at := t0
		connect := func(grant string, life time.Duration) []store.ID {
			t.Helper()
			at = at.Add(time.Second)
			in, tokens := signIn("octocat", "client of "+grant, grant, at), pair(grant, 1, "", at)
			tokens.Refresh.ExpiresAt = at.Add(life)
			must(t, s.SignIn(ctx, in, seal))
			ended, err := s.RedeemCode(ctx, in.Code.Hash, at, tokens, true)
			must(t, err)
			return ended
		}
		connect("expired", time.Millisecond) // and not yet purged
		for i := range store.MaxGrants {
			if ended := connect(fmt.Sprintf("grant %02d", i), refreshLife); len(ended) > 0 {
				t.Fatalf("grant %d ended %v", i, ended)
			}
		}
		must(t, s.SignIn(ctx, signIn("octocat", "client", "not redeemed", at), seal))
		must(t, s.Rotate(ctx, pair("grant 00", 1, "", at).Refresh.Hash, 1, at.Add(time.Second), pair("grant 00", 2, "", at)))
		at = at.Add(time.Second)

		for i, want := range []string{"grant 01", "grant 02"} { // the first has just been used
			if diff := cmp.Diff([]store.ID{id(want)}, connect(fmt.Sprint("one more ", i), refreshLife)); diff != "" {
				t.Errorf("ended (-want +got):\n%s", diff)
			}
		}
		left := live(t, url)
		if len(left) != store.MaxGrants+2 { // with the expired grant and the other user's
			t.Errorf("%d grants are left: %v", len(left), left)
		}
		wantSealed(t, s, "grant 00", "grant 03", "one more 1", "another person's")
	})
}

// TestFiftyGrantsOfAPersonAtOnce checks concurrent redemptions. Each sees forty-nine grants, unless one waits for the
// other.
func TestFiftyGrantsOfAPersonAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		process := racingStores(t, url)
		var codes []store.Hash
		for i := range store.MaxGrants + 8 {
			in := signIn("octocat", fmt.Sprint("client ", i), fmt.Sprint("grant ", i), t0)
			must(t, process(0).SignIn(ctx, in, seal))
			codes = append(codes, in.Code.Hash)
		}
		ended := make([]int, len(codes))
		for _, err := range atOnce(len(codes), func(i int) error {
			ids, err := process(i).RedeemCode(ctx, codes[i], t0, pair(fmt.Sprint("grant ", i), 1, "", t0), true)
			ended[i] = len(ids)
			return err
		}) {
			must(t, err)
		}
		sum := 0
		for _, n := range ended {
			sum += n
		}
		if left := live(t, url); len(left) != store.MaxGrants || sum != 8 {
			t.Errorf("%d grants are left and %d were ended, want %d and 8", len(left), sum, store.MaxGrants)
		}
	})
}
