package e2e

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// stillIn presents a refresh token, checks that the new access token works, and returns the new pair.
func (w *world) stillIn(what string, s tokens) tokens {
	w.t.Helper()
	a := w.refresh(s.clientID, s.refresh)
	if a.status != http.StatusOK {
		w.t.Fatalf("%s: got status %d, %s", what, a.status, a.body)
	}
	if got := w.tool(a.str("access_token"), "whoami").status; got != http.StatusOK {
		w.t.Errorf("%s: the access token got status %d", what, got)
	}
	return tokens{s.clientID, a.str("access_token"), a.str("refresh_token"), s.scope}
}

// TestTwoSessionsTakeTurns checks that two sessions of one installation, each of which keeps the last refresh token
// that it got, can use one grant for days. Users of several clients reported that one signed the other out.
func TestTwoSessionsTakeTurns(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	one := w.signIn()
	two := one
	for day := range 5 {
		one = w.stillIn("first session", one)
		w.clock.advance(12 * time.Hour)
		two = w.stillIn("second session", two)
		w.clock.advance(12 * time.Hour)
		if day == 4 {
			break
		}
	}
	// A session that is two rotations behind has a copy that should not exist.
	behind := one
	for range 2 {
		one = w.stillIn("first session", one)
	}
	w.clock.advance(3 * time.Minute)
	w.signedOut(behind)
	w.signedOut(one)
}

// TestLostAnswerAfterALongTime checks that a client which never got the response to its last refresh can refresh for as
// long as that response's refresh token lives, and no longer.
func TestLostAnswerAfterALongTime(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0", "REFRESH_TOKEN_TTL": "240h"})
	s := w.signIn()
	w.clock.advance(239 * time.Hour)
	lost := w.refresh(s.clientID, s.refresh)
	w.clock.advance(2 * time.Hour) // the client's access token has expired anyway
	found := w.stillIn("after the answer was lost", s)
	if found.refresh != lost.str("refresh_token") {
		t.Error("it is not the newest refresh token that came")
	}
	if got := w.tool(lost.str("access_token"), "whoami").status; got != http.StatusUnauthorized {
		t.Errorf("the access token of the lost answer came to life again: status %d", got)
	}
	w.clock.advance(237 * time.Hour)
	s = w.stillIn("just before the newest refresh token expires", s)
	w.clock.advance(time.Hour)
	w.signedOut(s)
}

// TestManyPresentALostToken checks that several processes which present the same spent token at the same time, long
// after it was spent, all get the same pair.
func TestManyPresentALostToken(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	s := w.signIn()
	w.refresh(s.clientID, s.refresh)
	w.clock.advance(9 * time.Hour)
	var mu sync.Mutex
	got := map[tokens]int{}
	var racers sync.WaitGroup
	for range 8 {
		racers.Go(func() {
			a := w.refresh(s.clientID, s.refresh)
			mu.Lock()
			defer mu.Unlock()
			got[tokens{"", a.str("access_token"), a.str("refresh_token"), ""}]++
		})
	}
	racers.Wait()
	for pair := range got {
		if status := w.tool(pair.access, "whoami").status; len(got) != 1 || status != http.StatusOK {
			t.Errorf("%d different pairs came; whoami got status %d", len(got), status)
		}
	}
}

// TestRevokedAccessTokenStaysDead checks that a repeated refresh does not restore an access token that its client has
// revoked.
func TestRevokedAccessTokenStaysDead(t *testing.T) {
	w := newWorld(t, map[string]string{"TOKEN_CACHE": "0"})
	s := w.signIn()
	first := w.stillIn("first refresh", s)
	if a := w.post("/revoke", map[string][]string{"client_id": {s.clientID},
		"token": {first.access}}); a.status != http.StatusOK {
		t.Fatalf("revoking: status %d", a.status)
	}
	second := w.stillIn("the same again", s)
	if second.access == first.access {
		t.Error("the revoked access token came again")
	}
	if got := w.tool(first.access, "whoami").status; got != http.StatusUnauthorized {
		t.Errorf("the revoked access token: got status %d, want 401", got)
	}
}
