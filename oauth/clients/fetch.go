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

// Strangers choose what is fetched here, so it goes to public addresses only, follows nobody elsewhere, and takes
// little of our time and memory.
const (
	fetchTimeout = 3 * time.Second
	maxFetches   = 64 // at once
	maxPerHost   = 2  // of these
	// fetchPatience is how long a fetch may take before another one can take its place.
	fetchPatience = time.Second
	maxCopies     = 500
	// How long a copy counts as fresh, whatever the host says (RFC 9111 section 5.2.2), and if it says nothing. The
	// least is longer than a sign-in takes, whose steps all look at it.
	minFresh, maxFresh, freshByDefault = 15 * time.Minute, 24 * time.Hour, time.Hour
	// maxStale is how long a copy serves while its host cannot be asked. A key that its owner has withdrawn must not
	// live on for as long as that lasts.
	maxStale = 7 * 24 * time.Hour
	// retryFetch is how long a host is left alone that could not be asked, while there is a copy.
	retryFetch = time.Minute
)

var (
	// ErrNotFetched: what a client's address holds could not be learnt, which says nothing against the client.
	ErrNotFetched = errors.New("cannot be fetched")
	errTooMany    = fmt.Errorf("%w: %w", ErrNotFetched, places.ErrNone)
	// errWithdrawn is returned if the host answered that there is nothing at a client's address, or something that
	// cannot be used. What was there before must not serve any more.
	errWithdrawn = errors.New("is not there")
)

// fetcher gets client metadata documents and key sets. It remembers those that were good, and no failures.
type fetcher struct {
	policy DocumentPolicy
	dialer *net.Dialer
	client *http.Client
	now    func() time.Time
	once   singleflight.Group // one at a time for an address
	places *places.Limit

	mu     sync.Mutex         // guards copies
	copies map[string]fetched // keyed by kind and address
}

// fetched is a copy of what was found at an address.
type fetched struct {
	body      []byte
	at, until time.Time // when it was fetched, and until when it is not fetched again
	stale     bool      // it could not be fetched again when it was time
	used      time.Time
}

func newFetcher(policy DocumentPolicy, now func() time.Time) *fetcher {
	allowed := []ssrf.Option{ssrf.WithAnyPort()}
	if policy == DocumentsLoopback {
		allowed = append(allowed, ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.1/32")),
			ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::1/128")))
	}
	// The guard looks at the address of the connection, not at the name: a name can mean one thing when it is checked
	// and another when it is dialled.
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

// A kind is something that can be fetched. What was found to be good as one kind is not taken for another.
type kind struct {
	name  string
	limit int64 // bytes
}

var (
	documentKind = kind{"document", 5 << 10}
	keySetKind   = kind{"keys", 32 << 10}
)

// get returns what is at the address: a fresh copy fetched after that time, or what is there now, if it is good. If it
// cannot be fetched the last good copy serves, which is stale then. It returns [ErrNotFetched] if there is none, and
// [errWithdrawn] if what is there is no good.
//
// What is known was good before, by a copy or by what the caller says. Its fetch does not stand back behind those of
// strangers.
func (f *fetcher) get(ctx context.Context, k kind, u *url.URL, after time.Time, known bool, good func([]byte) error) (
	fetched, error) {
	key := k.name + " " + u.String()
	last, ok := f.copyOf(key)
	if ok && f.now().Before(last.until) && (last.stale || last.at.After(after)) {
		return last, nil
	}
	// Whoever waits may leave; the others go on waiting.
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

// serves reports whether a copy that was made at that time may serve while it cannot be made anew.
func (f *fetcher) serves(at time.Time) bool { return f.now().Sub(at) < maxStale }

// leave remembers that a copy has become stale, and is to be fetched again in a while.
func (f *fetcher) leave(key string, last fetched) fetched {
	f.mu.Lock()
	defer f.mu.Unlock()
	last.stale, last.until = true, f.now().Add(retryFetch)
	if f.copies[key].at.Equal(last.at) { // else there is a newer one
		f.copies[key] = last
	}
	return last
}

// keep remembers a copy, in the place of the one that was not used for longest.
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

// drop forgets a copy of what has been taken away. It would serve again as soon as its host fails.
func (f *fetcher) drop(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.copies, key)
}

// fetch asks the address once, and says until when the answer is fresh.
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
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, failed.Err) // without the address and its query
	} else if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrNotFetched, err)
	}
	defer resp.Body.Close()
	// Sites answer programs that they take for robots in many ways: 403, a redirect, a page with a riddle. The maker of
	// the client is told, and yet the last good copy serves.
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

// freshFor returns how long an answer is fresh (RFC 9111 section 4.2), within our bounds.
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
