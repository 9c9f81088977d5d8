package oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

const (
	toolCall  = "tools/call"
	subscribe = "subscriptions/listen"
)

// A streamer is a vault whose MCP server sends responses that end only when their request ends.
type streamer struct {
	*vault
	url      string
	began    chan context.Context // contexts of the requests that have reached the MCP server
	answered chan struct{}        // one value for each finished request
}

func newStreamer(t *testing.T, configure ...func(*oauth.Config)) *streamer {
	s := &streamer{vault: newVault(t, configure...), began: make(chan context.Context, 1), answered: make(chan struct{},
		100)}
	r := chi.NewRouter()
	s.Routes(r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // as every MCP server does
		if r.Header.Get("Silent") == "" {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
		}
		s.began <- r.Context()
		<-r.Context().Done()
	}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(w, req)
		s.answered <- struct{}{}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// An open is a running request.
type open struct {
	context.Context // as the MCP server sees it
	hangUp          func()
	refusal         <-chan *http.Response // a response that is not a stream
}

// begin sends a request and returns when it has reached the MCP server.
func (s *streamer) begin(access, method string, header http.Header) open {
	s.t.Helper()
	o := s.send(access, method, header)
	select {
	case o.Context = <-s.began:
	case resp := <-o.refusal:
		s.t.Fatalf("got status %d, want a stream", resp.StatusCode)
	}
	return o
}

func (s *streamer) send(access, method string, header http.Header) open {
	s.t.Helper()
	ctx, hangUp := context.WithCancel(s.t.Context())
	s.t.Cleanup(hangUp)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/mcp", strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Authorization", "Bearer "+access)
	req.Header.Set("Mcp-Method", method)
	refusal := make(chan *http.Response, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			refusal <- resp
		}
	}()
	return open{hangUp: hangUp, refusal: refusal}
}

func TestWhatEndsAStream(t *testing.T) {
	elsewhere := func(statement string) func(*streamer) { // another instance did it
		return func(s *streamer) { s.exec(statement); s.WatchOnce(t.Context()) }
	}
	both := map[string]bool{toolCall: true, subscribe: true}
	for name, test := range map[string]struct {
		do   func(*streamer)
		ends map[string]bool // keyed by method
	}{
		"control: nothing":    {func(s *streamer) { s.WatchOnce(t.Context()) }, nil},
		"the grant has ended": {elsewhere(`DELETE FROM grants`), both},
		"the token was ended": {elsewhere(`DELETE FROM tokens`), both},
		"the sign-in is dead": {elsewhere(`UPDATE credentials SET dead_at = 1`), both},
		"the store is in trouble": {func(s *streamer) {
			s.exec(`DELETE FROM grants`) // the failing store cannot report this
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s.WatchOnce(ctx)
		}, nil},
		"the token has expired": {func(s *streamer) { s.now = s.now.Add(time.Hour); s.WatchOnce(t.Context()) },
			map[string]bool{subscribe: true}},
		"the token has expired and was removed": {func(s *streamer) {
			s.now = s.now.Add(time.Hour)
			if err := s.SweepOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.WatchOnce(t.Context())
		}, map[string]bool{subscribe: true}},
		"the token has expired, and then its grant has ended": {func(s *streamer) {
			s.now = s.now.Add(time.Hour)
			elsewhere(`DELETE FROM grants`)(s)
		}, both},
		"the token has expired, and then the store was in trouble": {func(s *streamer) {
			s.now = s.now.Add(time.Hour)
			s.exec(`DELETE FROM grants`)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s.WatchOnce(ctx)
		}, map[string]bool{subscribe: true}},
		"the token expired an hour ago": {func(s *streamer) { s.now = s.now.Add(2 * time.Hour); s.WatchOnce(t.Context()) },
			both},
		"the server shuts down": {func(s *streamer) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s.Watch(ctx)
		}, map[string]bool{subscribe: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreamer(t)
			access, _ := s.signIn("client", octocat, "gho_1")
			for _, method := range []string{toolCall, subscribe} {
				o := s.begin(access, method, nil)
				defer o.hangUp()
				defer func() {
					if got := o.Err() != nil; got != test.ends[method] {
						t.Errorf("%s: ended: %t, want %t", method, got, test.ends[method])
					}
				}()
			}
			test.do(s)
		})
	}
}

// TestRevokedBeforeTheAnswer checks that an unanswered tool call gets the reason, so that the client signs in.
func TestRevokedBeforeTheAnswer(t *testing.T) {
	s := newStreamer(t)
	access, _ := s.signIn("client", octocat, "gho_1")
	o := s.begin(access, toolCall, http.Header{"Silent": {"1"}})
	s.exec(`DELETE FROM grants`)
	s.WatchOnce(t.Context())
	resp := <-o.refusal
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized ||
		!strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("got %d with challenge %q, want 401 invalid_token", resp.StatusCode, got)
	}
}

