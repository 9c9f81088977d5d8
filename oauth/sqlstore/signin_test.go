package sqlstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/store"
)

func TestFlowReplayWritesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s, db := connected(t, url, signIn("octocat", "client", "grant", t0)), database(t, url)
		before := rows(t, db)
		replay := signIn("mallory", "another client", "another grant", t0)
		flow := replay.Flow
		replay.Flow = store.HashOf("flow of grant")
		wantError(t, s.SignIn(ctx, replay, seal), store.ErrConflict)
		if diff := cmp.Diff(before, rows(t, db)); diff != "" {
			t.Errorf("-before +after:\n%s", diff)
		}
		replay.Flow = flow
		must(t, s.SignIn(ctx, replay, seal)) // the valid sign-in
	})
}

func TestSealThatFailsWritesNothing(t *testing.T) {
	failure := errors.New("no key")
	onEach(t, func(t *testing.T, url string) {
		s, db := open(t, url), database(t, url)
		for name, bad := range map[string]store.SealFunc{
			"an error": func(store.ID, int64, []store.Recipient) (store.Sealed, error) {
				return store.Sealed{}, failure
			},
			"a key too few": func(id store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
				return seal(id, version, to[1:])
			},
		} {
			err := s.SignIn(ctx, signIn("octocat", "client", "grant", t0), bad)
			if err == nil || errors.Is(err, store.ErrConflict) {
				t.Errorf("%s: got error %v", name, err)
			}
			if after := rows(t, db); len(after) > 0 {
				t.Errorf("%s: stored %v", name, after)
			}
		}
		must(t, s.SignIn(ctx, signIn("octocat", "client", "grant", t0), seal)) // the valid sign-in
	})
}

func TestSignInSealsToTheLiveGrantsOfItsCredential(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		abandoned := signIn("octocat", "client", "abandoned", t0)
		s := connected(t, url, signIn("octocat", "client", "live", t0),
			signIn("hubot", "client", "somebody else's", t0))
		must(t, s.SignIn(ctx, abandoned, seal))
		wider := signIn("octocat", "client", "wider", t0)
		wider.UpstreamScopes = append(wider.UpstreamScopes, "repo")
		must(t, s.SignIn(ctx, wider, seal))
		_, err := database(t, url).Exec(`UPDATE credentials SET lease_owner = 'somebody', lease_until = 1`)
		must(t, err)

		again := signIn("octocat", "another client", "again", abandoned.Code.ExpiresAt)
		again.UpstreamScopes = []string{"user:email", "read:user", "user:email"} // the same set
		var got []store.Recipient
		must(t, s.SignIn(ctx, again, func(id store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
			got = to
			return seal(id, version, to)
		}))
		want := map[store.ID]string{id("live"): "public key of live", id("again"): "public key of again"}
		for _, r := range got {
			if want[r.Grant] != string(r.PublicKey) {
				t.Errorf("recipient %x with %q", r.Grant, r.PublicKey)
			}
			delete(want, r.Grant)
		}
		if len(want) > 0 {
			t.Errorf("not sealed to %v", want)
		}
		wantSealed(t, s, "live", "again", "somebody else's", "wider")

		// The expired grant keeps a key to content that no longer exists.
		c, err := s.Credential(ctx, id("abandoned"))
		must(t, err)
		if string(c.Key) == string(keyFor(c.Version, id("abandoned"))) {
			t.Error("sealed to an expired grant")
		}
		leases := texts(t, database(t, url), `SELECT scopes FROM credentials WHERE lease_until > 0 ORDER BY scopes`)
		if diff := cmp.Diff([]string{"read:user repo user:email", "read:user user:email"}, leases); diff != "" {
			t.Errorf("the lease of the rewritten credential must be cleared, the others kept (-want +got):\n%s", diff)
		}
	})
}

func TestSignInRefreshesUserAndClient(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "grant", t0))
		again := signIn("octocat", "client", "again", t0.Add(time.Hour))
		again.Grant.User.Login, again.Grant.User.Emails = "renamed", []string{}
		again.Grant.Client.Name, again.Grant.Client.SecretHash = "Renamed", nil
		must(t, s.SignIn(ctx, again, seal))
		token, err := s.Token(ctx, pair("grant", 1, "", t0).Access.Hash)
		must(t, err)
		if diff := cmp.Diff(again.Grant.User, token.Grant.User); diff != "" {
			t.Errorf("user (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(again.Grant.Client, token.Grant.Client); diff != "" {
			t.Errorf("client (-want +got):\n%s", diff)
		}
	})
}
