package static_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/mcp-federated-login/static"
)

func TestHandlerCachesOnlyWhatThePathNames(t *testing.T) {
	const year = "public, max-age=31536000, immutable"
	for _, tt := range []struct {
		name, url, wantCache, wantType string
		want                           int
	}{
		{"stylesheet", static.Path("style.css"), year, "text/css; charset=utf-8", 200},
		{"icon", static.Path("icon.svg"), year, "image/svg+xml", 200},
		{"page of an older release", "/static/style.css?v=0123456789ab", "no-cache", "text/css; charset=utf-8", 200},
		{"no version", "/static/style.css", "no-cache", "text/css; charset=utf-8", 200},
		{"no such file", "/static/nothing.css?v=", "", "text/plain; charset=utf-8", 404},
		{"directory", "/static/", "", "text/plain; charset=utf-8", 404},
		{"source code", "/static/static.go", "", "text/plain; charset=utf-8", 404},
		{"path traversal", "/static/..%2fgo.mod", "", "text/plain; charset=utf-8", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			static.Handler().ServeHTTP(w, httptest.NewRequest("GET", tt.url, nil))
			if w.Code != tt.want {
				t.Errorf("got status %d, want %d", w.Code, tt.want)
			}
			if got := w.Header().Get("Cache-Control"); got != tt.wantCache {
				t.Errorf("got Cache-Control %q, want %q", got, tt.wantCache)
			}
			if got := w.Header().Get("Content-Type"); got != tt.wantType {
				t.Errorf("got Content-Type %q, want %q", got, tt.wantType)
			}
			if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("got X-Content-Type-Options %q, want nosniff", got)
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(tt.url, "/static/"), "?")
			if content, err := static.FS.ReadFile(name); err == nil && w.Body.String() != string(content) {
				t.Error("the answer is not the file")
			}
		})
	}
}
