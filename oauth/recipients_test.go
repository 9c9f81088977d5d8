package oauth_test

import (
	"bytes"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// TestInventedGrantGetsNoRenewedToken checks that a writer who knows SECRET and adds a grant with a key of their own
// cannot read the token of the next renewal. At a sign-in they can, because nothing there distinguishes the rows.
func TestInventedGrantGetsNoRenewedToken(t *testing.T) {
	r := newRotator(t)
	s := r.server(0, 0)
	_, laptop, _ := r.signIn(s, "Laptop", time.Minute)
	_, phone, _ := r.signIn(s, "Phone", time.Minute)
	private, public := oauth.NewKeyPair()
	invented := bytes.Repeat([]byte{7}, 16)
	r.exec(`INSERT INTO grants SELECT ?, user_id, client_hash, credential_id, randomblob(32), scopes, audience, ?, x'', 1,
		created_at, last_used_at, expires_at, 0 FROM grants LIMIT 1`, invented, public)

	stolen := func() (*upstream.Token, bool) {
		t.Helper()
		kept, err := sqlstore.Open(t.Context(), "sqlite:"+r.database)
		if err != nil {
			t.Fatal(err)
		}
		defer kept.Close()
		c, err := kept.Credential(t.Context(), store.ID(invented))
		if err != nil {
			t.Fatal(err)
		}
		user := upstream.Identity{Issuer: r.URL, Subject: "583231"}.UserID()
		return oauth.NewRing(secret).Open([32]byte(private), &store.Grant{ID: store.ID(invented), User: store.User{ID: user}},
			&c)
	}
	r.wantToken("laptop", s, laptop) // renews
	if got := r.count(); got != 1 {
		t.Fatalf("renewed %d times, want once", got)
	}
	if token, ok := stolen(); ok {
		t.Errorf("the invented grant reads the renewed token %q", token.Access)
	}
	r.wantToken("phone, which the renewal sealed to as well", s, phone)

	r.signIn(s, "Tablet", time.Hour)
	if _, ok := stolen(); !ok {
		t.Error("control: the same writer cannot read the token of a sign-in either, so this test proves nothing")
	}
}
