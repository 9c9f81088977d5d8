package e2e

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/mcp-federated-login/app"
)

// TestMain makes the test binary the program itself where a test needs a second process.
func TestMain(m *testing.M) {
	trustAuthority()
	if os.Getenv("RUN_AS_PROGRAM") != "" {
		runAsProgram()
		return
	}
	os.Exit(m.Run())
}

// runAsProgram does what main does, on a clock that may be ahead.
func runAsProgram() {
	ahead, err := time.ParseDuration(cmp.Or(os.Getenv("CLOCK_AHEAD"), "0s"))
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		now := func() time.Time { return time.Now().Add(ahead) }
		if os.Getenv("WITH_STREAMS") != "" {
			err = serveStreams(ctx, now)
		} else {
			err = app.Run(ctx, os.Args[1:], os.Getenv, now, os.Stdout, os.Stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// racers is the number of requests with the same code or token that arrive at the same time.
const racers = 40

// arenas are the setups in which requests race. Each returns a function that sends a request to the server.
var arenas = []struct {
	name  string
	setUp func(*world) func(racer int, form url.Values) answer
}{
	{"one process", func(w *world) func(int, url.Values) answer {
		return func(_ int, form url.Values) answer { return w.post("/token", form) }
	}},
	{"SECRET rotated in between", func(w *world) func(int, url.Values) answer {
		w.rotateSecret()
		return func(_ int, form url.Values) answer { return w.post("/token", form) }
	}},
	{"two processes", func(w *world) func(int, url.Values) answer {
		origins := []string{w.base, w.secondProcess()}
		header := http.Header{"Host": {strings.TrimPrefix(w.base, "http://")},
			"Content-Type": {"application/x-www-form-urlencoded"}}
		return func(racer int, form url.Values) answer {
			return fetch(w.t, http.MethodPost, origins[racer%2]+"/token", header, strings.NewReader(form.Encode()))
		}
	}},
}

func TestCodeRedeemedByFortyAtOnce(t *testing.T) {
	for _, arena := range arenas {
		t.Run(arena.name, func(t *testing.T) {
			w := newWorld(t, nil)
			id := w.register(callbackURI)
			form := url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code_verifier": {testVerifier},
				"code": {w.browser().signIn(w.authorizeURL(id, nil)).Get("code")}}
			var won []answer
			for _, a := range race(arena.setUp(w), form) {
				switch {
				case a.status == http.StatusOK:
					won = append(won, a)
				case a.status != http.StatusBadRequest || a.str("error") != "invalid_grant":
					t.Errorf("loser: got %d %s, want 400 invalid_grant", a.status, a.body)
				}
			}
			if len(won) != 1 {
				t.Fatalf("%d of %d redeemed the code, want 1", len(won), racers)
			}
			// The losers were too close behind the winner to be thieves.
			w.assertWorks(id, won[0])
			w.clock.advance(11 * time.Second)
			w.assertWorks(id, won[0])
		})
	}
}

// TestRefreshTokenUsedByFortyAtOnce checks that all racers get the same pair. Clients refresh for parallel calls, and
// in processes that share a keychain (claude-code#84440).
func TestRefreshTokenUsedByFortyAtOnce(t *testing.T) {
	for _, arena := range arenas {
		t.Run(arena.name, func(t *testing.T) {
			w := newWorld(t, nil)
			old := w.signIn()
			send := arena.setUp(w)
			counter, rows := query[int](w, `SELECT counter FROM grants`), query[int](w, `SELECT count(*) FROM tokens`)
			form := url.Values{"grant_type": {"refresh_token"}, "client_id": {old.clientID}, "refresh_token": {old.refresh}}
			answers := race(send, form)
			for _, a := range answers {
				if a.status != http.StatusOK {
					t.Fatalf("got %d %s, want 200", a.status, a.str("error"))
				}
				if a.str("access_token") != answers[0].str("access_token") ||
					a.str("refresh_token") != answers[0].str("refresh_token") {
					t.Fatal("got different pairs, want the same")
				}
			}
			if answers[0].str("refresh_token") == old.refresh {
				t.Error("the refresh token was not rotated")
			}
			if got := query[int](w, `SELECT counter FROM grants`); got != counter+1 {
				t.Errorf("the grant's counter went from %d to %d, want one step", counter, got)
			}
			if got := query[int](w, `SELECT count(*) FROM tokens`); got != rows+2 {
				t.Errorf("there were %d tokens and are %d, want two more", rows, got)
			}
			w.assertWorks(old.clientID, answers[0])
			w.clock.advance(11 * time.Second)
			w.assertWorks(old.clientID, answers[0])
		})
	}
}

// race sends the form several times at the same time.
func race(send func(int, url.Values) answer, form url.Values) []answer {
	answers := make([]answer, racers)
	var ready, done sync.WaitGroup
	ready.Add(racers)
	for i := range racers {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			answers[i] = send(i, form)
		})
	}
	done.Wait()
	return answers
}

