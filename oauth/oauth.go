package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
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

// Config is what a [Server] is made of. All of it is required except where it says so.
type Config struct {
	// BaseURL is the public origin, such as https://mcp.example.com: the issuer, and the beginning of every address.
	// See [origin.Parse].
	BaseURL string
	// Name is what people know the server by.
	Name string
	// Secrets is the key ring, each at least 32 random bytes. The first seals and signs; all open and verify.
	Secrets [][]byte
	Store   store.Store
	// Providers are the ways to sign in, in the order of the buttons.
	Providers []*upstream.Provider
	// Rules say who may come in. The zero value admits nobody.
	Rules upstream.Rules
	// Scopes are all that a client can be allowed.
	Scopes []Scope
	// AccessTTL and RefreshTTL are the lives of tokens; a refresh token's counts from its last use.
	AccessTTL, RefreshTTL time.Duration
	// CacheTTL is how long another instance's revocation may go unnoticed. Zero: every request asks the store.
	CacheTTL time.Duration
	// AllowedOrigins are further origins whose pages may call /mcp. Optional.
	AllowedOrigins []string
	// Documents says which clients may bring a metadata document instead of registering.
	Documents clients.DocumentPolicy
	// Clients are those that the operator registered, as [clients.ParseClients] returns them. Optional.
	Clients []store.Client
	// Registration says that clients may register themselves (RFC 7591).
	Registration bool
	// RedirectSchemes are the private schemes (RFC 8252 section 7.1) that clients may be redirected to. Optional.
	RedirectSchemes []string
	// WebhookSecret is what GitHub signs its webhook's calls with. Optional: without it there is no webhook.
	WebhookSecret string
	// Development says that the providers are stand-ins, and makes every page say so.
	Development bool
	Log         *slog.Logger
	// Now is the clock. Optional: the system's.
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
	exchanges        *places.Limit // of the sign-ins that are redeeming a code, by provider
	finishing        sync.Map      // of the flows that are at the provider: Hash to nothing
	grants           *grants.Keeper
	pages            *templates.Pages
}

// New returns a server. It fails if the configuration cannot work, or if the store holds live rows that none of the
// secrets opens.
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
		// The same person would be one user with two providers.
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

// checkKeysInUse refuses to start without a secret that somebody's tokens still need: starting would tell their
// clients that they are signed out.
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

// Routes adds the server's routes, and the MCP endpoint behind its gate.
func (s *Server) Routes(r chi.Router, mcp http.Handler) {
	// Read and written by MCP clients. Those that run in a browser need CORS; there is no cookie that it could expose.
	r.Group(func(r chi.Router) {
		r.Use(cors.Handler(openCORS), limitTime)
		get := func(h http.HandlerFunc, paths ...string) {
			for _, path := range paths {
				r.Get(path, h)
				r.Options(path, noContent)
			}
		}
		post := func(path string, h http.HandlerFunc) { r.Post(path, h); r.Options(path, noContent) }
		get(s.handleResourceMetadata(s.resource), endpointMetadataPaths...)
		get(s.handleResourceMetadata(s.baseURL), resourceMetadataPath)
		get(s.handleServerMetadata(), serverMetadataPaths...)
		post("/register", s.handleRegister)
		post("/token", s.handleToken)
		post("/revoke", s.handleRevoke)
	})

	// Pages, for people in browsers. No CORS here.
	r.Get("/", s.handleLanding)
	r.With(limitTime).Get("/authorize", s.handleAuthorize)
	r.With(limitTime).Get("/connections", s.handleConnections)
	r.Get("/callback/{provider}", s.handleCallback)
	r.Group(func(r chi.Router) {
		r.Use(limitTime, s.ownFormsOnly)
		r.Post("/authorize", s.handleConsent)
		r.Post("/connections/sign-in", s.handleVisit)
		r.Post("/connections/disconnect", s.handleDisconnect)
		r.Post("/connections/disconnect-all", s.handleDisconnectAll)
		r.Post("/connections/sign-out", s.handleSignOut)
	})

	if s.webhookSecret != "" {
		r.With(limitTime).Post("/webhook/github", s.handleGitHubWebhook)
	}

	r.NotFound(s.handleNotFound)
	r.MethodNotAllowed(s.handleMethodNotAllowed(r))

	// The MCP endpoint. Both spellings answer: a redirect would make clients drop their token.
	gate := s.checkOrigin(cors.Handler(openCORS)(s.gate(mcp)))
	r.Handle("/mcp", gate)
	r.Handle("/mcp/", gate)
}

// openCORS lets web pages of any origin in. Which origins may call the MCP endpoint is checkOrigin's to say.
var openCORS = cors.Options{
	AllowedOrigins: []string{"*"},
	AllowedMethods: []string{http.MethodGet, http.MethodPost},
	AllowedHeaders: []string{"Authorization", "Content-Type", "Accept", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name",
		"Mcp-Session-Id", "Last-Event-ID"},
	ExposedHeaders: []string{"WWW-Authenticate", "Mcp-Session-Id"},
}

func limitTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), grants.StoreTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// handleLanding handles GET /: what this server is, and how to connect to it.
func (s *Server) handleLanding(w http.ResponseWriter, r *http.Request) {
	s.pages.Landing(w, http.StatusOK, templates.LandingPage{URL: s.resource, Name: ShortName(s.name),
		Loopback: origin.IsLoopback(s.base.Hostname()), Closed: !s.clients.SelfRegistration(),
		Documents: s.clients.Documents(), Providers: s.buttons(), Development: s.development})
}

// buttons are all ways to sign in.
func (s *Server) buttons() []templates.ProviderButton {
	var all []templates.ProviderButton
	for _, p := range s.providers {
		all = append(all, templates.ProviderButton{ID: p.ID, Name: p.Name, Unavailable: p.Unavailable()})
	}
	return all
}

// ShortName makes a name that needs no quoting in a shell: "My MCP server" becomes my-mcp-server.
func ShortName(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}), "-")
}

func (s *Server) callbackURL(p *upstream.Provider) string { return s.baseURL + "/callback/" + p.ID }

const (
	sweepEvery = time.Minute
	sweepBatch = 500 // rows of a kind in one transaction, so that nobody waits for long
	// retiredMemory is how long a retired refresh token is remembered, so that its reuse is noticed.
	retiredMemory = 7 * 24 * time.Hour
	// forgetAfter is how long a person or client without a grant is remembered.
	forgetAfter = 90 * 24 * time.Hour
)

// Watch ends what is being answered to tokens that another instance has ended, until the context ends: see
// [grants.Keeper.Watch].
func (s *Server) Watch(ctx context.Context) { s.grants.Watch(ctx) }

// Sweep removes from the store, until the context ends, what no request can need any more.
func (s *Server) Sweep(ctx context.Context) {
	for {
		for n := 1; n > 0 && ctx.Err() == nil; {
			var err error
			if n, err = s.sweep(ctx); err != nil {
				if ctx.Err() == nil {
					s.log.ErrorContext(ctx, "sweeping the store", "cause", err)
				}
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
	}
}

func (s *Server) sweep(ctx context.Context) (int, error) {
	now := s.now()
	s.grants.DropExpired()
	return s.store.Purge(ctx, store.PurgeLimits{
		At:            now,
		RetiredBefore: now.Add(-retiredMemory),
		EraseBefore:   now.Add(-2 * refreshGrace), // another instance's clock may be behind
		SeenBefore:    now.Add(-forgetAfter),
		Limit:         sweepBatch,
	})
}
