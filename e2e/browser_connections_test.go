//go:build browser

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A user signs in to /connections, disconnects one application and then everything, without a mouse.
func TestBrowserConnectionsByKeyboard(t *testing.T) {
	w := newWorld(t, nil)
	first, second := w.connect("First client"), w.connect("Second client")
	b := newTab(t)
	// enter presses Tab until the visible focus is on the n-th button with this text, and Enter.
	enter := func(text string, n int) {
		t.Helper()
		for range 20 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if evaluate[string](b, `document.activeElement.matches(":focus-visible") ?
				document.activeElement.innerText : ""`) == text {
				if n--; n == 0 {
					b.do(chromedp.KeyEvent(kb.Enter))
					return
				}
			}
		}
		t.Fatalf("Tab does not get to %q:\n%s", text, b.text())
	}
	works := func() []bool { return []bool{w.works(first), w.works(second)} }

	b.open(w.base)
	evaluate[bool](b, `document.querySelector("a[href='/connections']").focus(), true`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.see(signedOut)
	b.assertCookies(w, 0)
	enter("Continue with GitHub", 1)
	b.see("Who do you want to be?")
	enter("Authorize", 1)
	b.see("Connected to")
	b.assertCookies(w, 1)
	names := evaluate[[]string](b, `[...document.querySelectorAll(".connections h2")].map(e => e.innerText)`)
	described := evaluate[[]string](b, `[...document.querySelectorAll(".connections button")]
		.map(e => document.getElementById(e.getAttribute("aria-describedby")).innerText)`)
	if len(names) != 2 || !slices.Equal(names, described) {
		t.Errorf("got connections %q, and buttons for %q", names, described)
	}
	enter("Disconnect", 1+slices.Index(names, "First client"))
	b.do(chromedp.WaitNotPresent(chromedp.Search(`//h2[normalize-space()="First client"]`)))
	if got := works(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("works: %v, want the second only", got)
	}
	enter(disconnectAll, 1)
	b.see("Who do you want to be?")
	enter("Authorize", 1)
	b.see("Everything is disconnected")
	b.assertStatus(http.StatusOK)
	if got := works(); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("works: %v, want none", got)
	}
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // the way back
	b.see("Connected to")
	enter("Sign out", 1)
	b.see(signedOut)
	b.assertCookies(w, 0)
	b.assertNoComplaint()
}

// TestBrowserConnectionsLooks looks at the pages with none, one and fifty connections.
func TestBrowserConnectionsLooks(t *testing.T) {
	w := newWorld(t, nil)
	b := newTab(t)
	b.inspect("connections-signed-out", w.base+"/connections")
	b.press("Continue with GitHub")
	b.see("Who do you want to be?")
	b.press("Authorize")
	b.see("Connected to")
	b.inspect("connections-0", w.base+"/connections")
	w.connect("Claude Code (my-server)")
	b.inspect("connections-1", w.base+"/connections")
	for i := range 49 {
		name := fmt.Sprintf("Client %d", i)
		switch i % 4 {
		case 0:
			name = strings.Repeat("W", 64)
		case 1:
			name = "\u202e<b>GitHub</b> says that this is safe: do not disconnect"
		}
		w.connect(name, "https://login.accounts.name-that-could-be-mistaken-for-one-that-people-know.example.com/x",
			"https://claude.ai/api/mcp/auth_callback")
	}
	b.inspect("connections-50", w.base+"/connections")
	if got := evaluate[int](b, `document.querySelectorAll(".connections > li").length`); got != 50 {
		t.Errorf("got %d connections, want 50", got)
	}
	b.press(disconnectAll)
	b.see("Who do you want to be?")
	b.press("Authorize")
	b.see("Everything is disconnected")
	b.screenshot("connections-bye")
	b.assertNoComplaint()
}
