package devidp

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOnlyThisMachineDirectly(t *testing.T) {
	s, err := Start(Config{BaseURL: "http://localhost:20000", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })

	port := strings.TrimPrefix(s.URL(), "http://127.0.0.1")
	tests := []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"control", func(r *http.Request) {}, http.StatusUnauthorized},
		{"control: loopback by IPv6", func(r *http.Request) { r.RemoteAddr = "[::1]:4711" }, http.StatusUnauthorized},
		{"a peer on the network", func(r *http.Request) { r.RemoteAddr = "192.0.2.7:4711" }, http.StatusForbidden},
		{"a peer without an address", func(r *http.Request) { r.RemoteAddr = "@" }, http.StatusForbidden},
		{"a page whose name resolves to loopback", func(r *http.Request) { r.Host = "evil.example" + port }, 421},
		{"the other loopback name", func(r *http.Request) { r.Host = "localhost" + port }, 421},
		{"no port", func(r *http.Request) { r.Host = "127.0.0.1" }, 421},
		{"Forwarded", func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.7") }, http.StatusForbidden},
		{"X-Forwarded-For", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "::1") }, http.StatusForbidden},
		{"X-Forwarded-Host", func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "a") }, http.StatusForbidden},
		{"X-Forwarded-Proto, empty", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "") }, http.StatusForbidden},
		{"X-Real-IP", func(r *http.Request) { r.Header.Set("X-Real-IP", "::1") }, http.StatusForbidden},
		{"Via", func(r *http.Request) { r.Header.Set("Via", "1.1 tunnel") }, http.StatusForbidden},
		{"Cloudflare", func(r *http.Request) { r.Header.Set("CF-Connecting-IP", "::1") }, http.StatusForbidden},
		{"ngrok", func(r *http.Request) { r.Header.Set("ngrok-auth-user-id", "x") }, http.StatusForbidden},
		{"an older proxy", func(r *http.Request) { r.Header.Set("X-Client-IP", "::1") }, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", s.URL()+"/api/v3/user", nil)
			r.RemoteAddr = "127.0.0.1:4711"
			tt.change(r)
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("got %d, want %d", w.Code, tt.want)
			}
			if w.Header().Get("X-Fake-IdP") != "1" {
				t.Error("the answer does not say that it is a fake's")
			}
		})
	}
}

func TestBodyOfFiveMegabytes(t *testing.T) {
	s, err := Start(Config{BaseURL: "http://localhost:20000", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, mediaType := range []string{"application/x-www-form-urlencoded", "application/json"} {
		body := strings.NewReader(`{"code":"` + strings.Repeat("x", 5<<20) + `"}`)
		r := httptest.NewRequest("POST", s.URL()+"/login/oauth/access_token", body)
		r.Header.Set("Content-Type", mediaType)
		r.RemoteAddr = "127.0.0.1:4711"
		s.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
		if read := int(body.Size()) - body.Len(); read > 128<<10 {
			t.Errorf("%s: %d bytes were read", mediaType, read)
		}
	}
}
