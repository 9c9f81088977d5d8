// Package oauth is the OAuth 2.1 authorization server in front of an MCP server, and the bearer gate of that MCP
// server. To sign people in it is itself an OAuth client of an upstream identity provider.
//
//	MCP client                    this package                         upstream provider
//	    | POST /mcp                    |                                       |
//	    |<----------- 401, where to go |  gate.go                              |
//	    | GET /.well-known/...         |  metadata.go                          |
//	    | POST /register               |  register.go, client.go               |
//	 browser                           |                                       |
//	    | GET /authorize               |  authorize.go, question.go: consent   |
//	    | POST /authorize              |  consent.go: sets the flow cookie,    |
//	    |<------------------------ 303 |  flow.go                              |
//	    | GET .../authorize ------------------------------------------------>  |
//	    |<---------------------------------------------------- 302, their code |
//	    | GET /callback/{provider}     |  callback.go --- code, verifier --->  |
//	    |                              |  <------------- upstream token ------ |
//	    |<--------------- 303, our code|  judge.go, seal.go                    |
//	 MCP client                        |                                       |
//	    | POST /token                  |  token.go, code.go, refresh.go        |
//	    |<------------------ our tokens|                                       |
//	    | POST /mcp + our token        |  gate.go -> a tool -> caller.go --->  |
//
// A client need not register: its client_id may be the address of a document that describes it (document.go), which is
// fetched with the care that a stranger's address deserves (fetch.go, places.go); or the operator has registered it
// (preregistered.go). If a document names keys, the client can prove at /token that it is itself (assertion.go), for as
// long as it has not withdrawn them (withdrawn.go).
//
// What a grant then lives through: its client refreshes (refresh.go), its person is judged again (judge.go), its
// upstream token is renewed (renew.go), the provider says that it was revoked (webhook.go), the operator blocks its
// client (block.go), its client gives it up (revoke.go). Where a tool needs a scope that it lacks, the client is told
// to ask for a wider grant, which replaces it (caller.go, gate.go). Answers that are under way end with it (stream.go).
//
// The same sign-in, without a client, leads people to GET /connections (connections.go, visitor.go), where they see and
// end what they have connected.
//
// Beneath all that: what clients may ask for (scope.go) and where they may send people (redirect.go); tokens, keys, and
// what is sealed under both (secrets.go, keys.go, seal.go); what the store promises (store.go), and what is remembered
// of its answers (cache.go); what clients are told when something fails (errors.go), what people are (failure.go,
// notfound.go, pages.go), and how much of it is logged (package storm).
//
// What holds in every line of it:
//
//   - Nothing is written before a person has signed in. A client_id carries the client's own metadata under our MAC;
//     an authorization in flight is a sealed cookie. The callback is the first step that writes to the store.
//   - The MCP client never sees the upstream token, and the upstream never sees ours. Tokens and codes are stored as
//     SHA-256. Upstream tokens are sealed to keys that exist only inside live MCP tokens (seal.go), so a stolen
//     database opens nothing, not even together with the server's secret.
//   - Everything is checked before anything is consumed. Codes and refresh tokens are consumed by one
//     compare-and-swap. A refresh that is repeated gets the same answer (refresh.go).
//   - A browser is redirected only to a redirect URI that is known to be the client's: the type redirect has one
//     constructor. An error goes back to the client only after the person has been asked. What the person was shown is
//     sealed (question.go), and is what happens.
//   - invalid_grant, invalid_client and 401 are said only when they are true, because clients throw credentials away
//     on them. Trouble of ours, or of the upstream's, is a 503 that consumes nothing.
//   - The configured base URL is the only source of identity: issuer, audience, callbacks and cookie names come from
//     it, never from a request.
package oauth
