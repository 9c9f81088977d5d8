package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"code.dny.dev/ssrf"
	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/places"
	"golang.org/x/sync/singleflight"
)

// Strangers choose what is fetched here. So only public addresses are fetched, redirects are not followed, and time and
// memory are limited.
const (
	fetchTimeout = 3 * time.Second
	maxFetches   = 64 // at once
	maxPerHost   = 2  // of these
	// fetchPatience is how long a fetch may take before another one can take its place.
	fetchPatience = time.Second
	maxCopies     = 500
	// How long a copy is fresh, whatever the host says (RFC 9111 section 5.2.2), and if it says nothing. The minimum is
	// longer than a sign-in, because every step of it reads the copy.
	minFresh, maxFresh, freshByDefault = 15 * time.Minute, 24 * time.Hour, time.Hour
	// maxStale is how long a copy is used while its host cannot be reached. Otherwise a key that its owner has
	// withdrawn would stay valid for the whole outage.
	maxStale = 7 * 24 * time.Hour
	// retryFetch is how long an unreachable host is not tried again, if there is a copy.
	retryFetch = time.Minute
)

var (
	// ErrNotFetched is returned if a client's URL could not be fetched. This is not the client's fault.
	ErrNotFetched = errors.New("cannot be fetched")
	errTooMany    = fmt.Errorf("%w: %w", ErrNotFetched, places.ErrNone)
	// errWithdrawn is returned if the host responds that there is nothing at a client's URL, or sends something
	// unusable. Earlier copies must not be used any more.
	errWithdrawn = errors.New("is not there")
)

// fetcher fetches client metadata documents and key sets. It caches valid ones, and no failures.
type fetcher struct {
	policy DocumentPolicy
	dialer *net.Dialer
	client *http.Client
	now    func() time.Time
	once   singleflight.Group // one fetch at a time per URL
	places *places.Limit

	mu     sync.Mutex         // guards copies
	copies map[string]fetched // keyed by kind and URL
}

// fetched is a copy of the content of a URL.
type fetched struct {
	body      []byte
	at, until time.Time // time of the fetch, and when it may be fetched again
	stale     bool      // the last attempt to refetch it failed
	used      time.Time
}

func newFetcher(policy DocumentPolicy, now func() time.Time) *fetcher {
	allowed := []ssrf.Option{ssrf.WithAnyPort()}
	if policy == DocumentsLoopback {
		allowed = append(allowed, ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.1/32")),
			ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::1/128")))
	}
	// The guard checks the address of the connection, not the name: a name can resolve differently when it is checked
	// and when it is dialled.
	dialer := &net.Dialer{Control: ssrf.New(allowed...).Safe}
	return &fetcher{policy: policy, dialer: dialer, now: now, copies: map[string]fetched{},
		places: places.New(maxPerHost, maxFetches, fetchPatience, now),
		client: &http.Client{
			Timeout:       fetchTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{ // without a proxy: it would resolve names in the guard's place
				DialContext:            dialer.DialContext,
				DisableKeepAlives:      true,
				DisableCompression:     true,
				MaxResponseHeaderBytes: 16 << 10,
			},
		}}
}

// A kind is a type of content. Content that is valid as one kind is not used as another.
type kind struct {
	name  string
	limit int64 // bytes
}

var (
	documentKind = kind{"document", 5 << 10}
	keySetKind   = kind{"keys", 32 << 10}
)

// get returns the content of the URL: a fresh copy that was fetched after that time, or the current content if it is
// valid. If it cannot be fetched, get returns the last valid copy, marked stale. [ErrNotFetched] is returned if there
// is no copy, and [errWithdrawn] if the current content is invalid.
//
// A URL is known if it was valid before: there is a copy, or the caller says so. Its fetch has priority over those of
// strangers.
func (f *fetcher) get(ctx context.Context, k kind, u *url.URL, after time.Time, known bool, good func([]byte) error) (
	fetched, error) {
	key := k.name + " " + u.String()
	last, ok := f.copyOf(key)
	if ok && f.now().Before(last.until) && (last.stale || last.at.After(after)) {
		return last, nil
	}
	// A canceled caller does not cancel the shared fetch.
	flight := f.once.DoChan(key, func() (any, error) {
		asked := f.now()
		body, until, err := f.fetch(u, k.limit, known || ok)
		if err == nil {
			err = good(body)
		}
		switch {
		case err == nil:
			return f.keep(key, body, asked, until), nil
		case !errors.Is(err, ErrNotFetched):
			f.drop(key)
			err = fmt.Errorf("%w: %w", errWithdrawn, err)
		}
		return fetched{}, err
	})
	select {
	case <-ctx.Done():
		return fetched{}, fmt.Errorf("%w: %w", ErrNotFetched, ctx.Err())
	case result := <-flight:
		if ok && errors.Is(result.Err, ErrNotFetched) && f.serves(last.at) {
			return f.leave(key, last), nil
		}
		return result.Val.(fetched), result.Err
	}
}

func (f *fetcher) copyOf(key string) (fetched, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.copies[key]
	if ok {
		c.used = f.now()
		f.copies[key] = c
	}
	return c, ok
}

// serves reports whether a copy that was made at that time may be used while it cannot be refreshed.
func (f *fetcher) serves(at time.Time) bool { return f.now().Sub(at) < maxStale }

// leave marks a copy as stale, and to be fetched again after retryFetch.
func (f *fetcher) leave(key string, last fetched) fetched {
	f.mu.Lock()
	defer f.mu.Unlock()
	last.stale, last.until = true, f.now().Add(retryFetch)
	if f.copies[key].at.Equal(last.at) { // else there is a newer one
		f.copies[key] = last
	}
	return last
}

// keep stores a copy, replacing the least recently used one if there is no room.
func (f *fetcher) keep(key string, body []byte, at, until time.Time) fetched {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.copies) >= maxCopies {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(f.copies)), func(a, b string) int {
			return f.copies[a].used.Compare(f.copies[b].used)
		})
		delete(f.copies, oldest)
	}
	c := fetched{body: body, at: at, until: until, used: f.now()}
	f.copies[key] = c
	return c
}

