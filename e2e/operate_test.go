package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// command runs one of the operator's commands in a separate process, beside the server.
func (w *world) command(args ...string) (stdout string, err error) {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), exe, args...)
	cmd.Dir = w.t.TempDir() // where there is no .env
	cmd.Env = []string{"RUN_AS_PROGRAM=1"}
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err = cmd.Run(); err != nil && complaint.Len() == 0 {
		w.t.Fatalf("%v failed without a word: %v", args, err)
	}
	if err != nil {
		return out.String(), &commandError{strings.TrimSpace(complaint.String())}
	}
	return out.String(), nil
}

type commandError struct{ text string }

func (e *commandError) Error() string { return e.text }

// must runs a command that has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.command(args...)
	if err != nil {
		w.t.Fatalf("%v: %v", args, err)
	}
	return out
}

// listed returns what a list command prints as JSON.
func listed[T any](w *world, args ...string) (v T) {
	w.t.Helper()
	out := w.must(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		w.t.Fatalf("%v: %v in %s", args, err, out)
	}
	return v
}

// A grantRecord is the JSON of a grant that "grants list --json" prints, and a clientRecord that of a client that
// "clients list --json" prints. Scripts read them.
type (
	grantRecord struct {
		ID, Provider, Subject, Login, Client string
		ClientID                             string    `json:"client_id"`
		ClientName                           string    `json:"client_name"`
		Scopes                               []string  `json:"scopes"`
		CreatedAt                            time.Time `json:"created_at"`
		LastUsedAt                           time.Time `json:"last_used_at"`
	}
	clientRecord struct {
		ID, Name     string
		ClientID     string   `json:"client_id"`
		RedirectURIs []string `json:"redirect_uris"`
		Grants       int
		LastSignIn   time.Time `json:"last_sign_in"`
	}
)

// TestOperatorEndsGrants checks that an ended grant stops working immediately where the store is read, and at the
// latest after TOKEN_CACHE on a server that has just admitted it.
func TestOperatorEndsGrants(t *testing.T) {
	w := newWorld(t, map[string]string{"USER": "nobody", "CLIENT": "nothing", "JSON": "true"}) // must be ignored
	one, two := w.register(callbackURI), w.register(callbackURI)
	octocat, again, mallory := w.redeemAs("octocat", one), w.redeemAs("octocat", two), w.redeemAs("mallory", one)
	ids := map[string]string{}
	for _, g := range listed[[]grantRecord](w, "grants", "list") {
		ids[g.Login+" "+g.ClientID] = g.ID
	}
	if len(ids) != 3 {
		t.Fatalf("got grants %v, want three", ids)
	}
	table := w.must("grants", "list")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 4 ||
		!strings.HasPrefix(lines[1], ids["octocat "+one]) || !strings.Contains(table, "octocat (github)") {
		t.Errorf("want a heading and three grants in the order of their sign-ins:\n%s", table)
	}

	for _, test := range []struct {
		name  string
		args  []string
		error string
		ended string
		alive []bool // octocat, again, mallory
	}{
		{"without a filter", nil, "say which grants", "", []bool{true, true, true}},
		{"a script's empty variable", []string{"--user="}, "must not be empty", "", []bool{true, true, true}},
		{"empty beside a filter", []string{"--user=", "--older-than=1ns"}, "must not be empty", "", []bool{true, true, true}},
		{"an age below zero", []string{"--older-than=-1h"}, "above 0", "", []bool{true, true, true}},
		{"days as a unit", []string{"--older-than=30d"}, "30d", "", []bool{true, true, true}},
		{"nobody's id", []string{strings.Repeat("0", 32)}, "not there: 1", "0", []bool{true, true, true}},
		{"another person's name for the client", []string{"--client=octocat"}, "", "0", []bool{true, true, true}},
		{"all filters must agree", []string{"--user=mallory", "--client=" + two}, "", "0", []bool{true, true, true}},
		{"nobody is that old", []string{"--older-than=720h"}, "", "0", []bool{true, true, true}},
		{"an id", []string{ids["mallory "+one]}, "", "1", []bool{true, true, false}},
		{"it is gone", []string{ids["mallory "+one], ids["octocat "+one]}, "not there: 1", "1", []bool{false, true, false}},
		{"a person, in other capitals", []string{"--user=OctoCat", "--client", two}, "", "1", []bool{false, false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			before := w.alive(octocat, again, mallory) // this also puts them into the server's cache
			out, err := w.command(append([]string{"grants", "end"}, test.args...)...)
			if (err != nil) != (test.error != "") || err != nil && !strings.Contains(err.Error(), test.error) {
				t.Errorf("got error %v, want %q", err, test.error)
			}
			if want := "Grants ended: " + test.ended + "\n"; test.ended != "" && out != want {
				t.Errorf("it says %q, want %q", out, want)
			}
			if diff := cmp.Diff(before, w.alive(octocat, again, mallory)); diff != "" {
				t.Errorf("the server does not use its cache:\n%s", diff)
			}
			w.clock.advance(5 * time.Second)
			if diff := cmp.Diff(test.alive, w.alive(octocat, again, mallory)); diff != "" {
				t.Errorf("alive (-want +got):\n%s", diff)
			}
		})
	}
	w.t = t
	assertJSONError(t, w.refresh(octocat.clientID, octocat.refresh), http.StatusBadRequest, "invalid_grant")
	if out := w.must("grants", "list", "--json"); out != "[]\n" {
		t.Errorf("an empty list is %q, want []", out)
	}
}

