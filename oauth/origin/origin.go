// Package origin parses web origins and host names, and compares them in one spelling.
package origin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Parse parses an origin in the spelling of browsers (RFC 6454 section 6.1), so that it can be compared byte by byte.
// Only loopback may omit TLS. The error does not quote the value, which may be a misplaced secret.
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Scheme+"://"+u.Host != raw,
		!ValidHost(u), HostName(u.Hostname()) != u.Hostname():
		return nil, errors.New("must be https://HOST or https://HOST:PORT, in lower case and without anything after it")
	case u.Port() == DefaultPort(u.Scheme):
		return nil, fmt.Errorf("must not name port %s, because browsers leave it out", u.Port())
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		return nil, errors.New("must be https, except on localhost, 127.0.0.1 and [::1]")
	}
	return u, nil
}

func DefaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// ValidHost reports whether the host is an IP literal or a name of letters, digits and hyphens, and the port a number.
func ValidHost(u *url.URL) bool {
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.String() != host || ip.Is6() != strings.HasPrefix(u.Host, "[") {
			return false
		}
	} else if len(host) > 253 || !IsName(host) {
		return false
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return !strings.HasSuffix(u.Host, ":") // no port
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// IsLoopback reports whether a host name means this computer. Other names that resolve to it are not trusted.
func IsLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// Printable reports whether s has no space, control character or byte above ASCII.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// HostName returns the canonical spelling of a host: lower case, no dots at the end, and an IPv4 address as such.
func HostName(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(strings.TrimRight(host, "."))
}

// IsName reports whether a host is a name of letters, digits and hyphens.
func IsName(host string) bool { return ldhHost.MatchString(host) }

// A last label that begins with a digit would be an IPv4 address to a browser: 0x7f.1 is 127.0.0.1.
var ldhHost = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?\.?$`)
