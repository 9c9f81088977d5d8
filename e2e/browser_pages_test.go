//go:build browser

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

func TestBrowserUnknownClient(t *testing.T) {
	w := newWorld(t, nil)
	c, b := newSite(w), newTab(t)
	b.open(c.authorizeURL()) // known
	b.see("Test client wants to connect")
	b.assertStatus(http.StatusOK)
	c.id = "mcp_ci_forgotten"
	b.open(c.authorizeURL())
	b.see("This application is not known here")
	b.assertStatus(http.StatusBadRequest)
	if text := b.text(); !strings.Contains(text, "Clear authentication") {
		t.Errorf("the page does not say how to make the client register again:\n%s", text)
	}
	if len(c.arrived) != 0 {
		t.Error("the browser was sent to a redirect URI that nobody vouched for")
	}
}

// A page of another site cannot press the consent page's button or read the page, and trying sets no cookie.
func TestBrowserOtherSiteGetsNowhere(t *testing.T) {
	w := newWorld(t, nil)
	c, evil, b := newSite(w), newSite(w), newTab(t)
	b.open(evil.url)
	b.see("Elsewhere")

	// Requests that embed or read our pages.
	const image = `new Promise(done => { const i = new Image(); i.onload = () => done(true);
		i.onerror = () => done(false); i.src = address })`
	const fetched = `fetch(address).then(() => true, () => false)`
	for _, try := range []struct {
		name, script, address string
		want                  bool
	}{
		{"image of our icon", image, w.base + "/static/icon.svg", true},
		{"image of the consent page", image, c.authorizeURL(), false},
		{"fetch of our metadata", fetched, w.base + "/.well-known/oauth-authorization-server", true},
		{"fetch of the consent page", fetched, c.authorizeURL(), false},
	} {
		if got := evaluate[bool](b, "{ const address = "+quote(try.address)+"; "+try.script+" }"); got != try.want {
			t.Errorf("%s: possible %t, want %t", try.name, got, try.want)
		}
	}

	// A request that sends the form of the consent page.
	address := quote(w.base + "/authorize")
	form := map[string]string{"provider": "github"}
	for name, values := range w.browser().open(c.authorizeURL()).forms[0].fields { // anybody can read them
		form[name] = values[0]
	}
	fields := quote(form)
	evaluate[bool](b, `fetch(`+address+`, {method: "POST", mode: "no-cors", credentials: "include",
		body: new URLSearchParams(`+fields+`)}).then(() => true)`)
	submit := `const form = document.createElement("form"); form.method = "post"; form.action = ` + address + `;
		for (const [name, value] of Object.entries(` + fields + `))
			form.append(Object.assign(document.createElement("input"), {name, value}));
		document.body.append(form); form.submit(); true`
	evaluate[bool](b, submit)
	b.see("That did not come from this server")
	b.assertStatus(http.StatusForbidden)
	b.assertCookies(w, 0)
	if calls := w.app.DevIDP.Calls(); len(calls) != 0 {
		t.Errorf("the provider was asked: %v", calls)
	}

	// The same form on our own page.
	b.open(c.authorizeURL())
	b.see("Test client wants to connect")
	evaluate[bool](b, submit)
	b.see("Who do you want to be?")
	b.assertCookies(w, 1)
}

