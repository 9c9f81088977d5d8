//go:build browser

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A desktop is where Chromium opens applications: it calls xdg-open, which the test replaces.
type desktop struct {
	t    *testing.T
	pipe string
}

// newDesktop returns a desktop with an application for cursor://, and a tab in a browser whose user lets the world's
// pages open that application without a prompt.
func newDesktop(t *testing.T, w *world) (*desktop, *tab) {
	t.Helper()
	dir := t.TempDir()
	d := &desktop{t: t, pipe: filepath.Join(dir, "opened")}
	if err := syscall.Mkfifo(d.pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "xdg-open"), "#!/bin/sh\nprintf %s \"$1\" >'"+d.pipe+"'\n", 0o700)
	writeFile(t, filepath.Join(dir, "xdg-settings"), "#!/bin/sh\necho cursor.desktop\n", 0o700)
	profile := filepath.Join(dir, "profile", "Default")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(profile, "Preferences"), quote(map[string]any{"protocol_handler": map[string]any{
		"allowed_origin_protocol_pairs": map[string]any{w.base: map[string]bool{"cursor": true}}}}), 0o600)
	return d, newTab(t, chromedp.UserDataDir(filepath.Dir(profile)),
		chromedp.Env("PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH")))
}

// opened waits for the application to be opened, and returns the query it got.
func (d *desktop) opened(uri string) url.Values {
	d.t.Helper()
	got := make(chan []byte, 1)
	go func() {
		b, err := os.ReadFile(d.pipe) // until a writer has opened and closed it
		if err != nil {
			d.t.Error(err)
		}
		got <- b
	}()
	select {
	case b := <-got:
		to, query, _ := strings.Cut(string(b), "?")
		q, err := url.ParseQuery(query)
		if to != uri || err != nil {
			d.t.Fatalf("the application was opened with %s (%v), want %s", to, err, uri)
		}
		return q
	case <-time.After(patience):
		d.t.Fatal("the application was not opened")
		return nil
	}
}

// TestBrowserHandOver checks that Chromium opens the application without a click, under our policy and at the end of
// the whole chain of redirects. The page stays, for a second try: a bare redirect leaves a blank tab (mcp-oauth#100).
func TestBrowserHandOver(t *testing.T) {
	w := newWorld(t, nil)
	uri := cursorURIs[0]
	id := w.register(cursorURIs...)
	d, b := newDesktop(t, w)
	ask := w.authorizeURL(id, func(q url.Values) { q.Set("redirect_uri", uri) })

	b.inspect("consent-private-scheme", ask)
	b.press("Continue with GitHub")
	b.see("Who do you want to be?")
	b.press("Authorize")
	answer := d.opened(uri)
	b.see("You are signed in")
	b.do(chromedp.Click(chromedp.Search(`//a[normalize-space()="Return to Test client"]`)))
	if again := d.opened(uri); again.Encode() != answer.Encode() {
		t.Error("the button leads elsewhere")
	}
	if shown := evaluate[string](b, `document.querySelector("code").innerText`); shown != uri+"?"+answer.Encode() {
		t.Error("the address to copy is another one")
	}
	for _, width := range []int64{1280, 360} {
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("hand-over-%d-%s", width, scheme)
			b.look(width, scheme)
			for _, fault := range evaluate[[]string](b, layoutFaults) {
				t.Errorf("%s: %s", name, fault)
			}
			b.screenshot(name)
		}
	}
	(&site{w: w, id: id, url: strings.TrimSuffix(uri, "/callback")}).assertSignedIn(answer)

	b.open(ask)
	b.press("Cancel")
	b.see("You did not allow it")
	if _, refresh, _ := strings.Cut(b.text(), "Your browser opens"); refresh != "" {
		t.Error("after Cancel the page says that it opens the application")
	}
	b.do(chromedp.Click(chromedp.Search(`//a[normalize-space()="Return to Test client"]`)))
	answer = d.opened(uri)
	if answer.Get("error") != "access_denied" || answer.Get("state") != "xyz" || answer.Has("code") {
		t.Errorf("after Cancel the application got error %q, want access_denied with its state", answer.Get("error"))
	}
	b.screenshot("hand-over-denied")
	b.assertRefererStaysHome(w)
}
