package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/securecookie"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/places"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

// Config configures a [Server]. Every field is required unless its comment says otherwise.
type Config struct {
	// BaseURL is the public origin, such as https://mcp.example.com: the issuer, and the prefix of every URL.
	// See [origin.Parse].
	BaseURL string
	// Name is the name that users see.
	Name string
	// Secrets is the key ring, each at least 32 random bytes. The first seals and signs; all open and verify.
	Secrets [][]byte
	Store   store.Store
	// Providers are the ways to sign in, in the order of the buttons.
	Providers []*upstream.Provider
	// Rules decide which users are allowed. The zero value allows none.
	Rules upstream.Rules
	// Scopes are all scopes that a client can be granted.
	Scopes []Scope
	// AccessTTL and RefreshTTL are the lifetimes of tokens. Each refresh starts a new RefreshTTL.
	AccessTTL, RefreshTTL time.Duration
	// CacheTTL is how long another instance's revocation may go unnoticed. Zero means that every request asks the store.
	CacheTTL time.Duration
	// AllowedOrigins are further origins whose pages may call /mcp. Optional.
	AllowedOrigins []string
	// Documents decides which clients may use a metadata document instead of registering.
	Documents clients.DocumentPolicy
	// Clients are the clients that the operator registered, as [clients.ParseClients] returns them. Optional.
	Clients []store.Client
	// Registration means that clients may register themselves (RFC 7591).
	Registration bool
	// RedirectSchemes are the private schemes (RFC 8252 section 7.1) that clients may be redirected to. Optional.
	RedirectSchemes []string
	// WebhookSecret is the key with which GitHub signs webhook requests. Optional; empty means no webhook.
	WebhookSecret string
	// Development means that the providers are development providers. Every page then says so.
	Development bool
	Log         *slog.Logger
	// Now is the clock. Optional; nil means the system's clock.
	Now func() time.Time
}

// A Server is the authorization server and the bearer gate of one MCP endpoint.
type Server struct {
	baseURL          string
	base             *url.URL
	resource         string // the audience of every token: BaseURL/mcp
	name             string
	ring             seal.Ring
	store            store.Store
	providers        upstream.Providers
	scopes           []Scope
	accessTTL        time.Duration
	refreshTTL       time.Duration
	allowedOrigins   []string
	clients          *clients.Registry
	webhookSecret    string
	development      bool
	log              *storm.Log
	now              func() time.Time
	flowCodecs       []securecookie.Codec
	flowCookiePrefix string
	visitorCodecs    []securecookie.Codec
	visitorCookie    string        // its name
	exchanges        *places.Limit // limits the sign-ins that are redeeming a code, by provider
	finishing        sync.Map      // hashes of the flows whose callback is running
	grants           *grants.Keeper
	pages            *templates.Pages
}

// New returns a server. It returns an error if the configuration is not valid, or if the store has live rows that none
// of the secrets opens.
func New(ctx context.Context, c Config) (*Server, error) {
	base, err := origin.Parse(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("base URL %w", err)
	}
	ring, err := seal.NewRing(c.Secrets)
	if err != nil {
		return nil, err
	}
	if err := checkScopes(c.Scopes); err != nil {
		return nil, err
	}
	if len(c.Providers) == 0 {
		return nil, errors.New("no identity provider")
	}
	for i, p := range c.Providers {
		// The same account would be one user with two providers.
		same := func(o *upstream.Provider) bool { return o.IdentityIssuer == p.IdentityIssuer }
		if slices.ContainsFunc(c.Providers[:i], same) {
			return nil, fmt.Errorf("two identity providers have the issuer %s: configure it once", p.IdentityIssuer)
		}
	}
	s := &Server{
		baseURL:          c.BaseURL,
		base:             base,
		resource:         c.BaseURL + "/mcp",
		name:             c.Name,
		ring:             ring,
		store:            c.Store,
		providers:        c.Providers,
		scopes:           c.Scopes,
		accessTTL:        c.AccessTTL,
		refreshTTL:       c.RefreshTTL,
		allowedOrigins:   c.AllowedOrigins,
		webhookSecret:    c.WebhookSecret,
		development:      c.Development,
		now:              c.Now,
		flowCodecs:       newCookieCodecs(ring, "flow", c.BaseURL),
		flowCookiePrefix: flowCookiePrefix(base),
		visitorCodecs:    newCookieCodecs(ring, "session", c.BaseURL),
		visitorCookie:    cookieName(base, "session"),
		pages:            templates.New(c.Name),
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.exchanges = places.New(maxExchanges, maxExchanges*len(s.providers), exchangePatience, s.now)
	s.log = storm.New(slog.New(referenceHandler{c.Log.Handler()}), s.now)
	s.clients = clients.New(clients.Config{BaseURL: c.BaseURL, Ring: ring, Store: c.Store, Known: c.Clients,
		Documents: c.Documents, RedirectSchemes: c.RedirectSchemes, Registration: c.Registration, Log: s.log, Now: s.now})
	s.grants = grants.New(grants.Config{Store: c.Store, Ring: ring, Clients: s.clients, Providers: c.Providers,
		Rules:    c.Rules,
		Resource: s.resource, CacheTTL: c.CacheTTL, Log: s.log, Now: s.now})
	return s, s.checkKeysInUse(ctx)
}

// checkKeysInUse returns an error if live rows need a secret that is missing. Starting anyway would sign those users
// out.
func (s *Server) checkKeysInUse(ctx context.Context) error {
	names, err := s.store.KeysInUse(ctx, s.now())
	if err != nil {
		return fmt.Errorf("reading which secrets are in use: %w", err)
	}
	for _, name := range names {
		if !s.ring.Holds(name) {
			return fmt.Errorf("tokens in the database were sealed under a secret (%s) that SECRET does not hold: append "+
				"the old one, SECRET=new,old, until nothing needs it; or, to sign everybody out, use an empty database", name)
		}
	}
	return nil
}
