package devidp_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream/devidp"
	"github.com/google/go-cmp/cmp"
)

// with returns the URL with one parameter changed, or removed if the value is empty.
func with(address, name, value string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	if q.Set(name, value); value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func TestAskedAgainOrNot(t *testing.T) {
	tests := []struct {
		name    string
		change  func(w *world, address string) string
		atOnce  bool
		granted string
	}{
		{"same scopes", func(_ *world, a string) string { return a }, true, "read:user user:email"},
		{"fewer scopes", func(_ *world, a string) string { return with(a, "scope", "read:user") }, true, "read:user"},
		{"no scope: all that were ever granted", func(_ *world, a string) string { return with(a, "scope", "") },
			true, "read:user user:email"},
		{"the same person suggested", func(_ *world, a string) string { return with(a, "login", "octocat") },
			true, "read:user user:email"},
		{"more scopes", func(_ *world, a string) string { return with(a, "scope", "read:user repo") }, false, ""},
		{"another person suggested", func(_ *world, a string) string { return with(a, "login", "mallory") }, false, ""},
		{"select_account", func(_ *world, a string) string { return with(a, "prompt", "select_account") }, false, ""},
		{"another browser", func(w *world, a string) string { w.browser = newBrowser(w.T); return a }, false, ""},
		{"a forged cookie", func(w *world, a string) string {
			u, err := url.Parse(w.idp.URL())
			if err != nil {
				w.Fatal(err)
			}
			cookies := w.browser.Jar.Cookies(u)
			if len(cookies) != 1 {
				w.Fatalf("control: got %d cookies, want 1", len(cookies))
			}
			cookies[0].Value = "octocat.00"
			w.browser.Jar.SetCookies(u, cookies)
			return a
		}, false, ""},
		{"revoked", func(w *world, a string) string {
			if err := w.idp.RevokeTokens("octocat"); err != nil {
				w.Fatal(err)
			}
			return a
		}, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.signIn("octocat")
			_, _, back := w.get(tt.change(w, w.authURL()))
			if back.Has("code") != tt.atOnce {
				t.Fatalf("sent back at once: got %t, want %t", back.Has("code"), tt.atOnce)
			}
			if !tt.atOnce {
				return
			}
			token, err := w.provider.Exchange(t.Context(), callback, back.Get("code"), verifier, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(tt.granted), token.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEleventhSignInWithinAnHourIsAskedAbout(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		w.signIn("octocat")
		w.clock.add(time.Minute)
	}
	if _, _, back := w.get(w.authURL()); back != nil {
		t.Error("the eleventh sign-in passes without a page")
	}
	w.clock.add(50 * time.Minute)
	if _, _, back := w.get(w.authURL()); !back.Has("code") {
		t.Error("control: after the hour there still is a page")
	}
}

func TestWrongAuthorizeRequests(t *testing.T) {
	tests := []struct {
		name, param, value, want string
	}{
		{"control", "state", "the-state", ""},
		{"foreign redirect_uri", "redirect_uri", "https://evil.example/callback", "redirect_uri_mismatch"},
		{"longer redirect_uri", "redirect_uri", callback + "/x", "redirect_uri_mismatch"},
		{"plain challenge", "code_challenge_method", "plain", "invalid_request"},
		{"challenge without a method", "code_challenge_method", "", "invalid_request"},
		{"method without a challenge", "code_challenge", "", "invalid_request"},
		{"short challenge", "code_challenge", "abc", "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			_, page, back := w.get(with(w.authURL(), tt.param, tt.value))
			if got := back.Get("error"); got != tt.want {
				t.Errorf("error: got %q, want %q", got, tt.want)
			}
			if tt.want != "" && back.Get("state") != "the-state" {
				t.Error("the state is lost")
			}
			if tt.want == "" && !strings.Contains(page, "not GitHub") {
				t.Error("the page does not say what it is")
			}
		})
	}
	t.Run("unknown client", func(t *testing.T) {
		w := newWorld(t)
		status, page, back := w.get(with(w.authURL(), "client_id", "Ov23other"))
		if status != http.StatusNotFound || back != nil || !strings.Contains(page, "GITHUB_CLIENT_ID") {
			t.Errorf("got %d, %v, want a page with 404 and no redirect", status, back)
		}
	})
}

func TestFormFromElsewhere(t *testing.T) {
	w := newWorld(t)
	_, page, _ := w.get(w.authURL())
	own := w.idp.URL()
	tests := []struct {
		name   string
		header http.Header
		want   int
	}{
		{"control: Sec-Fetch-Site", http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusFound},
		{"control: Origin", http.Header{"Origin": {own}}, http.StatusFound},
		{"another site", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {own}}, http.StatusForbidden},
		{"another port", http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		{"another site in an old browser", http.Header{"Origin": {baseURL}}, http.StatusForbidden},
		{"a sandboxed frame", http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"no word on where from", http.Header{}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, _, _ := w.post(form(page, "octocat", "authorize"), tt.header); status != tt.want {
				t.Errorf("got %d, want %d", status, tt.want)
			}
		})
	}
	t.Run("a person who does not exist", func(t *testing.T) {
		status, _, _ := w.post(form(page, "nobody", "authorize"), http.Header{"Origin": {own}})
		if status != http.StatusBadRequest {
			t.Errorf("got %d, want 400", status)
		}
	})
	t.Run("a request changed in the form", func(t *testing.T) {
		f := form(page, "octocat", "authorize")
		f.Set("request", strings.ReplaceAll(f.Get("request"), "callback", "elsewhere"))
		_, _, back := w.post(f, http.Header{"Origin": {own}})
		if back.Get("error") != "redirect_uri_mismatch" || back.Has("code") {
			t.Errorf("got %v", back)
		}
	})
	t.Run("a scope nobody asked for", func(t *testing.T) {
		f := form(page, "octocat", "authorize")
		f.Add("scope", "repo")
		_, _, back := w.post(f, http.Header{"Origin": {own}})
		token, err := w.provider.Exchange(t.Context(), callback, back.Get("code"), verifier, nil)
		if err != nil || slices.Contains(token.Scopes, "repo") {
			t.Errorf("got %v, want a token without repo", err)
		}
	})
}

func TestPageEscapes(t *testing.T) {
	w := newWorld(t)
	const evil = `"><script>alert(1)</script>`
	address := w.authURL(evil)
	for _, param := range []string{"state", "login", "prompt"} {
		address = with(address, param, evil)
	}
	_, page, _ := w.get(address + "&" + url.QueryEscape(evil) + "=%zz" + `"><script>`)
	if strings.Contains(page, "<script>") {
		t.Error("a value from the query became markup")
	}
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Error("control: the scope is not on the page")
	}
}

func TestIss(t *testing.T) {
	w := newWorld(t)
	for mode, want := range map[devidp.IssMode]string{
		devidp.IssRight: w.idp.URL() + "/login/oauth", devidp.IssAbsent: "", devidp.IssWrong: "https://issuer.example.com",
	} {
		w.idp.SetIss(mode)
		if got := w.answer(w.authURL(), "octocat", "authorize").Get("iss"); got != want {
			t.Errorf("mode %d: got %q, want %q", mode, got, want)
		}
	}
}

func TestRestartSignsNobodyOut(t *testing.T) {
	c := devidp.Config{BaseURL: baseURL, Dir: t.TempDir()}
	idp := start(t, c)
	w := &world{T: t, idp: idp, provider: newProvider(t, idp), browser: newBrowser(t)}
	token := w.signIn("octocat")
	idp.Close()

	w.idp = start(t, c)
	if w.idp.URL() != idp.URL() || w.idp.GitHub() != idp.GitHub() {
		t.Error("the address or the app has changed")
	}
	if !w.works(token) {
		t.Error("the token is dead")
	}
	if _, _, back := w.get(w.authURL()); !back.Has("code") {
		t.Error("the browser has to sign in again")
	}

	name := filepath.Join(c.Dir, "devidp.json")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode: got %v, want 0600", info.Mode())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), token.Access) || !strings.Contains(string(b), "octocat") {
		t.Error("want the file to name the person and not to hold the token")
	}
	if files, err := filepath.Glob(filepath.Join(c.Dir, "*")); err != nil || len(files) != 1 {
		t.Errorf("got %v, %v, want one file", files, err)
	}
}

