// Package app connects the parts of the program: configuration, secrets, the store, the providers, the authorization
// server and the MCP server behind it, listeners and shutdown. It also has the operator's commands.
//
// [Run] is the whole program. To embed the server in your own program, use [ParseConfig], [Open], [App.Handler] and
// [App.Close].
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"example.com/mcp-federated-login/mcpserver"
	"example.com/mcp-federated-login/oauth"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/static"
	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// Run runs the server until the context ends, or runs one of the operator's commands.
func Run(ctx context.Context, args []string, getenv func(string) string, now func() time.Time, stdout io.Writer,
	stderr *os.File) error {
	s, err := ParseConfig(args, getenv, stdout)
	if err != nil {
		return err
	}
	if s.Command != nil {
		return operate(ctx, s, now(), stdout)
	}
	log := s.Logger(stderr)
	listeners, err := Listen(s.Listen)
	if err != nil {
		return err
	}
	a, err := Open(ctx, s, log, now)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	defer a.Close()
	a.Greet(stdout)
	return a.Serve(ctx, listeners)
}

// An App is the running program, except the listeners.
type App struct {
	settings Settings
	Log      *slog.Logger
	Store    *sqlstore.Store
	DevIDP   *devidp.Server // nil if real providers are configured
	OAuth    *oauth.Server
	Handler  http.Handler
	draining atomic.Bool

	probing  sync.Mutex // guards the fields below
	probedAt time.Time
	probed   error
	// refusedOnce logs the first request that localOnly refuses.
	refusedOnce sync.Once
}

// Open opens the store and connects the parts of an [App].
func Open(ctx context.Context, s Settings, log *slog.Logger, now func() time.Time) (_ *App, err error) {
	a := &App{settings: s, Log: log}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if err := makeDataDir(s); err != nil {
		return nil, err
	}
	secrets, err := loadSecret(s)
	if err != nil {
		return nil, err
	}
	if a.Store, err = sqlstore.Open(ctx, s.DatabaseURL); err != nil {
		return nil, fmt.Errorf("opening DATABASE_URL: %w", err)
	}
	if len(s.Providers) == 0 {
		a.DevIDP, err = devidp.Start(devidp.Config{BaseURL: s.BaseURL, Dir: s.DataDir, Log: log, Now: now})
		if err != nil {
			return nil, fmt.Errorf("starting the development provider: %w", err)
		}
		githubConfig := a.DevIDP.GitHub()
		githubConfig.Organizations = s.Rules.AskGitHub()
		github, githubErr := upstream.GitHub(githubConfig)
		google, googleErr := upstream.Google(a.DevIDP.Google())
		if err := errors.Join(githubErr, googleErr); err != nil {
			return nil, err
		}
		s.Providers = []*upstream.Provider{github, google}
	}
	for _, p := range s.Providers {
		p.SetClock(now)
	}
	a.OAuth, err = oauth.New(ctx, oauth.Config{
		BaseURL:         s.BaseURL,
		Name:            mcpserver.Name,
		Secrets:         secrets,
		Store:           a.Store,
		Providers:       s.Providers,
		Rules:           s.Rules,
		Scopes:          mcpserver.Scopes,
		AccessTTL:       s.AccessTokenTTL,
		RefreshTTL:      s.RefreshTokenTTL,
		CacheTTL:        s.TokenCache,
		AllowedOrigins:  s.AllowedOrigins,
		Clients:         s.Clients.Registered,
		Registration:    s.Clients.Registration,
		Documents:       s.Clients.Documents,
		RedirectSchemes: s.Clients.RedirectSchemes,
		WebhookSecret:   s.WebhookSecret,
		Development:     a.DevIDP != nil,
		Log:             log,
		Now:             now,
	})
	if err != nil {
		return nil, err
	}
	a.Handler = a.Routes(mcpserver.New(log))
	return a, nil
}

func (a *App) Close() {
	if a.DevIDP != nil {
		a.DevIDP.Close()
	}
	if a.Store != nil {
		a.Store.Close()
	}
}

// Routes returns the handler of the whole server, with mcp behind the gate.
func (a *App) Routes(mcp http.Handler) http.Handler {
	site := chi.NewRouter()
	site.Use(a.OAuth.CheckHost)
	if a.settings.LocalOnly {
		site.Use(a.localOnly)
	}
	site.Use(middleware.GetHead)
	site.Get("/static/*", static.Handler().ServeHTTP)
	a.OAuth.Routes(site, mcp)

	r := chi.NewRouter()
	r.Use(a.logRequests, limitReading)
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "up") })
	r.Get("/readyz", a.handleReady)
	r.Mount("/", site)
	return r
}

