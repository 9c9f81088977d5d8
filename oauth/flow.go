package oauth

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"github.com/gorilla/securecookie"
)

// A flow is an authorization between the consent page and the callback. It exists only in a sealed cookie of the
// browser that consented. So nothing is stored before sign-in, any instance can finish another's flow, and a user
// cannot finish a flow that another user consented to (the confused deputy).
//
// A flow without a Request is a visit to /connections. Its purpose is sealed, and alone decides what the callback does.
type flow struct {
	ID       []byte `json:"i"` // 32 random bytes
	Provider string `json:"p"`
	question
	Disconnect []byte    `json:"d,omitempty"` // the User.ID to disconnect from everything; empty if none
	Began      time.Time `json:"t"`
}

const (
	// flowLife is how long a user may take at the provider.
	flowLife = 10 * time.Minute
	// maxFlows is how many sign-ins a browser may have in flight.
	maxFlows = 4
)

func newFlow(provider string, asked question, now time.Time) *flow {
	id := seal.NewSecret()
	return &flow{ID: id[:], Provider: provider, question: asked, Began: now}
}

// flows packs and unpacks flows.
var flows = seal.NewPacker(`{"i":"","p":"github","q":"response_type=code&client_id=mcp_ci_&redirect_uri=http%3A%2F%2F` +
	`localhost%3A%2Fcallback&state=&scope=&code_challenge=&code_challenge_method=S256&resource=https%3A%2F%2F","t":"`)

// The values that the provider sees are derived from the flow's ID, so only the ID has to be kept.

func (f *flow) derived(label string) string {
	return base64.RawURLEncoding.EncodeToString(seal.Derive(f.ID, nil, label))
}

func (f *flow) state() string    { return f.derived("state") }
func (f *flow) verifier() string { return f.derived("verifier") } // 43 characters, RFC 7636 section 4.1
func (f *flow) nonce() string    { return f.derived("nonce") }

// hash returns the hash of a flow that the store keeps, so that its callback works once.
func (f *flow) hash() store.Hash { return store.HashOf(f.derived("flow")) }

// flowCookieName returns the name of the cookie for a state.
func (s *Server) flowCookieName(state string) string {
	return s.flowCookiePrefix + base64.RawURLEncoding.EncodeToString(seal.Derive([]byte(state), nil, "cookie name"))[:8]
}

func flowCookiePrefix(base *url.URL) string { return cookieName(base, "flow") + "_" }

// errTooLong is returned if the cookie of the flow is too large for a browser.
var errTooLong = &clients.Error{Code: "invalid_request", Status: http.StatusBadRequest,
	Description: "The request is too long: shorten the state."}

// sealFlow returns the cookie for a flow, or [errTooLong].
func (s *Server) sealFlow(f *flow) (*http.Cookie, error) {
	plain, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	name := s.flowCookieName(f.state())
	// Packed, because securecookie encodes in base64 twice.
	value, err := securecookie.EncodeMulti(name, flows.Pack(plain), s.flowCodecs...)
	if err != nil || len(name)+len(value) > maxCookie {
		return nil, errTooLong
	}
	return s.cookie(name, value, flowLife), nil
}

// openFlow returns the flow in a cookie, or nil if the cookie is not valid or the flow has expired.
func (s *Server) openFlow(c *http.Cookie) *flow {
	var packed []byte
	if err := securecookie.DecodeMulti(c.Name, c.Value, &packed, s.flowCodecs...); err != nil {
		return nil
	}
	plain, err := flows.Unpack(packed)
	if err != nil {
		return nil
	}
	var f flow
	if err := json.Unmarshal(plain, &f); err != nil {
		return nil
	}
	if !s.within(flowLife, f.Began) {
		return nil
	}
	return &f
}

// flowOf returns the flow that a callback's state belongs to, or nil if this browser has none (RFC 6749 section
// 10.12).
func (s *Server) flowOf(r *http.Request, state string) *flow {
	if state == "" {
		return nil
	}
	c, err := r.Cookie(s.flowCookieName(state))
	if err != nil {
		return nil
	}
	f := s.openFlow(c)
	if f == nil || subtle.ConstantTimeCompare([]byte(f.state()), []byte(state)) != 1 {
		return nil
	}
	return f
}

// startFlow sets the cookie of a new flow. It deletes the oldest flows above maxFlows in one browser, and flow cookies
// that cannot be opened any more.
func (s *Server) startFlow(w http.ResponseWriter, r *http.Request, f *flow) error {
	cookie, err := s.sealFlow(f)
	if err != nil {
		return err
	}
	type inFlight struct {
		name  string
		began time.Time // zero if it cannot be opened any more
	}
	var others []inFlight
	for _, c := range r.Cookies() {
		if !strings.HasPrefix(c.Name, s.flowCookiePrefix) {
			continue
		}
		o := inFlight{name: c.Name}
		if f := s.openFlow(c); f != nil {
			o.began = f.Began
		}
		others = append(others, o)
	}
	slices.SortFunc(others, func(a, b inFlight) int { return b.began.Compare(a.began) }) // newest first
	for i, o := range others {
		if i >= maxFlows-1 || o.began.IsZero() {
			s.deleteCookie(w, o.name)
		}
	}
	http.SetCookie(w, cookie)
	return nil
}

// endFlow deletes a flow's cookie.
func (s *Server) endFlow(w http.ResponseWriter, f *flow) {
	s.deleteCookie(w, s.flowCookieName(f.state()))
}
