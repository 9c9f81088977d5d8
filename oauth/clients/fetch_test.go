package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"example.com/mcp-federated-login/oauth/places"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http/httpproxy"
)

// names is a DNS that a test fills: each name's addresses, all at once, or one after the other.
type names struct {
	mu      sync.Mutex
	at      map[string][]netip.Addr
	rebinds map[string][]netip.Addr
	asked   int
}

// serve answers one connection's questions, in the framing of DNS over TCP.
func (n *names) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer := n.answer(question)
		c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

func (n *names) answer(question []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	addresses := n.at[name]
	if later := n.rebinds[name]; len(later) > 0 && q.Type == dnsmessage.TypeA {
		addresses = later[:1]
		n.rebinds[name] = later[1:]
	}
	for _, a := range addresses {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case !a.Is4() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	b, _ := m.Pack()
	return b
}

// probe is a fetcher whose connections are counted when the guard has let them through, and are not made.
type probe struct {
	*fetcher
	names       *names
	connections []string
}

var errStopped = errors.New("this is where a connection would have been made")

func newProbe(policy DocumentPolicy) *probe {
	p := &probe{fetcher: newFetcher(policy, time.Now), names: &names{at: map[string][]netip.Addr{},
		rebinds: map[string][]netip.Addr{}}}
	guard := p.dialer.Control
	p.dialer.Control = func(network, address string, c syscall.RawConn) error {
		if err := guard(network, address, c); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.connections = append(p.connections, address)
		return errStopped
	}
	p.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go p.names.serve(theirs)
		return ours, nil
	}}
	return p
}

func (p *probe) try(address string) error {
	u, err := p.policy.parseDocumentURL(address)
	if err == nil {
		_, err = p.get(context.Background(), documentKind, u, time.Time{}, false, func([]byte) error { return nil })
	}
	return err
}

