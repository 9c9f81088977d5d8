// Package mcpserver is the place for your own code: the MCP server's name, its tools, and the scope of each tool. To
// add a tool, write a function like those in tools.go, add a line to [tools], and write a test like those in
// tools_test.go. Those tests call tools through the whole endpoint.
//
// [Scopes] describes each scope, in one place. A scope that the client did not request at sign-in can be added later.
// A tool call that needs it gets a 403 response, which names the scope that the client should request. The client then
// sends the user to the consent page again, and the provider is asked for the scope's Upstream as well. If the user
// does not allow it there, it is not granted, and the tool's error says what is missing.
//
// Before a tool runs, the caller has been authenticated and has the tool's scope. [oauth.CallerFrom] returns the
// caller. Its HTTPClient sends requests as that user to the user's provider. Tools never see a token.
package mcpserver

import (
	"github.com/mark3labs/mcp-go/mcp"

	"example.com/mcp-federated-login/oauth"
)

const (
	// Name is the server's name, as users and MCP clients see it.
	Name = "MCP Federated Login"
	// Version is the server's version, as MCP clients see it.
	Version = "0.1.0"
	// Instructions tell the model what the server can do.
	Instructions = "Acts as the signed-in person at GitHub or Google: tells who they are, lists their repositories and " +
		"calendar events, and opens issues."
	// MaxBody is the largest request body in bytes. The arguments of your tools must fit into it. A larger MaxBody
	// makes the server need more memory (see package endpoint).
	MaxBody = 4 << 20
)

// Scopes lists every scope that a user can allow a client. A client that requests no scopes gets those with AtSignIn:
// set it only on scopes that nearly every user needs. Any other scope needs a second consent, which some clients
// cannot start.
var Scopes = []oauth.Scope{
	{
		Name:     "account:read",
		Sentence: "See who you are: your login, name and verified e-mail addresses",
		AtSignIn: true,
	},
	{
		Name:     "repos:read",
		Sentence: "List your public repositories",
		Provider: "github", // needs no upstream scope: any user's token can read public data
		AtSignIn: true,
	},
	{
		Name:     "issues:write",
		Sentence: "Open issues in your name, in any repository you can open them in",
		Provider: "github",
		Upstream: []string{"public_repo"}, // writes to all public repositories: requested only when needed
	},
	{
		Name:     "calendar:read",
		Sentence: "See the events of your calendar",
		Provider: "google",
		Upstream: []string{"https://www.googleapis.com/auth/calendar.readonly"},
		AtSignIn: true,
	},
}

// tools returns the tools that MCP clients can call, each with the scope that it needs.
func tools() []tool {
	return []tool{
		newTool("whoami", "account:read", whoami,
			mcp.WithTitleAnnotation("Who am I?"),
			mcp.WithDescription("Tells which person the server acts as, through which provider they signed in, and what "+
				"this client may do."),
			readOnly),
		newTool("list_repositories", "repos:read", listRepositories,
			mcp.WithTitleAnnotation("List repositories"),
			mcp.WithDescription("Lists the signed-in person's public GitHub repositories, most recently updated first."),
			readOnly),
		newTool("create_issue", "issues:write", createIssue,
			mcp.WithTitleAnnotation("Create an issue"),
			mcp.WithDescription("Opens an issue in a GitHub repository, in the signed-in person's name."),
			mcp.WithDestructiveHintAnnotation(false)),
		newTool("list_calendar_events", "calendar:read", listCalendarEvents,
			mcp.WithTitleAnnotation("List calendar events"),
			mcp.WithDescription("Lists the coming events of the signed-in person's main Google calendar."),
			readOnly),
	}
}

// readOnly tells clients that calling the tool changes nothing.
func readOnly(t *mcp.Tool) {
	mcp.WithReadOnlyHintAnnotation(true)(t)
	mcp.WithDestructiveHintAnnotation(false)(t)
}
