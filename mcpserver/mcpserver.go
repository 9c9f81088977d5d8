// Package mcpserver is the room for your own work: the MCP server's name, its tools, and the scope that each tool
// needs. To add a tool, write a function like those in tools.go, a line in [tools], and a test like those in
// tools_test.go, which call tools through the whole endpoint.
//
// What there is to know of a scope stands in [Scopes], once. One that no sign-in asks for is asked for when a tool
// needs it: the call is answered 403 with what the client should ask for, the client sends the person to the consent
// page once more, and the provider is asked for the scope's Upstream as well. What the person withholds there is not
// granted, and the tool's error says what is missing.
//
// By the time a tool runs, the caller has been authenticated and has the tool's scope. [oauth.CallerFrom] says who it
// is, and its HTTPClient acts as that person at their provider. Tools never see a token.
package mcpserver

import (
	"github.com/mark3labs/mcp-go/mcp"

	"example.com/mcp-federated-login/oauth"
)

const (
	// Name is what people and MCP clients know the server by.
	Name = "MCP Federated Login"
	// Version is what MCP clients are told.
	Version = "0.1.0"
	// Instructions tell the model what the server is good for.
	Instructions = "Acts as the signed-in person at GitHub or Google: tells who they are, lists their repositories and " +
		"calendar events, and opens issues."
	// MaxBody is the largest request in bytes. The arguments of your tools must fit in. The memory that the server
	// needs grows with it (see package endpoint).
	MaxBody = 4 << 20
)

// Scopes are all that a person can allow a client. Those with AtSignIn are asked for when the client does not say
// what it wants: keep these to what nearly everybody needs. For another one the person has to be asked again, which
// some clients cannot do.
var Scopes = []oauth.Scope{
	{
		Name:     "account:read",
		Sentence: "See who you are: your login, name and verified e-mail addresses",
		AtSignIn: true,
	},
	{
		Name:     "repos:read",
		Sentence: "List your public repositories",
		Provider: "github", // needs no upstream scope: what is public can be read by any user's token
		AtSignIn: true,
	},
	{
		Name:     "issues:write",
		Sentence: "Open issues in your name, in any repository you can open them in",
		Provider: "github",
		Upstream: []string{"public_repo"}, // writes to all public repositories: asked for only when it is needed
	},
	{
		Name:     "calendar:read",
		Sentence: "See the events of your calendar",
		Provider: "google",
		Upstream: []string{"https://www.googleapis.com/auth/calendar.readonly"},
		AtSignIn: true,
	},
}

// tools are what MCP clients can call. Each names the scope that it needs.
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
