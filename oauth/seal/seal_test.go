package seal

import (
	"encoding/json"
	"example.com/mcp-federated-login/oauth/store"
	"testing"
)

// TestCredentialWithoutRecipientsVouchesForAll checks that a renewal seals to all grants if a release before 0.2 wrote
// the credential, and only to the listed grants if a later release wrote it.
func TestCredentialWithoutRecipientsVouchesForAll(t *testing.T) {
	someone := store.Recipient{Grant: store.NewID(), PublicKey: []byte("a public key")}
	for content, want := range map[string]bool{
		`{"access":"gho_x","scopes":["user"]}`:                  true,
		`{"access":"gho_x","scopes":["user"],"sealed_to":null}`: true,
		`{"access":"gho_x","scopes":["user"],"sealed_to":[]}`:   false,
	} {
		var c Content
		if err := json.Unmarshal([]byte(content), &c); err != nil {
			t.Fatal(err)
		}
		if c.Access == "" || c.VouchesFor(someone) != want {
			t.Errorf("%s: vouches for a grant: %v, want %v", content, c.VouchesFor(someone), want)
		}
	}
}
