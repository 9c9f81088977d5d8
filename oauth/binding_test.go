package oauth_test

import (
	"bytes"
	"log/slog"
	"slices"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

var (
	octocat = upstream.Identity{Provider: "github", Issuer: "https://github.com", Subject: "583231", Login: "octocat"}
	mallory = upstream.Identity{Provider: "github", Issuer: "https://github.com", Subject: "666", Login: "mallory"}
	secret  = []byte("0123456789abcdef0123456789ABCDEF")
)

func TestStolenDatabaseAndSecretOpenNoUpstreamToken(t *testing.T) {
	v := newVault(t)
	access, refresh := v.signIn("Laptop", octocat, "gho_octocat")
	v.signIn("Phone", mallory, "gho_mallory")
	if _, _, err := v.SignInAs(t.Context(), "Unredeemed", mallory, &upstream.Token{Access: "gho_mallory",
		Scopes: []string{"user"}}); err != nil {
		t.Fatal(err)
	}
	l, ring := v.steal(), oauth.NewRing(secret)
	if got := l.open(ring); len(got) != 0 {
		t.Errorf("database and SECRET opened %q", got)
	}
	// The same thief with one live token gets the upstream token that it leads to, and no other.
	for kind, token := range map[string]string{"access": access, "refresh": refresh} {
		if got := l.open(ring, token); !slices.Equal(got, []string{"gho_octocat"}) {
			t.Errorf("with a live %s token: opened %q, want octocat's alone", kind, got)
		}
		if got := l.open(oauth.NewRing([]byte("another secret, and just as long")), token); len(got) != 0 {
			t.Errorf("with a live %s token but without SECRET: opened %q", kind, got)
		}
	}
	for _, value := range l.values {
		if bytes.Contains(value, []byte("gho_")) || bytes.Contains(value, []byte("mcp_at_")) ||
			bytes.Contains(value, []byte("mcp_rt_")) || bytes.Contains(value, []byte("mcp_ac_")) {
			t.Errorf("a token stands in the database in the clear: %.20q", value)
		}
	}
}

func TestNewSignInMovesEveryClientToTheNewUpstreamToken(t *testing.T) {
	v := newVault(t)
	laptop, _ := v.signIn("Laptop", octocat, "gho_first")
	phone, _ := v.signIn("Phone", octocat, "gho_second")
	for name, access := range map[string]string{"laptop": laptop, "phone": phone} {
		got, err := v.UpstreamToken(t.Context(), access)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Access != "gho_second" {
			t.Errorf("%s acts with %q, want the newest", name, got.Access)
		}
	}
}

func TestWriterWithoutSecretIsFoundOut(t *testing.T) {
	_, public := oauth.NewKeyPair()
	for _, attack := range []struct {
		name      string
		statement string
		args      []any
	}{
		{"swap the public key of a grant", "UPDATE grants SET public_key = ?", []any{public}},
		{"widen a grant's scopes", "UPDATE grants SET scopes = 'account:read issues:write'", nil},
		{"move a grant to another audience", "UPDATE grants SET audience = 'https://other.example/mcp'", nil},
		{"give a grant to another person", "UPDATE grants SET user_id = (SELECT id FROM users WHERE login = 'mallory')", nil},
		{"give a grant to another client",
			"UPDATE grants SET client_hash = (SELECT hash FROM clients WHERE name = 'Other')", nil},
		{"change who a user is", "UPDATE users SET subject = '1' WHERE login = 'octocat'", nil},
		{"prolong an access token", "UPDATE tokens SET expires_at = expires_at + 1 WHERE kind = 'access'", nil},
		{"renumber an access token", "UPDATE tokens SET n = 7 WHERE kind = 'access'", nil},
		{"put another grant's wrap on a token",
			"UPDATE tokens SET wrap = (SELECT t.wrap FROM tokens t JOIN grants g ON g.id = t.grant_id JOIN users u ON u.id = " +
				"g.user_id WHERE u.login = 'mallory' AND t.kind = 'access') WHERE kind = 'access'", nil},
		{"put another person's credential under a grant",
			"UPDATE grants SET credential_id = (SELECT c.id FROM credentials c JOIN users u ON u.id = c.user_id WHERE u.login = 'mallory')", nil},
		{"roll a credential's version", "UPDATE credentials SET version = version + 1", nil},
		{"flip a bit of a credential", "UPDATE credentials SET ciphertext = ?", []any{make([]byte, 80)}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			v := newVault(t)
			v.signIn("Other", mallory, "gho_mallory")
			access, _ := v.signIn("Laptop", octocat, "gho_octocat")
			if _, err := v.UpstreamToken(t.Context(), access); err != nil {
				t.Fatalf("before the attack: %v", err)
			}
			v.exec(attack.statement, attack.args...)
			if got, err := v.UpstreamToken(t.Context(), access); err == nil {
				t.Errorf("not found out: it would act as %q", got.Access)
			}
		})
	}
}