// drop deletes a withdrawn copy. Otherwise it would be used again as soon as its host fails.
func (f *fetcher) drop(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.copies, key)
}

// fetch requests the URL once, and returns until when the response is fresh.
func (f *fetcher) fetch(u *url.URL, limit int64, known bool) ([]byte, time.Time, error) {
	ctx, leave, err := f.places.Take(context.Background(), origin.HostName(u.Hostname()), known)
	if err != nil {
		return nil, time.Time{}, errTooMany
	}
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, time.Time{}, badDocument("its address is not a plain URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "mcp-authorization-server")
	resp, err := f.client.Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, time.Time{}, errTooMany
	}
	if failed := new(url.Error); errors.As(err, &failed) {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, failed.Err) // without the URL and its query
	} else if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, err)
	}
	defer resp.Body.Close()
	// Sites respond to supposed robots in many ways: 403, a redirect, a page with a riddle. The client's developer is
	// told, but the last valid copy is still used.
	t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusGone:
		return nil, time.Time{}, badDocument("its address answers " + strconv.Itoa(status))
	case status >= 300 && status < 400:
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, badDocument("its address answers "+strconv.Itoa(status)))
	case status != http.StatusOK:
		return nil, time.Time{}, fmt.Errorf("%w: status %d", ErrNotFetched, status)
	case t != "application/json" && (!strings.HasPrefix(t, "application/") || !strings.HasSuffix(t, "+json")):
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, badDocument("its Content-Type is not application/json"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, err)
	case int64(len(body)) > limit:
		return nil, time.Time{}, badDocument("it is longer than " + strconv.FormatInt(limit, 10) + " bytes")
	}
	return body, f.now().Add(freshFor(resp.Header)), nil
}

// freshFor returns how long a response is fresh (RFC 9111 section 4.2), within our bounds.
func freshFor(h http.Header) time.Duration {
	fresh, said := freshByDefault, false
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); {
		case name == "no-store", name == "no-cache":
			return minFresh
		case name == "max-age" && err == nil:
			age, _ := strconv.ParseInt(h.Get("Age"), 10, 32)
			fresh, said = time.Duration(seconds-age)*time.Second, true
		}
	}
	if expires, err := http.ParseTime(h.Get("Expires")); err == nil && !said {
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			fresh = expires.Sub(date)
		}
	}
	return min(max(fresh, minFresh), maxFresh)
}
