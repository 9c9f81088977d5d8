package grants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
	"golang.org/x/sync/errgroup"
)

// The gate checks a token when a request begins, but a response can last much longer. So every MCP request is a stream
// until its response is complete, and it ends with its token. If this instance ends the token, the stream ends
// immediately. If another instance ends it, or it ended before the stream was registered, Watch ends the stream. If the
// token only expires, its subscriptions end, but a running tool call may finish, so that no change is half done.

const (
	// watchEvery is how often the tokens of open streams are looked up in the store. Including the time that the lookup
	// takes, a stream ends within five seconds.
	watchEvery = 2 * time.Second
	watchers   = 8 // number of parallel lookups
	// overtime is how long a tool call may continue after its token has expired.
	overtime = time.Hour
	// lastWrites is how long a client has to read the rest of an ended response. A write to a client that does not read
	// would block for ever, and no context can end it.
	lastWrites = time.Second
	// An open subscription costs 54 KiB. A client needs one for each of its windows.
	maxSubscriptions     = 4096
	maxUserSubscriptions = 32
)

var (
	// ErrEnded is the cause of a context whose token has ended.
	ErrEnded = errors.New("the token of the request has ended")

	errUserSubscriptions = &clients.Error{Code: "too_many_subscriptions", Status: http.StatusTooManyRequests,
		Description: fmt.Sprintf("This person's clients have %d subscriptions open already.", maxUserSubscriptions)}
	errSubscriptions = errors.New("as many subscriptions are open as this server can hold, or it is shutting down")
)

// A stream is an MCP request whose response is not complete.
type stream struct {
	session   *Session
	subscribe bool // subscriptions/listen, whose response does not end by itself
	cancel    context.CancelCauseFunc

	mu          sync.Mutex // guards the fields below
	w           http.ResponseWriter
	ended, done bool
}

// end cancels the request's context with that cause, and stops the writing of its response.
func (st *stream) end(cause error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.done {
		st.ended = true
		http.NewResponseController(st.w).SetWriteDeadline(time.Now().Add(lastWrites)) // an error means that there is none
		st.cancel(cause)
	}
}

// finish is called when the response is complete. The connection may now serve another request.
func (st *stream) finish() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.done = true
	st.cancel(nil)
	if st.ended {
		http.NewResponseController(st.w).SetWriteDeadline(time.Time{})
	}
}

// streams holds the requests whose response is not complete.
type streams struct {
	mu            sync.Mutex // guards the fields below
	open          map[*stream]struct{}
	subscriptions map[store.Hash]int // number of open ones by user
	total         int                // of subscriptions
	shut          bool               // new subscriptions are rejected
}

func newStreams() *streams {
	return &streams{open: map[*stream]struct{}{}, subscriptions: map[store.Hash]int{}}
}

// begin returns a context for the request, and a function to call after the response. The context ends when the
// Session's token ends.
func (s *streams) begin(w http.ResponseWriter, r *http.Request, session *Session) (context.Context, func(), error) {
	// The MCP server rejects a request whose header and body name different methods.
	st := &stream{session: session, w: w, subscribe: r.Header.Get("Mcp-Method") == "subscriptions/listen"}
	user := session.Grant.User.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.subscribe {
		switch {
		case s.shut || s.total >= maxSubscriptions:
			return nil, nil, errSubscriptions
		case s.subscriptions[user] >= maxUserSubscriptions:
			return nil, nil, errUserSubscriptions
		}
		s.subscriptions[user]++
		s.total++
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	st.cancel = cancel
	s.open[st] = struct{}{}
	return ctx, func() { st.finish(); s.remove(st) }, nil
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
	if !st.subscribe {
		return
	}
	user := st.session.Grant.User.ID
	s.total--
	if s.subscriptions[user]--; s.subscriptions[user] == 0 {
		delete(s.subscriptions, user)
	}
}

// end ends the streams of tokens that are no longer valid.
func (s *streams) end(which func(token store.Hash, g *store.Grant) bool) {
	for _, st := range s.all() {
		if which(st.session.token, &st.session.Grant) {
			st.end(ErrEnded)
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

// shutDown ends the subscriptions, which would not end by themselves, and rejects new ones.
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

// Ended drops the matching sessions, and ends their streams. After a store error it is unknown whether they have ended,
// so the streams are left to Watch. Streams are also left to Watch if a tool finds a credential dead, because the
// tool's own response is one of them.
func (k *Keeper) Ended(err error, which func(token store.Hash, g *store.Grant) bool) {
	k.cache.drop(which)
	if err == nil {
		k.streams.end(which)
	}
}

// Watch ends the streams of tokens that another instance has ended, and subscriptions whose token has expired. When the
// context ends, Watch ends all subscriptions, so that the server can shut down. The calls that the server then waits
// for are no longer watched. Watch also logs how many failures were left out of the log.
func (k *Keeper) Watch(ctx context.Context) {
	defer k.streams.shutDown()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
			k.WatchOnce(ctx)
		}
	}
}

func (k *Keeper) WatchOnce(ctx context.Context) {
	k.log.LeftOut(false)
	// All lookups share one timeout: a store that hangs must not delay the next round.
	ctx, cancel := context.WithTimeout(ctx, StoreTimeout)
	defer cancel()
	open := map[store.Hash][]*stream{}
	for _, st := range k.streams.all() {
		open[st.session.token] = append(open[st.session.token], st)
	}
	var asking errgroup.Group
	asking.SetLimit(watchers)
	for token, streams := range open {
		asking.Go(func() error {
			k.watchToken(ctx, token, streams)
			return nil
		})
	}
	asking.Wait()
}

// watchToken ends the streams of a token that is no longer valid. A store error ends nothing.
func (k *Keeper) watchToken(ctx context.Context, token store.Hash, open []*stream) {
	session := open[0].session
	expired := func() bool { return !k.now().Before(session.Expires) }
	var ended bool
	var err error
	if expired() {
		ended, err = k.grantEnded(ctx, &session.Grant)
	} else if ended, err = k.tokenEnded(ctx, token); expired() {
		ended = false // the row may be missing only because the token has expired
	}
	if overdue := !k.now().Before(session.Expires.Add(overtime)); overdue || ended && err == nil {
		k.Ended(nil, func(t store.Hash, _ *store.Grant) bool { return t == token })
	}
	for _, st := range open {
		if st.subscribe && expired() {
			st.end(ErrEnded)
		}
	}
}

// tokenEnded reports whether a valid access token has ended before it expired.
func (k *Keeper) tokenEnded(ctx context.Context, token store.Hash) (bool, error) {
	t, err := k.store.Token(ctx, token)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return err == nil && k.CheckAdmitted(&t.Grant) != nil, err
}

// grantEnded reports whether a grant has ended. It is for an expired access token, which the store may have removed.
func (k *Keeper) grantEnded(ctx context.Context, g *store.Grant) (bool, error) {
	alive, err := k.store.UserGrants(ctx, g.User.ID, k.now())
	return err == nil && !slices.ContainsFunc(alive, func(o store.Grant) bool { return o.ID == g.ID }), err
}
