package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
)

func TestProviderDownAtStart(t *testing.T) {
	i, p := newIssuer(t)
	i.change(0, http.StatusBadGateway)
	if p.Unavailable() {
		t.Error("unavailable before anybody has asked")
	}
	fail := func(when string, asked int) {
		t.Helper()
		if _, err := authURL(t, p); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", when, err)
		}
		if got := i.count(); got != asked {
			t.Errorf("%s: asked %d times, want %d", when, got, asked)
		}
		if !p.Unavailable() {
			t.Errorf("%s: it does not count as unavailable", when)
		}
	}
	fail("down", 1)
	fail("at once again", 1)
	i.change(time.Second, http.StatusBadGateway)
	if p.Unavailable() {
		t.Error("nobody may try again after a second")
	}
	fail("after a second", 2)
	i.change(time.Second, http.StatusBadGateway)
	fail("after the second second, of two", 2)
	for asked := 3; asked < 10; asked++ {
		i.change(time.Minute, http.StatusBadGateway) // the longest time without a new attempt
		fail("a minute later", asked)
	}
	i.change(time.Minute, 0)
	if _, err := authURL(t, p); err != nil || p.Unavailable() {
		t.Errorf("up again: got %v", err)
	}
}

func TestLastGoodDocumentIsKept(t *testing.T) {
	i, p := newIssuer(t)
	want, err := authURL(t, p)
	if err != nil {
		t.Fatal(err)
	}
	i.change(23*time.Hour, 0)
	if _, err := authURL(t, p); err != nil || i.count() != 1 {
		t.Errorf("within a day: got %v, asked %d times", err, i.count())
	}
	i.change(time.Hour, http.StatusInternalServerError)
	for asked := range 2 { // no caller waits for the new document
		if got, err := authURL(t, p); err != nil || got != want || p.Unavailable() {
			t.Errorf("down: got %s, %v", got, err)
		}
		i.waitFor(t, 2)
		if asked == 1 && i.count() != 2 {
			t.Errorf("asked %d times, want 2", i.count())
		}
	}
	i.document = func(base string) map[string]any {
		return map[string]any{"issuer": base, "authorization_endpoint": base + "/moved",
			"token_endpoint": base + "/token", "jwks_uri": base + "/keys"}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		i.change(time.Second, 0) // each time, because the last response might have come after a change of the clock
		got, err := authURL(t, p)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("moved: got %s, %v", got, err)
		}
		if strings.HasPrefix(got, i.URL+"/moved?") {
			break
		}
	}
}

// waitFor waits until the issuer has received that many requests.
func (i *issuer) waitFor(t *testing.T, asked int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); i.count() < asked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times, want %d", i.count(), asked)
		}
	}
}

func TestOneRequestForAll(t *testing.T) {
	i, p := newIssuer(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := authURL(t, p); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := i.count(); got != 1 {
		t.Errorf("asked %d times, want once", got)
	}
}

// TestCanceledDiscovery checks that a user who closes the page at once does not make the provider unavailable.
func TestCanceledDiscovery(t *testing.T) {
	i, p := newIssuer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.AuthCodeURL(ctx, "https://mcp.example.com/callback/oidc", "state", "verifier", "nonce", nil, false)
	if err != nil && !errors.Is(err, upstream.ErrUnavailable) || p.Unavailable() {
		t.Errorf("got %v", err)
	}
	if _, err := authURL(t, p); err != nil || i.count() != 1 {
		t.Errorf("the next one: got %v, asked %d times, want the same once", err, i.count())
	}
}

func TestWrongDiscovery(t *testing.T) {
	set := func(name string, value any) func(*issuer) {
		return func(i *issuer) {
			document := i.document
			i.document = func(base string) map[string]any {
				d := document(base)
				d[name] = value
				return d
			}
		}
	}
	const secret = "Leaked1"
	misconfigured, unavailable := upstream.ErrMisconfigured, upstream.ErrUnavailable
	for _, tt := range []struct {
		name   string
		change func(*issuer)
		kind   error
		want   []string
	}{
		{"another issuer", set("issuer", "https://id.example.com"), misconfigured,
			[]string{"https://id.example.com", "127.0.0.1"}},
		{"no issuer", set("issuer", ""), misconfigured, []string{`calls itself ""`}},
		{"a slash too many", func(i *issuer) { set("issuer", i.URL+"/")(i) }, misconfigured, []string{"slash"}},
		{"no token endpoint", set("token_endpoint", ""), misconfigured, []string{"token_endpoint"}},
		{"S18: token endpoint in cleartext", set("token_endpoint", "http://id.example.com/token"), misconfigured,
			[]string{"token_endpoint"}},
		{"S18: keys in cleartext", set("jwks_uri", "http://id.example.com/keys"), misconfigured, []string{"jwks_uri"}},
		{"S18: revocation in cleartext", set("revocation_endpoint", "http://id.example.com"), misconfigured,
			[]string{"revocation_endpoint"}},
		{"S18: userinfo in cleartext", set("userinfo_endpoint", "http://id.example.com"), misconfigured,
			[]string{"userinfo_endpoint"}},
		{"sign-in page that is a script", set("authorization_endpoint", "javascript:alert(1)"), misconfigured,
			[]string{"authorization_endpoint"}},
		{"only other ways to authenticate", set("token_endpoint_auth_methods_supported", []string{"private_key_jwt"}),
			misconfigured, []string{"client_secret_basic", "client_secret_post"}},
		{"not found", func(i *issuer) { i.status = 404 }, misconfigured, []string{"check its address"}},
		{"S18: redirect", func(i *issuer) { i.status = 302 }, misconfigured, []string{"redirect"}},
		{"a firewall's 403", func(i *issuer) { i.status, i.body = 403, secret }, unavailable, nil},
		{"a web page", func(i *issuer) { i.body = "<h1>" + secret }, unavailable, []string{"not what"}},
		{"two megabytes", func(i *issuer) { i.body = `{"issuer":"` + strings.Repeat("x", 2<<20) + `"}` }, unavailable,
			[]string{"not what"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, p := newIssuer(t)
			tt.change(i)
			_, err := authURL(t, p)
			if !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want the kind %v", err, tt.kind)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %s", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Error("the error holds the body")
			}
			if _, err := p.Exchange(t.Context(), "https://mcp.example.com/callback/oidc", "c0de", "v3rifier", nil); err == nil ||
				strings.Contains(err.Error(), "c0de") || i.count() != 1 {
				t.Errorf("then redeeming a code: got %v, %d requests", err, i.count())
			}
		})
	}
}
