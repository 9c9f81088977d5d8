// Package oauth is the OAuth 2.1 authorization server in front of an MCP server, and the bearer gate of that MCP
// server. To sign people in it is itself an OAuth client of an upstream identity provider.
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
// This package holds the steps of that flow, one file each. What the steps use has a package of its own below it:
//
//   - clients: who a client is, whether it may ask, and where it may send people.
//   - grants: what a grant lives through. Its token is looked up, its user judged again, its upstream token renewed,
//     and what is being answered to it ends with it.
//   - seal: the key ring, tokens and codes, and what is sealed under them.
//   - store: what is remembered; sqlstore keeps it in SQLite or PostgreSQL.
//   - origin: how origins and host names are spelt.
//   - places, storm: how many calls to others run at once, and how much of an outage is logged.
//
// The pages, and the data that each is given, are in package templates.
//
// Besides the flow, a client gives its token up (revoke.go), the provider says that an authorization was revoked
// (webhook.go), and a tool needs a scope that it lacks, so that the client is told to ask for a wider grant (caller.go,
// gate.go). The same sign-in, without a client, leads people to GET /connections (connections.go, visitor.go), where
// they see and end what they have connected.
//
// Beneath all that: how the server is put together (server.go, routes.go), how a browser is sent to the provider and
// comes back (signin.go) and is sent on to the client (answer.go), what clients may ask for (scope.go), what they are
// told when something fails (errors.go), and what people are (failure.go, notfound.go).
//
// What holds in every line of it:
//
//   - Nothing is written before a person has signed in. A client_id carries the client's own metadata under our MAC;
//     an authorization in flight is a sealed cookie. The callback is the first step that writes to the store.
//   - The MCP client never sees the upstream token, and the upstream never sees ours. Tokens and codes are stored as
//     SHA-256. Upstream tokens are sealed to keys that exist only inside live MCP tokens (package seal), so a stolen
//     database opens nothing, not even together with the server's secret.
//   - Everything is checked before anything is consumed. Codes and refresh tokens are consumed by one
//     compare-and-swap. A refresh that is repeated gets the same answer (refresh.go).
//   - A browser is redirected only to a redirect URI that is known to be the client's: only package clients can make a
//     clients.Redirect. An error goes back to the client only after the person has been asked. What the person was
//     shown is sealed (question.go), and is what happens.
//   - invalid_grant, invalid_client and 401 are said only when they are true, because clients throw credentials away
//     on them. Trouble of ours, or of the upstream's, is a 503 that consumes nothing.
//   - The configured base URL is the only source of identity: issuer, audience, callbacks and cookie names come from
//     it, never from a request.
package oauth
