package sqlstore_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/mcp-federated-login/oauth/store"
)

func TestAssertionIsUsedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, url)
		used, until := store.HashOf("used"), t0.Add(time.Minute)
		results := make([]error, 8)
		var racers sync.WaitGroup
		for i := range results {
			racers.Go(func() { results[i] = s.UseAssertion(ctx, used, until) })
		}
		racers.Wait()
		slices.SortFunc(results, func(a, b error) int {
			if a == nil {
				return -1
			}
			return 0
		})
		must(t, results[0])
		for _, err := range results[1:] {
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("a second use: got %v, want %v", err, store.ErrConflict)
			}
		}
		must(t, s.UseAssertion(ctx, store.HashOf("another"), until.Add(time.Minute)))

		left := func() int {
			return len(texts(t, database(t, url), `SELECT 'one' FROM assertions`))
		}
		_, err := s.Purge(ctx, store.PurgeLimits{At: until.Add(-time.Millisecond), Limit: 10})
		must(t, err)
		if n := left(); n != 2 {
			t.Errorf("before they expire %d are left, want 2", n)
		}
		_, err = s.Purge(ctx, store.PurgeLimits{At: until, Limit: 10})
		must(t, err)
		if n := left(); n != 1 {
			t.Errorf("when the first has expired %d are left, want 1", n)
		}
	})
}

func TestClientByDocument(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		const client = "https://client.example/metadata.json"
		in := signIn("octocat", client, "g", t0)
		in.Grant.Client.Document = []byte(`{"client_id":"` + client + `"}`)
		in.Grant.Client.Keys, in.Grant.Client.Proof = []byte(`{"keys":[]}`), []byte("proof")
		s := open(t, url)
		must(t, s.SignIn(ctx, in, seal))
		got, err := s.Client(ctx, store.HashOf(client))
		must(t, err)
		if diff := cmp.Diff(in.Grant.Client, got); diff != "" {
			t.Errorf("as stored (-want +got):\n%s", diff)
		}

		changed := signIn("hubot", client, "h", t0)
		changed.Grant.Client.Document, changed.Grant.Client.Proof = []byte(`{}`), []byte("new proof")
		must(t, s.SignIn(ctx, changed, seal))
		got, err = s.Client(ctx, store.HashOf(client))
		must(t, err)
		if diff := cmp.Diff(changed.Grant.Client, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after the next sign-in (-want +got):\n%s", diff)
		}
	})
}

// TestSavedDocumentIsThatOfTheLastFetch checks that a client's row follows its document, and that no other row appears.
func TestSavedDocumentIsThatOfTheLastFetch(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		const client = "https://client.example/metadata.json"
		in := signIn("octocat", client, "g", t0)
		in.Grant.Client.Document, in.Grant.Client.SecretHash = []byte(`{"old":1}`), nil
		s := connected(t, url, in, signIn("octocat", "registered", "h", t0))
		stored := func(id string) store.Client {
			t.Helper()
			c, err := s.Client(ctx, store.HashOf(id))
			must(t, err)
			return c
		}
		before := stored(client)

		same, older := before, before
		same.Document, older.Document = []byte(`{"same":1}`), []byte(`{"older":1}`)
		older.IssuedAt = before.IssuedAt.Add(-time.Millisecond)
		stranger, registered := before, stored("registered")
		stranger.ID = "https://stranger.example/metadata.json"
		registered.Document, registered.IssuedAt = []byte(`{}`), t0.Add(time.Hour)
		stranger.IssuedAt = t0.Add(time.Hour)
		for name, c := range map[string]store.Client{"as old": same, "older": older, "no row": stranger,
			"a client without a document": registered} {
			if err := s.SaveDocument(ctx, c); !errors.Is(err, store.ErrConflict) {
				t.Errorf("%s: got %v, want %v", name, err, store.ErrConflict)
			}
		}
		if _, err := s.Client(ctx, store.HashOf(stranger.ID)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a stranger's row: got %v, want %v", err, store.ErrNotFound)
		}
		if diff := cmp.Diff(before, stored(client)); diff != "" {
			t.Errorf("what was refused changed the row (-before +after):\n%s", diff)
		}

		newer := before
		newer.IssuedAt = before.IssuedAt.Add(time.Millisecond)
		newer.Name, newer.RedirectURIs = "New", []string{"https://client.example/new"}
		newer.AuthMethod = "private_key_jwt"
		newer.Document, newer.Keys, newer.Proof = []byte(`{"new":1}`), []byte(`{"keys":[]}`), []byte("new proof")
		must(t, s.SaveDocument(ctx, newer))
		if diff := cmp.Diff(newer, stored(client)); diff != "" {
			t.Errorf("the newer one (-want +got):\n%s", diff)
		}
	})
}
