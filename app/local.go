package app

import (
	"net/http"

	"example.com/mcp-federated-login/upstream/devidp"
)

// localOnly refuses requests that may come from another machine. It is used if BASE_URL is loopback and either the
// development provider is on, which lets anyone sign in as any user, or ALLOW is not set. A LISTEN address on the
// network is already refused at start. localOnly detects a tunnel or proxy in front of the server, whatever Host it
// sends. Only the first refused request is logged, because strangers choose how many they send.
func (a *App) localOnly(next http.Handler) http.Handler {
	problem := "ALLOW is not set, so this server answers its own machine only, and no proxy or tunnel in front. If " +
		"you run it, say who may come in, for example ALLOW=github:your-login"
	if a.DevIDP != nil {
		problem = "Development sign-in is on, so this server answers its own machine only, and no proxy or tunnel in " +
			"front. If you run it, set up a real provider, and say who may come in, for example ALLOW=github:your-login"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if devidp.FromThisMachine(r) {
			next.ServeHTTP(w, r)
			return
		}
		a.refusedOnce.Do(func() {
			a.Log.WarnContext(r.Context(), "request from another machine refused, and so is every other one",
				"peer", r.RemoteAddr, "path", r.URL.Path, "problem", problem)
		})
		http.Error(w, problem, http.StatusForbidden)
	})
}
