package grants

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
)

// subscribe opens a subscription for that user and returns the function that ends it.
func subscribe(s *streams, user int) (func(), error) {
	r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
	r.Header.Set("Mcp-Method", "subscriptions/listen")
	_, done, err := s.begin(httptest.NewRecorder(), r,
		&Session{Grant: store.Grant{User: store.User{ID: store.Hash{byte(user), byte(user >> 8)}}}})
	return done, err
}

func TestSubscriptionsAreBounded(t *testing.T) {
	s := newStreams()
	var first func()
	for i := range maxSubscriptions {
		done, err := subscribe(s, i)
		if err != nil {
			t.Fatalf("subscription %d: %v", i+1, err)
		}
		if i == 0 {
			first = done
		}
	}
	if _, err := subscribe(s, maxSubscriptions); clients.AsError(err).Status != http.StatusServiceUnavailable {
		t.Errorf("one more: got %v, want a 503", err)
	}
	first()
	if _, err := subscribe(s, maxSubscriptions); err != nil {
		t.Errorf("control: one more after one has gone: %v", err)
	}
}

// TestSubscriptionsAreCountedRight checks that no subscription is left after many concurrent opens, refusals and ends.
func TestSubscriptionsAreCountedRight(t *testing.T) {
	s := newStreams()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			done, err := subscribe(s, i%3)
			if err != nil {
				if !errors.Is(err, errUserSubscriptions) {
					t.Error(err)
				}
				return
			}
			s.end(func(store.Hash, *store.Grant) bool { return i%2 == 0 }) // does not change the counts
			done()
		})
	}
	all.Wait()
	if s.total != 0 || len(s.subscriptions) != 0 || len(s.open) != 0 {
		t.Errorf("%d subscriptions of %d people are left, and %d streams", s.total, len(s.subscriptions), len(s.open))
	}
}

func TestNoSubscriptionOnceItShutsDown(t *testing.T) {
	s := newStreams()
	if _, err := subscribe(s, 0); err != nil {
		t.Fatalf("control: %v", err)
	}
	s.shutDown()
	if _, err := subscribe(s, 0); clients.AsError(err).Status != http.StatusServiceUnavailable {
		t.Errorf("got %v, want a 503", err)
	}
}
