package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/grants"
	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/seal"
)

var errNoCredential = &clients.Error{Code: "unauthorized", Status: http.StatusUnauthorized,
	Description: "No access token arrived in the Authorization header. Sign in first."}

// checkOrigin denies requests of web pages from other origins: "Servers MUST validate the Origin header on all
// incoming connections to prevent DNS rebinding attacks" (MCP 2025-11-25, Streamable HTTP).
func (s *Server) checkOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("Origin"); from != "" && !s.allowsOrigin(from) {
			s.writeError(w, r, &clients.Error{Code: "origin_not_allowed", Status: http.StatusForbidden,
				Description: "Pages of this origin may not call this server. Its operator can list it in ALLOWED_ORIGINS."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) allowsOrigin(from string) bool {
	if from == s.baseURL || slices.Contains(s.allowedOrigins, from) {
		return true
	}
	u, err := url.Parse(from)
	return err == nil && origin.IsLoopback(s.base.Hostname()) && origin.IsLoopback(u.Hostname())
}

// gate passes requests with a valid access token to the MCP server, with the [Caller] in their context. It
// handles POST /mcp; other methods get 401 without a token and 405 with one, and a browser gets the landing page.
func (s *Server) gate(mcp http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.Header.Get("Authorization") == "" && asksForPage(r) {
			s.handleLanding(w, r)
			return
		}
		session, err := s.authenticate(r)
		if err != nil {
			if e := clients.AsError(err); e.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", s.challenge(e, s.signInScopes(e.Scopes...)))
			}
			s.writeError(w, r, err)
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			s.writeError(w, r, &clients.Error{Code: "method_not_allowed", Status: http.StatusMethodNotAllowed,
				Description: "This endpoint takes POST."})
			return
		}
		ctx, done, err := s.grants.Begin(w, r, session)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		defer done()
		caller := &Caller{session: session, server: s}
		r = r.WithContext(context.WithValue(ctx, callerKey{}, caller))
		// Tools see the request's headers. The token is only for this server, so it is removed: no tool can pass it on.
		r.Header.Del("Authorization")
		answer := &gateWriter{ResponseWriter: w, caller: caller}
		mcp.ServeHTTP(answer, r)
		if !answer.wrote && context.Cause(ctx) == grants.ErrEnded {
			w.Header().Set("WWW-Authenticate", s.challenge(grants.ErrInvalidToken, s.signInScopes()))
			s.writeError(w, r.WithContext(context.WithoutCancel(ctx)), grants.ErrInvalidToken)
		}
	})
}

// authenticate returns the session of the request's access token. Only the Authorization header counts (RFC 6750
// section 2.1): a token in a query would end up in logs.
func (s *Server) authenticate(r *http.Request) (*grants.Session, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return nil, errNoCredential
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return nil, grants.ErrInvalidToken
	}
	secret, ok := seal.Parse(seal.AccessPrefix, token)
	if !ok {
		return nil, grants.ErrInvalidToken
	}
	return s.grants.Session(r.Context(), token, secret)
}

// challenge returns the WWW-Authenticate header of RFC 6750 section 3 and RFC 9728 section 5.1: one challenge, the
// scheme first, every value quoted. "If the request lacks any authentication information ... the resource server SHOULD
// NOT include an error code".
func (s *Server) challenge(e *clients.Error, scopes []string) string {
	c := fmt.Sprintf(`Bearer resource_metadata="%s", scope="%s"`, s.baseURL+resourceMetadataPath+"/mcp",
		strings.Join(scopes, " "))
	if e != errNoCredential {
		c += fmt.Sprintf(`, error="%s", error_description="%s"`, e.Code, e.Description)
	}
	return c
}

// A gateWriter corrects the status of a response before it is written. Only a tool's middleware knows which scope a
// call needs, and it cannot set a status. It calls [Caller.Require], and gateWriter turns the MCP server's 200 into a
// 403, on which clients request more scopes.
type gateWriter struct {
	http.ResponseWriter
	caller *Caller
	wrote  bool
}

func (g *gateWriter) WriteHeader(status int) {
	if status >= 200 && !g.wrote { // 1xx is not the final response
		g.wrote = true
		if g.Header().Get("Content-Type") == "text/event-stream" {
			g.Header().Set("X-Accel-Buffering", "no") // or nginx would hold the events back (MCP 2026-07-28, Streamable HTTP)
		}
		if g.caller.signInAgain.Load() {
			status = http.StatusUnauthorized
			scopes := g.caller.server.signInScopes(g.caller.Scopes()...)
			g.Header().Set("WWW-Authenticate", g.caller.server.challenge(grants.ErrInvalidToken, scopes))
		} else if missing := g.caller.needs.Load(); missing != nil {
			status = http.StatusForbidden
			// Name the granted scopes too: a client that signs in again requests only those in the challenge. Use the same
			// words each time: clients give up on a challenge that they have seen, if the user has denied it.
			g.Header().Set("WWW-Authenticate", g.caller.server.challenge(&clients.Error{Code: "insufficient_scope",
				Description: "The call needs " + *missing + ", which was not granted."}, append(g.caller.Scopes(), *missing)))
		}
	}
	g.ResponseWriter.WriteHeader(status)
}

func (g *gateWriter) Write(p []byte) (int, error) {
	if !g.wrote {
		g.WriteHeader(http.StatusOK)
	}
	return g.ResponseWriter.Write(p)
}

// Flush must be a method of the writer itself: without it the MCP server silently drops notifications.
func (g *gateWriter) Flush() {
	if !g.wrote {
		g.WriteHeader(http.StatusOK)
	}
	if f, ok := g.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

func (g *gateWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }
