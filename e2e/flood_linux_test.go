//go:build slow && !race

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/mcp-federated-login/upstream/devidp"
)

// floodLimit is the memory that the whole process may use, whatever signed-in users send it.
const floodLimit = 256 << 20

// floodBodies are bodies that are expensive for mcp-go to decode.
var floodBodies = []struct {
	name, text string
	crowd      string // how a hundred users send it at once, if they do
}{
	{"objects", bodyOf(3800<<10, toolCall, "{}"), ""},
	{"objects with members", bodyOf(3800<<10, toolCall, `{"":1}`), ""},
	{"as many objects as are let in", bodyOf(240<<10, toolCall, `{"":1}`), "plain"},
	{"numbers", bodyOf(3800<<10, toolCall, "1"), ""},
	{"as many numbers as are let in", bodyOf(400<<10, toolCall, "1"), ""},
	{"arrays in arrays", bodyOf(3800<<10, toolCall, strings.Repeat("[", 9000)+strings.Repeat("]", 9000)), ""},
	{"text", bodyOf(0, toolCall, `"`+strings.Repeat("x", 3800<<10)+`"`), "chunked"},
	{"markup", bodyOf(0, toolCall, `"`+strings.Repeat("<", 3800<<10)+`"`), ""},
	{"as much markup as is let in", bodyOf(0, toolCall, `"`+strings.Repeat("<", 900<<10)+`"`), ""},
	{"_meta", bodyOf(3800<<10, toolMeta, `{"":1}`), ""},
	{"_meta, as much as is let in", bodyOf(240<<10, toolMeta, `{"":1}`), ""},
	{"result", bodyOf(3800<<10, `{"jsonrpc":"2.0","id":1,"method":"x","result":[%s]}`, `{"":1}`), ""},
	{"notification", bodyOf(3800<<10, `{"jsonrpc":"2.0","method":"notifications/x","params":{"x":[%s]}}`, `{"":1}`), ""},
	{"batch", bodyOf(3800<<10, "["+toolCall+"]", "{}"), ""},
	{"batch of fifty", "[" + strings.Repeat(bodyOf(70<<10, toolCall, "{}")+",", 49) + bodyOf(0, toolCall, "{}") + "]",
		""},
	{"small", bodyOf(60<<10, toolCall, `{"":1}`), "plain"},
	{"small text", bodyOf(0, toolCall, `"`+strings.Repeat("x", 60<<10)+`"`), "chunked"},
}

// TestFloodOfBodies checks that neither one user nor a hundred can make the server need more than floodLimit, and that
// another user is served meanwhile.
func TestFloodOfBodies(t *testing.T) {
	w := newWorld(t, nil)
	victim := w.signInFor(w.register(callbackURI), "account:read issues:write").access
	var crowd []string
	for i := range 100 {
		w.app.DevIDP.FailNext("/api/v3/user", 1, devidp.Fault{Body: fmt.Sprintf(`{"id":%d,"login":"user%[1]d"}`, 1000+i)})
		crowd = append(crowd, w.signIn().access)
	}
	exe := filepath.Join(t.TempDir(), "server") // the test binary needs 70 MiB by itself
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "..").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	address, program, _ := w.startProgram(exe, 0, "GOGC=100", "GOMEMLIMIT=off")
	f := &flood{w, address, program.Process.Pid, victim}
	f.check(t)

	for _, body := range floodBodies {
		t.Run("one user/"+body.name, func(t *testing.T) {
			f.send(t, crowd[:1], 8, body.text, false)
			f.check(t)
		})
		if body.crowd != "" {
			t.Run("a hundred users/"+body.name, func(t *testing.T) {
				f.send(t, crowd, 2, body.text, body.crowd == "chunked")
				f.check(t)
			})
		}
	}
	for name, size := range map[string]int{"large": 3800 << 10, "small": 60 << 10, "smallest": 1 << 10} {
		for _, length := range []string{"Content-Length: " + strconv.Itoa(size), "Transfer-Encoding: chunked"} {
			t.Run("a hundred users who send slowly/"+name+"/"+length, func(t *testing.T) {
				stop := f.sendSlowly(t, crowd, 4, length, strings.Repeat(" ", size))
				defer stop()
				for range 20 {
					f.whoami(t, f.victim)
				}
				f.check(t)
				if name == "large" { // positive control: this is what they take from others
					a := f.createIssue(t, victim)
					if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
						t.Errorf("another large request: got %d %.300s, want 503 with Retry-After", a.status, a.body)
					}
				}
			})
		}
	}
	t.Run("one user who sends slowly", func(t *testing.T) {
		defer f.sendSlowly(t, crowd[:1], 1, "Transfer-Encoding: chunked", strings.Repeat(" ", 3800<<10))()
		a := f.createIssue(t, crowd[0])
		for a.status == http.StatusForbidden { // until the slow request has arrived
			a = f.createIssue(t, crowd[0])
		}
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || outcome(t, a) != "null -32000" {
			t.Errorf("the user's next large request: got %d %.300s, want 429 with Retry-After", a.status, a.body)
		}
		f.whoami(t, crowd[0])
		if a := f.createIssue(t, victim); a.status != http.StatusOK {
			t.Errorf("another user's large request: got %d %.300s, want 200", a.status, a.body)
		}
	})
	t.Run("control: 3 MiB of text", func(t *testing.T) {
		// The tool has sent it to GitHub, which takes less.
		a := f.createIssue(t, victim)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), "github answered 400") {
			t.Errorf("got %d %.300s, want the tool's result", a.status, a.body)
		}
		f.check(t)
	})
}

