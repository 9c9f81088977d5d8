package oauth

import (
	"context"
	"net/http"
	"time"

	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/store"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
)

// Routes adds the server's routes, and the MCP endpoint behind its gate.
func (s *Server) Routes(r chi.Router, mcp http.Handler) {
	// For MCP clients. Clients in a browser need CORS. It cannot expose a cookie, because none is used here.
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

	// Pages for browsers, without CORS.
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

	// The MCP endpoint. Both paths work: a redirect would make clients drop their token.
	gate := s.checkOrigin(cors.Handler(openCORS)(s.gate(mcp)))
	r.Handle("/mcp", gate)
	r.Handle("/mcp/", gate)
}

// openCORS allows web pages of any origin. checkOrigin decides which origins may call the MCP endpoint.
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

const (
	sweepEvery = time.Minute
	sweepBatch = 500 // rows of a kind in one transaction, so that no request waits for long
	// retiredMemory is how long a retired refresh token is remembered, so that its reuse is noticed.
	retiredMemory = 7 * 24 * time.Hour
	// forgetAfter is how long a user or client without a grant is remembered.
	forgetAfter = 90 * 24 * time.Hour
)

// Watch ends the running responses to tokens that another instance has ended. It runs until the context ends: see
// [grants.Keeper.Watch].
func (s *Server) Watch(ctx context.Context) { s.grants.Watch(ctx) }

// Sweep removes rows that no request can need any more from the store. It runs until the context ends.
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
