package endpoint

import (
	"bytes"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// mcp-go decodes a request into Go values, several times over: 4 MiB of {"":1} cost 430 MiB. So a request takes memory
// from a pool before it is read, by its size, and from another before it is decoded, by its weight. If a pool does
// not have enough in time, the request is refused. Small requests have their own pools and never wait for large ones.
//
// All pools together hold 40 MiB and 14 times the largest body. Go's garbage can come to as much again.

const (
	maxWait     = 5 * time.Second
	smallBody   = 64 << 10
	smallWeight = 8 * smallBody
	// maxDepth is how deep arrays and objects may be nested. Decoding takes time with the square of it.
	maxDepth = 100
	// subscriptionWeight is the largest weight of a subscription. It keeps its memory as long as it is open, so it takes
	// none from a pool; the gate limits how many there are.
	subscriptionWeight = 16 << 10
)

// A lane is the memory for requests of about the same size: for bodies that arrive, and for those that are decoded.
type lane struct{ reading, decoding *pool }

// maxWeight returns a little more than the weight of a body of that size that is all text.
func maxWeight(maxBody int64) int64 { return 7 * maxBody }

func newLanes(maxBody int64) (small, large lane) {
	small = lane{reading: newPool(16<<20, 2*smallBody), decoding: newPool(24<<20, smallWeight)}
	large = lane{reading: newPool(4*maxBody, maxBody), decoding: newPool(10*maxBody, maxWeight(maxBody))}
	return small, large
}

// A pool is a number of bytes that all users share. One user can have only a part of it.
type pool struct {
	all  *semaphore.Weighted
	each int64

	mu    sync.Mutex // guards the fields below
	users map[string]*share
}

// A share is the part of a pool that one user can have.
type share struct {
	left     *semaphore.Weighted
	requests int // that have some of it or wait for it
}

func newPool(all, each int64) *pool {
	return &pool{all: semaphore.NewWeighted(all), each: each, users: map[string]*share{}}
}

// take takes n bytes for a user's request, and returns how to give them back. It waits up to maxWait for other requests
// of the user, and as long for those of all.
func (p *pool) take(ctx context.Context, user string, n int64) (giveBack func(), _ *refusal) {
	own := p.join(user)
	if acquire(ctx, own.left, n) != nil {
		p.leave(user, own)
		return nil, errUserBusy
	}
	if acquire(ctx, p.all, n) != nil {
		own.left.Release(n)
		p.leave(user, own)
		return nil, errBusy
	}
	return func() {
		p.all.Release(n)
		own.left.Release(n)
		p.leave(user, own)
	}, nil
}

func acquire(ctx context.Context, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) { // nearly always, and without a timer
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	return s.Acquire(ctx, n)
}

func (p *pool) join(user string) *share {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.users[user]
	if own == nil {
		own = &share{left: semaphore.NewWeighted(p.each)}
		p.users[user] = own
	}
	own.requests++
	return own
}

func (p *pool) leave(user string, own *share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own.requests--; own.requests == 0 {
		delete(p.users, user)
	}
}

// The bytes that mcp-go holds at most for each part of a request. TestWeight compares them with what it holds.
const (
	weightOfByte      = 6
	weightOfMarkup    = 24 // for each of <, > and &, which encoding/json writes as six characters
	weightOfElement   = 120
	weightOfContainer = 60
	weightOfMembers   = 600 // for the first eight of an object together
)

// weigh returns how many bytes a valid JSON text can cost, and how deep it is nested.
func weigh(text []byte) (weight int64, depth int) {
	weight = weightOfByte * int64(len(text))
	open, empty := 0, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			end := stringEnd(text, i)
			weight += weightOfMarkup * int64(markup(text[i:end]))
			if empty {
				weight += weightOfMembers
			}
			i, empty = end-1, false
		case '{', '[':
			weight += weightOfContainer
			open++
			depth, empty = max(depth, open), text[i] == '{'
		case '}', ']':
			open--
			empty = false
		case ',':
			weight += weightOfElement
		}
	}
	return weight, depth
}

func markup(text []byte) int {
	return bytes.Count(text, []byte("<")) + bytes.Count(text, []byte(">")) + bytes.Count(text, []byte("&"))
}