// What a stranger can write into a client_id, to have us knock at doors that only we can reach.
func TestFetchGoesToPublicAddressesOnly(t *testing.T) {
	for _, tt := range []struct{ name, host string }{
		{"loopback", "127.0.0.1"},
		{"loopback, all of it", "127.255.1.2"},
		{"loopback, with a port", "127.0.0.1:6379"},
		{"this host", "0.0.0.0"},
		{"private, class A", "10.0.0.1"},
		{"private, class B", "172.16.0.1"},
		{"private, class B, its end", "172.31.255.254"},
		{"private, class C", "192.168.0.1"},
		{"a cloud's metadata", "169.254.169.254"},
		{"carrier-grade NAT", "100.64.0.1"},
		{"IETF protocol assignments", "192.0.0.8"},
		{"documentation 1", "192.0.2.1"},
		{"documentation 2", "198.51.100.1"},
		{"documentation 3", "203.0.113.1"},
		{"6to4 relay", "192.88.99.1"},
		{"benchmarking", "198.18.0.1"},
		{"multicast", "224.0.0.1"},
		{"reserved", "240.0.0.1"},
		{"broadcast", "255.255.255.255"},
		{"IPv6 unspecified", "[::]"},
		{"IPv6 loopback", "[::1]"},
		{"IPv4-mapped loopback", "[::ffff:127.0.0.1]"},
		{"IPv4-mapped metadata", "[::ffff:169.254.169.254]"},
		{"IPv4-mapped, in hexadecimal", "[::ffff:7f00:1]"},
		{"IPv4-compatible", "[::127.0.0.1]"},
		{"NAT64 of loopback", "[64:ff9b::7f00:1]"},
		{"NAT64 of metadata", "[64:ff9b::a9fe:a9fe]"},
		{"local NAT64", "[64:ff9b:1::a00:1]"},
		{"6to4 of loopback", "[2002:7f00:1::]"},
		{"6to4 of a private address", "[2002:a00:1::1]"},
		{"Teredo", "[2001:0:a00:1::]"},
		{"unique local", "[fd00:ec2::254]"},
		{"link local", "[fe80::1]"},
		{"link local with a zone", "[fe80::1%25lo]"},
		{"site local", "[fec0::1]"},
		{"IPv6 multicast", "[ff02::1]"},
		{"IPv6 documentation", "[2001:db8::1]"},
		{"decimal", "2130706433"},
		{"hexadecimal", "0x7f000001"},
		{"octal", "0177.0.0.1"},
		{"short", "127.1"},
		{"short, in hexadecimal", "0x7f.1"},
		{"with a dot at the end", "127.0.0.1."},
		{"in full-width digits", "１２７.0.0.1"},
		{"percent-encoded", "%31%32%37.0.0.1"},
		{"localhost", "localhost"},
		{"localhost with a dot", "localhost."},
		{"a name for loopback", "loopback.example"},
		{"a name for a private address", "private.example"},
		{"a name for IPv6 loopback", "loopback6.example"},
		{"a name for an IPv4-mapped address", "mapped.example"},
		{"a name for NAT64", "nat64.example"},
		{"a name for many", "many.example"},
	} {
		t.Run("C10: "+tt.name, func(t *testing.T) {
			p := newProbe(DocumentsOn)
			for name, addresses := range map[string][]string{
				"loopback.example": {"127.0.0.1"}, "private.example": {"10.0.0.1"}, "loopback6.example": {"::1"},
				"mapped.example": {"::ffff:127.0.0.1"}, "nat64.example": {"64:ff9b::7f00:1"},
				"many.example": {"192.168.0.1", "10.0.0.1", "fd00::1"},
			} {
				for _, a := range addresses {
					p.names.at[name] = append(p.names.at[name], netip.MustParseAddr(a))
				}
			}
			p.try("https://" + tt.host + "/client.json")
			if len(p.connections) > 0 {
				t.Errorf("connections were made: %v", p.connections)
			}
		})
	}

	t.Run("control: a public address", func(t *testing.T) {
		p := newProbe(DocumentsOn)
		p.names.at["client.example"] = []netip.Addr{netip.MustParseAddr("93.184.215.14")}
		for _, address := range []string{"https://93.184.215.14/c", "https://[2606:2800:21f::1]/c",
			"https://client.example:8443/c"} {
			if err := p.try(address); !errors.Is(err, errStopped) {
				t.Errorf("%s: got %v, want a connection", address, err)
			}
		}
		if len(p.connections) != 3 {
			t.Errorf("connections %v, want three", p.connections)
		}
	})
	t.Run("C10: a name that changes its mind", func(t *testing.T) {
		p := newProbe(DocumentsOn)
		p.names.rebinds["rebind.example"] = []netip.Addr{netip.MustParseAddr("93.184.215.14"),
			netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")}
		for i, want := range []error{errStopped, ssrf.ErrProhibitedIP, ssrf.ErrProhibitedIP} {
			if err := p.try("https://rebind.example/c"); !errors.Is(err, want) {
				t.Errorf("fetch %d: got %v, want %v", i, err, want)
			}
		}
		if len(p.connections) != 1 || p.connections[0] != "93.184.215.14:443" {
			t.Errorf("connections %v, want one, to the public address", p.connections)
		}
	})
	t.Run("C10: loopback by policy, and nothing else", func(t *testing.T) {
		p := newProbe(DocumentsLoopback)
		for _, address := range []string{"http://127.0.0.1:9/c", "https://[::1]/c", "http://localhost:9/c"} {
			if err := p.try(address); !errors.Is(err, errStopped) {
				t.Errorf("%s: got %v, want a connection", address, err)
			}
		}
		made := len(p.connections)
		for _, address := range []string{"https://10.0.0.1/c", "http://10.0.0.1/c", "http://client.example/c",
			"https://127.0.0.2/c", "https://169.254.169.254/c"} {
			if err := p.try(address); err == nil || errors.Is(err, errStopped) {
				t.Errorf("%s: got %v, want no connection", address, err)
			}
		}
		if len(p.connections) != made {
			t.Errorf("connections were made: %v", p.connections[made:])
		}
	})
	t.Run("C10: no proxy", func(t *testing.T) {
		var asked atomic.Int32
		proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		defer proxy.Close()
		t.Setenv("HTTPS_PROXY", proxy.URL)
		t.Setenv("HTTP_PROXY", proxy.URL)
		p := newProbe(DocumentsOn)
		if err := p.try("https://93.184.215.14/c"); !errors.Is(err, errStopped) || asked.Load() > 0 {
			t.Errorf("got %v, and the proxy was asked %d times", err, asked.Load())
		}
		fromEnvironment := httpproxy.FromEnvironment().ProxyFunc() // the control
		control := &http.Client{Transport: &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
			return fromEnvironment(r.URL)
		}}}
		if resp, err := control.Get("http://93.184.215.14/c"); err != nil || asked.Load() != 1 {
			t.Errorf("a client with a proxy: %v, and the proxy was asked %d times", err, asked.Load())
		} else {
			resp.Body.Close()
		}
	})
}

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
		want   string // the kind of error: "", "fetch" or "document"
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
		// How sites answer those that they take for robots.
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
		// What has been taken away, or broken, is not the document any more.
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
		// And nothing serves for ever.
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

// However many ask, a host feels little of it, and so do we.
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
	for i := range maxFetches - maxPerHost { // the control: other hosts
		_, leave, err := f.places.Take(t.Context(), fmt.Sprint("host", i, ".example"), false)
		if err != nil {
			t.Fatalf("fetch %d at another host: %v", i, err)
		}
		defer leave()
	}
	if _, _, err := f.places.Take(t.Context(), "one.more.example", false); !errors.Is(err, places.ErrNone) {
		t.Errorf("one fetch too many in all: got %v, want %v", err, places.ErrNone)
	}

	// Whoever goes away does not take the fetch with them.
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
	for range maxPerHost { // the others still have theirs
		if _, _, err := f.places.Take(t.Context(), "127.0.0.1", false); err != nil {
			t.Errorf("a place is still taken: %v", err)
		}
	}
}
