package devidp

import (
	"net"
	"net/http"
	"strings"
)

// localOnly refuses requests that may come from another machine. Sign-in needs no password,
// so only local users are allowed.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !FromThisMachine(r) {
			http.Error(w, "Development sign-in is on: this machine only, and no proxy or tunnel in front.",
				http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// FromThisMachine reports whether a request comes from this machine, as far as that can be told: its peer is loopback,
// and no proxy or tunnel says that it passed the request on. One that does not say so cannot be told from a local
// program.
func FromThisMachine(r *http.Request) bool {
	peer, _, _ := net.SplitHostPort(r.RemoteAddr)
	if !net.ParseIP(peer).IsLoopback() {
		return false
	}
	for name := range r.Header {
		if forwardingHeaders[name] || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Ngrok-") ||
			strings.HasPrefix(name, "Cf-") {
			return false
		}
	}
	return true
}

// forwardingHeaders are sent by proxies, load balancers and tunnels, and by no client of its own accord. The names are
// spelt as net/http spells them.
var forwardingHeaders = map[string]bool{
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true,
	"True-Client-Ip": true, "Fastly-Client-Ip": true, "Fly-Client-Ip": true, "X-Original-Host": true,
	"X-Original-Forwarded-For": true, "X-Envoy-External-Address": true, "Tailscale-User-Login": true,
}
