package sqlstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
)

func TestEverythingComesBackAsItWasStored(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, url)
		in := signIn("octocat", "client", "grant", t0)
		must(t, s.SignIn(ctx, in, seal))
		in.Code.Grant, in.Code.Wrap = in.Grant, in.WrapCode(in.Grant.Credential)

		check := func(what string, want any, read func() (any, error)) {
			t.Helper()
			got, err := read()
			must(t, err)
			// The store chooses the credential's id.
			ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Credential" }, cmp.Ignore())
			if diff := cmp.Diff(want, got, ignore, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		code := func() (any, error) { return s.Code(ctx, in.Code.Hash) }
		check("code", in.Code, code)

		redeemed, first := t0.Add(time.Minute), pair("grant", 1, "", t0.Add(time.Minute))
		must(t, redeem(s, in.Code.Hash, redeemed, first))
		in.Grant.Counter, in.Grant.LastUsedAt = 1, redeemed
		in.Code.Grant, in.Code.RedeemedAt, in.Code.Wrap = in.Grant, redeemed, store.Wrap{}
		check("redeemed code", in.Code, code)

		rotated := t0.Add(time.Hour)
		second := pair("grant", 2, "", rotated)
		must(t, s.Rotate(ctx, first.Refresh.Hash, 1, rotated, second))
		in.Grant.Counter, in.Grant.LastUsedAt = 2, rotated
		first.Refresh.SpentAt = rotated

		again := pair("grant", 2, " again", rotated.Add(time.Minute)).Access
		must(t, s.Reissue(ctx, in.Grant.ID, 2, 0, rotated.Add(time.Minute), again))
		wantError(t, s.Reissue(ctx, in.Grant.ID, 2, 0, rotated, again), store.ErrConflict)
		wantError(t, s.Reissue(ctx, in.Grant.ID, 1, 1, rotated, again), store.ErrConflict)
		in.Grant.Reissued, in.Grant.LastUsedAt = 1, rotated.Add(time.Minute)

		// No result may depend on this process.
		must(t, s.Close())
		s = open(t, url)
		for _, token := range []store.Token{first.Access, first.Refresh, second.Access, second.Refresh, again} {
			token.Grant = in.Grant
			check("token", token, func() (any, error) { return s.Token(ctx, token.Hash) })
		}
		check("list of grants", []store.Grant{in.Grant}, func() (any, error) {
			return s.UserGrants(ctx, in.Grant.User.ID, rotated)
		})
		check("client", in.Grant.Client, func() (any, error) { return s.Client(ctx, store.HashOf("client")) })
		check("user", in.Grant.User, func() (any, error) { return s.User(ctx, in.Grant.User.ID) })
		check("used flow", true, func() (any, error) { return s.FlowUsed(ctx, in.Flow) })
		check("unused flow", false, func() (any, error) { return s.FlowUsed(ctx, store.HashOf("no flow")) })

		token, err := s.Token(ctx, second.Access.Hash)
		must(t, err)
		check("credential", store.Credential{
			ID: token.Grant.Credential, Version: 1, RingKey: "k1", Ciphertext: []byte("content 1"),
			Key: keyFor(1, id("grant")), AskedAt: t0,
		}, func() (any, error) { return s.Credential(ctx, in.Grant.ID) })

		third, then := pair("grant", 3, "", rotated.Add(time.Hour)), rotated.Add(time.Hour)
		must(t, s.Rotate(ctx, second.Refresh.Hash, 2, then, third))
		in.Grant.Counter, in.Grant.Reissued, in.Grant.LastUsedAt = 3, 0, then
		first.Refresh.RetiredAt, second.Refresh.SpentAt = then, then
		for _, token := range []store.Token{first.Refresh, second.Refresh, third.Access, third.Refresh, again} {
			token.Grant = in.Grant
			check("token after the next rotation", token, func() (any, error) { return s.Token(ctx, token.Hash) })
		}
	})
}

// TestAskedAboutOnce checks that only one of several callers is allowed to ask the provider about a credential.
func TestAskedAboutOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "grant", t0))
		c, err := s.Credential(ctx, id("grant"))
		must(t, err)
		later := t0.Add(time.Hour)
		wantError(t, s.MarkAsked(ctx, c.ID, 1, later, t0.Add(-1e6)), store.ErrConflict) // its sign-in was after that
		wantError(t, s.MarkAsked(ctx, c.ID, 2, later, t0), store.ErrConflict)
		must(t, s.MarkAsked(ctx, c.ID, 1, later, t0))
		wantError(t, s.MarkAsked(ctx, c.ID, 1, later, t0), store.ErrConflict)
		c, err = s.Credential(ctx, id("grant"))
		must(t, err)
		if !c.AskedAt.Equal(later) {
			t.Errorf("asked at %v, want %v", c.AskedAt, later)
		}
	})
}

