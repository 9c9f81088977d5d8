package clients

import (
	"context"
	"errors"
	"io"
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
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http/httpproxy"
)

// names is a DNS that a test fills: each name's addresses, all in one answer or one after the other.
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

// probe is a fetcher that counts the connections that the guard allows, instead of making them.
type probe struct {
	*fetcher
	names       *names
	connections []string
}

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

// TestFetchGoesToPublicAddressesOnly checks client_id URLs with which a stranger tries to make the server connect to
// addresses that only the server can reach.
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
		fromEnvironment := httpproxy.FromEnvironment().ProxyFunc() // a client that does use the proxy
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
