package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/places"
)

// TestStrangersDoNotKeepOthersFromAHost checks a host whose two places are both taken by URLs that never respond.
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
	f.client.Timeout = 0 // so that only losing its place ends a fetch
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
	fetch("/new", nil) // takes the place of the first
	hang()
	fetch("/newer", errTooMany)
	now.t = now.t.Add(fetchPatience)
	fetch("/newer", nil)
	loses("/hang2")
	h.CloseClientConnections()
	<-results
}

// TestFetchesAtOnce checks the limits on concurrent fetches, per host and in all.
func TestFetchesAtOnce(t *testing.T) {
	arrived, release := make(chan string), make(chan struct{})
	h, f, _ := newHost(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		<-release
		w.Header().Set("Content-Type", "application/json")
	})
	var running sync.WaitGroup
	try := func(path string) {
		running.Go(func() {
			if _, err := f.try(t, h.URL+path); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		})
	}
	for range 20 {
		try("/one")
	}
	<-arrived
	try("/two")
	<-arrived
	if _, err := f.try(t, h.URL+"/three"); !errors.Is(err, errTooMany) {
		t.Errorf("a third fetch at one host: got %v, want %v", err, errTooMany)
	}
	for i := range maxFetches - maxPerHost { // other hosts are not affected
		_, leave, err := f.places.Take(t.Context(), fmt.Sprint("host", i, ".example"), false)
		if err != nil {
			t.Fatalf("fetch %d at another host: %v", i, err)
		}
		defer leave()
	}
	if _, _, err := f.places.Take(t.Context(), "one.more.example", false); !errors.Is(err, places.ErrNone) {
		t.Errorf("one fetch too many in all: got %v, want %v", err, places.ErrNone)
	}

	// A canceled caller does not cancel the shared fetch.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	u, _ := url.Parse(h.URL + "/one")
	if _, err := f.get(gone, documentKind, u, time.Time{}, false, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone: got %v", err)
	}
	close(release)
	running.Wait()
	if n := h.hits.Load(); n != 2 {
		t.Errorf("the host was asked %d times, want 2", n)
	}
	for range maxPerHost { // all places of the host are free again
		if _, _, err := f.places.Take(t.Context(), "127.0.0.1", false); err != nil {
			t.Errorf("a place is still taken: %v", err)
		}
	}
}
