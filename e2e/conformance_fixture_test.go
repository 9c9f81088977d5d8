//go:build conformance

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// An everything is the MCP server that the suite's scenarios need: their descriptions name its tools, resources and
// prompts, and the response of each.
type everything struct{ *server.MCPServer }

func newEverything() *server.MCPServer {
	s := everything{server.NewMCPServer("conformance", "1",
		server.WithToolCapabilities(true),
		server.WithResourceCapabilities(true, true),
		server.WithPromptCapabilities(true),
		server.WithCompletions(),
		server.WithLogging(),
		server.WithElicitation(),
		server.WithRoots(),
		server.WithRecovery(),
	)}
	s.EnableSampling()
	s.addContentTools()
	s.addNotifyingTools()
	s.addAskingTools()
	s.addResources()
	s.addPrompts()
	return s.MCPServer
}

const (
	png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
	wav = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
)

// tool adds a tool without arguments, unless the options add some.
func (s everything) tool(name string, run server.ToolHandlerFunc, options ...mcp.ToolOption) {
	options = append(options, mcp.WithDescription("A fixture of the conformance suite"))
	s.AddTool(mcp.NewTool(name, options...), run)
}

func (s everything) addContentTools() {
	answer := func(name string, content ...mcp.Content) {
		s.tool(name, func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: content}, nil
		})
	}
	answer("test_simple_text", mcp.NewTextContent("This is a simple text response for testing."))
	answer("test_image_content", mcp.NewImageContent(png, "image/png"))
	answer("test_audio_content", mcp.NewAudioContent(wav, "audio/wav"))
	answer("test_embedded_resource", mcp.NewEmbeddedResource(mcp.TextResourceContents{
		URI: "test://embedded-resource", MIMEType: "text/plain", Text: "This is an embedded resource content."}))
	answer("test_multiple_content_types",
		mcp.NewTextContent("Multiple content types test:"),
		mcp.NewImageContent(png, "image/png"),
		mcp.NewEmbeddedResource(mcp.TextResourceContents{
			URI: "test://mixed-content-resource", MIMEType: "application/json", Text: `{"test":"data","value":123}`}))
	s.tool("test_error_handling", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultError("This tool intentionally returns an error for testing"), nil
	})
	s.tool("test_missing_capability", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return nil, mcp.MissingRequiredClientCapabilityError{Capability: "sampling"}
	})
}

// aMoment is the pause after each notification, as the suite demands. Without it, mcp-go would sometimes drop the last
// one, which it is about to write when the tool returns (https://github.com/mark3labs/mcp-go/pull/969).
const aMoment = 50 * time.Millisecond

func (s everything) addNotifyingTools() {
	log := func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, text := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
			n := mcp.NewLoggingMessageNotification(mcp.LoggingLevelInfo, "conformance", text)
			if err := s.SendLogMessageToClient(ctx, n); err != nil {
				return nil, err
			}
			time.Sleep(aMoment)
		}
		return mcp.NewToolResultText("Tool with logging executed successfully"), nil
	}
	s.tool("test_tool_with_logging", log)
	s.tool("test_logging_tool", log)
	s.tool("test_tool_with_progress", func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, progress := range []int{0, 50, 100} {
			if err := s.SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
				"progressToken": req.Params.Meta.ProgressToken, "progress": progress, "total": 100}); err != nil {
				return nil, err
			}
			time.Sleep(aMoment)
		}
		return mcp.NewToolResultText("Done"), nil
	})
	s.tool("test_trigger_tool_change", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.tool("test_added", nil)
		s.DeleteTools("test_added")
		return mcp.NewToolResultText("Changed"), nil
	})
	s.tool("test_trigger_prompt_change", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.AddPrompt(mcp.NewPrompt("test_added"), nil)
		s.DeletePrompts("test_added")
		return mcp.NewToolResultText("Changed"), nil
	})
}

// A question is a request that a tool can make to the client while it runs. To older clients, mcp-go sends it as a
// separate request.
type question struct {
	ask      func(*server.InputRequestBuilder)
	answered func(mcp.InputResponses) bool
}

func elicit(id, message string, properties map[string]any, required ...string) question {
	schema := map[string]any{"type": "object", "properties": properties, "required": append([]string{}, required...)}
	return question{func(b *server.InputRequestBuilder) {
		b.Elicit(id, mcp.ElicitationParams{Message: message, RequestedSchema: schema})
	}, func(r mcp.InputResponses) bool {
		a := server.ElicitationResponse(r, id)
		return a != nil && a.Action != ""
	}}
}

