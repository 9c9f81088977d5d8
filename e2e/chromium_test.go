//go:build browser

package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a step in the browser can take before its test fails.
const patience = 30 * time.Second

// rebound is a name that Chromium resolves to this machine, as an attacker's name server may at any time.
const rebound = "rebound.example"

// A tab is a page in a real Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu        sync.Mutex          // guards what Chromium reports
	complaint []string            // from the console, a policy, or an uncaught exception
	requested []string            // URLs
	referers  map[string][]string // keyed by the host that received them
}

// newTab starts a Chromium of its own.
func newTab(t *testing.T, options ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	names := []string{"chromium", "google-chrome", "chromium-browser"}
	i := slices.IndexFunc(names, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
	switch {
	case i >= 0:
	case os.Getenv("CI") != "":
		t.Fatal("there is no Chromium on the PATH: install the package chromium")
	default:
		t.Skip("this test needs Chromium on the PATH: install the package chromium")
	}
	options = append(options, chromedp.ExecPath(names[i]), chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("host-resolver-rules", "MAP "+rebound+" 127.0.0.1"))
	options = append(chromedp.DefaultExecAllocatorOptions[:], options...)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	return (&tab{t: t, ctx: ctx}).another()
}

// another opens a tab in the same Chromium.
func (b *tab) another() *tab {
	b.t.Helper()
	n := &tab{t: b.t, referers: map[string][]string{}}
	var stop context.CancelFunc
	n.ctx, stop = chromedp.NewContext(b.ctx, chromedp.WithListener(n.hear))
	b.t.Cleanup(stop)
	if _, err := chromedp.Call(n.ctx, audits.Enable, cdp.Empty{}); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// hear records Chromium's reports.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complaint = append(b.complaint, e.Entry.Text)
	case *audits.EventIssueAdded:
		b.complaint = append(b.complaint, string(e.Issue.Code))
	case *runtime.EventExceptionThrown:
		b.complaint = append(b.complaint, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complaint = append(b.complaint, "console."+string(e.Type))
	case *network.EventRequestWillBeSent:
		b.requested = append(b.requested, e.Request.URL)
	case *network.EventRequestWillBeSentExtraInfo:
		if referer, ok := e.Headers["Referer"].(string); ok {
			host, _ := e.Headers["Host"].(string)
			b.referers[host] = append(b.referers[host], referer)
		}
	}
}

// do fails the test if a step does not become possible in time.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("on the page %q: %v", evaluate[string](b, "document.title"), err)
	}
}

// evaluate runs a script in the page, and waits if its value is a promise.
func evaluate[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// quote returns a JavaScript literal.
func quote(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// open goes to a URL, as a click on a link in another program does.
func (b *tab) open(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address))
}

// goBack goes back in history, once the page has answered: it cannot afterwards.
func (b *tab) goBack() {
	b.t.Helper()
	evaluate[bool](b, `setTimeout(() => history.back()), true`)
}

// see waits for a page whose heading contains this text.
func (b *tab) see(heading string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.Search(`//h1[contains(normalize-space(), "` + heading + `")]`)))
}

// press clicks the button with this text.
func (b *tab) press(text string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.Search(`//button[normalize-space()="` + text + `"]`)))
}

// callback returns the URL that the provider sent the browser to.
func (b *tab) callback() string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.requested, func(u string) bool { return strings.Contains(u, "/callback/github?") })
	if i < 0 {
		b.t.Fatal("the browser has not been to /callback/github")
	}
	return b.requested[i]
}

// text returns the text of the page.
func (b *tab) text() string {
	b.t.Helper()
	return evaluate[string](b, "document.body.innerText")
}

func (b *tab) assertStatus(want int) {
	b.t.Helper()
	if got := evaluate[int](b, `performance.getEntriesByType("navigation")[0].responseStatus`); got != want {
		b.t.Errorf("got a page with status %d, want %d", got, want)
	}
}

