package clients

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errStopped = errors.New("this is where a connection would have been made")

// A host is a client's web server, over TLS.
type host struct {
	*httptest.Server
	hits atomic.Int32
}

// newHost starts a host that answers as the function says, and a fetcher that trusts its certificate.
func newHost(t *testing.T, answer http.HandlerFunc) (*host, *fetcher, *testClock) {
	h := &host{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hits.Add(1)
		answer(w, r)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	now := &testClock{t: time.Now()}
	f := newFetcher(DocumentsLoopback, now.now)
	transport := f.client.Transport.(*http.Transport)
	transport.TLSClientConfig = h.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	return h, f, now
}

type testClock struct{ t time.Time }

func (c *testClock) now() time.Time { return c.t }

func (f *fetcher) try(t *testing.T, address string) (string, error) {
	t.Helper()
	u, err := f.policy.parseDocumentURL(address)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.get(t.Context(), documentKind, u, time.Time{}, false, func(b []byte) error {
		if strings.HasPrefix(string(b), "bad") {
			return badDocument("it says so itself")
		}
		return nil
	})
	return string(got.body), err
}

func TestFetchAnswers(t *testing.T) {
	asJSON := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json; charset=utf-8") }
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // the kind of error: "fetch" or "document"; empty if none
	}{
		{"control: JSON", func(w http.ResponseWriter, r *http.Request) { asJSON(w); io.WriteString(w, "{}") }, ""},
		{"control: C11: some kind of JSON", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/client-metadata+json")
		}, ""},
		{"control: C11: 5 KB", func(w http.ResponseWriter, r *http.Request) {
			asJSON(w)
			io.WriteString(w, strings.Repeat("x", int(documentKind.limit)))
		}, ""},
		{"C11: 5 KB and a byte", func(w http.ResponseWriter, r *http.Request) {
			asJSON(w)
			io.WriteString(w, strings.Repeat("x", int(documentKind.limit)+1))
		}, "document"},
		{"C11: without end", func(w http.ResponseWriter, r *http.Request) {
			asJSON(w)
			for r.Context().Err() == nil {
				io.WriteString(w, strings.Repeat("x", 1<<10))
			}
		}, "document"},
		{"C11: a bomb", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("asked for a compressed answer")
			}
			asJSON(w)
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "bad: not unpacked")
		}, "document"},
		{"C11: HTML", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", "text/html") },
			"document"},
		{"C11: JSON as text", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/json")
		}, "document"},
		{"C11: no type", func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil }, "document"},
		{"C8: created", func(w http.ResponseWriter, r *http.Request) { asJSON(w); w.WriteHeader(http.StatusCreated) },
			"fetch"},
		{"C8: not there", http.NotFound, "document"},
		{"C8: gone", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGone) }, "document"},
		{"a challenge for robots", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) },
			"fetch"},
		{"too many requests", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
		}, "fetch"},
		{"out of order", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "fetch"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "fetch"},
		{"a document cut short", func(w http.ResponseWriter, r *http.Request) {
			asJSON(w)
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "{}")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "fetch"},
		{"a header without end", func(w http.ResponseWriter, r *http.Request) {
			asJSON(w)
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		}, "fetch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, f, _ := newHost(t, tt.answer)
			_, err := f.try(t, h.URL+"/client.json")
			assertFetchError(t, err, tt.want)
		})
	}

	t.Run("C8: sent on", func(t *testing.T) {
		for _, status := range []int{301, 302, 303, 307, 308} {
			var h *host
			h, f, _ := newHost(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, h.URL+"/there", status) })
			_, err := f.try(t, h.URL+"/here")
			assertFetchError(t, err, "document")
			if n := h.hits.Load(); n != 1 {
				t.Errorf("%d: the host was asked %d times, want once", status, n)
			}
		}
	})
	t.Run("C11: no cookies, nothing that names the person", func(t *testing.T) {
		var last http.Header
		h, f, now := newHost(t, func(w http.ResponseWriter, r *http.Request) {
			last = r.Header
			asJSON(w)
			http.SetCookie(w, &http.Cookie{Name: "track", Value: "me"})
		})
		for range 2 {
			f.try(t, h.URL+"/client.json")
			now.t = now.t.Add(48 * time.Hour)
		}
		if h.hits.Load() != 2 || last.Get("Cookie")+last.Get("Authorization")+last.Get("Referer") != "" {
			t.Errorf("after %d hits the headers were %v", h.hits.Load(), last)
		}
	})
	t.Run("C10: a certificate that nobody vouches for", func(t *testing.T) {
		h, f, _ := newHost(t, func(w http.ResponseWriter, r *http.Request) { asJSON(w) })
		f.client.Transport.(*http.Transport).TLSClientConfig = nil
		_, err := f.try(t, h.URL+"/client.json")
		assertFetchError(t, err, "fetch")
	})
	t.Run("C11: too slow", func(t *testing.T) {
		h, f, _ := newHost(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		f.client.Timeout = 50 * time.Millisecond
		_, err := f.try(t, h.URL+"/client.json")
		assertFetchError(t, err, "fetch")
	})
}