func sample(id, prompt string) question {
	return question{func(b *server.InputRequestBuilder) {
		b.Sample(id, mcp.CreateMessageParams{MaxTokens: 100, Messages: []mcp.SamplingMessage{
			{Role: mcp.RoleUser, Content: mcp.NewTextContent(prompt)}}})
	}, func(r mcp.InputResponses) bool { return server.SamplingResponse(r, id) != nil }}
}

func roots(id string) question {
	return question{func(b *server.InputRequestBuilder) { b.Roots(id) },
		func(r mcp.InputResponses) bool { return server.RootsResponse(r, id) != nil }}
}

// unanswered asks the questions that have no answer yet, or returns nil.
func unanswered(state string, answers mcp.InputResponses, questions ...question) *server.InputRequestBuilder {
	b, pending := server.NewInputRequestBuilder(state), false
	for _, q := range questions {
		if !q.answered(answers) {
			q.ask(b)
			pending = true
		}
	}
	if !pending {
		return nil
	}
	return b
}

// asks adds a tool that asks the questions and then says that it is done.
func (s everything) asks(name, state string, questions ...question) {
	s.tool(name, func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if b := unanswered(state, req.Params.InputResponses, questions...); b != nil {
			return b.ToolResult(), nil
		}
		if req.Params.RequestState != state {
			return nil, errors.New("this is not the state that was handed out")
		}
		return mcp.NewToolResultText("state-ok"), nil
	})
}

func (s everything) addAskingTools() {
	text, boolean := map[string]any{"type": "string"}, map[string]any{"type": "boolean"}
	name := elicit("user_name", "What is your name?", map[string]any{"name": text}, "name")
	confirm := elicit("confirm", "Please confirm", map[string]any{"ok": boolean}, "ok")
	s.asks("test_streaming_elicitation", "", name)
	s.asks("test_input_required_result_elicitation", "", name)
	s.asks("test_input_required_result_sampling", "", sample("capital_question", "What is the capital of France?"))
	s.asks("test_input_required_result_list_roots", "", roots("client_roots"))
	s.asks("test_input_required_result_request_state", "opaque", confirm)
	s.asks("test_input_required_result_tampered_state", "opaque", confirm)
	s.asks("test_input_required_result_multiple_inputs", "opaque",
		name, sample("greeting", "Generate a greeting"), roots("client_roots"))
	s.asks("test_elicitation_sep1034_defaults", "", elicit("form", "Please review the defaults", defaults))
	s.asks("test_elicitation_sep1330_enums", "", elicit("form", "Please select options", enums))

	color := elicit("step2", "Step 2: What is your favorite color?", map[string]any{"color": text}, "color")
	step1 := elicit("step1", "Step 1: What is your name?", map[string]any{"name": text}, "name")
	s.tool("test_input_required_result_multi_round",
		func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			answers := req.Params.InputResponses
			b := unanswered("round 2", answers, color)
			if req.Params.RequestState != "round 2" {
				if b = unanswered("round 1", answers, step1); b == nil {
					b = unanswered("round 2", nil, color)
				}
			}
			if b != nil {
				return b.ToolResult(), nil
			}
			return mcp.NewToolResultText("Done"), nil
		})
	s.tool("test_input_required_result_capabilities",
		func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var can []question
			client := server.RequestProtocolInfoFromContext(ctx).ClientCapabilities
			if client.Elicitation != nil {
				can = append(can, name)
			}
			if client.Sampling != nil {
				can = append(can, sample("greeting", "Generate a greeting"))
			}
			return unanswered("", nil, can...).ToolResult(), nil
		})

	s.tool("test_sampling", func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answers := req.Params.InputResponses
		if b := unanswered("", answers, sample("answer", req.GetString("prompt", ""))); b != nil {
			return b.ToolResult(), nil
		}
		answer := server.SamplingResponse(answers, "answer")
		return mcp.NewToolResultText(fmt.Sprint("LLM response: ", answer.Content)), nil
	}, mcp.WithString("prompt", mcp.Required()))
	s.tool("test_elicitation", func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answers := req.Params.InputResponses
		fields := map[string]any{"username": text, "email": text}
		form := elicit("form", req.GetString("message", ""), fields, "username", "email")
		if b := unanswered("", answers, form); b != nil {
			return b.ToolResult(), nil
		}
		return mcp.NewToolResultText(fmt.Sprint("User response: ", *server.ElicitationResponse(answers, "form"))), nil
	}, mcp.WithString("message", mcp.Required()))
}

