// Package oauth is the OAuth 2.1 authorization server in front of an MCP server, and the bearer gate of that MCP
// server. To sign users in, it is itself an OAuth client of an upstream identity provider.
//
//	MCP client                    this package                         upstream provider
//	    | POST /mcp                    |                                       |
//	    |<----------- 401, where to go |  gate.go                              |
//	    | GET /.well-known/...         |  metadata.go                          |
//	    | POST /register               |  register.go                          |
//	 browser                           |                                       |
//	    | GET /authorize               |  authorize.go, question.go            |
//	    | POST /authorize              |  consent.go: sets the flow cookie,    |
//	    |<------------------------ 303 |  flow.go                              |
//	    | GET .../authorize ------------------------------------------------>  |
//	    |<---------------------------------------------------- 302, their code |
//	    | GET /callback/{provider}     |  callback.go --- code, verifier --->  |
//	    |                              |  <------------- upstream token ------ |
//	    |<--------------- 303, our code|                                       |
//	 MCP client                        |                                       |
//	    | POST /token                  |  token.go, code.go, refresh.go        |
//	    |<------------------ our tokens|                                       |
//	    | POST /mcp + our token        |  gate.go -> a tool -> caller.go --->  |
//
// This package contains the steps of that flow, one file each. The steps use these packages below it:
//
//   - clients identifies clients, and decides whether they are allowed and where they may redirect users.
//   - grants manages the life of a grant: it looks up its token, checks its user again, renews its upstream token, and
//     ends its running responses when it ends.
//   - seal contains the key ring, tokens and codes, and the data that is sealed under them.
//   - store defines the stored data; sqlstore keeps it in SQLite or PostgreSQL.
//   - origin parses and compares origins and host names.
//   - places limits concurrent calls to other servers; storm limits how much of an outage is logged.
//
// Package templates contains the pages and their data.
//
// Outside the flow, a client can revoke its token (revoke.go), and the provider can report that an authorization was
// revoked (webhook.go). If a tool needs a scope that was not granted, the client is told to request a wider grant
// (caller.go, gate.go). The same sign-in, without a client, leads users to GET /connections (connections.go,
// visitor.go), where they see and end their connections.
//
// The other files: server.go and routes.go set up the server, signin.go redirects a browser to the provider and reads
// the response, answer.go redirects it to the client, scope.go defines what clients can request, errors.go writes
// errors for clients, and failure.go and notfound.go write errors for users.
//
// These rules hold everywhere:
//
//   - Nothing is written before a user has signed in. A client_id carries the client's own metadata under our MAC;
//     an authorization in flight is a sealed cookie. The callback is the first step that writes to the store.
//   - The MCP client never sees the upstream token, and the upstream never sees ours. Tokens and codes are stored as
//     SHA-256. Upstream tokens are sealed to keys that exist only inside live MCP tokens (package seal), so a stolen
//     database opens nothing, not even together with the server's secret.
//   - Everything is checked before anything is consumed. Codes and refresh tokens are consumed by one
//     compare-and-swap. A repeated refresh gets the same response (refresh.go).
//   - A browser is redirected only to a redirect URI that is known to be the client's: only package clients can make a
//     clients.Redirect. An error is returned to the client only after the user has been asked. The consent that the
//     user saw is sealed (question.go); nothing else is granted.
//   - invalid_grant, invalid_client and 401 are returned only if they are true, because clients delete credentials on
//     them. A failure of this server or of the upstream is a 503 that consumes nothing.
//   - The configured base URL is the only source of identity: issuer, audience, callbacks and cookie names come from
//     it, never from a request.
package oauth
