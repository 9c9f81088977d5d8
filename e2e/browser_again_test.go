//go:build browser

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

// slowConsent makes the server hold the response to the first POST /authorize until a second one arrives, as a slow
// network does.
func (w *world) slowConsent() {
	w.t.Helper()
	w.srv.Close()
	l, err := net.Listen("tcp", w.l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	var posts atomic.Int32
	second := make(chan struct{})
	w.l, w.srv = l, &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/authorize" {
			switch posts.Add(1) {
			case 1:
				<-second
			case 2:
				close(second)
			}
		}
		w.app.Handler.ServeHTTP(rw, r)
	})}
	go w.srv.Serve(l)
}

// pressBoth clicks one button and soon after another, whatever the first click does.
func (b *tab) pressBoth(first, second string) {
	b.t.Helper()
	evaluate[bool](b, `{ const press = text => [...document.querySelectorAll("button")].
		find(e => e.innerText.trim() == text).click();
		setTimeout(press, 0, `+quote(first)+`); setTimeout(press, 200, `+quote(second)+`); true }`)
}

// seeAgain is see for a page that Chromium may have kept in memory: chromedp does not find elements there.
func (b *tab) seeAgain(heading string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for ctx.Err() == nil { // errors come from a page that is being left
		h1, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("h1")?.innerText ?? ""`))
		if err == nil && strings.Contains(h1, heading) {
			return
		}
	}
	b.t.Fatalf("there is no page with the heading %q", heading)
}

func (b *tab) assertMinted(w *world, grants, exchanges int) {
	b.t.Helper()
	if g, e := w.minted(); g != grants || e != exchanges {
		b.t.Errorf("got %d grants and %d codes redeemed upstream, want %d and %d", g, e, grants, exchanges)
	}
}

func TestBrowserDoublePressOnAConsentButton(t *testing.T) {
	for _, tt := range []struct{ first, second string }{
		{"Continue with GitHub", "Continue with GitHub"},
		{"Continue with GitHub", "Continue with Google"},
		{"Cancel", "Cancel"},
		{"Continue with GitHub", "Cancel"},
		{"Cancel", "Continue with GitHub"},
	} {
		t.Run(tt.first+", "+tt.second, func(t *testing.T) {
			w := newWorld(t, nil)
			c, b := newSite(w), newTab(t)
			w.slowConsent()
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			b.pressBoth(tt.first, tt.second)
			if tt.second == "Cancel" {
				if got := c.answer(); got.Get("error") != "access_denied" || got.Has("code") {
					t.Errorf("the client got error %q, want access_denied", got.Get("error"))
				}
				b.see("Elsewhere")
				b.assertMinted(w, 0, 0)
			} else {
				b.see("Who do you want to be?")
				b.press("Authorize")
				c.assertSignedIn(c.answer())
				b.see("Elsewhere")
				if grants, _ := w.minted(); grants != 1 {
					t.Errorf("got %d grants, want 1", grants)
				}
			}
			if len(c.arrived) != 0 {
				t.Errorf("the client got %d more answers", len(c.arrived))
			}
		})
	}
}

func TestBrowserBackToTheConsentPage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leave  func(*tab, *site) // the consent page, for other pages
		pages  int               // how many pages to go back
		grants int               // grants minted so far
	}{
		{"from the provider", func(b *tab, _ *site) {
			b.press("Continue with GitHub")
			b.see("Who do you want to be?")
		}, 1, 0},
		{"from the client, after Cancel", func(b *tab, c *site) {
			b.press("Cancel")
			c.answer()
			b.see("Elsewhere")
		}, 1, 0},
		{"from the client, after the sign-in", func(b *tab, c *site) {
			b.press("Continue with GitHub")
			b.see("Who do you want to be?")
			b.press("Authorize")
			c.assertSignedIn(c.answer())
			b.see("Elsewhere")
		}, 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			c, b := newSite(w), newTab(t)
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			tt.leave(b, c)
			evaluate[bool](b, fmt.Sprintf(`setTimeout(() => history.go(-%d)), true`, tt.pages))
			b.seeAgain("Test client wants to connect")
			b.assertStatus(http.StatusOK)
			b.assertMinted(w, tt.grants, tt.grants) // going back is not consent
			evaluate[bool](b, `setTimeout(() => document.querySelector("[name=decision]").click()), true`)
			if got := c.answer(); got.Get("error") != "access_denied" {
				t.Errorf("the client got error %q, want access_denied", got.Get("error"))
			}
			b.assertMinted(w, tt.grants, tt.grants)
		})
	}
}

// TestBrowserRestoredTab closes the browser at each step of a sign-in and opens the page again in a new one, with the
// data that the first has stored.
func TestBrowserRestoredTab(t *testing.T) {
	toProvider := func(b *tab) {
		b.press("Continue with GitHub")
		b.see("Who do you want to be?")
	}
	for _, tt := range []struct {
		name  string
		leave func(*tab, *site) string // goes to the page, and returns its URL
		see   string                   // heading in the restored tab
		then  func(*tab)               // continues to the client's code; nil if it cannot
	}{
		{"consent page", func(b *tab, c *site) string { return evaluate[string](b, "location.href") },
			"Test client wants to connect", func(b *tab) { toProvider(b); b.press("Authorize") }},
		{"provider's page", func(b *tab, c *site) string { toProvider(b); return evaluate[string](b, "location.href") },
			"Who do you want to be?", func(b *tab) { b.press("Authorize") }},
		{"question that was asked again", func(b *tab, c *site) string {
			evaluate[bool](b, `document.querySelector("[name=seal]").value = "00", true`)
			b.press("Cancel")
			b.do(chromedp.WaitVisible(chromedp.Search(`//*[@role="alert"]`)))
			b.assertStatus(http.StatusConflict)
			return evaluate[string](b, "location.href") // without the consent request
		}, "The application asked for something that cannot work", nil},
		{"callback of a finished sign-in", func(b *tab, c *site) string {
			toProvider(b)
			b.press("Authorize")
			c.assertSignedIn(c.answer())
			b.see("Elsewhere")
			return b.callback()
		}, "This sign-in cannot continue", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, profile := newWorld(t, nil), chromedp.UserDataDir(t.TempDir())
			c, b := newSite(w), newTab(t, profile)
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			address := tt.leave(b, c)
			before, _ := w.minted()
			ctx, cancel := context.WithTimeout(b.ctx, patience)
			defer cancel()
			if err := chromedp.Cancel(ctx); err != nil {
				t.Fatalf("closing the browser: %v", err)
			}
			b = newTab(t, profile)
			b.open(address)
			b.see(tt.see)
			if tt.then != nil {
				tt.then(b)
				c.assertSignedIn(c.answer())
				b.see("Elsewhere")
				before++
			} else if !strings.Contains(b.text(), "connect again") {
				t.Errorf("the page does not say what to do:\n%s", b.text())
			}
			if grants, _ := w.minted(); grants != before {
				t.Errorf("got %d grants, want %d", grants, before)
			}
		})
	}
}