// A flood is a set of requests that users send to a process at the same time.
type flood struct {
	w       *world
	address string
	pid     int
	victim  string // another user's access token
}

// send sends a body so many times for each of the users, all at once, and calls the tool of the victim meanwhile.
func (f *flood) send(t *testing.T, users []string, times int, body string, chunked bool) {
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	for _, access := range users {
		for range times {
			all.Go(func() {
				var reader io.Reader = strings.NewReader(body)
				if chunked {
					reader = io.MultiReader(reader)
				}
				req, err := http.NewRequest(http.MethodPost, f.address+"/mcp", reader)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header = f.w.as(legacyHeader(access))
				if strings.Contains(body, "2026-07-28") {
					req.Header = f.w.as(mcpHeader(access, "tools/call", "whoami"))
				}
				req.Host = req.Header.Get("Host")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return // the server closes the connection if a body is too large
				}
				defer resp.Body.Close()
				io.Copy(io.Discard, resp.Body)
				mu.Lock()
				seen[resp.StatusCode]++
				mu.Unlock()
				switch resp.StatusCode {
				case http.StatusOK, http.StatusAccepted, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
				case http.StatusTooManyRequests, http.StatusServiceUnavailable:
					if resp.Header.Get("Retry-After") == "" {
						t.Errorf("status %d has no Retry-After", resp.StatusCode)
					}
				default:
					t.Errorf("got status %d", resp.StatusCode)
				}
			})
		}
	}
	answered := make(chan struct{})
	go func() { all.Wait(); close(answered) }()
	for n := 0; ; n++ {
		f.whoami(t, f.victim)
		select {
		case <-answered:
			t.Logf("statuses: %v; the other user was answered %d times", seen, n+1)
			return
		default:
		}
	}
}

// sendSlowly sends requests except their last byte, and returns a function that stops them.
func (f *flood) sendSlowly(t *testing.T, users []string, times int, length, body string) (stop func()) {
	t.Helper()
	var all sync.WaitGroup
	var open []net.Conn
	body = body[:len(body)-1]
	if strings.HasPrefix(length, "Transfer") {
		body = fmt.Sprintf("%x\r\n%s", len(body)+1, body)
	}
	for _, access := range users {
		for range times {
			c, err := net.Dial("tcp", strings.TrimPrefix(f.address, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			c.(*net.TCPConn).SetWriteBuffer(64 << 10) // or it would be the kernel that needs memory
			open = append(open, c)
			arrived := make(chan struct{})
			all.Go(func() {
				fmt.Fprintf(c, "POST /mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
					"Content-Type: application/json\r\n%s\r\n\r\n", strings.TrimPrefix(f.w.base, "http://"), access, length)
				close(arrived)
				io.WriteString(c, body)
			})
			<-arrived
		}
	}
	return func() {
		for _, c := range open {
			c.Close()
		}
		all.Wait()
	}
}

func (f *flood) whoami(t *testing.T, access string) {
	t.Helper()
	header := f.w.as(mcpHeader(access, "tools/call", "whoami"))
	a := fetch(t, http.MethodPost, f.address+"/mcp", header, strings.NewReader(bodyOf(0, toolMeta, "1")))
	if a.status != http.StatusOK || !strings.Contains(string(a.body), `"subject"`) {
		t.Errorf("the tool's caller got %d %.300s, want the tool's result", a.status, a.body)
	}
}

// createIssue calls a tool with 3 MiB of text.
func (f *flood) createIssue(t *testing.T, access string) answer {
	t.Helper()
	return fetch(t, http.MethodPost, f.address+"/mcp", f.w.as(legacyHeader(access)), strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_issue","arguments":{"repository":`+
			`"octocat/hello-world","title":"x","body":"`+strings.Repeat("x", 3<<20)+`"}}}`))
}

func (f *flood) check(t *testing.T) {
	t.Helper()
	got := peak(t, f.pid)
	t.Logf("the server needed %d MiB so far", got>>20)
	if got > floodLimit {
		t.Errorf("the server needed %d MiB, want at most %d", got>>20, floodLimit>>20)
	}
}

// peak returns the peak memory use of a process.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	line := regexp.MustCompile(`^VmHWM:\s+(\d+) kB`)
	for scan := bufio.NewScanner(status); scan.Scan(); {
		if m := line.FindStringSubmatch(scan.Text()); m != nil {
			kB, _ := strconv.Atoi(m[1])
			return kB << 10
		}
	}
	t.Fatal("the process has no VmHWM")
	return 0
}
