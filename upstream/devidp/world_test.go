package devidp_test

import (
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

const (
	baseURL   = "http://localhost:20100"
	callback  = baseURL + "/callback/github"
	nonce     = "a-nonce"
	verifier  = "a-verifier-of-more-than-forty-three-characters-in-all"
	tokenPath = "/login/oauth/access_token"
)

// A clock stands still unless it is told to move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A world is the development provider, the real provider code in front of it, and a user's browser.
type world struct {
	*testing.T
	idp      *devidp.Server
	provider *upstream.Provider
	browser  *http.Client
	clock    *clock
}

func newWorld(t *testing.T) *world {
	c := &clock{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	idp := start(t, devidp.Config{BaseURL: baseURL, Now: c.Now})
	return &world{T: t, idp: idp, provider: newProvider(t, idp), browser: newBrowser(t), clock: c}
}

// use puts another provider in front of the development provider.
func (w *world) use(p *upstream.Provider, err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	if w.clock != nil { // otherwise the system clock is used
		p.SetClock(w.clock.Now)
	}
	w.provider = p
}

func (w *world) callback() string { return baseURL + "/callback/" + w.provider.ID }

func start(t *testing.T, c devidp.Config) *devidp.Server {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	idp, err := devidp.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { idp.Close() })
	return idp
}

func newProvider(t *testing.T, idp *devidp.Server) *upstream.Provider {
	t.Helper()
	p, err := upstream.GitHub(idp.GitHub())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newBrowser keeps cookies and does not follow redirects, because no server listens at the callback.
func newBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// do returns the response's status, its body, and the callback's query if it is a redirect to the callback.
func (w *world) do(req *http.Request) (status int, body string, back url.Values) {
	w.Helper()
	res, err := w.browser.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	if location := res.Header.Get("Location"); location != "" {
		address, query, _ := strings.Cut(location, "?")
		if address != w.callback() {
			w.Fatalf("redirected to %s, want %s", address, w.callback())
		}
		if back, err = url.ParseQuery(query); err != nil {
			w.Fatal(err)
		}
	}
	return res.StatusCode, string(b), back
}

func (w *world) get(address string) (status int, body string, back url.Values) {
	w.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		w.Fatal(err)
	}
	return w.do(req)
}

// form returns what the page's form would send for this user, with all boxes ticked except the withheld scopes.
func form(page, login, decision string, withhold ...string) url.Values {
	f := url.Values{"login": {login}, "decision": {decision}}
	for _, m := range regexp.MustCompile(`name="(request|scope)" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if value := html.UnescapeString(m[2]); !slices.Contains(withhold, value) {
			f.Add(m[1], value)
		}
	}
	return f
}

func (w *world) post(f url.Values, header http.Header) (status int, body string, back url.Values) {
	w.Helper()
	path := "/login/oauth/authorize"
	if w.provider.ID != "github" {
		path = "/" + w.provider.ID + "/authorize"
	}
	req, err := http.NewRequest("POST", w.idp.URL()+path, strings.NewReader(f.Encode()))
	if err != nil {
		w.Fatal(err)
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(req)
}

// answer fills in the page at the URL and returns the callback's query.
func (w *world) answer(address, login, decision string, withhold ...string) url.Values {
	w.Helper()
	status, page, back := w.get(address)
	if back != nil {
		return back
	}
	if status != http.StatusOK {
		w.Fatalf("authorize page: got %d", status)
	}
	status, _, back = w.post(form(page, login, decision, withhold...), http.Header{"Origin": {w.idp.URL()}})
	if back == nil {
		w.Fatalf("authorize form: got %d, want a redirect", status)
	}
	return back
}

func (w *world) authURL(scopes ...string) string {
	w.Helper()
	address, err := w.provider.AuthCodeURL(w.Context(), w.callback(), "the-state", verifier, nonce, scopes, false)
	if err != nil {
		w.Fatal(err)
	}
	return address
}

func (w *world) code(login string, scopes ...string) string {
	w.Helper()
	code := w.answer(w.authURL(scopes...), login, "authorize").Get("code")
	if code == "" {
		w.Fatal("the callback got no code")
	}
	return code
}

func (w *world) signIn(login string, scopes ...string) *upstream.Token {
	w.Helper()
	token, err := w.provider.Exchange(w.Context(), w.callback(), w.code(login, scopes...), verifier, scopes)
	if err != nil {
		w.Fatal(err)
	}
	return token
}

func (w *world) works(token *upstream.Token) bool {
	w.Helper()
	_, err := w.provider.Identify(w.Context(), token, nonce)
	var e *upstream.Error
	if err != nil && (!errors.As(err, &e) || e.Status != http.StatusUnauthorized) {
		w.Fatalf("got %v, want success or a 401", err)
	}
	return err == nil
}

func (w *world) count(path string) (n int) {
	for _, c := range w.idp.Calls() {
		if c.Path == path {
			n++
		}
	}
	return n
}
