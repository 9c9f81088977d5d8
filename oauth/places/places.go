// Package places limits how many calls to others run at once, in a way that strangers cannot use to shut everybody out.
package places

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Strangers can have us talk to a provider, with codes that are none, and to any host, for documents that are none. So
// few of these calls run at once, and each has a place. Strangers could hold all of them, where the other side answers
// slowly. Therefore whoever has held a place for long without going on loses it to a newcomer, the oldest first; and to
// one who is known it does at once.

// ErrNone is returned if all places are taken, and is why the call of whoever loses a place ends.
var ErrNone = errors.New("too many at once")

// A Limit is how many calls run at once.
type Limit struct {
	perHost, total int
	patience       time.Duration // how long nobody can take a place from a stranger but those who are known
	now            func() time.Time

	mu    sync.Mutex    // guards the fields below
	held  []*place      // the oldest first
	freed chan struct{} // closed when a place has been given back
}

// A place is one call's.
type place struct {
	host  string
	known bool
	since time.Time
	lose  context.CancelCauseFunc
}

func New(perHost, total int, patience time.Duration, now func() time.Time) *Limit {
	return &Limit{perHost: perHost, total: total, patience: patience, now: now, freed: make(chan struct{})}
}

// Take takes a place for a call to the host. The call has to run in the context that it returns, which ends with the
// place, and to call leave, which may be called twice. It returns [ErrNone] if there is none.
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

// rivals returns those who stand in the way of a newcomer, or nil if there is room.
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

// Wait takes a place as soon as there is one, but waits no longer than that.
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
		case <-time.After(p.patience / 4): // somebody's patience may be over
		case <-deadline:
			return nil, nil, ErrNone
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
