package mcpserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"

	"example.com/mcp-federated-login/oauth"
)

// maxBatch is how many messages a batch may hold. They run one after the other, in the time of one request.
const maxBatch = 50

// splitBatches makes single requests of JSON-RPC batches, which mcp-go does not know. "MCP implementations MAY support
// sending JSON-RPC batches, but MUST support receiving JSON-RPC batches" (MCP 2025-03-26, Batching); the next revision
// took them away. Notifications of a message in a batch are not sent: its answer is a part of one JSON array.
func splitBatches(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bufio.NewReaderSize(r.Body, 16)
		r.Body = struct {
			io.Reader
			io.Closer
		}{body, r.Body}
		mediaType := func() string { t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); return t }
		if !beginsArray(body) || mediaType() != "application/json" {
			next.ServeHTTP(w, r)
			return
		}
		messages, failure := readBatch(body, r.Header.Get(mcp.HeaderProtocolVersion))
		if failure != nil {
			writeJSON(w, http.StatusBadRequest, failure)
			return
		}
		r = r.WithContext(oauth.WithoutChallenge(r.Context()))
		var answers []json.RawMessage
		for _, m := range messages {
			if a := answerOne(next, r, m); a != nil {
				answers = append(answers, a)
			}
			if r.Context().Err() != nil {
				break // what has been done is said: on a challenge it would be sent again
			}
		}
		if answers == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		writeJSON(w, http.StatusOK, answers)
	})
}

// beginsArray reports whether the first character that counts is a bracket, and consumes what is before it.
func beginsArray(body *bufio.Reader) bool {
	for {
		switch c, err := body.ReadByte(); {
		case err != nil:
			return false
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			body.UnreadByte() // cannot fail after ReadByte
			return c == '['
		}
	}
}

// readBatch returns the messages of a batch, or the JSON-RPC error that answers it as a whole.
func readBatch(body io.Reader, version string) ([]json.RawMessage, json.RawMessage) {
	switch version {
	case "", "2024-11-05", "2025-03-26":
	default:
		return nil, newError(nil, mcp.INVALID_REQUEST, "Batches ended with protocol version 2025-03-26: send one message "+
			"in a request.")
	}
	var messages []json.RawMessage
	d := json.NewDecoder(body)
	_, err := d.Token() // the bracket
	for err == nil && d.More() {
		if len(messages) == maxBatch {
			return nil, newError(nil, mcp.INVALID_REQUEST, fmt.Sprintf("A batch can hold %d messages.", maxBatch))
		}
		var m json.RawMessage
		err = d.Decode(&m)
		messages = append(messages, m)
	}
	if err == nil {
		_, err = d.Token() // the other bracket
	}
	_, end := d.Token()
	switch {
	case err != nil || end != io.EOF:
		return nil, newError(nil, mcp.PARSE_ERROR, "The batch is not valid JSON.")
	case len(messages) == 0:
		return nil, newError(nil, mcp.INVALID_REQUEST, "The batch is empty.")
	}
	return messages, nil
}

// answerOne returns what a message of a batch is answered; nil: nothing.
func answerOne(next http.Handler, r *http.Request, message json.RawMessage) json.RawMessage {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method mcp.MCPMethod   `json:"method"`
	}
	if json.Unmarshal(message, &m) != nil {
		return newError(nil, mcp.INVALID_REQUEST, "This is no message.")
	}
	if m.Method == mcp.MethodInitialize { // "MUST NOT be part of a JSON-RPC batch" (MCP 2025-03-26, Lifecycle)
		return newError(m.ID, mcp.INVALID_REQUEST, "initialize cannot be in a batch.")
	}
	one := r.Clone(r.Context())
	one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(message)), int64(len(message))
	a := batchAnswer{header: http.Header{}}
	next.ServeHTTP(&a, one)
	if a.header.Get("Content-Type") != "application/json" { // a notification's, or a response's to nothing we asked
		return nil
	}
	return a.body.Bytes()
}

// A batchAnswer collects what a message is answered. It cannot be flushed, so mcp-go does not make a stream of it.
type batchAnswer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *batchAnswer) Header() http.Header         { return a.header }
func (a *batchAnswer) WriteHeader(int)             {}
func (a *batchAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

// newError returns a JSON-RPC error for the request with that id; nil: the id is not known.
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
		panic(err) // what mcp-go or we have written is JSON
	}
	return b
}
