//go:build browser

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A user opens the link of an MCP client, is asked, signs in, and comes back to the client.
func TestBrowserSignIn(t *testing.T) {
	const focused = `document.activeElement.matches(":focus-visible") ? document.activeElement.innerText : ""`
	for _, way := range []struct {
		name   string
		setUp  func(*world)
		choose func(*tab)
	}{
		{"with the mouse", func(*world) {}, func(b *tab) { b.press("Continue with GitHub") }},
		{"at Google", func(*world) {}, func(b *tab) { b.press("Continue with Google") }},
		{"at an OpenID Connect provider", func(w *world) { w.useOIDC(w.standIn().OIDC()) },
			func(b *tab) { b.press("Continue with Example ID") }},
		{"with the keyboard alone", func(*world) {}, func(b *tab) {
			for _, want := range []string{"Continue with GitHub", "Continue with Google", "Cancel"} {
				b.do(chromedp.KeyEvent(kb.Tab))
				if got := evaluate[string](b, focused); got != want {
					b.t.Errorf("Tab moved the visible focus to %q, want %q", got, want)
				}
			}
			back := chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift))
			b.do(back, back, chromedp.KeyEvent(kb.Enter))
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t, nil)
			way.setUp(w)
			c, b := newSite(w), newTab(t)
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			b.assertCookies(w, 0) // a cookie before consent would make the question pointless
			way.choose(b)
			b.see("Who do you want to be?")
			b.assertCookies(w, 1)
			b.press("Authorize")
			answer := c.answer()
			b.see("Elsewhere")
			b.assertCookies(w, 0)
			b.assertNoComplaint()
			b.assertRefererStaysHome(w)
			c.assertSignedIn(answer)
		})
	}
}

func TestBrowserHearsComplaints(t *testing.T) {
	w := newWorld(t, nil)
	b := newTab(t)
	b.open(w.base)
	evaluate[bool](b, `document.head.append(Object.assign(document.createElement("style"), {textContent: "*{}"})), true`)
	b.open(w.base) // so that complaints have arrived
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaint) == 0 {
		t.Error("Chromium did not complain of an inline style, which the policy forbids")
	}
}

func TestBrowserRefusal(t *testing.T) {
	for _, refuse := range []struct {
		name string
		act  func(*tab)
	}{
		{"Cancel on the consent page", func(b *tab) { b.press("Cancel") }},
		{"Deny at the provider", func(b *tab) {
			b.press("Continue with GitHub")
			b.see("Who do you want to be?")
			b.press("Deny")
		}},
	} {
		t.Run(refuse.name, func(t *testing.T) {
			w := newWorld(t, nil)
			c, b := newSite(w), newTab(t)
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			refuse.act(b)
			answer := c.answer()
			if answer.Get("error") != "access_denied" || answer.Get("state") != "xyz" || answer.Get("iss") != w.base ||
				answer.Has("code") {
				t.Errorf("the client was told %v, want access_denied with state and iss", answer)
			}
			b.see("Elsewhere")
			b.assertCookies(w, 0)
			b.assertNoComplaint()
		})
	}
}

func TestBrowserTwoTabsFinishInTheOtherOrder(t *testing.T) {
	w := newWorld(t, nil)
	b := newTab(t)
	first, second := newSite(w), newSite(w)
	tabs := map[*site]*tab{first: b, second: b.another()}
	for i, c := range []*site{first, second} {
		tabs[c].open(c.authorizeURL())
		tabs[c].see("Test client wants to connect")
		tabs[c].press("Continue with GitHub")
		tabs[c].see("Who do you want to be?")
		b.assertCookies(w, i+1)
	}
	for i, c := range []*site{second, first} {
		tabs[c].press("Authorize")
		c.assertSignedIn(c.answer())
		b.assertCookies(w, 1-i)
	}
}

func TestBrowserBackAndContinueAgain(t *testing.T) {
	w := newWorld(t, nil)
	c, b := newSite(w), newTab(t)
	b.open(c.authorizeURL())
	var states [2]string
	for i := range states {
		b.see("Test client wants to connect")
		b.press("Continue with GitHub")
		b.see("Who do you want to be?")
		b.assertCookies(w, i+1)
		states[i] = evaluate[string](b, `new URLSearchParams(location.search).get("state")`)
		if i == 0 {
			b.goBack()
		}
	}
	if states[0] == states[1] {
		t.Error("both flows have the same upstream state")
	}
	b.press("Authorize")
	c.assertSignedIn(c.answer())
}

func TestBrowserFinishedSignInIsNotRepeated(t *testing.T) {
	for _, repeat := range []struct {
		name string
		act  func(*tab)
	}{
		{"callback opened again", func(b *tab) { b.open(b.callback()) }},
		{"back to the provider, which knows the person now", func(b *tab) { b.goBack() }},
	} {
		t.Run(repeat.name, func(t *testing.T) {
			w := newWorld(t, nil)
			c, b := newSite(w), newTab(t)
			b.open(c.authorizeURL())
			b.see("Test client wants to connect")
			b.press("Continue with GitHub")
			b.see("Who do you want to be?")
			if grants, _ := w.minted(); grants != 0 {
				t.Fatalf("%d grants before sign-in", grants)
			}
			b.press("Authorize")
			answer := c.answer()
			b.see("Elsewhere")
			repeat.act(b)
			b.see("This sign-in cannot continue")
			b.assertStatus(http.StatusBadRequest)
			if text := b.text(); !strings.Contains(text, "already complete") {
				t.Errorf("the page does not say that it may be finished:\n%s", text)
			}
			if grants, exchanges := w.minted(); grants != 1 || exchanges != 1 || len(c.arrived) != 0 {
				t.Errorf("got %d grants, %d codes redeemed upstream and %d more answers to the client, want 1, 1 and 0",
					grants, exchanges, len(c.arrived))
			}
			c.assertSignedIn(answer)
		})
	}
}