// assertCookies asserts how many cookies our server has set, and that scripts and other sites' forms cannot use them.
func (b *tab) assertCookies(w *world, want int) {
	b.t.Helper()
	at := network.GetCookiesParams{URLs: []string{w.base + "/callback/github"}}
	r, err := chromedp.Call(b.ctx, network.GetCookies, at)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(r.Cookies) != want {
		b.t.Errorf("got %d cookies, want %d", len(r.Cookies), want)
	}
	for _, c := range r.Cookies {
		if !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax || c.Domain != "localhost" {
			b.t.Errorf("cookie %s: HttpOnly %t, SameSite %s, domain %s; want true, Lax, localhost", c.Name, c.HTTPOnly,
				c.SameSite, c.Domain)
		}
	}
}

func (b *tab) assertNoComplaint() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, complaint := range b.complaint {
		what, _, _ := strings.Cut(complaint, "?") // a query can hold a code
		b.t.Error("Chromium complains: " + what)
	}
}

// assertRefererStaysHome asserts that no server got the URL of another server's page: queries hold states and codes.
func (b *tab) assertRefererStaysHome(w *world) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var own int
	for host, referers := range b.referers {
		for _, referer := range referers {
			if !strings.HasPrefix(referer, "http://"+host+"/") {
				b.t.Errorf("%s was told of a page of another server: %s", host, strings.Split(referer, "?")[0])
			}
			if strings.HasPrefix(referer, w.base+"/authorize?") {
				own++
			}
		}
	}
	if own == 0 {
		b.t.Error("our own server got no Referer: the test is blind")
	}
}

// A site is a web server that is not ours: an MCP client's, which waits for the code, or one with an attacker's pages.
type site struct {
	w       *world
	url     string
	id      string          // its client_id
	arrived chan url.Values // queries received at its redirect URI
}

func newSite(w *world) *site {
	w.t.Helper()
	s := &site{w: w, arrived: make(chan url.Values, 10)}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(rw, `<!doctype html><link rel="icon" href="data:,"><h1>Elsewhere</h1>`)
		if r.URL.Path == "/callback" {
			s.arrived <- r.URL.Query()
		}
	}))
	w.t.Cleanup(server.Close)
	s.url = server.URL
	s.id = w.register(s.redirectURI())
	return s
}

func (s *site) redirectURI() string { return s.url + "/callback" }

func (s *site) authorizeURL() string {
	return s.w.authorizeURL(s.id, func(q url.Values) { q.Set("redirect_uri", s.redirectURI()) })
}

// answer waits for the browser to come back to the client.
func (s *site) answer() url.Values {
	s.w.t.Helper()
	select {
	case q := <-s.arrived:
		return q
	case <-time.After(patience):
		s.w.t.Fatal("nobody came back to the client")
		return nil
	}
}

// assertSignedIn redeems the code in a response and calls a tool.
func (s *site) assertSignedIn(answer url.Values) {
	s.w.t.Helper()
	if answer.Get("state") != "xyz" || answer.Get("iss") != s.w.base || len(answer) != 3 {
		s.w.t.Errorf("the client got %v, want code, its state, and iss %s", slices.Sorted(maps.Keys(answer)), s.w.base)
	}
	a := s.w.post("/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {s.id},
		"code": {answer.Get("code")}, "code_verifier": {testVerifier}, "redirect_uri": {s.redirectURI()}})
	if a.status != http.StatusOK {
		s.w.t.Fatalf("redeeming the code: status %d, %s", a.status, a.str("error"))
	}
	if got := s.w.tool(a.str("access_token"), "whoami").status; got != http.StatusOK {
		s.w.t.Errorf("whoami: got status %d, want 200", got)
	}
}

// minted counts the grants in the database, and the codes redeemed at the provider.
func (w *world) minted() (grants, exchanges int) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.database()+"?_busy_timeout=10000")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM grants").Scan(&grants); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range w.app.DevIDP.Calls() {
		if c.Path == "/login/oauth/access_token" {
			exchanges++
		}
	}
	return grants, exchanges
}
