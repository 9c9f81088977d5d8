package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"

	"example.com/mcp-federated-login/oauth"
)

// maxBatch is the most messages in a batch. They run one after the other, within the time limit of one request.
const maxBatch = 50

// answerBatch splits a JSON-RPC batch into single requests, because mcp-go does not support batches. "MCP
// implementations MAY support sending JSON-RPC batches, but MUST support receiving JSON-RPC batches" (MCP 2025-03-26,
// Batching). The next revision removed them. Tools in a batch cannot send notifications: the response is a JSON array.
func (e *endpoint) answerBatch(w http.ResponseWriter, r *http.Request, body []byte) {
	messages, failure := splitBatch(body, r.Header.Get(mcp.HeaderProtocolVersion))
	if failure != nil {
		writeJSON(w, http.StatusBadRequest, failure)
		return
	}
	r = r.WithContext(oauth.WithoutChallenge(r.Context()))
	var answers []json.RawMessage
	for _, m := range messages {
		if a := e.answerOne(r, m); a != nil {
			answers = append(answers, a)
		}
		if r.Context().Err() != nil {
			break // return the results so far: after a challenge the client would resend the calls
		}
	}
	if answers == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	writeJSON(w, http.StatusOK, answers)
}

// splitBatch returns the messages of a batch, or one JSON-RPC error for the whole batch.
func splitBatch(body []byte, version string) ([][]byte, json.RawMessage) {
	switch version {
	case "", "2024-11-05", "2025-03-26":
	default:
		return nil, newError(nil, mcp.INVALID_REQUEST, "Batches ended with protocol version 2025-03-26: send one message "+
			"in a request.")
	}
	var messages [][]byte
	for m := range parts(body) {
		if len(messages) == maxBatch {
			return nil, newError(nil, mcp.INVALID_REQUEST, fmt.Sprintf("A batch can hold %d messages.", maxBatch))
		}
		messages = append(messages, m)
	}
	if messages == nil {
		return nil, newError(nil, mcp.INVALID_REQUEST, "The batch is empty.")
	}
	return messages, nil
}

// answerOne returns the response to a message of a batch. Nil means that it gets no response.
func (e *endpoint) answerOne(r *http.Request, text []byte) json.RawMessage {
	m, failure := parseMessage(text)
	if failure != nil {
		return failure
	}
	// "MUST NOT be part of a JSON-RPC batch" (MCP 2025-03-26, Lifecycle)
	if m.method != nil && isString(m.method) && unquote(m.method) == string(mcp.MethodInitialize) {
		return newError(echo(m.id), mcp.INVALID_REQUEST, "initialize cannot be in a batch.")
	}
	a := batchAnswer{header: http.Header{}}
	e.answer(&a, r.Clone(r.Context()), text)
	if a.header.Get("Content-Type") != "application/json" { // the message needs no response
		return nil
	}
	return a.body.Bytes()
}

// A batchAnswer collects the response to a message. It has no Flush method, so mcp-go does not turn it into a stream.
type batchAnswer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *batchAnswer) Header() http.Header         { return a.header }
func (a *batchAnswer) WriteHeader(int)             {}
func (a *batchAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

// newError returns a JSON-RPC error for the request with that id. A nil id means that the id is unknown.
func newError(id json.RawMessage, code int, message string) json.RawMessage {
	return mustJSON(mcp.NewJSONRPCError(mcp.NewRequestId(id), code, message, nil))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(mustJSON(v))
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // mcp-go and this package produce only valid JSON
	}
	return b
}
