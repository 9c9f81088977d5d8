package endpoint

import (
	"bytes"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// mcp-go decodes a request into Go values several times: 4 MiB of {"":1} cost 430 MiB. So a request takes its size from
// a pool before it is read, and its weight from another pool before it is decoded. If a pool does not have enough in
// time, the request is refused. Small requests have their own pools and never wait for large ones.
//
// All pools together hold 40 MiB plus 14 times the largest body. Go's garbage can use as much again.

const (
	maxWait     = 5 * time.Second
	smallBody   = 64 << 10
	smallWeight = 8 * smallBody
	// maxDepth limits the nesting of arrays and objects. Decoding time grows with the square of the depth.
	maxDepth = 100
	// subscriptionWeight is the largest weight of a subscription. A subscription keeps its memory as long as it is open,
	// so it takes none from a pool. Instead, the gate limits the number of subscriptions.
	subscriptionWeight = 16 << 10
)

// A lane holds the pools for requests of similar size: one for reading bodies and one for decoding them.
type lane struct{ reading, decoding *pool }

// maxWeight returns the weight limit of a body. It is a little more than the weight of maxBody bytes of plain text.
func maxWeight(maxBody int64) int64 { return 7 * maxBody }

func newLanes(maxBody int64) (small, large lane) {
	small = lane{reading: newPool(16<<20, 2*smallBody), decoding: newPool(24<<20, smallWeight)}
	large = lane{reading: newPool(4*maxBody, maxBody), decoding: newPool(10*maxBody, maxWeight(maxBody))}
	return small, large
}

// A pool is a number of bytes that all users share. One user can take only a part of it.
type pool struct {
	all  *semaphore.Weighted
	each int64

	mu    sync.Mutex // guards the fields below
	users map[string]*share
}

// A share is the part of a pool that one user can take.
type share struct {
	left     *semaphore.Weighted
	requests int // number of requests that hold bytes or wait for them
}

func newPool(all, each int64) *pool {
	return &pool{all: semaphore.NewWeighted(all), each: each, users: map[string]*share{}}
}

// take takes n bytes for a user's request. The caller must call giveBack. take waits up to maxWait for the user's other
// requests, and then up to maxWait for all users' requests.
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
	if s.TryAcquire(n) { // nearly always succeeds, and needs no timer
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

// The most bytes that mcp-go holds for each part of a request. TestWeight compares them with measurements.
const (
	weightOfByte      = 6
	weightOfMarkup    = 24 // for each of <, > and &, which encoding/json writes as six characters
	weightOfElement   = 120
	weightOfContainer = 60
	weightOfMembers   = 600 // for an object's first eight members together
)

// weigh returns how much memory a valid JSON text can use, in bytes, and its nesting depth.
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
