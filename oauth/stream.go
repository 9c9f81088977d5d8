package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The gate looks at a token when a request begins; an answer can outlive that by far. So every MCP request is a stream
// here for as long as it is answered, and ends with its token: at once if this instance ends the token, and as soon as
// Watch finds out if another one does. A token that merely expires ends only what has no end of its own: a tool call
// that is under way may finish, because half an issue helps nobody.

const (
	// watchEvery is how often the store is asked about the tokens of open streams. With the time that asking takes, a
	// stream ends within five seconds.
	watchEvery = 3 * time.Second
	// An open subscription costs 54 KiB. One client needs one for each of its windows.
	maxSubscriptions      = 4096
	maxGrantSubscriptions = 8
)

var (
	errGrantSubscriptions = &Error{Code: "too_many_subscriptions", Status: http.StatusTooManyRequests,
		Description: fmt.Sprintf("This client has %d subscriptions open already.", maxGrantSubscriptions)}
	errSubscriptions = errors.New("as many subscriptions are open as this server can hold, or it is shutting down")
)

// A stream is an MCP request that is being answered.
type stream struct {
	session   *session
	subscribe bool // subscriptions/listen, whose answer has no end of its own
	end       context.CancelCauseFunc
}

// streams are the requests that are being answered.
type streams struct {
	mu            sync.Mutex // guards the fields below
	open          map[*stream]struct{}
	subscriptions map[ID]int // open ones, of each grant that has any
	total         int        // of subscriptions
	shut          bool       // takes no more subscriptions
}

func newStreams() *streams {
	return &streams{open: map[*stream]struct{}{}, subscriptions: map[ID]int{}}
}

// begin returns a context for the request that ends with the session's token, and what to call when the request has
// been answered.
func (s *streams) begin(r *http.Request, session *session) (context.Context, func(), error) {
	// The MCP server refuses a request whose header names another method than its body does.
	st := &stream{session: session, subscribe: r.Header.Get("Mcp-Method") == "subscriptions/listen"}
	grant := session.grant.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.subscribe {
		switch {
		case s.shut || s.total >= maxSubscriptions:
			return nil, nil, errSubscriptions
		case s.subscriptions[grant] >= maxGrantSubscriptions:
			return nil, nil, errGrantSubscriptions
		}
		s.subscriptions[grant]++
		s.total++
	}
	ctx, end := context.WithCancelCause(r.Context())
	st.end = end
	s.open[st] = struct{}{}
	return ctx, func() { end(nil); s.remove(st) }, nil
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
	if !st.subscribe {
		return
	}
	grant := st.session.grant.ID
	s.total--
	if s.subscriptions[grant]--; s.subscriptions[grant] == 0 {
		delete(s.subscriptions, grant)
	}
}

// end ends the streams of tokens that are no good any more.
func (s *streams) end(which func(token Hash, g *Grant) bool) {
	for _, st := range s.all() {
		if which(st.session.token, &st.session.grant) {
			st.end(errInvalidToken)
		}
	}
}

func (s *streams) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*stream, 0, len(s.open))
	for st := range s.open {
		all = append(all, st)
	}
	return all
}

// shutDown ends the subscriptions, which would not end by themselves, and takes no more.
func (s *streams) shutDown() {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	for _, st := range s.all() {
		if st.subscribe {
			st.end(context.Canceled)
		}
	}
}

// ended forgets the sessions of what has ended, and ends what is being answered to them. After an error of the store's
// nobody knows whether it has: then the streams are left to Watch.
func (s *Server) ended(err error, which func(token Hash, g *Grant) bool) {
	s.cache.drop(which)
	if err == nil {
		s.streams.end(which)
	}
}

// Watch ends the streams of tokens that another instance has ended, and subscriptions whose token has expired. When the
// context ends it ends all subscriptions, so that a server can shut down.
func (s *Server) Watch(ctx context.Context) {
	defer s.streams.shutDown()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
			s.watch(ctx)
		}
	}
}

func (s *Server) watch(ctx context.Context) {
	var trouble error // the store's, which ends no stream
	for _, st := range s.streams.all() {
		expired := func() bool { return !s.now().Before(st.session.expires) }
		ended := false
		if trouble == nil && !expired() {
			ended, trouble = s.tokenEnded(ctx, st.session.token)
		}
		// What is not found any more may have been removed because it has expired by now.
		if expired() && st.subscribe || ended && !expired() {
			st.end(errInvalidToken)
		}
	}
}

// tokenEnded reports whether an access token that was good has ended before its time.
func (s *Server) tokenEnded(ctx context.Context, token Hash) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	t, err := s.store.Token(ctx, token)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return err == nil && s.checkAdmitted(&t.Grant) != nil, err
}
