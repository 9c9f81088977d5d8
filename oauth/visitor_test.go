package oauth

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// TestSessionCookie checks the cookie's attributes and how long it is valid.
func TestSessionCookie(t *testing.T) {
	id := upstream.Identity{Provider: "github", Issuer: "https://github.com", Subject: "583231",
		Login: strings.Repeat("octocat", 1000)} // too long for a cookie
	user := id.UserID()
	for _, tt := range []struct {
		baseURL, name string
		secure        bool
	}{
		{"https://mcp.example", "__Host-session", true},
		{"http://localhost:8080", "session_8080", false},
	} {
		s := newTestServer(t, tt.baseURL)
		began, w := s.now(), httptest.NewRecorder()
		if err := s.setVisitor(w, id); err != nil {
			t.Fatal(err)
		}
		c := w.Result().Cookies()[0]
		if c.Name != tt.name || c.Secure != tt.secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" ||
			c.SameSite != http.SameSiteLaxMode || c.MaxAge != 900 {
			t.Errorf("S5: got cookie %s", strings.Replace(c.String(), c.Value, "...", 1))
		}
		for _, at := range []struct {
			after time.Duration
			want  bool
		}{
			{0, true}, {15 * time.Minute, true}, {15*time.Minute + time.Second, false},
			{-time.Minute, true}, {-time.Minute - time.Second, false}, // on an instance whose clock is behind
		} {
			s.now = func() time.Time { return began.Add(at.after) }
			r := httptest.NewRequest(http.MethodGet, "/connections", nil)
			r.AddCookie(c)
			got := s.visitor(r)
			if (got != nil) != at.want || got != nil && !bytes.Equal(got.User, user[:]) {
				t.Errorf("%s, %v later: got %v, want one %t", tt.baseURL, at.after, got, at.want)
			}
		}
	}
}