func TestOldPortIsTaken(t *testing.T) {
	dir := t.TempDir()
	first := start(t, devidp.Config{BaseURL: baseURL, Dir: dir})
	second := start(t, devidp.Config{BaseURL: baseURL, Dir: dir})
	if first.URL() == second.URL() || first.GitHub().ClientID != second.GitHub().ClientID {
		t.Errorf("got %s and %s, want the same app at another port", first.URL(), second.URL())
	}
}

func TestBrokenStateFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "devidp.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := devidp.Start(devidp.Config{BaseURL: baseURL, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestWhereItListens(t *testing.T) {
	for base, host := range map[string]string{
		"http://localhost:20400": "127.0.0.1",
		"http://127.0.0.1:20400": "localhost",
		"http://[::1]:20400":     "localhost",
	} {
		idp := start(t, devidp.Config{BaseURL: base})
		u, err := url.Parse(idp.URL())
		if err != nil {
			t.Fatal(err)
		}
		if port, _ := strconv.Atoi(u.Port()); u.Hostname() != host || port <= 20400 {
			t.Errorf("for %s: got %s, want %s above port 20400", base, idp.URL(), host)
		}
		res, err := http.Get(idp.URL())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	for _, base := range []string{"https://mcp.example.com", "http://192.0.2.7:8080", "http://localhost.evil.example:80",
		"http://0.0.0.0:8080", ""} {
		idp, err := devidp.Start(devidp.Config{BaseURL: base, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			idp.Close()
			t.Errorf("%q: the development provider serves a public server", base)
		} else if !strings.Contains(err.Error(), "BASE_URL") {
			t.Errorf("%q: got %v, want an error that names BASE_URL", base, err)
		}
	}
}
