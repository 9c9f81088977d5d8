package devidp

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Fault replaces the correct response to a request.
type Fault struct {
	Status int // 0 means 200
	Header http.Header
	Body   string
	// Drop cuts the connection without a response.
	Drop bool
	// AfterCommit lets the request take effect first: what was redeemed is redeemed, only the answer is lost.
	AfterCommit bool
	// Then is called before the answer; it may be nil.
	Then func()
}

type fault struct {
	path string
	n    int
	Fault
}

// FailNext makes the next n requests to the path meet the fault: "/login/oauth/access_token", "/api/v3/user".
func (s *Server) FailNext(path string, n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fault{path, n, f})
}

// RevokeTokens ends a person's authorizations and all tokens, as they may at any time in their settings.
func (s *Server) RevokeTokens(login string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range []*vendor{github, google, generic} {
		s.revoke(v, login)
	}
	return s.save()
}

// A Document is a kind of document that Google or the vendor sends.
type Document int

// The documents to lie in.
const (
	Metadata Document = iota
	IDToken
	Userinfo
)

// Lie makes the function change documents of that kind before they are sent; nil ends it. Thin ID tokens, other
// vendors' claims and clocks that are wrong are made in this way, too.
func (s *Server) Lie(d Document, lie func(document map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lies[d] = lie
}

// changed returns the document after the lie. The caller holds s.mu.
func (s *Server) changed(d Document, document map[string]any) map[string]any {
	if lie := s.lies[d]; lie != nil {
		lie(document)
	}
	return document
}

// A Signature is a way to sign ID tokens.
type Signature int

// The ways to sign.
const (
	RightKey Signature = iota
	UnknownKey
	AlgNone
	AlgHS256 // under the client secret
)

// SetSignature changes how the ID tokens to come are signed.
func (s *Server) SetSignature(how Signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signed = how
}

// An IssMode says what the iss parameter of callbacks is (RFC 9207). GitHub began to send it in 2026.
type IssMode int

// The ways to send iss.
const (
	IssRight IssMode = iota
	IssAbsent
	IssWrong
)

// SetIss changes the iss parameter of the callbacks to come.
func (s *Server) SetIss(m IssMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.iss = m
}

// A Call is a request that was received. It holds no values that could be secret.
type Call struct {
	Method string
	Path   string
	Params []string // names of query and form parameters, sorted
	Auth   string   // where the credentials were: "none", "basic", "bearer" or "form"
}

// Calls returns the last thousand requests, the oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// record parses the form, too, which nothing else reads as a stream.
func (s *Server) record(r *http.Request) {
	r.ParseForm() // a malformed form is an incomplete one
	call := Call{Method: r.Method, Path: r.URL.Path, Params: slices.Sorted(maps.Keys(r.Form)), Auth: "none"}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "basic":
		call.Auth = "basic"
	case "bearer", "token":
		call.Auth = "bearer"
	case "":
		if r.PostForm.Has("client_secret") {
			call.Auth = "form"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const keep = 1000
	s.calls = append(s.calls, call)
	s.calls = s.calls[max(0, len(s.calls)-keep):]
}

func (s *Server) serveFault(w http.ResponseWriter, r *http.Request, next http.Handler) {
	f, ok := s.nextFault(r.URL)
	if !ok {
		next.ServeHTTP(w, r)
		return
	}
	if f.AfterCommit {
		next.ServeHTTP(nowhere{}, r)
	}
	if f.Then != nil {
		f.Then()
	}
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), f.Header)
	w.WriteHeader(max(f.Status, http.StatusOK))
	io.WriteString(w, f.Body)
}

func (s *Server) nextFault(u *url.URL) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults, func(f fault) bool { return f.path == u.Path })
	if i < 0 {
		return Fault{}, false
	}
	f := &s.faults[i]
	answer := f.Fault
	if f.n--; f.n <= 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return answer, true
}

// nowhere takes the answer that a fault replaces.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
