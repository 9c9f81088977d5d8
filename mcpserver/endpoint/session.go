package endpoint

import (
	"crypto/rand"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// This server has no sessions and no resumable streams, so that any instance can handle any request. This file corrects
// how mcp-go treats requests that name a session or a stream position anyway.

// withoutSession replaces the session id of every request with a unique one. mcp-go gives all legacy requests without
// an id the same empty id, and requests with the same id share their state: while one user's tool waits for a response
// from its client, the next request, even another user's, would receive its notifications.
//
// withoutSession also removes Last-Event-ID. The server must ignore it (MCP 2026-07-28, Earlier Streamable HTTP
// Revisions), but mcp-go responds with 400.
func withoutSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(server.HeaderKeySessionID, rand.Text())
		r.Header.Del(mcp.HeaderLastEventID)
		next.ServeHTTP(w, r)
	})
}

// A privateSession has the id that withoutSession made, for legacy and modern requests. mcp-go identifies running calls
// by session id and request id, and gives all modern requests the same empty session id. Without this type, one user's
// notifications/cancelled would cancel another user's call with the same request id.
type privateSession struct {
	session
	id string
}

func (s privateSession) SessionID() string { return s.id }

// SetLogLevel does nothing. mcp-go would keep the level forever, and no later request would use it. A modern request
// has its own level.
func (s privateSession) SetLogLevel(mcp.LoggingLevel) {}

// GetLogLevel returns the level of legacy requests: "If no logging/setLevel request has been sent from the client, the
// server MAY decide" (MCP 2025-11-25, Logging).
func (s privateSession) GetLogLevel() mcp.LoggingLevel { return mcp.LoggingLevelInfo }

// session has all methods of mcp-go's own session, so that the wrapper keeps every feature.
type session interface {
	server.SessionWithTools
	server.SessionWithResources
	server.SessionWithResourceTemplates
	server.SessionWithLogging
	server.SessionWithClientInfo
	server.SessionWithStreamableHTTPConfig
	server.SessionWithSubscriptionFilter
	server.SessionWithSampling
	server.SessionWithElicitation
	server.SessionWithRoots
	ProtocolVersion() string
	SetProtocolVersion(string)
}
