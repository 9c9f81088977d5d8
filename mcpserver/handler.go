package mcpserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/mcpserver/endpoint"
	"example.com/mcp-federated-login/oauth"
)

// A tool is an MCP tool and the scope that it needs.
type tool struct {
	server.ServerTool
	scope string
}

// newTool makes a tool from a function. In and Out define its schemas. The model sees the function's errors.
func newTool[In, Out any](name, scope string, run func(context.Context, *oauth.Caller, In) (Out, error),
	options ...mcp.ToolOption) tool {
	options = append(options, mcp.WithInputSchema[In](), mcp.WithOutputSchema[Out]())
	handle := func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var in In
		if err := req.BindArguments(&in); err != nil {
			return mcp.NewToolResultErrorf("The arguments do not fit the tool's schema: %v", err), nil
		}
		out, err := run(ctx, oauth.CallerFrom(ctx), in)
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		return mcp.NewToolResultStructuredOnly(out), nil
	}
	return tool{server.ServerTool{Tool: mcp.NewTool(name, options...), Handler: handle}, scope}
}

// New returns the MCP endpoint with the tools of this package. It keeps no state between requests, so any instance can
// handle any request.
func New(log *slog.Logger) http.Handler {
	scopes := map[string]oauth.Scope{} // keyed by tool
	needed := func(name string) oauth.Scope { return scopes[name] }
	hooks := new(server.Hooks)
	// mcp-go checks a call's arguments before requireScope runs. This hook makes the 403 come before those errors.
	hooks.AddBeforeCallTool(func(ctx context.Context, _ any, req *mcp.CallToolRequest) {
		oauth.CallerFrom(ctx).Require(needed(req.Params.Name).Name)
	})
	mcpServer := server.NewMCPServer(Name, Version,
		server.WithInstructions(Instructions),
		server.WithToolCapabilities(false),
		server.WithHooks(hooks),
		server.WithToolHandlerMiddleware(requireScope(needed)), // the first is the outermost
		server.WithToolFilter(ofCallersProvider(needed)),
		server.WithInputSchemaValidation(),
		server.WithRecovery(),
	)
	for _, t := range tools() {
		i := slices.IndexFunc(Scopes, func(s oauth.Scope) bool { return s.Name == t.scope })
		if i < 0 {
			panic(fmt.Sprintf("tool %s needs the scope %q, which is not in Scopes", t.Tool.Name, t.scope))
		}
		scopes[t.Tool.Name] = Scopes[i]
		mcpServer.AddTools(t.ServerTool)
	}
	return Handler(mcpServer, log)
}

// Handler returns a handler that serves mcpServer. Requests must come through an [oauth.Server].
func Handler(mcpServer *server.MCPServer, log *slog.Logger) http.Handler {
	return endpoint.New(mcpServer, MaxBody, log)
}

// requireScope denies tool calls that lack the tool's scope. Its error becomes a 403 response that tells the client
// which scope to request.
func requireScope(needed func(tool string) oauth.Scope) server.ToolHandlerMiddleware {
	return func(next server.ToolHandlerFunc) server.ToolHandlerFunc {
		return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if err := oauth.CallerFrom(ctx).Require(needed(req.Params.Name).Name); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}
	}
}

// ofCallersProvider hides the tools of other providers, which can never work for the caller. It shows tools whose
// scope is missing, because the client can request that scope.
func ofCallersProvider(needed func(tool string) oauth.Scope) server.ToolFilterFunc {
	return func(ctx context.Context, all []mcp.Tool) []mcp.Tool {
		provider := oauth.CallerFrom(ctx).Identity().Provider
		return slices.DeleteFunc(slices.Clone(all), func(t mcp.Tool) bool {
			p := needed(t.Name).Provider
			return p != "" && p != provider
		})
	}
}
