// Package storm keeps an outage from filling the log.
package storm

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// stormInterval is how often failures of one kind are logged. While the store or a provider is down every request
// fails, and a line for each would bury what the operator needs, or fill the disk.
const stormInterval = time.Second

// A storm counts failures of each kind that come faster than they are logged. The first is logged at once. A line says
// how many of its kind were left out since the line before, and stands for itself and for these.
type storm struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	kinds map[string]*failures
}

type failures struct {
	logged  time.Time // when the last line was written
	leftOut int       // how many came since then
	newest  func(leftOut int)
}

func newStorm(now func() time.Time) *storm { return &storm{now: now, kinds: map[string]*failures{}} }

// add calls log to write a line for a failure of this kind, or counts it if it is too early for a line.
func (s *storm) add(kind string, log func(leftOut int)) {
	leftOut := 0
	s.mu.Lock()
	k := s.kinds[kind]
	switch {
	case k == nil:
		s.kinds[kind] = &failures{logged: s.now()}
	case s.tooEarly(k):
		k.leftOut++
		k.newest = log
		s.mu.Unlock()
		return
	default:
		leftOut = k.leftOut
		*k = failures{logged: s.now()}
	}
	s.mu.Unlock()
	log(leftOut)
}

// tooEarly reports whether a line of that kind was just written. A clock that was set back must not silence it.
func (s *storm) tooEarly(k *failures) bool {
	since := s.now().Sub(k.logged)
	return since >= 0 && since < stormInterval
}

// flush writes a line for each kind whose failures have stopped, with the count, and forgets the kind. At the
// server's end it does so for all.
func (s *storm) flush(all bool) {
	var lines []func()
	s.mu.Lock()
	for kind, k := range s.kinds {
		if !all && s.tooEarly(k) {
			continue
		}
		if k.leftOut > 0 {
			lines = append(lines, func() { k.newest(k.leftOut - 1) }) // which is itself one of them
		}
		delete(s.kinds, kind)
	}
	s.mu.Unlock()
	for _, line := range lines {
		line()
	}
}

// A Log is a logger that an outage does not fill.
type Log struct {
	*slog.Logger
	storm *storm
}

// New returns a Log that writes to log.
func New(log *slog.Logger, now func() time.Time) *Log { return &Log{log, newStorm(now)} }

// Failure logs a failure that can come with every request, as in an outage: at once, or, if one of this kind was just
// logged, by the number left_out on a later line.
func (l *Log) Failure(ctx context.Context, level slog.Level, message, kind string, args ...any) {
	l.storm.add(message+"\x00"+kind, func(leftOut int) {
		if leftOut > 0 {
			args = append(args, "left_out", leftOut)
		}
		l.Log(ctx, level, message, args...)
	})
}

// LeftOut logs the failures that were left out so far: of all kinds, or of those that have stopped.
func (l *Log) LeftOut(all bool) { l.storm.flush(all) }

// Class returns the beginning of what the log says of an error: what was attempted, in words of ours, or the provider
// that failed. What follows can differ from one failure to the next.
func Class(err error) string {
	if err == nil {
		return ""
	}
	class, _, _ := strings.Cut(err.Error(), ":")
	return class
}
