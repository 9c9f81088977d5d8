package upstream_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"github.com/google/go-cmp/cmp"
)

func TestTokenAnswers(t *testing.T) {
	const form, asJSON = "application/x-www-form-urlencoded", "application/json"
	tests := []struct {
		name, mediaType, body string
		want                  upstream.Token
		expires               bool
	}{
		{"form", form, "access_token=a&token_type=bearer&scope=user%3Aemail%2Cread%3Auser",
			upstream.Token{Access: "a", Scopes: []string{"read:user", "user:email"}}, false},
		{"scopes by spaces, twice", asJSON, `{"access_token":"a","token_type":"bearer","scope":"b a, b"}`,
			upstream.Token{Access: "a", Scopes: []string{"a", "b"}}, false},
		{"expiry in a form", form,
			"access_token=a&token_type=bearer&refresh_token=r&expires_in=28800&refresh_token_expires_in=15897600",
			upstream.Token{Access: "a", Refresh: "r"}, true},
		{"expiry as numbers", asJSON, `{"access_token":"a","token_type":"bearer","refresh_token":"r",
			"expires_in":28800,"refresh_token_expires_in":15897600}`, upstream.Token{Access: "a", Refresh: "r"}, true},
		{"expiry as strings", asJSON, `{"access_token":"a","token_type":"bearer","refresh_token":"r",
			"expires_in":"28800","refresh_token_expires_in":"15897600"}`, upstream.Token{Access: "a", Refresh: "r"}, true},
		{"expiry that is no number", asJSON, `{"access_token":"a","token_type":"bearer","refresh_token":"r",
			"refresh_token_expires_in":"never"}`, upstream.Token{Access: "a", Refresh: "r"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newGitHub(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.mediaType)
				fmt.Fprint(w, tt.body)
			}))
			before := time.Now()
			got, err := p.Exchange(t.Context(), "http://localhost/", "code", "verifier", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range []struct {
				at   time.Time
				life time.Duration
			}{{got.Expiry, 8 * time.Hour}, {got.RefreshExpiry, 184 * 24 * time.Hour}} {
				if tt.expires && (e.at.Before(before.Add(e.life)) || e.at.After(time.Now().Add(e.life))) {
					t.Errorf("expires at %v, want %v from now", e.at, e.life)
				}
				if !tt.expires && !e.at.IsZero() {
					t.Errorf("expires at %v, want never", e.at)
				}
			}
			got.Expiry, got.RefreshExpiry = time.Time{}, time.Time{}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestProviderTimeout checks a GitHub that accepts the connection and never responds.
func TestProviderTimeout(t *testing.T) {
	var requests atomic.Int32
	done := make(chan struct{})
	p := newGitHub(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		requests.Add(1)
		<-done
	}))
	t.Cleanup(func() { close(done) }) // runs first, so that the server can close
	p.SetTimeout(50 * time.Millisecond)
	token := &upstream.Token{Access: "gho_T0ken"}
	calls := map[string]func() error{
		"Exchange": func() error {
			_, err := p.Exchange(t.Context(), "http://localhost/", "c0de", "v3rifier", nil)
			return err
		},
		"Identify": func() error { _, err := p.Identify(t.Context(), token, ""); return err },
		"IdentifyAgain": func() error {
			_, err := p.IdentifyAgain(t.Context(), token, upstream.Identity{})
			return err
		},
		"Admit": func() error {
			return p.Admit(t.Context(), &upstream.Token{Access: token.Access, Scopes: []string{"read:org"}},
				&upstream.Identity{Provider: "github"}, parseRules(t, "github-org:acme", ""))
		},
		"Discard": func() error { return p.Discard(t.Context(), token) },
		"Revoke":  func() error { return p.Revoke(t.Context(), token) },
	}
	for name, call := range calls {
		requests.Store(0)
		err := call()
		if !errors.Is(err, upstream.ErrUnavailable) || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("%s: got %v, want a time-out that is ErrUnavailable", name, err)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%s: got %d requests, want 1", name, n)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	p, err := upstream.GitHub(upstream.GitHubConfig{ClientID: "id", ClientSecret: "S3cret", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Exchange(t.Context(), "http://localhost/", "c0de", "v3rifier", nil)
	if !errors.Is(err, upstream.ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want a refused connection that is ErrUnavailable", err)
	}
	for _, secret := range []string{"S3cret", "c0de", "v3rifier"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds %s", secret)
		}
	}
}

func TestUserID(t *testing.T) {
	id := func(issuer, subject string) string {
		sum := upstream.Identity{Issuer: issuer, Subject: subject}.UserID()
		return string(sum[:])
	}
	control, again := id("https://a", "1"), id("https://a", "1")
	if control != again {
		t.Error("control: one person has two ids")
	}
	if control == id("https://a1", "") || control == id("https://b", "1") || control == id("https://a", "2") {
		t.Error("two people have one id")
	}
}
