package sqlstore_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
)

// atOnce runs n functions as concurrently as the machine can, and returns their errors.
func atOnce(n int, do func(i int) error) []error {
	errs := make([]error, n)
	var group sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-gate
			errs[i] = do(i)
		})
	}
	close(gate)
	group.Wait()
	return errs
}

// winner returns the index of the racer that won. Exactly one must win, and the others must get an error.
func winner(t *testing.T, errs []error) int {
	t.Helper()
	for i, err := range errs {
		if err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatalf("racer %d: %v", i, err)
		}
	}
	won := slices.Index(errs, nil)
	if won < 0 || slices.Contains(errs[won+1:], nil) {
		t.Fatalf("want one winner, got %v", errs)
	}
	return won
}

// wantOnly checks that only the winner's pair is stored.
func wantOnly(t *testing.T, s *sqlstore.Store, n int64, racers, won int) {
	t.Helper()
	for i := range racers {
		p := pair("grant", n, fmt.Sprint(" of racer ", i), t0)
		for _, token := range []store.Hash{p.Access.Hash, p.Refresh.Hash} {
			got, err := s.Token(ctx, token)
			if i != won {
				wantError(t, err, store.ErrNotFound)
				continue
			}
			must(t, err)
			if got.N != n || got.Grant.Counter != n {
				t.Errorf("the winner's token has number %d, counter %d; want %d", got.N, got.Grant.Counter, n)
			}
		}
	}
}

// racingStores returns stores on one database, as two processes have them. Their connections are already open;
// otherwise racers would arrive one by one.
func racingStores(t *testing.T, url string) func(i int) *sqlstore.Store {
	t.Helper()
	stores := []*sqlstore.Store{open(t, url), open(t, url)}
	process := func(i int) *sqlstore.Store { return stores[i%2] }
	for _, err := range atOnce(100, func(i int) error { return process(i).Probe(ctx, t0) }) {
		must(t, err)
	}
	return process
}

func TestFortyRedeemOneCodeAndFortyRotateOneToken(t *testing.T) {
	const racers = 40
	onEach(t, func(t *testing.T, url string) {
		process, db := racingStores(t, url), database(t, url)
		in := signIn("octocat", "client", "grant", t0)
		must(t, process(0).SignIn(ctx, in, seal))

		won := winner(t, atOnce(racers, func(i int) error {
			return redeem(process(i), in.Code.Hash, t0, pair("grant", 1, fmt.Sprint(" of racer ", i), t0))
		}))
		wantOnly(t, process(0), 1, racers, won)

		refresh := pair("grant", 1, fmt.Sprint(" of racer ", won), t0).Refresh.Hash
		won = winner(t, atOnce(racers, func(i int) error {
			return process(i).Rotate(ctx, refresh, 1, t0, pair("grant", 2, fmt.Sprint(" of racer ", i), t0))
		}))
		wantOnly(t, process(0), 2, racers, won)

		want := []string{
			"client client", "code grant erased", "credential read:user user:email v1", "grant grant 2",
			"token grant access1", "token grant access2", "token grant refresh1 spent", "token grant refresh2",
			"user octocat",
		}
		if diff := cmp.Diff(want, rows(t, db)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestRotateRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "grant", t0), signIn("hubot", "client", "other", t0))
		db := database(t, url)
		first, second := pair("grant", 1, "", t0), pair("grant", 2, "", t0)
		must(t, s.Rotate(ctx, first.Refresh.Hash, 1, t0, second))
		before := rows(t, db)
		for _, tt := range []struct {
			name  string
			token store.Hash
			n     int64
		}{
			{"a spent token, with its own number", first.Refresh.Hash, 1},
			{"a spent token, with the grant's number", first.Refresh.Hash, 2},
			{"the newest token, as if it had been read earlier", second.Refresh.Hash, 1},
			{"the newest token, as if it had been read later", second.Refresh.Hash, 3},
			{"an access token", second.Access.Hash, 2},
			{"another grant's token", pair("other", 1, "", t0).Refresh.Hash, 2},
			{"a code", store.HashOf("code of grant"), 2},
			{"no token", store.Hash{}, 2},
		} {
			t.Run(tt.name, func(t *testing.T) {
				wantError(t, s.Rotate(ctx, tt.token, tt.n, t0, pair("grant", 3, "", t0)), store.ErrConflict)
				if diff := cmp.Diff(before, rows(t, db)); diff != "" {
					t.Errorf("it changed something (-before +after):\n%s", diff)
				}
			})
		}
		must(t, s.Rotate(ctx, second.Refresh.Hash, 2, t0, pair("grant", 3, "", t0))) // the valid rotation
	})
}

// wantSealed checks that every live grant can open the newest content of its credential.
func wantSealed(t *testing.T, s *sqlstore.Store, grants ...string) {
	t.Helper()
	for _, grant := range grants {
		c, err := s.Credential(ctx, id(grant))
		must(t, err)
		if want := fmt.Sprint("content ", c.Version); string(c.Ciphertext) != want {
			t.Errorf("credential holds %q, want %q", c.Ciphertext, want)
		}
		if want := keyFor(c.Version, id(grant)); !bytes.Equal(c.Key, want) {
			t.Errorf("%s has %q, want %q", grant, c.Key, want)
		}
	}
}