// calls are all methods, each called for rows that do not exist.
var calls = map[string]struct {
	call func(context.Context, *sqlstore.Store) error
	want error
}{
	"Client": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Client(ctx, store.Hash{})
		return err
	}, store.ErrNotFound},
	"Code": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Code(ctx, store.Hash{})
		return err
	}, store.ErrNotFound},
	"Token": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Token(ctx, store.Hash{})
		return err
	}, store.ErrNotFound},
	"Credential": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Credential(ctx, store.ID{})
		return err
	}, store.ErrNotFound},
	"RedeemCode": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.RedeemCode(ctx, store.Hash{}, t0, pair("none", 1, "", t0), true)
		return err
	}, store.ErrConflict},
	"Rotate": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.Rotate(ctx, store.Hash{}, 1, t0, pair("none", 2, "", t0))
	}, store.ErrConflict},
	"Reissue": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.Reissue(ctx, store.ID{}, 1, 0, t0, pair("none", 1, "", t0).Access)
	}, store.ErrConflict},
	"MarkAsked": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.MarkAsked(ctx, store.ID{}, 1, t0, t0)
	}, store.ErrConflict},
	"EndGrant": {func(ctx context.Context, s *sqlstore.Store) error { return s.EndGrant(ctx, store.ID{}) }, nil},
	"UserGrants": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.UserGrants(ctx, store.Hash{}, t0)
		return err
	}, nil},
	"EndToken": {func(ctx context.Context, s *sqlstore.Store) error { return s.EndToken(ctx, store.Hash{}) }, nil},
	"FlowUsed": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.FlowUsed(ctx, store.Hash{})
		return err
	}, nil},
	"SuspectCredentials": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.SuspectCredentials(ctx, store.Hash{}, t0)
	}, nil},
	"Grants": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.Grants(ctx, t0, func(store.Grant) {})
	}, nil},
	"Block": {func(ctx context.Context, s *sqlstore.Store) error { return s.Block(ctx, "blocked.example", t0) }, nil},
	"Blocks": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Blocks(ctx)
		return err
	}, nil},
	"Unblock": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.Unblock(ctx, "free.example")
	}, store.ErrNotFound},
	"User": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.User(ctx, store.Hash{})
		return err
	}, store.ErrNotFound},
	"PinTaken": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.PinTaken(ctx, "https://github.com", "octocat")
		return err
	}, nil},
	"SaveUser": {func(ctx context.Context, s *sqlstore.Store) error { return s.SaveUser(ctx, store.User{}, t0) }, nil},
	"KeysInUse": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.KeysInUse(ctx, t0)
		return err
	}, nil},
	"Purge": {func(ctx context.Context, s *sqlstore.Store) error {
		_, err := s.Purge(ctx, store.PurgeLimits{At: t0, Limit: 10})
		return err
	}, nil},
	"Probe": {func(ctx context.Context, s *sqlstore.Store) error { return s.Probe(ctx, t0) }, nil},
	"SignIn": {func(ctx context.Context, s *sqlstore.Store) error {
		return s.SignIn(ctx, signIn("octocat", "client", "grant", t0), seal)
	}, nil},
}

func TestMissingRows(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, url)
		for name, c := range calls {
			if err := c.call(ctx, s); !errors.Is(err, c.want) {
				t.Errorf("%s: got error %v, want %v", name, err, c.want)
			}
		}
	})
}

// TestStoreInTrouble checks that a failing store never looks like a client's mistake: clients discard their credentials
// then.
func TestStoreInTrouble(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, url)
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		check := func(t *testing.T, ctx context.Context) {
			for name, c := range calls {
				err := c.call(ctx, s)
				if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
					t.Errorf("%s: got error %v, want one of the store's own", name, err)
				}
			}
		}
		t.Run("caller gone", func(t *testing.T) { check(t, cancelled) })
		must(t, s.Close())
		t.Run("closed", func(t *testing.T) { check(t, ctx) })
	})
}

