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

// The gate looks at a token when a request begins; an answer can outlive that by far. So every MCP request is a stream
// here for as long as it is answered, and ends with its token: at once if this instance ends the token, and when Watch
// finds out if another one does, or if the token ended while the request was on its way here. A token that merely
// expires ends what has no end of its own: a tool call that is under way may finish, because half an issue helps
// nobody.

const (
	// watchEvery is how often the store is asked about the tokens of open streams. With the time that asking takes, a
	// stream ends within five seconds.
	watchEvery = 2 * time.Second
	watchers   = 8 // how many ask at a time
	// overtime is how long a tool call may go on after its token has expired.
	overtime = time.Hour
	// lastWrites is how long a client has to read what is left of an answer that has been ended. A write to a client that
	// does not read would wait for ever, and no context can end it.
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

// A stream is an MCP request that is being answered.
type stream struct {
	session   *Session
	subscribe bool // subscriptions/listen, whose answer has no end of its own
	cancel    context.CancelCauseFunc

	mu          sync.Mutex // guards the fields below
	w           http.ResponseWriter
	ended, done bool
}

// end ends the request's context, for that reason, and the writing of its answer.
func (st *stream) end(cause error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.done {
		st.ended = true
		http.NewResponseController(st.w).SetWriteDeadline(time.Now().Add(lastWrites)) // an error means that there is none
		st.cancel(cause)
	}
}

// finish is called when the request has been answered. Its connection may now serve another.
func (st *stream) finish() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.done = true
	st.cancel(nil)
	if st.ended {
		http.NewResponseController(st.w).SetWriteDeadline(time.Time{})
	}
}

// streams are the requests that are being answered.
type streams struct {
	mu            sync.Mutex // guards the fields below
	open          map[*stream]struct{}
	subscriptions map[store.Hash]int // open ones, of each user who has any
	total         int                // of subscriptions
	shut          bool               // takes no more subscriptions
}

func newStreams() *streams {
	return &streams{open: map[*stream]struct{}{}, subscriptions: map[store.Hash]int{}}
}

// begin returns a context for the request that ends with the Session's token, and what to call when the request has
// been answered.
func (s *streams) begin(w http.ResponseWriter, r *http.Request, session *Session) (context.Context, func(), error) {
	// The MCP server refuses a request whose header names another method than its body does.
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

// end ends the streams of tokens that are no good any more.
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

// Ended forgets the sessions of what has ended, and ends what is being answered to them. After an error of the store's
// nobody knows whether it has: then the streams are left to Watch. So are those of a credential that a tool finds dead:
// the tool's own answer is one of them.
func (k *Keeper) Ended(err error, which func(token store.Hash, g *store.Grant) bool) {
	k.cache.drop(which)
	if err == nil {
		k.streams.end(which)
	}
}

// Watch ends the streams of tokens that another instance has ended, and subscriptions whose token has expired. When the
// context ends it ends all subscriptions, so that a server can shut down; the calls that it then waits for are watched
// no more. In between it logs how many failures were left out of the log.
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
	// All of it has one time-out: a store that hangs must not hold up the next round.
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

// watchToken ends what is being answered to a token that is no longer good. Trouble of the store's ends nothing.
func (k *Keeper) watchToken(ctx context.Context, token store.Hash, open []*stream) {
	session := open[0].session
	expired := func() bool { return !k.now().Before(session.Expires) }
	var ended bool
	var err error
	if expired() {
		ended, err = k.grantEnded(ctx, &session.Grant)
	} else if ended, err = k.tokenEnded(ctx, token); expired() {
		ended = false // it may have been removed because it has expired by now
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

// tokenEnded reports whether an access token that was good has ended before its time.
func (k *Keeper) tokenEnded(ctx context.Context, token store.Hash) (bool, error) {
	t, err := k.store.Token(ctx, token)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return err == nil && k.CheckAdmitted(&t.Grant) != nil, err
}

// grantEnded reports whether a grant has ended whose access token is too old to be found.
func (k *Keeper) grantEnded(ctx context.Context, g *store.Grant) (bool, error) {
	alive, err := k.store.UserGrants(ctx, g.User.ID, k.now())
	return err == nil && !slices.ContainsFunc(alive, func(o store.Grant) bool { return o.ID == g.ID }), err
}