func TestSubscriptionsOfOnePersonAreBounded(t *testing.T) {
	const most = 32
	s := newStreamer(t)
	access, _ := s.signIn("client", octocat, "gho_1")
	other, _ := s.signIn("client", mallory, "gho_2")
	for range 2 { // each place comes back once, when its client disconnects
		var all []open
		for range most {
			all = append(all, s.begin(access, subscribe, nil))
		}
		resp := <-s.send(access, subscribe, nil).refusal
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("one more: got %d, Retry-After %q, want 429 with it", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		all = append(all, s.begin(access, toolCall, nil), s.begin(other, subscribe, nil)) // these are still allowed
		for _, o := range all {
			o.hangUp()
		}
		for range len(all) + 1 {
			<-s.answered
		}
	}
}

// TestRevocationEndsStreamsAtOnce checks that the instance that revokes a token ends its streams itself: WatchOnce does
// not run here.
func TestRevocationEndsStreamsAtOnce(t *testing.T) {
	s := newStreamer(t)
	client, code, err := s.SignInAs(t.Context(), "client", octocat, &upstream.Token{Access: "gho_1"})
	if err != nil {
		t.Fatal(err)
	}
	access, refresh, err := s.Redeem(t.Context(), client, code)
	if err != nil {
		t.Fatal(err)
	}
	others, _ := s.signIn("another client", octocat, "gho_2")
	streams := []open{s.begin(access, toolCall, nil), s.begin(access, subscribe, nil), s.begin(others, subscribe, nil)}
	resp, err := http.PostForm(s.url+"/revoke", url.Values{"client_id": {client.ID}, "token": {refresh}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for i, o := range streams {
		if got, want := o.Err() != nil, i < 2; got != want {
			t.Errorf("stream %d: ended: %t, want %t", i+1, got, want)
		}
		o.hangUp()
	}
}

// brittleStore fails every second token lookup, starting with the first.
type brittleStore struct {
	store.Store
	asked atomic.Int64
}

func (s *brittleStore) Token(ctx context.Context, token store.Hash) (store.Token, error) {
	if s.asked.Add(1)%2 == 1 {
		return store.Token{}, errors.New("connection reset")
	}
	return s.Store.Token(ctx, token)
}

// TestWatchWhileTheStoreIsBrittle checks that a failed lookup does not stop the others, and that there is only one
// lookup for many streams of one token.
func TestWatchWhileTheStoreIsBrittle(t *testing.T) {
	brittle := new(brittleStore)
	s := newStreamer(t, func(c *oauth.Config) { brittle.Store, c.Store = c.Store, brittle })
	var tokens []string
	for _, client := range []string{"a", "b", "c", "d"} {
		access, _ := s.signIn(client, octocat, "gho_"+client)
		tokens = append(tokens, access)
	}
	var streams []open
	brittle.asked.Store(1) // the gate's own lookups succeed
	for _, access := range tokens {
		for range 3 {
			brittle.asked.Store(1)
			o := s.begin(access, toolCall, nil)
			defer o.hangUp()
			streams = append(streams, o)
		}
	}
	s.exec(`DELETE FROM grants`)
	brittle.asked.Store(0)
	s.WatchOnce(t.Context())
	ended := 0
	for _, o := range streams {
		if o.Err() != nil {
			ended++
		}
	}
	if asked := brittle.asked.Load(); asked != 4 || ended != 6 {
		t.Errorf("asked %d times and ended %d streams, want 4 times, of which half succeed, and 6", asked, ended)
	}
}

// TestEndedStreamLeavesNoSession checks that a token whose stream was just ended is not accepted from the cache.
func TestEndedStreamLeavesNoSession(t *testing.T) {
	s := newStreamer(t, func(c *oauth.Config) { c.CacheTTL = time.Minute })
	access, _ := s.signIn("client", octocat, "gho_1")
	o := s.begin(access, toolCall, http.Header{"Silent": {"1"}})
	s.exec(`DELETE FROM grants`)
	control := s.begin(access, toolCall, nil) // only the cache allows it
	control.hangUp()
	s.WatchOnce(t.Context())
	<-o.refusal
	again := s.send(access, toolCall, nil)
	select {
	case <-s.began:
		t.Error("it was let in again")
	case resp := <-again.refusal:
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("got status %d, want 401", resp.StatusCode)
		}
	}
}
