package clients

import (
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/oauth/storm"
	"github.com/google/go-cmp/cmp"
)

func issue(t testing.TB, reg *Registry, c store.Client) string {
	t.Helper()
	id, err := reg.issueClientID(&c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestClientIDCarriesTheRegistration(t *testing.T) {
	reg := newTestRegistry(t, "https://mcp.example", nil)
	for _, want := range []store.Client{
		{Name: "Claude Code", RedirectURIs: []string{"http://localhost/callback"}, AuthMethod: authNone},
		{RedirectURIs: []string{"https://a.example/cb"}, AuthMethod: authBasic},
		{Name: "名前", RedirectURIs: []string{"https://a.example/cb", "cursor://x/y"}, AuthMethod: authPost},
	} {
		want.IssuedAt = time.Unix(1_800_000_000, 0)
		want.ID = issue(t, reg, want)
		if want.AuthMethod != authNone {
			hash := store.HashOf(clientSecret(reg.ring.Newest(), want.ID))
			want.SecretHash = hash[:]
		}
		got, err := reg.readClientID(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", want.Name, diff)
		}
	}
}

// TestClientIDIsShort checks that a client_id is short: some clients keep their whole record in a credential store of
// 1,280 characters (codex#10353).
func TestClientIDIsShort(t *testing.T) {
	reg := newTestRegistry(t, "https://mcp.example", nil)
	id := issue(t, reg, store.Client{Name: "Visual Studio Code", AuthMethod: authNone, IssuedAt: reg.now(),
		RedirectURIs: []string{
			"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/",
			"http://127.0.0.1:33418/"}})
	if len(id) > 256 {
		t.Errorf("VS Code's client_id has %d characters, want at most 256", len(id))
	}
}

func TestClientIDThatIsTooLongIsNotIssued(t *testing.T) {
	reg := newTestRegistry(t, "https://mcp.example", nil)
	c := store.Client{IssuedAt: reg.now()}
	for range maxRedirectURIs {
		c.RedirectURIs = append(c.RedirectURIs, "https://"+strings.ToLower(seal.NewSecret().Format("")[:20])+".example/"+
			seal.NewSecret().Format("")+seal.NewSecret().Format("")+seal.NewSecret().Format(""))
	}
	if _, err := reg.issueClientID(&c); err == nil {
		t.Error("issued a client_id that no cookie could hold")
	}
}

func TestForeignClientIDsAreUnknown(t *testing.T) {
	reg := newTestRegistry(t, "https://mcp.example", nil)
	good := issue(t, reg, store.Client{Name: "A", RedirectURIs: []string{"https://a.example/cb"}, IssuedAt: reg.now()})
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, clientIDPrefix))
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{
		"empty":                "",
		"another server's":     issue(t, newTestRegistry(t, "https://other.example", nil), store.Client{Name: "A"}),
		"changed":              flip(good, len(clientIDPrefix)+3),
		"MAC changed":          flip(good, len(good)-10),
		"MAC alone":            clientIDPrefix + base64.RawURLEncoding.EncodeToString(raw[len(raw)-32:]),
		"registration alone":   clientIDPrefix + base64.RawURLEncoding.EncodeToString(raw[:len(raw)-32]),
		"without the prefix":   strings.TrimPrefix(good, clientIDPrefix),
		"spelt another way":    good + "=",
		"much too long":        clientIDPrefix + strings.Repeat("A", 1<<20),
		"a line break in it":   good[:20] + "\n" + good[20:],
		"a deflate bomb unMAC": clientIDPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 700)),
	} {
		if c, err := reg.readClientID(id); err != ErrUnknown {
			t.Errorf("%s: got %v, %v, want errUnknownClient", name, c, err)
		}
	}
	if _, err := reg.readClientID(good); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzClientID(f *testing.F) {
	reg := newTestRegistry(f, "https://mcp.example", nil)
	good := issue(f, reg, store.Client{Name: "A", RedirectURIs: []string{"https://a.example/cb"}, IssuedAt: reg.now()})
	f.Add(good)
	f.Add(clientIDPrefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		if _, err := reg.readClientID(id); err != nil {
			return
		}
		// Issued here, then (each fuzzing process issues its own); and so nothing close to it is.
		for i := range id {
			if c, err := reg.readClientID(flip(id, i)); err == nil {
				t.Fatalf("%q was not issued here, but is %v", flip(id, i), c)
			}
		}
	})
}

// flip returns s with another character at i.
func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func newTestRegistry(t testing.TB, baseURL string, kept store.Store) *Registry {
	t.Helper()
	ring, err := seal.NewRing([][]byte{[]byte("0123456789abcdef0123456789ABCDEF")})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{BaseURL: baseURL, Ring: ring, Store: kept, Registration: true,
		Log: storm.New(slog.New(slog.DiscardHandler), time.Now),
		Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
}

// noClients is a store without clients.
type noClients struct{ store.Store }

func (noClients) Blocks(context.Context) ([]string, error) { return nil, nil }
func (noClients) Client(context.Context, store.Hash) (store.Client, error) {
	return store.Client{}, store.ErrNotFound
}