func assertFetchError(t *testing.T, err error, want string) {
	t.Helper()
	var document *Error
	switch {
	case want == "" && err == nil, want == "fetch" && errors.Is(err, ErrNotFetched):
	case want == "document" && errors.As(err, &document) && document.Code == "invalid_client":
	default:
		t.Errorf("got %v, want an error of kind %q", err, want)
	}
}

func TestFetchRemembers(t *testing.T) {
	var mu sync.Mutex
	var status int
	var body string
	var header http.Header
	set := func(s int, b string, h ...string) {
		mu.Lock()
		defer mu.Unlock()
		status, body, header = s, b, http.Header{"Content-Type": {"application/json"}}
		for i := 0; i < len(h); i += 2 {
			header.Set(h[i], h[i+1])
		}
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}

	for _, tt := range []struct {
		name   string
		header []string
		want   time.Duration // how long the copy is fresh
	}{
		{"nothing said", nil, freshByDefault},
		{"max-age", []string{"Cache-Control", "public, max-age=7200"}, 2 * time.Hour},
		{"max-age less age", []string{"Cache-Control", "max-age=7200", "Age", "3600"}, time.Hour},
		{"less than our least", []string{"Cache-Control", "max-age=1"}, minFresh},
		{"no-store", []string{"Cache-Control", "no-store, max-age=7200"}, minFresh},
		{"no-cache", []string{"Cache-Control", "No-Cache"}, minFresh},
		{"for ever", []string{"Cache-Control", `max-age="31536000"`}, maxFresh},
		{"more than there is", []string{"Cache-Control", "max-age=99999999999999999999"}, freshByDefault},
		{"below zero", []string{"Cache-Control", "max-age=-7200"}, minFresh},
		{"Expires", []string{"Date", "Sun, 06 Nov 1994 08:00:00 GMT", "Expires", "Sun, 06 Nov 1994 10:00:00 GMT"},
			2 * time.Hour},
		{"max-age goes before Expires", []string{"Cache-Control", "max-age=3600", "Date", "Sun, 06 Nov 1994 08:00:00 GMT",
			"Expires", "Sun, 06 Nov 1994 10:00:00 GMT"}, time.Hour},
		{"garbage", []string{"Cache-Control", ",,=,max-age=x", "Expires", "soon"}, freshByDefault},
	} {
		t.Run("C12: "+tt.name, func(t *testing.T) {
			h, f, now := newHost(t, answer)
			set(http.StatusOK, "{}", tt.header...)
			for _, step := range []struct {
				wait time.Duration
				hits int32
			}{{0, 1}, {tt.want - time.Second, 1}, {time.Second, 2}} {
				now.t = now.t.Add(step.wait)
				if _, err := f.try(t, h.URL+"/client.json"); err != nil || h.hits.Load() != step.hits {
					t.Errorf("%s later: fetched %d times, want %d (%v)", step.wait, h.hits.Load(), step.hits, err)
				}
			}
		})
	}

	t.Run("C13: no failure, and nothing malformed", func(t *testing.T) {
		h, f, _ := newHost(t, answer)
		for _, step := range []struct {
			status int
			body   string
			want   string
		}{{500, "", "fetch"}, {404, "", "document"}, {200, "bad", "document"}, {200, "good", ""}, {500, "", ""}} {
			set(step.status, step.body)
			_, err := f.try(t, h.URL+"/client.json")
			assertFetchError(t, err, step.want)
		}
		if n := h.hits.Load(); n != 4 {
			t.Errorf("fetched %d times, want 4", n)
		}
	})
	t.Run("the last good copy serves while the host fails", func(t *testing.T) {
		h, f, now := newHost(t, answer)
		set(200, "good")
		f.try(t, h.URL+"/client.json")
		now.t = now.t.Add(maxFresh)
		for _, failing := range []int{500, 403, 429} {
			set(failing, "")
			now.t = now.t.Add(retryFetch)
			if got, err := f.try(t, h.URL+"/client.json"); err != nil || got != "good" {
				t.Errorf("at %d: got %q, %v", failing, got, err)
			}
		}
		// How sites respond to clients that they take for robots.
		set(200, "<html>", "Content-Type", "text/html")
		now.t = now.t.Add(retryFetch)
		if got, err := f.try(t, h.URL+"/client.json"); err != nil || got != "good" {
			t.Errorf("at a page with a riddle: got %q, %v", got, err)
		}
		asked := h.hits.Load()
		if _, err := f.try(t, h.URL+"/client.json"); err != nil || h.hits.Load() != asked {
			t.Errorf("the host is not left alone: %v, asked %d times more", err, h.hits.Load()-asked)
		}
		now.t = now.t.Add(retryFetch)
		// The old copy is not used if the document has been removed or broken.
		for _, step := range []struct {
			status int
			body   string
		}{{404, ""}, {200, "bad"}} {
			set(step.status, step.body)
			_, err := f.try(t, h.URL+"/client.json")
			assertFetchError(t, err, "document")
		}
		set(200, "better")
		if got, err := f.try(t, h.URL+"/client.json"); err != nil || got != "better" {
			t.Errorf("when it is back: got %q, %v", got, err)
		}
		// No copy is used forever.
		set(500, "")
		now.t = now.t.Add(maxStale)
		_, err := f.try(t, h.URL+"/client.json")
		assertFetchError(t, err, "fetch")
	})
	t.Run("newer than it is", func(t *testing.T) {
		h, f, now := newHost(t, answer)
		set(200, "old")
		u, _ := url.Parse(h.URL + "/keys")
		get := func(after time.Time) string {
			got, err := f.get(t.Context(), keySetKind, u, after, false, func([]byte) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			return string(got.body)
		}
		get(time.Time{})
		set(200, "new")
		now.t = now.t.Add(time.Minute)
		if got := get(now.t.Add(-time.Hour)); got != "old" {
			t.Errorf("new enough: got %q", got)
		}
		if got := get(now.t.Add(-time.Second)); got != "new" {
			t.Errorf("not new enough: got %q", got)
		}
	})
	t.Run("as one kind of thing, it is not taken for another", func(t *testing.T) {
		h, f, _ := newHost(t, answer)
		set(200, "good as a key set")
		u, _ := url.Parse(h.URL + "/client.json")
		_, err := f.get(t.Context(), keySetKind, u, time.Time{}, false, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.get(t.Context(), documentKind, u, time.Time{}, false,
			func([]byte) error { return badDocument("not one") })
		assertFetchError(t, err, "document")
	})
	t.Run("so many, and no more", func(t *testing.T) {
		h, f, now := newHost(t, answer)
		set(200, "good")
		first := h.URL + "/0"
		for i := range maxCopies + 1 {
			now.t = now.t.Add(time.Millisecond)
			f.try(t, fmt.Sprint(h.URL, "/", i))
			f.try(t, first) // always in use
		}
		if n := h.hits.Load(); len(f.copies) != maxCopies || n != maxCopies+1 {
			t.Errorf("%d copies and %d fetches, want %d and %d", len(f.copies), n, maxCopies, maxCopies+1)
		}
	})
}
