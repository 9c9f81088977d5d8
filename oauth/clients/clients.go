// Package clients identifies MCP clients. It decides whether a client may request a sign-in, where it may redirect
// users, and whether a request at /token is its own.
//
// A client need not register: its client_id may be the URL of a document that describes it (document.go). The URL is
// untrusted, so it is fetched with care (fetch.go). The operator can register clients (preregistered.go). A client that
// registers itself gets a client_id that is its signed registration (client.go). If a document names keys, the client
// can authenticate with them at /token (assertion.go). The operator can block clients (block.go).
package clients

import (
	"context"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/oauth/storm"
)

// A Registry knows the clients: those that the operator registered, those that registered themselves, and those with a
// metadata document.
type Registry struct {
	baseURL         string
	ring            seal.Ring
	store           store.Store
	known           map[string]*store.Client // registered by the operator; keyed by client_id
	documents       *fetcher
	redirectSchemes []string
	registration    bool
	log             *storm.Log
	now             func() time.Time
}

// Config configures a [Registry]. All fields are required unless marked optional.
type Config struct {
	BaseURL string
	Ring    seal.Ring
	Store   store.Store
	// Known are the clients that the operator registered, as [ParseClients] returns them. Optional.
	Known []store.Client
	// Documents defines which clients may use a metadata document instead of registering.
	Documents DocumentPolicy
	// RedirectSchemes are the private schemes (RFC 8252 section 7.1) that clients may be redirected to. Optional.
	RedirectSchemes []string
	// Registration reports whether clients may register themselves (RFC 7591).
	Registration bool
	Log          *storm.Log
	Now          func() time.Time
}

// New returns a registry.
func New(c Config) *Registry {
	return &Registry{baseURL: c.BaseURL, ring: c.Ring, store: c.Store, known: byID(c.Known),
		documents: newFetcher(c.Documents, c.Now), redirectSchemes: c.RedirectSchemes, registration: c.Registration,
		log: c.Log, now: c.Now}
}

// Preregistered reports whether the operator registered the client.
func (reg *Registry) Preregistered(c *store.Client) bool { return reg.known[c.ID] != nil }

// SelfRegistration reports whether clients may register themselves.
func (reg *Registry) SelfRegistration() bool { return reg.registration }

// Documents reports whether clients may use a metadata document.
func (reg *Registry) Documents() bool { return reg.documents.policy != DocumentsOff }

// AuthMethods returns the supported client authentication methods, and the algorithms for assertions.
func (reg *Registry) AuthMethods() (methods []string, algorithms []jose.SignatureAlgorithm) {
	methods = []string{authNone, authBasic, authPost}
	if reg.Documents() {
		methods, algorithms = append(methods, authJWT), assertionAlgorithms
	}
	return methods, algorithms
}

// ForSignIn returns the client that requests a sign-in, as it describes itself now. [ErrUnknown] is returned if there
// is none, [ErrBlocked] if the operator blocked it, and [ErrRegistrationOff] if it registered itself but registration
// is off.
func (reg *Registry) ForSignIn(ctx context.Context, id string) (*store.Client, error) {
	find := reg.client
	var blocks []string
	var err error
	if namesDocument(id) && reg.known[id] == nil { // else its document is not fetched
		if !reg.Documents() {
			return nil, ErrUnknown
		}
		// The operator may have blocked its publisher: then the document is not even fetched.
		if blocks, err = reg.blocks(ctx); err != nil {
			return nil, err
		}
		if BlockedBy(&store.Client{ID: id}, blocks) {
			return nil, ErrBlocked
		}
		find = reg.clientByDocument
	}
	c, err := find(ctx, id)
	if err != nil {
		return nil, err
	}
	if blocks == nil {
		if blocks, err = reg.blocks(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case BlockedBy(c, blocks):
		return nil, ErrBlocked
	case SelfRegistered(c) && !reg.registration:
		return nil, ErrRegistrationOff
	}
	return c, nil
}
