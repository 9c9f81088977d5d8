package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
)

// TestStrangersDoNotKeepOthersFromAProvider fills all places for sign-ins with invalid codes, while the provider hangs.
// A user still gets through, and a sign-in whose code was redeemed before is not pushed out.
func TestStrangersDoNotKeepOthersFromAProvider(t *testing.T) {
	const places = 64
	w := newWorld(t, nil)
	id := w.register(callbackURI)
	arrived, release := make(chan struct{}), make(chan struct{})
	hang := func() { arrived <- struct{}{}; <-release }
	asJSON := http.Header{"Content-Type": {"application/json"}}
	finish := func(b *browser, address string) <-chan int {
		status := make(chan int, 1)
		go func() { status <- b.open(address).status }()
		return status
	}

	early, late := w.atCallback(id), w.atCallback(id)
	w.app.DevIDP.FailNext("/api/v3/user", 1, devidp.Fault{Then: hang, Header: asJSON,
		Body: `{"id":583231,"login":"octocat"}`})
	earlyDone := finish(early.b, early.url.String())
	<-arrived // its code has been redeemed

	w.app.DevIDP.FailNext("/login/oauth/access_token", places, devidp.Fault{Then: hang, Header: asJSON,
		Body: `{"error":"bad_verification_code"}`})
	strangers := make(chan int, places)
	for i := range places {
		b := w.browser()
		p := b.open(w.authorizeURL(id, nil)).press("Continue with GitHub", nil)
		forged := url.Values{"code": {fmt.Sprint("junk", i)}, "state": {p.url.Query().Get("state")}}
		done := finish(b, w.base+"/callback/github?"+forged.Encode())
		go func() { strangers <- <-done }()
		<-arrived
	}

	w.clock.advance(2 * time.Second)
	end := late.b.open(late.url.String())
	if end.status != 0 {
		t.Fatalf("while strangers hold all places: got status %d:\n%s", end.status, end.text)
	}
	w.redeem(id, end.url.Query().Get("code"))
	if got := <-strangers; got != http.StatusServiceUnavailable {
		t.Errorf("the stranger who was pushed out: got status %d, want 503", got)
	}
	close(release)
	if got := <-earlyDone; got != 0 {
		t.Errorf("the user whose code had been redeemed: got status %d, want a sign-in", got)
	}
	for range places - 1 { // only one was pushed out
		if got := <-strangers; got != http.StatusBadRequest {
			t.Errorf("a stranger: got status %d, want 400", got)
		}
	}
	w.signIn() // without strangers, sign-in works as before
}

// TestStrangersDoNotKeepOutAKnownClient fills both places of a host, when the only copy of a client's document from
// there is too old to use.
func TestStrangersDoNotKeepOutAKnownClient(t *testing.T) {
	w, host := newDocumentWorld(t)
	known, unknown := host.putClient("/known", nil), host.putClient("/unknown", nil)
	w.redeem(known, w.code(known))
	w.clock.advance(8 * 24 * time.Hour)
	w.restart()

	arrived, release := make(chan struct{}), make(chan struct{})
	strangers := make(chan int, 2)
	for i := range 2 {
		path := fmt.Sprint("/hang", i)
		host.handle(path, func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-release:
			}
			panic(http.ErrAbortHandler)
		})
		b := w.browser()
		go func() { strangers <- b.open(w.authorizeURL(host.url+path, nil)).status }()
		<-arrived
	}
	open := func(id string) int { return w.browser().open(w.authorizeURL(id, nil)).status }
	if got := open(unknown); got != http.StatusServiceUnavailable {
		t.Errorf("an unknown client at once: got status %d, want 503", got)
	}
	if got := open(known); got != http.StatusOK {
		t.Errorf("the known client: got status %d, want 200", got)
	}
	if got := open(unknown); got != http.StatusOK { // in the place that became free
		t.Errorf("an unknown client in a free place: got status %d, want 200", got)
	}
	if got := <-strangers; got != http.StatusServiceUnavailable {
		t.Errorf("the stranger who was pushed out: got status %d, want 503", got)
	}
	close(release)
	<-strangers
}