func TestOperatorListsByAgeAndPerson(t *testing.T) {
	w := newWorld(t, nil)
	w.clock.advance(-48 * time.Hour)
	id := w.register(callbackURI)
	w.redeemAs("octocat", id)
	w.clock.advance(48 * time.Hour)
	w.redeemAs("mallory", id)
	client := listed[[]grantRecord](w, "grants", "list")[0].Client
	for _, test := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"octocat", "mallory"}},
		{[]string{"--older-than=24h"}, []string{"octocat"}},
		{[]string{"--older-than=72h"}, nil},
		{[]string{"--user=583231"}, []string{"octocat"}},
		{[]string{"--user=octo"}, nil},
		{[]string{"--client=Test client"}, []string{"octocat", "mallory"}},
		{[]string{"--client=" + client, "--user=mallory"}, []string{"mallory"}},
		{[]string{"--client=Another"}, nil},
	} {
		var got []string
		for _, g := range listed[[]grantRecord](w, append([]string{"grants", "list"}, test.args...)...) {
			got = append(got, g.Login)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.args, diff)
		}
	}
}

// TestOperatorsTerminal checks that client names are printed safely: a client chooses its name, and terminals obey
// control characters.
func TestOperatorsTerminal(t *testing.T) {
	const name = "Nice\u202eeciN\u200b\tclient"
	w := newWorld(t, nil)
	id := w.registration(map[string]any{"redirect_uris": []string{callbackURI}, "client_name": name,
		"token_endpoint_auth_method": "none"}).str("client_id")
	w.redeemAs("octocat", id)
	const clean = "NiceeciN client"
	if got := listed[[]grantRecord](w, "grants", "list")[0].ClientName; got != clean {
		t.Errorf("stored as %q, want %q", got, clean)
	}
	db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// A row can be older than the cleaning of names.
	if _, err := db.Exec(`UPDATE clients SET name = char(27) || '[2J' || char(8238) || 'Zoë 日本'`); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"grants", "list"}, {"clients", "list"}} {
		if out := w.must(args...); strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, "[2JZoë 日本") {
			t.Errorf("%v: not cleaned: %q", args, out)
		}
		out := w.must(append(args, "--json")...)
		if strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, `\u001b[2J\u202eZoë 日本`) {
			t.Errorf("%v --json: not escaped: %q", args, out)
		}
	}
}

func TestOperatorsCommandsMakeNothing(t *testing.T) {
	w := newWorld(t, nil)
	held := w.signIn()
	for name := range w.files() { // all but the database
		if !strings.HasPrefix(name, "server.db") {
			if err := os.Remove(filepath.Join(w.env["DATA_DIR"], name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := w.files()
	for _, args := range [][]string{{"grants", "list"}, {"clients", "list"}, {"grants", "end", "--user=nobody"},
		{"clients", "block", "blocked.example"}, {"clients", "unblock", "blocked.example"}} {
		w.must(args...)
		if diff := cmp.Diff(before, w.files()); diff != "" {
			t.Errorf("%v changed the files in DATA_DIR:\n%s", args, diff)
		}
	}
	if alive := w.alive(held); !alive[0] {
		t.Error("the server is disturbed")
	}

	w.env["DATA_DIR"] = filepath.Join(t.TempDir(), "elsewhere")
	if _, err := w.command("grants", "list"); err == nil || !strings.Contains(err.Error(), "DATA_DIR=") {
		t.Errorf("without a database: got %v, want an error that names DATA_DIR", err)
	}
	if _, err := os.Stat(w.env["DATA_DIR"]); err == nil {
		t.Error("a database was made")
	}
}

// files returns the names of the files in DATA_DIR.
func (w *world) files() map[string]bool {
	w.t.Helper()
	entries, err := os.ReadDir(w.env["DATA_DIR"])
	if err != nil {
		w.t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}