// TestSwappedPublicKeyGetsNothingAtTheNextSignIn checks a writer who replaces a grant's public key with their own, then
// waits until the user signs in again, when the content key is sealed to every grant.
func TestSwappedPublicKeyGetsNothingAtTheNextSignIn(t *testing.T) {
	v := newVault(t)
	private, public := oauth.NewKeyPair()
	access, _ := v.signIn("Laptop", octocat, "gho_first")
	v.exec("UPDATE grants SET public_key = ?", public)
	phone, _ := v.signIn("Phone", octocat, "gho_second")
	l := v.steal()
	l.values = append(l.values, private)
	if got := l.open(oauth.NewRing([]byte("not the server's secret, but as long"))); len(got) != 0 {
		t.Errorf("the writer opened %q", got)
	}
	if _, err := v.UpstreamToken(t.Context(), access); err == nil {
		t.Error("the grant whose key was swapped still works: nobody would notice")
	}
	if got, err := v.UpstreamToken(t.Context(), phone); err != nil || got.Access != "gho_second" {
		t.Errorf("the untouched grant: got %v, %v", got, err)
	}
}

// TestForgedCredentialIsRefused checks a writer who forges a credential so that the user's tools work on the writer's
// account.
func TestForgedCredentialIsRefused(t *testing.T) {
	v := newVault(t)
	access, _ := v.signIn("Laptop", octocat, "gho_octocat")
	grant := v.steal().credentials[0]
	forge := func(ring oauth.Ring) {
		s, err := ring.Seal(grant.grant.User.ID, &upstream.Token{Access: "gho_writer"})(grant.credential.ID,
			grant.credential.Version, []store.Recipient{{Grant: grant.grant.ID, PublicKey: grant.grant.PublicKey}})
		if err != nil {
			t.Fatal(err)
		}
		v.exec("UPDATE credentials SET ciphertext = ?", s.Ciphertext)
		v.exec("UPDATE grants SET sealed_key = ?", s.Keys[0])
	}
	forge(oauth.NewRing([]byte("not the server's secret, but as long")))
	if got, err := v.UpstreamToken(t.Context(), access); err == nil {
		t.Errorf("not found out: tools would act as %q", got.Access)
	}
	forge(oauth.NewRing(secret)) // the same forgery works with the secret, so the secret stops the writer
	if got, err := v.UpstreamToken(t.Context(), access); err != nil || got.Access != "gho_writer" {
		t.Errorf("control: got %v, %v", got, err)
	}
}

// TestSecretRotation checks an operator who puts a new secret first and removes the old one when no row needs it. If
// the old one is removed too early, the server must not start: it would tell every client that it is signed out.
func TestSecretRotation(t *testing.T) {
	newer := []byte("a newer secret, random and so on.")
	v := newVault(t)
	c, code, err := v.SignInAs(t.Context(), "Laptop", octocat, &upstream.Token{Access: "gho_first",
		Scopes: []string{"user"}})
	if err != nil {
		t.Fatal(err)
	}
	_, refresh, err := v.Redeem(t.Context(), c, code)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.open(newer); err == nil {
		t.Fatal("started without the secret that live tokens were sealed under")
	}
	if err := v.open(newer, secret); err != nil {
		t.Fatal(err)
	}
	access, refresh, err := v.Refresh(t.Context(), c, refresh)
	if err != nil {
		t.Fatalf("refresh with the old secret behind the new one: %v", err)
	}
	if got, err := v.UpstreamToken(t.Context(), access); err != nil || got.Access != "gho_first" {
		t.Fatalf("after the rotation: got %v, %v", got, err)
	}
	// A sign-in writes the credential under the new secret. The tokens of the old secret expire, or retire at the next
	// refresh.
	v.signIn("Phone", octocat, "gho_second")
	if _, _, err := v.Refresh(t.Context(), c, refresh); err != nil {
		t.Fatal(err)
	}
	v.now = v.now.Add(2 * time.Hour)
	if err := v.SweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.open(newer); err != nil {
		t.Fatalf("nothing needs the old secret any more, but: %v", err)
	}
	// The client was registered under the old secret. It stays known because of its grant.
	if _, err := v.ClientByID(t.Context(), c.ID); err != nil {
		t.Errorf("client registered under the old secret: %v", err)
	}
}

// TestOneIssuerCannotBeTwoProviders checks that two providers cannot share an issuer. A user of both would be one user,
// and each sign-in would move their grants to the other provider.
func TestOneIssuerCannotBeTwoProviders(t *testing.T) {
	v := newVault(t)
	kept, err := sqlstore.Open(t.Context(), "sqlite:"+v.path)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	start := func(issuers ...string) error {
		var providers []*upstream.Provider
		for _, issuer := range issuers {
			providers = append(providers, &upstream.Provider{ID: issuer, IdentityIssuer: issuer})
		}
		_, err := oauth.New(t.Context(), oauth.Config{BaseURL: "https://mcp.example", Secrets: [][]byte{secret}, Store: kept,
			Providers: providers, Log: slog.New(slog.DiscardHandler),
			Scopes: []oauth.Scope{{Name: "a", Sentence: "A", AtSignIn: true}}})
		return err
	}
	if start("https://accounts.google.com", "https://accounts.google.com") == nil {
		t.Error("started with two providers of one issuer")
	}
	if err := start("https://accounts.google.com", "https://github.com"); err != nil {
		t.Errorf("control: %v", err)
	}
}