const (
	probeEvery   = time.Second
	probeTimeout = 2 * time.Second
)

// probe returns an error if a sign-in cannot be stored now. The result is up to a second old, so that clients cannot
// keep the database busy with probes.
func (a *App) probe(ctx context.Context) error {
	a.probing.Lock()
	defer a.probing.Unlock()
	if time.Since(a.probedAt) < probeEvery {
		return a.probed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	was := a.probed
	a.probed = a.Store.Probe(ctx, time.Now())
	a.probedAt = time.Now()
	if a.probed != nil && was == nil {
		a.Log.Error("not ready", "cause", a.probed)
	}
	return a.probed
}

// handleReady handles GET /readyz. It reports whether users can sign in on this instance now, so that a load balancer
// knows where to send requests.
func (a *App) handleReady(w http.ResponseWriter, r *http.Request) {
	switch {
	case a.draining.Load():
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
	case a.probe(r.Context()) != nil:
		http.Error(w, "the database does not take a sign-in", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ready")
	}
}

// logRequests logs the path of each request, without the query, which can hold codes and states. A panic becomes a 500.
func (a *App) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, ww := time.Now(), middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		method, path := r.Method, r.URL.Path
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p) // net/http uses it to drop a connection
				}
				a.OAuth.LogFailure(r.Context(), slog.LevelError, "panic", fmt.Sprint(method, path, p),
					"method", method, "path", path, "panic", p, "stack", string(debug.Stack()))
				http.Error(ww, "Something went wrong on this server.", http.StatusInternalServerError)
			}
			a.Log.Debug("request", "method", method, "path", path, "status", ww.Status(), "took", time.Since(began))
		}()
		next.ServeHTTP(ww, r)
	})
}

// limitReading limits the time for reading a request's body. A server-wide timeout would also end long responses.
func limitReading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // fails only if not supported
		next.ServeHTTP(w, r)
	})
}

const (
	bodyTimeout     = 30 * time.Second
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 32 << 10
	shutdownTimeout = 10 * time.Second
)

// Serve handles requests until the context ends, and then lets running requests finish. There is no write timeout,
// because it would cut MCP streams.
func (a *App) Serve(ctx context.Context, listeners []net.Listener) error {
	srv := &http.Server{Handler: a.Handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	background.Go(func() { a.OAuth.Sweep(ctx) })
	background.Go(func() { a.OAuth.Watch(ctx) })
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		background.Go(func() { failed <- srv.Serve(l) })
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		a.Log.Info("shutting down")
	}
	a.draining.Store(true)
	cancel()
	shutdown, done := context.WithTimeout(context.Background(), shutdownTimeout)
	defer done()
	if srv.Shutdown(shutdown) != nil {
		srv.Close() // ends the streams that are still open
	}
	background.Wait()
	a.OAuth.LogLeftOut()
	return err
}

// Listen opens the addresses. The first must work. The second is localhost's IPv6 address, which a machine may lack.
func Listen(addresses []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for i, address := range addresses {
		l, err := net.Listen("tcp", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			for _, l := range listeners {
				l.Close()
			}
			_, port, _ := net.SplitHostPort(address)
			return nil, fmt.Errorf("port %s is taken by another program: stop that one, or choose another port, "+
				"for example BASE_URL=http://localhost:8090", port)
		case err != nil && i == 0:
			return nil, fmt.Errorf("listening on LISTEN=%s: %w", address, err)
		case err == nil:
			listeners = append(listeners, l)
		}
	}
	return listeners, nil
}

// Greet prints how to connect clients, for the operator who started the server.
func (a *App) Greet(w io.Writer) {
	base := a.settings.BaseURL
	if _, _, err := net.SplitHostPort(strings.TrimPrefix(base, "https://")); err == nil && !a.settings.Loopback {
		a.Log.Warn("BASE_URL names a port: hosted clients such as claude.ai call 443 only", "BASE_URL", base)
	}
	fmt.Fprintf(w, `
%s is listening at %s

  Claude Code    claude mcp add --transport http %s %s/mcp
  MCP Inspector  npx @modelcontextprotocol/inspector --transport http --server-url %s/mcp
  Other clients  open %s in a browser

`, mcpserver.Name, base, oauth.ShortName(mcpserver.Name), base, base, base)
	if a.DevIDP != nil {
		fmt.Fprintf(w, `DEVELOPMENT: sign-in is a stand-in for GitHub and Google at %s, where anybody can be anybody.
It works on this machine only. For the real GitHub, put GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET in .env.

`, a.DevIDP.URL())
	}
}
