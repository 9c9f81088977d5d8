package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
)

func TestClientSettings(t *testing.T) {
	vscode := clientNamed("vscode", "token_endpoint_auth_method", "none")
	vscode["redirect_uris"] = append(codeURIs, "my-app://callback")
	path := fileOfClients(t, vscode, clientNamed("basic", "client_secret", longSecret),
		clientNamed("post", "client_secret", longSecret, "token_endpoint_auth_method", "client_secret_post"))
	hash := store.HashOf(longSecret)
	got := parse(t, "CLIENT_REGISTRATION=off", "CLIENT_METADATA=loopback", "CLIENTS="+path,
		"REDIRECT_SCHEMES=cursor, my-app").Clients
	want := clientSettings{Documents: clients.DocumentsLoopback, RedirectSchemes: []string{"cursor", "my-app"},
		Registered: []store.Client{
			{ID: "vscode", Name: "Notebook", RedirectURIs: vscode["redirect_uris"].([]string), AuthMethod: "none"},
			{ID: "basic", Name: "Notebook", RedirectURIs: []string{clientCallback}, AuthMethod: "client_secret_basic",
				SecretHash: hash[:]},
			{ID: "post", Name: "Notebook", RedirectURIs: []string{clientCallback}, AuthMethod: "client_secret_post",
				SecretHash: hash[:]},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want = clientSettings{Registration: true, Documents: clients.DocumentsOn,
		RedirectSchemes: []string{"cursor", "vscode", "vscode-insiders"}}
	if diff := cmp.Diff(want, parse(t).Clients); diff != "" {
		t.Errorf("by default: %s", diff)
	}
	if s := parse(t, "CLIENT_REGISTRATION=off").Clients; s.Registration || s.Documents != clients.DocumentsOn {
		t.Errorf("got registration %t, documents %v, want documents alone", s.Registration, s.Documents)
	}
	if s := parse(t, "CLIENT_METADATA=off").Clients; !s.Registration || s.Documents != clients.DocumentsOff {
		t.Errorf("got registration %t, documents %v, want registration alone", s.Registration, s.Documents)
	}
	parse(t, "CLIENT_METADATA=off", "CLIENT_REGISTRATION=off", "CLIENTS="+path, "REDIRECT_SCHEMES=my-app")
}

func TestClientMistakes(t *testing.T) {
	const name, uris = `"client_name":"A"`, `"redirect_uris":["https://a.example/cb"]`
	for _, test := range []struct {
		name, file string // file is empty if there is none
		env        []string
		want       []string
	}{
		{"registration", "", []string{"CLIENT_REGISTRATION=true"}, []string{"CLIENT_REGISTRATION must be on or off"}},
		{"documents", "", []string{"CLIENT_METADATA=yes"}, []string{"CLIENT_METADATA must be on, off or loopback"}},
		{"C15: loopback documents in public", "", append(public, "CLIENT_METADATA=loopback"),
			[]string{"CLIENT_METADATA can be loopback only while BASE_URL is", "CLIENT_METADATA=on"}},
		{"nobody could connect", "", []string{"CLIENT_REGISTRATION=off", "CLIENT_METADATA=off"},
			[]string{"CLIENTS is needed", "CLIENTS=clients.json"}},
		{"script as a scheme", "", []string{"REDIRECT_SCHEMES=cursor,javascript"},
			[]string{"REDIRECT_SCHEMES must", "REDIRECT_SCHEMES=cursor,vscode"}},
		{"the web as a scheme", "", []string{"REDIRECT_SCHEMES=http"}, []string{"REDIRECT_SCHEMES must"}},
		{"scheme with its colon", "", []string{"REDIRECT_SCHEMES=cursor:"}, []string{"REDIRECT_SCHEMES must"}},
		{"empty scheme", "", []string{"REDIRECT_SCHEMES=cursor,"}, []string{"REDIRECT_SCHEMES must"}},

		{"no file", "", []string{"CLIENTS=/nowhere/clients.json"},
			[]string{"CLIENTS must be the path of a file", "no such file", "CLIENTS=clients.json"}},
		{"clients in place of a file", "", []string{`CLIENTS=[{"client_secret": "canary"}]`},
			[]string{"CLIENTS must be the path of a file", "CLIENTS=clients.json"}},
		{"no JSON", `[{"client_secret": "canary"`, nil,
			[]string{"CLIENTS must be a file with a JSON array", `"client_id": "my-app"`}},
		{"an object", `{"client_id": "a"}`, nil, []string{"JSON array"}},
		{"no client", `[]`, nil, []string{"JSON array"}},
		{"not an object in it", `["canary"]`, nil, []string{"client 1 must be an object"}},
		{"wrong type in it", `[{"client_id":"a","client_secret":["canary"]}]`, nil, []string{"client 1 must be an object"}},
		{"nothing in it", `[{}]`, nil, []string{"client 1 needs a client_id", "client 1 needs a client_name",
			"client 1 needs redirect_uris"}},
		{"typing errors", `[{"client_id":"a",` + name + `,` + uris + `,"clientsecret":"canary","Client_Secret":"canary"}]`,
			nil, []string{`client "a" has a member "Client_Secret"`, `client "a" has a member "clientsecret"`}},
		{"looks registered by itself", `[{"client_id":"mcp_ci_a",` + name + `,` + uris + `}]`, nil,
			[]string{"client 1 needs"}},
		{"space in the client_id", `[{"client_id":"my app",` + name + `,` + uris + `}]`, nil,
			[]string{"client 1 needs"}},
		{"name of two lines", `[{"client_id":"a","client_name":"A\nB",` + uris + `}]`, nil,
			[]string{`client "a" needs a client_name`}},
		{"twice", `[{"client_id":"a",` + name + `,` + uris + `},{"client_id":"a",` + name + `,` + uris + `}]`, nil,
			[]string{`client "a" has the client_id of another one`}},
		{"redirect in the clear", `[{"client_id":"a",` + name +
			`,"redirect_uris":["https://a.example/cb","http://a.example/cb"]}]`, nil,
			[]string{`client "a" has a redirect URI (number 2)`, `"https://app.example.com/callback"`}},
		{"script as a redirect", `[{"client_id":"a",` + name + `,"redirect_uris":["javascript:alert(1)"]}]`, nil,
			[]string{`client "a" has a redirect URI (number 1)`}},
		{"scheme that is not listed", `[{"client_id":"a",` + name + `,"redirect_uris":["my-app://cb"]}]`, nil,
			[]string{`client "a" has a private scheme in redirect URI 1`, "REDIRECT_SCHEMES=cursor,my-app"}},
		{"redirect that installs something", `[{"client_id":"a",` + name +
			`,"redirect_uris":["vscode:extension/evil.extension"]}]`, nil,
			[]string{`client "a" has a redirect URI (number 1)`, "vscode://publisher.extension/oauth/callback"}},
		{"short secret", `[{"client_id":"a",` + name + `,` + uris + `,"client_secret":"canary"}]`, nil,
			[]string{`client "a" needs a random client_secret`, "openssl rand -base64 32"}},
		{"no secret", `[{"client_id":"a",` + name + `,` + uris + `,"token_endpoint_auth_method":"client_secret_post"}]`, nil,
			[]string{`client "a" needs a random client_secret`}},
		{"secret of a public client", `[{"client_id":"a",` + name + `,` + uris + `,"token_endpoint_auth_method":"none",` +
			`"client_secret":"` + longSecret + `"}]`, nil, []string{`client "a" has a client_secret although`}},
		{"another method", `[{"client_id":"a",` + name + `,` + uris + `,"token_endpoint_auth_method":"private_key_jwt"}]`,
			nil, []string{`client "a" has a token_endpoint_auth_method that is not none`, `"client_secret_basic"`}},
		{"all at once", `[{"client_id":"a"},{"client_id":"b",` + uris + `}]`,
			[]string{"CLIENT_REGISTRATION=x", "CLIENT_METADATA=x", "REDIRECT_SCHEMES=:", "LOG_LEVEL=x"},
			[]string{"CLIENT_REGISTRATION", "CLIENT_METADATA", "REDIRECT_SCHEMES", "LOG_LEVEL", `client "a" needs a client_name`,
				`client "a" needs redirect_uris`, `client "b" needs a client_name`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.file != "" {
				path := filepath.Join(t.TempDir(), "clients.json")
				write(t, path, test.file, 0o600)
				test.env = append(test.env, "CLIENTS="+path)
			}
			assertMistake(t, test.env, test.want)
		})
	}
}

// TestClientsFileThatOthersCanRead checks that only the server and its administrator can read a file with secrets. A
// file without secrets can be readable by all.
func TestClientsFileThatOthersCanRead(t *testing.T) {
	secret := fileOfClients(t, clientNamed("a", "client_secret", longSecret))
	none := fileOfClients(t, clientNamed("a"))
	for path, modes := range map[string]map[os.FileMode]bool{
		secret: {0o600: true, 0o440: true, 0o644: false, 0o604: false},
		none:   {0o644: true},
	} {
		for mode, good := range modes {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := ParseConfig(nil, getenv("CLIENTS="+path), nil)
			if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "chmod 640 "+path) {
				t.Errorf("mode %o, without secrets %t: got %v, want an error: %t", mode, path == none, err, !good)
			}
		}
	}
}

const (
	longSecret     = "canary-RkQ0d3X8mWn2Zp5tYv7sLb1cHg6uJe9a"
	clientCallback = "http://127.0.0.1:9/callback"
)

var codeURIs = []string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/",
	"http://127.0.0.1:33418/"}

// fileOfClients writes a file of clients and returns its path.
func fileOfClients(t *testing.T, clients ...map[string]any) string {
	t.Helper()
	text, err := json.Marshal(clients)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clients.json")
	write(t, path, string(text), 0o640)
	return path
}

// clientNamed is an operator's client with these further members.
func clientNamed(id string, more ...string) map[string]any {
	c := map[string]any{"client_id": id, "client_name": "Notebook", "redirect_uris": []string{clientCallback}}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}
