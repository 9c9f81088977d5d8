package endpoint

import (
	"crypto/rand"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// There are no sessions here, and no streams that can be resumed, so that any instance can answer any request. What
// mcp-go makes of requests that speak of them all the same is put right in this file.

// withoutSession gives every request a session id that nobody else has, whatever it came with. To mcp-go all legacy
// requests without an id have the same, empty one, and those with the same id share what is in flight: while one
// person's tool waits for an answer of its client, the next request, anybody's, would be handed its notifications.
//
// Last-Event-ID goes as well. It is to be ignored (MCP 2026-07-28, Earlier Streamable HTTP Revisions); mcp-go answers
// 400.
func withoutSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(server.HeaderKeySessionID, rand.Text())
		r.Header.Del(mcp.HeaderLastEventID)
		next.ServeHTTP(w, r)
	})
}

// A privateSession has the id that withoutSession made, in both eras. mcp-go keeps calls in flight under session id and
// request id, and to it all modern requests have the same, empty session id: one person's notifications/cancelled
// would cancel another's call with the same id.
type privateSession struct {
	session
	id string
}

func (s privateSession) SessionID() string { return s.id }

// SetLogLevel does nothing: mcp-go would keep a level for ever that no later request comes back for. A modern request
// carries its own level.
func (s privateSession) SetLogLevel(mcp.LoggingLevel) {}

// GetLogLevel is what a legacy request gets: "If no logging/setLevel request has been sent from the client, the server
// MAY decide" (MCP 2025-11-25, Logging).
func (s privateSession) GetLogLevel() mcp.LoggingLevel { return mcp.LoggingLevelInfo }

// session is all that mcp-go's own session can do, so that wrapping it loses nothing.
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