// A page of another site cannot show ours in a frame, to make users click on things that they do not see.
func TestBrowserOtherSiteCannotFrame(t *testing.T) {
	w := newWorld(t, nil)
	c, evil, b := newSite(w), newSite(w), newTab(t)
	for _, frame := range []struct{ name, address, want string }{
		{"what may be framed", w.base + "/healthz", "up"},
		{"landing page", w.base + "/", ""},
		{"consent page", c.authorizeURL(), ""},
		{"error page", w.base + "/authorize", ""},
		{"provider's page", w.app.DevIDP.URL() + "/login/oauth/authorize", ""},
	} {
		b.open(strings.Replace(evil.url, "127.0.0.1", rebound, 1)) // another site to the provider as well
		b.see("Elsewhere")
		evaluate[bool](b, `new Promise(done => { const frame = document.createElement("iframe");
			frame.onload = () => done(true); frame.src = `+quote(frame.address)+`; document.body.append(frame) })`)
		targets, err := chromedp.Targets(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(targets, func(info *target.Info) bool {
			return info.Type == "iframe" && info.URL == frame.address
		})
		if i < 0 {
			t.Fatalf("%s: Chromium knows of no frame", frame.name)
		}
		ctx, detach := chromedp.NewContext(b.ctx, chromedp.WithTargetID(targets[i].TargetID), chromedp.WithDetachOnCancel())
		got := evaluate[string](&tab{t: t, ctx: ctx},
			`location.protocol == "chrome-error:" ? "" : document.body.innerText.trim()`)
		detach()
		if got != frame.want {
			t.Errorf("%s: the frame shows %q, want %q", frame.name, got, frame.want)
		}
	}
}

// TestBrowserTakesAFlowCookieFromAnotherPort checks that the statement about loopback in SECURITY.md still holds:
// cookies ignore ports, and no consent page is seen. If a browser stops this, those sentences can be removed.
func TestBrowserTakesAFlowCookieFromAnotherPort(t *testing.T) {
	for name, plant := range map[string]bool{"planted": true, "control: not planted": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			evil, b := newSite(w), newTab(t)
			program := w.browser().open(evil.authorizeURL()).press("Continue with GitHub", nil)
			own, err := url.Parse(w.base)
			if err != nil {
				t.Fatal(err)
			}
			cookie := program.b.client.Jar.Cookies(own)[0]
			b.open(strings.Replace(evil.url, "127.0.0.1", "localhost", 1))
			b.see("Elsewhere")
			if plant {
				evaluate[bool](b, `document.cookie = `+quote(cookie.Name+"="+cookie.Value+"; path=/")+`, true`)
			}
			b.open(program.url.String())
			b.see("Who do you want to be?")
			b.press("Authorize")
			if plant {
				evil.assertSignedIn(evil.answer())
				return
			}
			b.see("This sign-in cannot continue")
			if len(evil.arrived) != 0 {
				t.Error("the client got an answer without the cookie")
			}
		})
	}
}

// If an attacker's name suddenly leads to this machine (DNS rebinding), Chromium treats the attacker's page as
// same-origin with ours, but the server does not.
func TestBrowserReboundName(t *testing.T) {
	w := newWorld(t, nil)
	c, b := newSite(w), newTab(t)
	b.open(strings.Replace(c.url, "127.0.0.1", rebound, 1))
	b.see("Elsewhere") // the name leads here
	b.open(strings.Replace(w.base, "localhost", rebound, 1))
	b.assertStatus(http.StatusMisdirectedRequest)
	b.assertCookies(w, 0)
	for _, try := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/healthz", 200}, // load balancers use the IP address
		{"GET", "/", 421},
		{"GET", strings.TrimPrefix(c.authorizeURL(), w.base), 421},
		{"POST", "/authorize", 421},
		{"GET", "/callback/github", 421},
		{"GET", "/.well-known/oauth-authorization-server", 421},
		{"GET", "/static/style.css", 421},
		{"POST", "/register", 421},
		{"POST", "/token", 421},
		{"POST", "/mcp", 421},
	} {
		script := fmt.Sprintf(`fetch(%s, {method: %q}).then(r => r.status)`, quote(try.path), try.method)
		if got := evaluate[int](b, script); got != try.want {
			t.Errorf("%s %s: got status %d, want %d", try.method, strings.Split(try.path, "?")[0], got, try.want)
		}
	}
	b.open(w.base)
	b.see("Connect to")
	b.assertStatus(http.StatusOK)
}