var defaults = map[string]any{
	"name":     map[string]any{"type": "string", "default": "John Doe"},
	"age":      map[string]any{"type": "integer", "default": 30},
	"score":    map[string]any{"type": "number", "default": 95.5},
	"status":   map[string]any{"type": "string", "enum": []string{"active", "inactive"}, "default": "active"},
	"verified": map[string]any{"type": "boolean", "default": true},
}

var enums = map[string]any{
	"untitledSingle": map[string]any{"type": "string", "enum": []string{"option1", "option2"}},
	"titledSingle":   map[string]any{"type": "string", "oneOf": titled},
	"legacyEnum": map[string]any{"type": "string", "enum": []string{"opt1", "opt2"},
		"enumNames": []string{"Option One", "Option Two"}},
	"untitledMulti": map[string]any{"type": "array",
		"items": map[string]any{"type": "string", "enum": []string{"option1", "option2"}}},
	"titledMulti": map[string]any{"type": "array", "items": map[string]any{"anyOf": titled}},
}

var titled = []map[string]any{
	{"const": "value1", "title": "First Option"},
	{"const": "value2", "title": "Second Option"},
}

func (s everything) addResources() {
	add := func(uri, mimeType string, contents mcp.ResourceContents) {
		s.AddResource(mcp.NewResource(uri, strings.TrimPrefix(uri, "test://"), mcp.WithMIMEType(mimeType)),
			func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
				return []mcp.ResourceContents{contents}, nil
			})
	}
	add("test://static-text", "text/plain", mcp.TextResourceContents{URI: "test://static-text",
		MIMEType: "text/plain", Text: "This is the content of the static text resource."})
	add("test://static-binary", "image/png", mcp.BlobResourceContents{URI: "test://static-binary",
		MIMEType: "image/png", Blob: png})
	add("test://watched-resource", "text/plain", mcp.TextResourceContents{URI: "test://watched-resource",
		MIMEType: "text/plain", Text: "Watched resource content"})
	s.AddResourceTemplate(mcp.NewResourceTemplate("test://template/{id}/data", "template"),
		func(_ context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			id := strings.TrimSuffix(strings.TrimPrefix(req.Params.URI, "test://template/"), "/data")
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: req.Params.URI, MIMEType: "application/json",
				Text: fmt.Sprintf(`{"id":%q,"templateTest":true,"data":%q}`, id, "Data for ID: "+id)}}, nil
		})
}

func (s everything) addPrompts() {
	about := mcp.WithPromptDescription("A fixture of the conformance suite")
	type contents func(arguments map[string]string) []mcp.Content
	add := func(name string, say contents, arguments ...string) {
		options := []mcp.PromptOption{about}
		for _, argument := range arguments {
			options = append(options, mcp.WithArgument(argument, mcp.RequiredArgument()))
		}
		s.AddPrompt(mcp.NewPrompt(name, options...),
			func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
				var messages []mcp.PromptMessage
				for _, content := range say(req.Params.Arguments) {
					messages = append(messages, mcp.NewPromptMessage(mcp.RoleUser, content))
				}
				return mcp.NewGetPromptResult("", messages), nil
			})
	}
	add("test_simple_prompt", func(map[string]string) []mcp.Content {
		return []mcp.Content{mcp.NewTextContent("This is a simple prompt for testing.")}
	})
	add("test_prompt_with_arguments", func(a map[string]string) []mcp.Content {
		return []mcp.Content{mcp.NewTextContent(
			fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", a["arg1"], a["arg2"]))}
	}, "arg1", "arg2")
	add("test_prompt_with_embedded_resource", func(a map[string]string) []mcp.Content {
		return []mcp.Content{
			mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: a["resourceUri"], MIMEType: "text/plain",
				Text: "Embedded resource content for testing."}),
			mcp.NewTextContent("Please process the embedded resource above.")}
	}, "resourceUri")
	add("test_prompt_with_image", func(map[string]string) []mcp.Content {
		return []mcp.Content{mcp.NewImageContent(png, "image/png"), mcp.NewTextContent("Please analyze the image above.")}
	})
	ask := elicit("user_context", "What context should the prompt use?",
		map[string]any{"context": map[string]any{"type": "string"}}, "context")
	s.AddPrompt(mcp.NewPrompt("test_input_required_result_prompt", about),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			if b := unanswered("", req.Params.InputResponses, ask); b != nil {
				return b.PromptResult(), nil
			}
			return mcp.NewGetPromptResult("", []mcp.PromptMessage{
				mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent("Use the context."))}), nil
		})
}
