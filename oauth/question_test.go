package oauth

import (
	"net/url"
	"testing"
)

func TestSealedQuestionHoldsForItsServerAlone(t *testing.T) {
	s, other := newTestServer(t, "https://mcp.example"), newTestServer(t, "https://other.example") // with the same secret
	q := question{Request: "client_id=x", Redirect: "https://a.example/cb", Name: "A", Scopes: "account:read"}
	form := func(s *Server) url.Values {
		values := url.Values{}
		for _, field := range s.sealQuestion(q) {
			values.Set(field.Name, field.Value)
		}
		return values
	}
	if got := s.openQuestion(form(s)); got == nil || *got != q {
		t.Errorf("control: opened to %v", got)
	}
	if got := s.openQuestion(form(other)); got != nil {
		t.Error("another server's seal was accepted")
	}
	// A byte that moves from one member to the next leaves the text as a whole the same.
	moved := form(s)
	moved.Set("name", "Aa")
	moved.Set("scopes", "ccount:read")
	if s.openQuestion(moved) != nil {
		t.Error("the seal does not tell where one member ends")
	}
}

// TestScopesAreThoseThatThePersonSaw checks a server whose scopes change, by an upgrade, between page and callback:
// the granted scopes are those that the page showed.
func TestScopesAreThoseThatThePersonSaw(t *testing.T) {
	s := newTestServer(t, "https://mcp.example")
	id := register(t, s, "https://a.example/cb")
	raw := url.Values{"client_id": {id}, "response_type": {"code"}, "code_challenge": {testChallenge},
		"code_challenge_method": {"S256"}}.Encode()
	before, err := s.parseAuthorize(t.Context(), raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	read := s.scopes[0]
	for _, tt := range []struct {
		name   string
		scopes []Scope
		want   string // after the upgrade, for a user who was asked before it; empty if an error is wanted
		fresh  string // and for a user who is asked after it
	}{
		{"control: the same", []Scope{read}, "account:read", "account:read"},
		{"one more", []Scope{read, {Name: "mail:send", AtSignIn: true}}, "account:read", "account:read mail:send"},
		{"another", []Scope{{Name: "mail:send", AtSignIn: true}}, "", "mail:send"},
	} {
		s.scopes = tt.scopes
		asked, err := s.parseAuthorize(t.Context(), raw, &before.question)
		if got := scopeNames(asked.scopes); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: asked before: got %q and error %v, want %q", tt.name, got, err, tt.want)
		}
		now, err := s.parseAuthorize(t.Context(), raw, nil)
		if err != nil || now.Scopes != tt.fresh || (now.question == before.question) != (tt.fresh == before.Scopes) {
			t.Errorf("%s: asked now: got %q (%v), want %q", tt.name, now.Scopes, err, tt.fresh)
		}
	}
}