// TestTwoSignInsOfOnePersonAtOnce checks that one sign-in waits for the other. If neither did, PostgreSQL would lose
// one of the two in nearly every round.
func TestTwoSignInsOfOnePersonAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		process := racingStores(t, url)
		for round := range 50 {
			person := fmt.Sprint("person ", round)
			var grants []string
			for _, when := range []string{"first", "again"} { // as a new user, and as a known user
				pair := []string{person + when + " 0", person + when + " 1"}
				for _, err := range atOnce(2, func(i int) error {
					return process(i).SignIn(ctx, signIn(person, fmt.Sprint("client ", i), pair[i], t0), seal)
				}) {
					must(t, err)
				}
				grants = append(grants, pair...)
				wantSealed(t, process(0), grants...)
			}
		}
	})
}

// TestEndGrantDuringASignIn checks a client that disconnects while the user signs in with another client. Both touch
// the same credential and grant, so unless they queue up for the user's row, they deadlock.
func TestEndGrantDuringASignIn(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "old", t0))
		ended := make(chan error, 1)
		during := func(c store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
			go func() { ended <- s.EndGrant(ctx, id("old")) }()
			if isPostgres(url) {
				awaitLock(t, database(t, url))
			}
			return seal(c, version, to)
		}
		must(t, s.SignIn(ctx, signIn("octocat", "another client", "new", t0), during))
		must(t, <-ended)
		wantSealed(t, s, "new")
		_, err := s.Credential(ctx, id("old"))
		wantError(t, err, store.ErrNotFound)
	})
}

// awaitLock waits until a connection to the PostgreSQL database waits for a lock.
func awaitLock(t *testing.T, db *sql.DB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		waiting := texts(t, db, `SELECT query FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		if len(waiting) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for a lock")
		}
	}
}

func TestOneFlowComesBackTwentyTimesAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		process, db := racingStores(t, url), database(t, url)
		won := winner(t, atOnce(20, func(i int) error {
			in := signIn(fmt.Sprint("person ", i), "client", fmt.Sprint("grant ", i), t0)
			in.Flow = store.HashOf("one flow")
			return process(i).SignIn(ctx, in, seal)
		}))
		want := []string{
			"client client", fmt.Sprintf("code grant %d", won), "credential read:user user:email v1",
			fmt.Sprintf("grant grant %d 0", won), fmt.Sprintf("user person %d", won),
		}
		if diff := cmp.Diff(want, rows(t, db)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestEverythingAtOnce checks all writes against each other, for few users, so that they collide. An error other than
// a concurrent change is a deadlock or a broken constraint.
func TestEverythingAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		process, db := racingStores(t, url), database(t, url)
		expected := func(err error) error {
			if errors.Is(err, store.ErrConflict) {
				return nil
			}
			return err
		}
		for i, err := range atOnce(8, func(worker int) error {
			s, random := process(worker), rand.New(rand.NewPCG(1, uint64(worker)))
			for turn := range 12 {
				at := t0.Add(time.Duration(turn) * time.Minute)
				grant := fmt.Sprintf("grant %d-%d", worker, turn)
				in := signIn(fmt.Sprint("person ", random.IntN(3)), fmt.Sprint("client ", random.IntN(3)), grant, at)
				somebody := fmt.Sprintf("grant %d-%d", random.IntN(8), max(0, turn-random.IntN(8)))
				another := fmt.Sprintf("grant %d-%d", random.IntN(8), max(0, turn-random.IntN(4)))
				err := errors.Join(
					s.SignIn(ctx, in, seal),
					s.SuspectCredentials(ctx, in.Grant.User.ID, at),
				)
				_, redeemErr := s.RedeemCode(ctx, in.Code.Hash, at, pair(grant, 1, "", at), turn%2 == 0)
				err = errors.Join(err, expected(redeemErr),
					expected(s.Rotate(ctx, pair(somebody, 1, "", at).Refresh.Hash, 1, at, pair(somebody, 2, "", at))),
					expected(s.EndGrant(ctx, id(another))),
					s.SaveUser(ctx, in.Grant.User, in.Grant.User.FactsAt),
				)
				// Purge everything that is spent, and what only expires later, as if on a clock that is ahead. But no
				// user who is signing in now is purged: the clock would have to be ahead by months.
				_, purgeErr := s.Purge(ctx, store.PurgeLimits{At: at.Add(codeLife), RetiredBefore: at.Add(time.Hour),
					EraseBefore: at.Add(time.Hour), SeenBefore: t0, Limit: 10})
				if err := errors.Join(err, purgeErr); err != nil {
					return err
				}
			}
			return nil
		}) {
			if err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		live := texts(t, db, `SELECT audience FROM grants`)
		if len(live) == 0 {
			t.Error("no grant is left: the test has shown nothing")
		}
		wantSealed(t, process(0), live...)
		if orphans := texts(t, db, `SELECT scopes FROM credentials WHERE NOT EXISTS
			(SELECT 1 FROM grants WHERE credential_id = credentials.id)`); len(orphans) > 0 {
			t.Errorf("%d credentials without a grant", len(orphans))
		}
	})
}
