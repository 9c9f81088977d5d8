package oauth

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/origin"
)

// CheckHost denies requests that are not for the base URL's host with 421 (RFC 9110 section 15.5.20). Otherwise a page
// whose name was rebound to this server's address would have the same origin as our own pages. On loopback one server
// has three names, and all are allowed. A browser that requests a page under another name is redirected to the base
// URL, where the cookies are.
func (s *Server) CheckHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		switch {
		case host == s.base.Host || s.base.Port() == "" && host == s.base.Host+":"+origin.DefaultPort(s.base.Scheme):
			next.ServeHTTP(w, r)
		case !s.otherLoopbackName(host):
			http.Error(w, "This server answers as "+s.base.Host+" only. If you run it, check BASE_URL, and that a proxy "+
				"in front passes the Host header on.", http.StatusMisdirectedRequest)
		case r.Method == http.MethodGet && asksForPage(r) && strings.HasPrefix(r.RequestURI, "/"):
			http.Redirect(w, r, s.baseURL+r.RequestURI, http.StatusFound)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// otherLoopbackName reports whether host is another name of the base URL's loopback host, with the same port.
func (s *Server) otherLoopbackName(host string) bool {
	if !origin.IsLoopback(s.base.Hostname()) {
		return false
	}
	names := []string{"localhost", "127.0.0.1", "[::1]"}
	port := cmp.Or(s.base.Port(), origin.DefaultPort(s.base.Scheme))
	if s.base.Port() == "" && slices.Contains(names, host) {
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool { return host == name+":"+port })
}

// asksForPage reports whether a browser requests a page.
func asksForPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }
