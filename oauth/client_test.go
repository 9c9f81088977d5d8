package oauth

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"github.com/google/go-cmp/cmp"
)

func issue(t testing.TB, s *Server, c store.Client) string {
	t.Helper()
	id, err := s.issueClientID(&c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestClientIDCarriesTheRegistration(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	for _, want := range []store.Client{
		{Name: "Claude Code", RedirectURIs: []string{"http://localhost/callback"}, AuthMethod: authNone},
		{RedirectURIs: []string{"https://a.example/cb"}, AuthMethod: authBasic},
		{Name: "名前", RedirectURIs: []string{"https://a.example/cb", "cursor://x/y"}, AuthMethod: authPost},
	} {
		want.IssuedAt = time.Unix(1_800_000_000, 0)
		want.ID = issue(t, s, want)
		if want.AuthMethod != authNone {
			hash := store.HashOf(clientSecret(s.ring.Newest(), want.ID))
			want.SecretHash = hash[:]
		}
		got, err := s.readClientID(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", want.Name, diff)
		}
	}
}

// Some clients keep their whole record in a credential store of 1,280 characters (codex#10353).
func TestClientIDIsShort(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	id := issue(t, s, store.Client{Name: "Visual Studio Code", AuthMethod: authNone, IssuedAt: s.now(), RedirectURIs: []string{
		"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/",
		"http://127.0.0.1:33418/"}})
	if len(id) > 256 {
		t.Errorf("VS Code's client_id has %d characters, want at most 256", len(id))
	}
}

func TestClientIDThatIsTooLongIsNotIssued(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	c := store.Client{IssuedAt: s.now()}
	for range maxRedirectURIs {
		c.RedirectURIs = append(c.RedirectURIs, "https://"+strings.ToLower(seal.NewSecret().Format("")[:20])+".example/"+
			seal.NewSecret().Format("")+seal.NewSecret().Format("")+seal.NewSecret().Format(""))
	}
	if _, err := s.issueClientID(&c); err == nil {
		t.Error("issued a client_id that no cookie could hold")
	}
}

func TestForeignClientIDsAreUnknown(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	good := issue(t, s, store.Client{Name: "A", RedirectURIs: []string{"https://a.example/cb"}, IssuedAt: s.now()})
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, clientIDPrefix))
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{
		"empty":                "",
		"another server's":     issue(t, newTestServer(t, "https://other.example"), store.Client{Name: "A"}),
		"changed":              altered(good, len(clientIDPrefix)+3),
		"MAC changed":          altered(good, len(good)-10),
		"MAC alone":            clientIDPrefix + base64.RawURLEncoding.EncodeToString(raw[len(raw)-32:]),
		"registration alone":   clientIDPrefix + base64.RawURLEncoding.EncodeToString(raw[:len(raw)-32]),
		"without the prefix":   strings.TrimPrefix(good, clientIDPrefix),
		"spelt another way":    good + "=",
		"much too long":        clientIDPrefix + strings.Repeat("A", 1<<20),
		"a line break in it":   good[:20] + "\n" + good[20:],
		"a deflate bomb unMAC": clientIDPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 700)),
	} {
		if c, err := s.readClientID(id); err != errUnknownClient {
			t.Errorf("%s: got %v, %v, want errUnknownClient", name, c, err)
		}
	}
	if _, err := s.readClientID(good); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzClientID(f *testing.F) {
	s := newTestServer(f, "https://mcp.example")
	good := issue(f, s, store.Client{Name: "A", RedirectURIs: []string{"https://a.example/cb"}, IssuedAt: s.now()})
	f.Add(good)
	f.Add(clientIDPrefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		if _, err := s.readClientID(id); err != nil {
			return
		}
		// Issued here, then (each fuzzing process issues its own); and so nothing close to it is.
		for i := range id {
			if c, err := s.readClientID(altered(id, i)); err == nil {
				t.Fatalf("%q was not issued here, but is %v", altered(id, i), c)
			}
		}
	})
}

// altered returns s with another character at i.
func altered(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}
