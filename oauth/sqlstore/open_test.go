package sqlstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
)

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct{ name, url, want string }{
		{"another database", "mysql://root:hunter2@localhost/mcp", "unknown kind of database"},
		{"a bare path", "data/store.db", "unknown kind of database"},
		{"nothing", "", "unknown kind of database"},
		{"no path", "sqlite:", "path of a file"},
		{"memory, which every connection would have for itself", "sqlite::memory:", "path of a file"},
		{"a host where a path should be", "sqlite://data/store.db", "path of a file"},
		{"no such folder", "sqlite:" + filepath.Join(t.TempDir(), "none", "store.db"), "no such file"},
		{"@ in the password", "postgres://mcp:p@hunter2@localhost/mcp", "percent-encoded"},
		{"/ in the password", "postgres://mcp:p/hunter2@localhost/mcp", "percent-encoded"},
		{"# in the password", "postgres://mcp:p#hunter2@localhost/mcp", "percent-encoded"},
		{"? in the password", "postgres://mcp:p?hunter2@localhost/mcp", "percent-encoded"},
		{"% in the password", "postgres://mcp:p%hunter2@localhost/mcp", "percent-encoded"},
		{"a bad option", "postgres://mcp:hunter2@localhost/mcp?sslmode=maybe", "sslmode"},
		{"a bad option, and the password is one", "postgres://mcp@db/mcp?password=hunter2&sslmode=maybe", "sslmode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sqlstore.Open(ctx, tt.url)
			if err == nil {
				t.Fatal("opened")
			}
			for _, want := range []string{"DATABASE_URL", tt.want, "sqlite:data/store.db"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error holds the password")
			}
		})
	}
}

func TestPostgresThatIsDown(t *testing.T) {
	_, err := sqlstore.Open(ctx, "postgres://mcp:hunter2@/mcp?host="+t.TempDir())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got error %v, want one without the password", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		must(t, open(t, url).Close())
		must(t, open(t, url).Close()) // a database of the same version opens
		db := database(t, url)
		if _, err := db.Exec(`INSERT INTO schema_versions (version) VALUES (99)`); err != nil {
			t.Fatal(err)
		}
		_, err := sqlstore.Open(ctx, url)
		if err == nil || !strings.Contains(err.Error(), "version 99") {
			t.Errorf("got error %v, want one that names version 99", err)
		}
	})
}

func TestSQLiteFilesAreTheOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file modes")
	}
	check := func(t *testing.T, path string) {
		t.Helper()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			must(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%q has mode %v", suffix, info.Mode())
			}
		}
	}
	path := filepath.Join(t.TempDir(), "store.db")
	t.Run("new", func(t *testing.T) {
		connected(t, "sqlite:"+path, signIn("octocat", "client", "grant", t0))
		check(t, path)
	})
	t.Run("restored from a backup for all to read", func(t *testing.T) {
		must(t, os.Chmod(path, 0o644))
		must(t, open(t, "sqlite:"+path).EndToken(ctx, [32]byte{}))
		check(t, path)
	})
}

// childURL is set in the environment of the processes that child runs in.
const childURL = "SQLSTORE_TEST_CHILD_URL"

// child reports that it runs, waits until its standard input ends, then opens the store and signs a user in.
func child(url string) int {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	s, err := sqlstore.Open(context.Background(), url)
	if err == nil {
		grant := fmt.Sprint("grant of process ", os.Getpid())
		err = s.SignIn(ctx, signIn("octocat", "client", grant, t0), seal)
		s.Close()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestTenProcessesOpenOneNewDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		read, write, err := os.Pipe()
		must(t, err)
		defer read.Close()
		var processes []*exec.Cmd
		var outputs []*bufio.Reader
		for range 10 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childURL+"="+url)
			cmd.Stdin = read
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			processes, outputs = append(processes, cmd), append(outputs, bufio.NewReader(out))
		}
		for _, out := range outputs {
			if line, err := out.ReadString('\n'); line != "ready\n" {
				t.Errorf("a process began with %q, %v", line, err)
			}
		}
		must(t, write.Close()) // and they are off
		for i, cmd := range processes {
			said, _ := io.ReadAll(outputs[i])
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		}
		grants := texts(t, database(t, url), `SELECT audience FROM grants`)
		if len(grants) != 10 {
			t.Errorf("%d grants, want 10", len(grants))
		}
	})
}

// TestUpgradeFromTheFirstSchema checks that a database of the first release, with a user in it, can be opened.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	initial, err := os.ReadFile("migrations/0001_initial.sql")
	must(t, err)
	onEach(t, func(t *testing.T, url string) {
		db := database(t, url)
		for _, statement := range []string{
			`CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY)`,
			string(initial),
			`INSERT INTO schema_versions (version) VALUES (1)`,
			`INSERT INTO clients (hash, client_id, name, redirect_uris, auth_method, issued_at, seen_at)
				VALUES ('x', 'old', 'Old client', '[]', 'none', 1, 1)`,
		} {
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, url)
		if got := texts(t, db, `SELECT name FROM clients WHERE document IS NULL`); len(got) != 1 || got[0] != "Old client" {
			t.Errorf("after the upgrade there are %v, want the old client", got)
		}
		in := signIn("octocat", "new", "g", t0)
		must(t, s.SignIn(ctx, in, seal))
		must(t, s.UseAssertion(ctx, store.HashOf("used"), t0))
	})
}
