// Package places limits how many calls to others run at once, in a way that strangers cannot use to shut everybody out.
package places

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Strangers can make us call a provider, with invalid codes, and any host, for invalid documents. So only a few of
// these calls run at once, and each has a place. Strangers could hold all places if the other side responds slowly. So
// a newcomer takes the place of the oldest call that has exceeded the patience. A known caller takes a stranger's place
// immediately.

// ErrNone is returned if all places are taken. It is also the reason that a call ends if it loses its place.
var ErrNone = errors.New("too many at once")

// A Limit limits how many calls run at once.
type Limit struct {
	perHost, total int
	patience       time.Duration // how long a place is safe, except a stranger's from a known caller
	now            func() time.Time

	mu    sync.Mutex    // guards the fields below
	held  []*place      // the oldest first
	freed chan struct{} // closed when a place is given back
}

// A place belongs to one call.
type place struct {
	host  string
	known bool
	since time.Time
	lose  context.CancelCauseFunc
}

func New(perHost, total int, patience time.Duration, now func() time.Time) *Limit {
	return &Limit{perHost: perHost, total: total, patience: patience, now: now, freed: make(chan struct{})}
}

// Take takes a place for a call to the host. The call must run in the returned context, which ends with the place, and
// must call leave, which may be called twice. [ErrNone] is returned if there is no place.
func (p *Limit) Take(ctx context.Context, host string, known bool) (_ context.Context, leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rivals := p.rivals(host); rivals != nil {
		i := slices.IndexFunc(rivals, func(h *place) bool { return p.mustYield(h, known) })
		if i < 0 {
			return nil, nil, ErrNone
		}
		loser := rivals[i]
		loser.lose(ErrNone)
		p.remove(loser)
	}
	mine := &place{host: host, known: known, since: p.now()}
	ctx, mine.lose = context.WithCancelCause(ctx)
	p.held = append(p.held, mine)
	return ctx, func() { p.leave(mine) }, nil
}

// rivals returns the places that a newcomer could take, or nil if there is room.
func (p *Limit) rivals(host string) (same []*place) {
	for _, h := range p.held {
		if h.host == host {
			same = append(same, h)
		}
	}
	switch {
	case len(same) >= p.perHost:
		return same
	case len(p.held) >= p.total:
		return p.held
	}
	return nil
}

// mustYield reports whether a newcomer may take the place.
func (p *Limit) mustYield(h *place, toKnown bool) bool {
	if h.known != toKnown {
		return toKnown
	}
	return p.now().Sub(h.since) >= p.patience
}

func (p *Limit) leave(mine *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mine.lose(nil)
	if p.remove(mine) {
		close(p.freed)
		p.freed = make(chan struct{})
	}
}

func (p *Limit) remove(which *place) bool {
	i := slices.Index(p.held, which)
	if i >= 0 {
		p.held = slices.Delete(p.held, i, i+1)
	}
	return i >= 0
}

// Wait takes a place as soon as there is one, but waits no longer than most.
func (p *Limit) Wait(ctx context.Context, host string, most time.Duration) (context.Context, func(), error) {
	deadline := time.After(most)
	for {
		p.mu.Lock()
		freed := p.freed
		p.mu.Unlock()
		if mine, leave, err := p.Take(ctx, host, false); err == nil {
			return mine, leave, nil
		}
		select {
		case <-freed:
		case <-time.After(p.patience / 4): // a place may have exceeded the patience
		case <-deadline:
			return nil, nil, ErrNone
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
