package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestUnknownAddressIsAPageForPeopleAndALineForPrograms(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/authorise", 404, ""},
		{"GET", "/favicon.ico", 404, ""},
		{"GET", "/connections/other", 404, ""},
		{"GET", "/callback/", 404, ""},
		{"POST", "/authorise", 404, ""},
		{"GET", "/.well-known/anything", 404, ""},
		{"GET", "/token", 405, "POST OPTIONS"},
		{"DELETE", "/register", 405, "POST OPTIONS"},
		{"POST", "/", 405, "GET"},
		{"PUT", "/authorize", 405, "GET POST"},
		{"POST", "/callback/github", 405, "GET"},
		{"GET", "/connections/disconnect", 405, "POST"},
		{"POST", "/.well-known/openid-configuration", 405, "GET OPTIONS"},
	} {
		for accept, page := range map[string]bool{"text/html,application/xhtml+xml,*/*;q=0.8": true,
			"application/json": false, "*/*": false, "": false} {
			t.Run(tt.method+" "+tt.path+" as "+accept, func(t *testing.T) {
				a := w.call(tt.method, tt.path, http.Header{"Accept": {accept}}, "")
				if got := strings.Join(a.header.Values("Allow"), " "); a.status != tt.status || got != tt.allow {
					t.Errorf("got %d with Allow %q, want %d with %q", a.status, got, tt.status, tt.allow)
				}
				html := strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && strings.Contains(string(a.body), "<h1>")
				if html != page || !page && len(a.body) > 100 {
					t.Errorf("got a page: %t, want %t: %s", html, page, a.body)
				}
				if page && !strings.Contains(string(a.body), `<a href="`+w.base+`/">`) {
					t.Errorf("the page does not lead on:\n%s", a.body)
				}
			})
		}
	}
	t.Run("control: what exists", func(t *testing.T) {
		if a := w.call(http.MethodGet, "/", http.Header{"Accept": {"text/html"}}, ""); a.status != http.StatusOK {
			t.Errorf("got status %d", a.status)
		}
	})
}
