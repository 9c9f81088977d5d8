package devidp

import (
	"net"
	"net/http"
	"strings"
)

// LocalOnly refuses what may come from another machine: a peer that is not loopback, or a request that a proxy or
// tunnel passed on. Where anybody can be anybody, only whoever sits at this machine may come.
func LocalOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		switch {
		case !net.ParseIP(peer).IsLoopback():
			http.Error(w, "Development sign-in is on: this machine only.", http.StatusForbidden)
		case forwarded(r.Header):
			http.Error(w, "Development sign-in is on: forwarded requests are refused, so there can be no proxy or "+
				"tunnel in front.", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func forwarded(h http.Header) bool {
	for name := range h {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}