// assertWorks uses both tokens of a response. The refresh stays within its grace period, so it can be repeated.
func (w *world) assertWorks(clientID string, a answer) {
	w.t.Helper()
	if got := w.tool(a.str("access_token"), "whoami").status; got != http.StatusOK {
		w.t.Errorf("whoami with the new access token: got status %d, want 200", got)
	}
	if got := w.repositories(a.str("access_token")); !strings.HasPrefix(got, "octocat/") {
		w.t.Errorf("list_repositories with the new access token: got %q, want octocat's", got)
	}
	if got := w.refresh(clientID, a.str("refresh_token")).status; got != http.StatusOK {
		w.t.Errorf("refresh with the new refresh token: got status %d, want 200", got)
	}
}

// rotateSecret restarts the program with a new key in front of the generated one.
func (w *world) rotateSecret() {
	w.t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	old := strings.TrimSpace(string(readFile(w.t, filepath.Join(w.env["DATA_DIR"], "secret"))))
	w.env["SECRET"] = base64.StdEncoding.EncodeToString(key) + "," + old
	w.restart()
}

// secondProcess starts the program again, for the same BASE_URL, data and provider, and returns its URL.
func (w *world) secondProcess() string {
	w.t.Helper()
	address, _ := w.process(0)
	return address
}

// process starts the program again, on a clock that is ahead, and returns its URL and a function that kills it.
func (w *world) process(ahead time.Duration) (address string, kill func()) {
	w.t.Helper()
	address, _, kill = w.startProcess(ahead)
	return address, kill
}

func (w *world) startProcess(ahead time.Duration, env ...string) (address string, cmd *exec.Cmd, kill func()) {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.startProgram(exe, ahead, env...)
}

func (w *world) startProgram(exe string, ahead time.Duration, env ...string) (address string, cmd *exec.Cmd,
	kill func()) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	ctx, stop := context.WithCancel(context.Background())
	cmd = exec.CommandContext(ctx, exe)
	cmd.Dir = w.t.TempDir() // where there is no .env
	github := w.app.DevIDP.GitHub()
	cmd.Env = append(env, "RUN_AS_PROGRAM=1", "CLOCK_AHEAD="+ahead.String(), "LISTEN="+address,
		"GITHUB_CLIENT_ID="+github.ClientID, "GITHUB_CLIENT_SECRET="+github.ClientSecret, "GITHUB_URL="+github.URL,
		authorityVariable+"="+os.Getenv(authorityVariable))
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stderr = w.logs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		stop() // SIGKILL
		cmd.Wait()
	})
	w.t.Cleanup(kill)
	// It logs its greeting when everything is ready.
	if _, err := bufio.NewReader(stdout).ReadString(':'); err != nil {
		w.t.Fatalf("the second process ended: %v\n%s", err, w.logs)
	}
	go io.Copy(io.Discard, stdout)
	return "http://" + address, cmd, kill
}
