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
// fails. A line for each would hide what the operator needs, or fill the disk.
const stormInterval = time.Second

// A storm counts failures of each kind that come faster than they are logged. The first is logged immediately. A line
// gives the number of failures of its kind that were left out since the line before.
type storm struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	kinds map[string]*failures
}

type failures struct {
	logged  time.Time // when the last line was written
	leftOut int       // number of failures since then
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

// flush writes a line for each kind whose failures have stopped, with the count, and deletes the kind. When the server
// ends it does so for all kinds.
func (s *storm) flush(all bool) {
	var lines []func()
	s.mu.Lock()
	for kind, k := range s.kinds {
		if !all && s.tooEarly(k) {
			continue
		}
		if k.leftOut > 0 {
			lines = append(lines, func() { k.newest(k.leftOut - 1) }) // the newest is itself one of them
		}
		delete(s.kinds, kind)
	}
	s.mu.Unlock()
	for _, line := range lines {
		line()
	}
}

// A Log is a logger that an outage cannot fill.
type Log struct {
	*slog.Logger
	storm *storm
}

// New returns a Log that writes to log.
func New(log *slog.Logger, now func() time.Time) *Log { return &Log{log, newStorm(now)} }

// Failure logs a failure that every request can have, as in an outage. It logs immediately, unless a failure of this
// kind was just logged: then a later line counts it in left_out.
func (l *Log) Failure(ctx context.Context, level slog.Level, message, kind string, args ...any) {
	l.storm.add(message+"\x00"+kind, func(leftOut int) {
		if leftOut > 0 {
			args = append(args, "left_out", leftOut)
		}
		l.Log(ctx, level, message, args...)
	})
}

// LeftOut logs the failures that were left out so far: of all kinds, or only of those that have stopped.
func (l *Log) LeftOut(all bool) { l.storm.flush(all) }

// Class returns the beginning of an error text: the attempted action, in our words, or the provider that failed. The
// rest can differ from one failure to the next.
func Class(err error) string {
	if err == nil {
		return ""
	}
	class, _, _ := strings.Cut(err.Error(), ":")
	return class
}