// TestBrowserLooks looks at every page in a wide window and on a telephone, in light and in dark. If SCREENSHOTS names
// a folder, pictures go there.
func TestBrowserLooks(t *testing.T) {
	w, documents := newWorld(t, loopbackDocuments), newDocumentHost(t)
	c, hostile, b := newSite(w), newSite(w), newTab(t)
	documented := documents.putClient("/oauth/client.json", nil)
	hostile.url = "https://login.accounts.name-that-could-be-mistaken-for-one-that-people-know.example.com/" +
		strings.Repeat("x", 300)
	metadata := quote(map[string]any{"redirect_uris": []string{hostile.redirectURI()},
		"client_name": strings.Repeat("W", 40) + "\u202e <b>GitHub</b> says that this is safe"})
	json := http.Header{"Content-Type": {"application/json"}}
	hostile.id = w.call(http.MethodPost, "/register", json, metadata).str("client_id")
	b.open(c.authorizeURL())
	b.see("Test client wants to connect")
	b.press("Continue with GitHub")
	b.see("Who do you want to be?")
	for _, page := range []struct{ name, address string }{
		{"landing", w.base},
		{"consent", c.authorizeURL()},
		{"consent-hostile", hostile.authorizeURL()},
		{"consent-document", w.authorizeURL(documented, nil)},
		{"error-document", w.authorizeURL(documents.url+"/oauth/nothing", nil)},
		{"error-unknown-client", w.base + "/authorize?client_id=unknown"},
		{"error-with-way-back", hostile.authorizeURL() + "&scope=a&scope=b"},
		{"error-callback", w.base + "/callback/github"},
		{"not-found", w.base + "/oauth/authorize"},
		{"provider", evaluate[string](b, "location.href")},
		{"provider-error", w.app.DevIDP.URL() + "/login/oauth/authorize"},
	} {
		b.inspect(page.name, page.address)
	}

	// This test finds faults.
	for _, harm := range []string{
		`document.querySelector("h1").style.whiteSpace = "nowrap"`,
		`document.querySelector("main").style.width = "400px"`,
		`document.querySelector(".uri").style.cssText = "overflow: hidden; height: 1em"`,
	} {
		b.open(hostile.authorizeURL())
		if len(evaluate[[]string](b, harm+"; "+layoutFaults)) == 0 {
			t.Errorf("no fault was found after %s", harm)
		}
	}
}

// inspect looks at a page in a wide window and on a telephone, in light and in dark.
func (b *tab) inspect(page, address string) {
	b.t.Helper()
	for _, width := range []int64{1280, 360} {
		brightness := map[string]int{}
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%d-%s", page, width, scheme)
			b.look(width, scheme)
			b.open(address)
			for _, fault := range evaluate[[]string](b, layoutFaults) {
				b.t.Errorf("%s: %s", name, fault)
			}
			if got := evaluate[int64](b, "document.documentElement.clientWidth"); got != width {
				b.t.Errorf("%s: the viewport is %d pixels wide", name, got)
			}
			brightness[scheme] = evaluate[int](b, `getComputedStyle(document.body).backgroundColor.match(/\d+/g)
				.reduce((sum, channel) => sum + Number(channel), 0)`)
			b.screenshot(name)
		}
		if brightness["light"] < 600 || brightness["dark"] > 150 { // of 765
			b.t.Errorf("%s: got backgrounds %v, want a light and a dark one", page, brightness)
		}
	}
}

// layoutFaults lists elements that do not fit: the page into its window, text into the boxes around it.
const layoutFaults = `(() => {
	const faults = [], root = document.documentElement
	if (root.scrollWidth > root.clientWidth) faults.push("the page scrolls sideways")
	for (const e of document.querySelectorAll("body *"))
		if ((e.matches("input[type=text]") || getComputedStyle(e).overflow != "visible") &&
			(e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight))
			faults.push("clipped: " + e.outerHTML)
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange()
	while (texts.nextNode()) {
		range.selectNodeContents(texts.currentNode)
		const lines = [...range.getClientRects()].filter(line => line.width)
		for (let e = texts.currentNode.parentElement; e; e = e.parentElement) {
			const box = e.getBoundingClientRect()
			if (getComputedStyle(e).display != "inline" &&
				lines.some(line => line.left < box.left - 1 || line.right > box.right + 1))
				faults.push("sticks out of " + e.tagName + ": " + texts.currentNode.data)
		}
	}
	return faults
})()`

// look changes the viewport, and the user's color preference.
func (b *tab) look(width int64, scheme string) {
	b.t.Helper()
	metrics := emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1,
		Mobile: width < 600} // a telephone pretends to be wide unless the page says that it fits
	if _, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, metrics); err != nil {
		b.t.Fatal(err)
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatal(err)
	}
}

// screenshot takes a picture of the whole page if SCREENSHOTS is set.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
