package places

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPlaces checks which fetch gets a place when all are taken, and which fetch loses its place.
func TestPlaces(t *testing.T) {
	const a, b, patience = "a.example", "b.example", time.Second
	type call struct {
		host  string
		known bool
		age   time.Duration
	}
	stranger, known := call{a, false, 0}, call{a, true, 0}
	slow := func(c call) call { c.age = patience; return c }
	elsewhere := func(c call) call { c.host = b; return c }
	const nobody = -1
	for _, tt := range []struct {
		name     string
		held     []call // the oldest first
		newcomer call
		gets     bool
		loser    int // index in held
	}{
		{"control: there is room", []call{stranger}, stranger, true, nobody},
		{"control: at another host", []call{slow(stranger), slow(stranger)}, elsewhere(stranger), true, nobody},
		{"a stranger among strangers", []call{stranger, stranger}, stranger, false, nobody},
		{"a stranger among slow strangers", []call{slow(stranger), slow(stranger)}, stranger, true, 0},
		{"a stranger, where one is slow", []call{slow(stranger), stranger}, stranger, true, 0},
		{"a stranger among the known", []call{slow(known), slow(known)}, stranger, false, nobody},
		{"a stranger, where the slow one is known", []call{slow(known), stranger}, stranger, false, nobody},
		{"a known one among strangers", []call{stranger, stranger}, known, true, 0},
		{"a known one, where the other is known", []call{known, stranger}, known, true, 1},
		{"a known one among the known", []call{known, known}, known, false, nobody},
		{"a known one among slow ones", []call{slow(known), known}, known, true, 0},
		{"a stranger, with all places taken elsewhere", []call{elsewhere(stranger), elsewhere(stranger), stranger},
			stranger, false, nobody},
		{"a known one, with all places taken elsewhere", []call{elsewhere(stranger), elsewhere(stranger), stranger},
			known, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := stillClock{t: time.Unix(1e9, 0)}
			p := New(2, 3, patience, clock.now)
			var contexts []context.Context
			for _, c := range tt.held {
				ctx, leave, err := p.Take(t.Context(), c.host, c.known)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
				contexts = append(contexts, ctx)
				p.held[len(p.held)-1].since = clock.t.Add(-c.age)
			}
			_, leave, err := p.Take(t.Context(), tt.newcomer.host, tt.newcomer.known)
			if tt.gets != (err == nil) || !tt.gets && !errors.Is(err, ErrNone) {
				t.Fatalf("got %v, want a place: %t", err, tt.gets)
			}
			for i, ctx := range contexts {
				if lost := errors.Is(context.Cause(ctx), ErrNone); lost != (i == tt.loser) {
					t.Errorf("number %d lost its place: %t", i, lost)
				}
			}
			if tt.gets {
				leave()
				leave() // does nothing
				left := len(tt.held)
				if tt.loser != nobody {
					left--
				}
				if n := len(p.held); n != left {
					t.Errorf("%d places are held, want %d", n, left)
				}
			}
		})
	}
}

// TestWaitingForAPlace checks that a waiting caller gets the place that is given back, and can stop waiting.
func TestWaitingForAPlace(t *testing.T) {
	clock := stillClock{t: time.Unix(1e9, 0)}
	p := New(1, 1, time.Hour, clock.now)
	_, leave, err := p.Wait(t.Context(), "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.Wait(gone, "a", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone: got %v", err)
	}
	if _, _, err := p.Wait(t.Context(), "a", 0); !errors.Is(err, ErrNone) {
		t.Errorf("who waits no longer: got %v", err)
	}
	got := make(chan error)
	go func() {
		_, leave, err := p.Wait(t.Context(), "a", time.Hour)
		if err == nil {
			leave()
		}
		got <- err
	}()
	leave()
	if err := <-got; err != nil {
		t.Errorf("who waited: got %v", err)
	}
}

type stillClock struct{ t time.Time }

func (c *stillClock) now() time.Time { return c.t }
