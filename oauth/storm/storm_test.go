package storm

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A line is a log line of a test's storm: a kind of failure, and how many failures of that kind were left out.
type line struct {
	Kind    string
	LeftOut int
}

type stormLog struct {
	*storm
	clock testClock
	mu    sync.Mutex
	lines []line
}

func newStormLog() *stormLog {
	l := &stormLog{clock: testClock{t: time.Unix(1e9, 0)}}
	l.storm = newStorm(l.clock.now)
	return l
}

func (l *stormLog) fail(kind string, times int) {
	for range times {
		l.add(kind, func(leftOut int) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lines = append(l.lines, line{kind, leftOut})
		})
	}
}

func (l *stormLog) assert(t *testing.T, want ...line) {
	t.Helper()
	if diff := cmp.Diff(want, l.lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	l.lines = nil
}

// TestStormIsLoggedOnceASecond checks that the first failure of each kind is logged immediately, and that a later line
// counts the failures that were not logged.
func TestStormIsLoggedOnceASecond(t *testing.T) {
	l := newStormLog()
	l.fail("a", 1)
	l.assert(t, line{"a", 0})
	l.fail("a", 200)
	l.fail("b", 1) // another kind
	l.assert(t, line{"b", 0})
	l.clock.t = l.clock.t.Add(stormInterval - 1)
	l.fail("a", 1)
	l.assert(t)
	l.clock.t = l.clock.t.Add(1)
	l.fail("a", 3)
	l.fail("b", 1)
	l.assert(t, line{"a", 201}, line{"b", 0})
	l.clock.t = l.clock.t.Add(-time.Hour) // set back
	l.fail("a", 1)
	l.assert(t, line{"a", 2})
}

// TestNoFailureOfAStormIsLost checks that the count is also logged after the last failure, and when the server stops.
func TestNoFailureOfAStormIsLost(t *testing.T) {
	l := newStormLog()
	l.fail("a", 10)
	l.fail("b", 1)
	l.flush(false) // too early
	l.assert(t, line{"a", 0}, line{"b", 0})
	l.clock.t = l.clock.t.Add(stormInterval)
	l.flush(false)
	l.assert(t, line{"a", 8}) // the line is the tenth failure, and counts eight more
	if len(l.kinds) != 0 {
		t.Errorf("%d kinds are remembered, want none", len(l.kinds))
	}
	l.fail("a", 2)
	l.flush(true)
	l.assert(t, line{"a", 0}, line{"a", 0})
}

// TestStormOfManyAtOnce checks that every failure of many concurrent goroutines is logged or counted.
func TestStormOfManyAtOnce(t *testing.T) {
	l := newStormLog()
	var failing sync.WaitGroup
	for range 50 {
		failing.Go(func() { l.fail("a", 10) })
	}
	failing.Wait()
	l.flush(true)
	if len(l.lines) != 2 || l.lines[0].LeftOut+l.lines[1].LeftOut+2 != 500 {
		t.Errorf("got %v, want two lines that stand for 500 failures", l.lines)
	}
}

type testClock struct{ t time.Time }

func (c *testClock) now() time.Time { return c.t }