func TestEndGrant(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "one", t0), signIn("octocat", "client", "two", t0),
			signIn("hubot", "client", "other", t0))
		db := database(t, url)
		must(t, s.EndGrant(ctx, id("one")))
		want := []string{
			"client client", "code other erased", "code two erased",
			"credential read:user user:email v1", "credential read:user user:email v2",
			"grant other 1", "grant two 1",
			"token other access1", "token other refresh1", "token two access1", "token two refresh1",
			"user hubot", "user octocat",
		}
		if diff := cmp.Diff(want, rows(t, db)); diff != "" {
			t.Errorf("after the first of two grants with one credential (-want +got):\n%s", diff)
		}
		must(t, s.EndGrant(ctx, id("two")))
		want = []string{
			"client client", "code other erased", "credential read:user user:email v1", "grant other 1",
			"token other access1", "token other refresh1", "user hubot", "user octocat",
		}
		if diff := cmp.Diff(want, rows(t, db)); diff != "" {
			t.Errorf("after the last (-want +got):\n%s", diff)
		}
	})
}

func TestEndTokenEndsAccessTokensOnly(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := connected(t, url, signIn("octocat", "client", "grant", t0))
		p := pair("grant", 1, "", t0)
		must(t, s.EndToken(ctx, p.Refresh.Hash))
		if _, err := s.Token(ctx, p.Refresh.Hash); err != nil {
			t.Errorf("refresh token: %v", err)
		}
		_, err := s.Token(ctx, p.Access.Hash)
		must(t, err)
		must(t, s.EndToken(ctx, p.Access.Hash))
		_, err = s.Token(ctx, p.Access.Hash)
		wantError(t, err, store.ErrNotFound)
	})
}

func TestKeysInUse(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		// Each kind of row uses a different key.
		s := open(t, url)
		sealWith := func(key string) store.SealFunc {
			return func(c store.ID, version int64, to []store.Recipient) (store.Sealed, error) {
				sealed, err := seal(c, version, to)
				sealed.RingKey = key
				return sealed, err
			}
		}
		in := signIn("octocat", "client", "grant", t0)
		in.WrapCode = codeWrap("redeemed code")
		must(t, s.SignIn(ctx, in, sealWith("credential")))
		first, second := pair("grant", 1, "", t0), pair("grant", 2, "", t0.Add(time.Hour))
		first.Access.Wrap.RingKey, first.Refresh.Wrap.RingKey = "access 1", "refresh 1"
		second.Access.Wrap.RingKey, second.Refresh.Wrap.RingKey = "access 2", "refresh 2"
		must(t, redeem(s, in.Code.Hash, t0, first))
		must(t, s.Rotate(ctx, first.Refresh.Hash, 1, t0.Add(time.Hour), second))
		unredeemed := signIn("hubot", "client", "unredeemed", t0)
		unredeemed.WrapCode = codeWrap("code")
		must(t, s.SignIn(ctx, unredeemed, sealWith("credential of the unredeemed")))

		all := []string{
			"access 1", "access 2", "code", "credential", "credential of the unredeemed", "refresh 1", "refresh 2",
		}
		for _, tt := range []struct {
			name string
			at   time.Time
			want []string
		}{
			{"all alive but the redeemed code", t0, all},
			{"code and its grant expired", t0.Add(codeLife),
				[]string{"access 1", "access 2", "credential", "refresh 1", "refresh 2"}},
			{"first access token expired", t0.Add(accessLife),
				[]string{"access 2", "credential", "refresh 1", "refresh 2"}},
			{"idle for long", second.Refresh.ExpiresAt, nil},
		} {
			got, err := s.KeysInUse(ctx, tt.at)
			must(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		// A spent token needs its key as long as it can work, that is, until its wrap is erased.
		third := pair("grant", 3, "", t0.Add(time.Hour))
		third.Access.Wrap.RingKey, third.Refresh.Wrap.RingKey = "access 2", "refresh 2"
		must(t, s.Rotate(ctx, second.Refresh.Hash, 2, t0.Add(time.Hour), third))
		_, err := s.Purge(ctx, store.PurgeLimits{EraseBefore: t0.Add(time.Hour + 1e6), Limit: 10})
		must(t, err)
		got, err := s.KeysInUse(ctx, t0.Add(accessLife))
		must(t, err)
		if diff := cmp.Diff([]string{"access 2", "credential", "refresh 2"}, got); diff != "" {
			t.Errorf("retired token erased (-want +got):\n%s", diff)
		}
	})
}
