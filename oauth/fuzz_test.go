package oauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/templates"
)

// emptyStore is a store without any rows.
type emptyStore struct{ store.Store }

func (emptyStore) Token(context.Context, store.Hash) (store.Token, error) {
	return store.Token{}, store.ErrNotFound
}
func (emptyStore) Code(context.Context, store.Hash) (store.Code, error) {
	return store.Code{}, store.ErrNotFound
}
func (emptyStore) Blocks(context.Context) ([]string, error) { return nil, nil }
func (emptyStore) Client(context.Context, store.Hash) (store.Client, error) {
	return store.Client{}, store.ErrNotFound
}

func FuzzAuthorizationHeader(f *testing.F) {
	s := newTestServer(f, "https://mcp.example")
	token := seal.NewSecret().Format(seal.AccessPrefix)
	f.Add("Bearer " + token)
	f.Add("bearer  " + token)
	f.Add("Basic eDp5")
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Header["Authorization"] = []string{header}
		session, err := s.authenticate(r)
		if session != nil || clients.AsError(err).Status != http.StatusUnauthorized {
			t.Fatalf("%q: got %v, %v, want 401", header, session, err)
		}
		challenge := s.challenge(clients.AsError(err), s.signInScopes())
		if !strings.HasPrefix(challenge, "Bearer ") || strings.ContainsAny(challenge, "\r\n") || strings.Count(challenge,
			`"`)%2 != 0 {
			t.Fatalf("%q: malformed challenge %s", header, challenge)
		}
	})
}

func FuzzTokenForm(f *testing.F) {
	s := newTestServer(f, "https://mcp.example")
	id := register(f, s, "https://a.example/cb")
	f.Add("grant_type=authorization_code&client_id="+id+"&code="+seal.NewSecret().Format(seal.CodePrefix), "")
	f.Add("grant_type=refresh_token&client_id="+id+"&refresh_token="+seal.NewSecret().Format(seal.RefreshPrefix), "")
	f.Add("grant_type=refresh_token&refresh_token=x&resource=https%3A%2F%2Fmcp.example%2Fmcp&resource=", "Basic "+id)
	f.Add("a=1&a=2&%zz", "")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		w := httptest.NewRecorder()
		s.handleToken(w, r)
		// Nothing that is in the store, nothing that may come out.
		if w.Code != http.StatusBadRequest && w.Code != http.StatusUnauthorized &&
			w.Code != http.StatusRequestEntityTooLarge {
			t.Fatalf("%q: status %d: %s", body, w.Code, w.Body)
		}
		if !strings.HasPrefix(w.Body.String(), `{"error":"`) || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%q: got %s", body, w.Body)
		}
	})
}

func FuzzAuthorizeQuery(f *testing.F) {
	s := newTestServer(f, "https://mcp.example")
	id := register(f, s, "https://a.example/cb?x=1")
	good := url.Values{"client_id": {id}, "response_type": {"code"}, "code_challenge": {testChallenge},
		"code_challenge_method": {"S256"}, "state": {"a b+c/=="}}.Encode()
	f.Add(good)
	f.Add(good + "&redirect_uri=https%3A%2F%2Fevil.example%2F")
	f.Add(good + "&state=2&resource=https://mcp.example")
	f.Fuzz(func(t *testing.T, raw string) {
		req, err := s.parseAuthorize(t.Context(), raw, nil)
		if req == nil {
			if err == nil {
				t.Fatal("neither a request nor an error")
			}
			return
		}
		// The client is known. Whatever else is wrong, the redirect goes to its URI and carries its state unchanged.
		var page templates.ErrorPage
		s.addReturnLink(&page, req, "x", "y")
		back, parseErr := url.Parse(string(page.BackURL))
		if parseErr != nil || back.Host != "a.example" || back.Path != "/cb" || back.Query().Get("x") != "1" {
			t.Fatalf("%q: way back %v, %v", raw, back, parseErr)
		}
		sent, _ := url.ParseQuery(raw)
		if err == nil && back.Query().Get("state") != sent.Get("state") {
			t.Fatalf("%q: state came back as %q", raw, back.Query().Get("state"))
		}
	})
}
