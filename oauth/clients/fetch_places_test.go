package clients

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestStrangersDoNotKeepOthersFromAHost holds both places of a host with addresses that never answer.
func TestStrangersDoNotKeepOthersFromAHost(t *testing.T) {
	arrived := make(chan string)
	h, f, now := newHost(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hang") {
			arrived <- r.URL.Path
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "good")
	})
	f.client.Timeout = 0 // they hang for as long as they may
	type result struct {
		path string
		err  error
	}
	results, hanging := make(chan result), 0
	hang := func() {
		hanging++
		path := fmt.Sprint("/hang", hanging)
		go func() {
			_, err := f.try(t, h.URL+path)
			results <- result{path, err}
		}()
		<-arrived
	}
	loses := func(path string) {
		t.Helper()
		if r := <-results; r.path != path || !errors.Is(r.err, errTooMany) {
			t.Errorf("%s lost its place (%v), want %s to", r.path, r.err, path)
		}
	}
	fetch := func(path string, want error) {
		t.Helper()
		if got, err := f.try(t, h.URL+path); !errors.Is(err, want) || err == nil && got != "good" {
			t.Errorf("%s: got %q, %v; want %v", path, got, err, want)
		}
	}

	fetch("/known", nil)
	now.t = now.t.Add(maxFresh)
	hang()
	hang()
	fetch("/new", errTooMany)
	asked := h.hits.Load()
	fetch("/known", nil)
	if n := h.hits.Load() - asked; n != 1 {
		t.Errorf("the known one was fetched %d times, want once: not its old copy", n)
	}
	loses("/hang1")
	fetch("/new", nil) // in the place of the first
	hang()
	fetch("/newer", errTooMany)
	now.t = now.t.Add(fetchPatience)
	fetch("/newer", nil)
	loses("/hang2")
	h.CloseClientConnections()
	<-results
}
