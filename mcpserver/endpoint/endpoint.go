// Package endpoint processes requests between the gate and mcp-go. It limits the memory that requests use (memory.go),
// refuses messages that mcp-go would handle wrongly (message.go), splits batches (batch.go), and prevents requests from
// sharing a session (session.go).
package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/oauth"
)

// An endpoint reads requests and passes their messages to mcp-go one by one.
type endpoint struct {
	mcp          http.Handler
	log          *slog.Logger
	maxBody      int64 // bytes
	small, large lane
}

// New returns the endpoint of an MCP server. Requests must come through an [oauth.Server]. A body can have at most
// maxBody bytes.
func New(mcpServer *server.MCPServer, maxBody int64, log *slog.Logger) http.Handler {
	small, large := newLanes(maxBody)
	return &endpoint{log: log, maxBody: maxBody, small: small, large: large,
		mcp: withoutSession(server.NewStreamableHTTPServer(mcpServer,
			server.WithStateLess(true),
			server.WithDisableStreaming(true),
			server.WithDisableLocalhostProtection(true), // it would refuse a reverse proxy on the same host; we check Host
			server.WithStreamableHTTPLogger(log),
			server.WithHTTPContextFunc(func(ctx context.Context, r *http.Request) context.Context {
				inner := server.ClientSessionFromContext(ctx).(session)
				return mcpServer.WithContext(ctx, privateSession{inner, r.Header.Get(server.HeaderKeySessionID)})
			}),
		))}
}

// A refusal is the response to a request that is not passed to mcp-go. It is never a 401, because clients drop their
// tokens on a 401.
type refusal struct {
	status, code int
	message      string
}

// refused is the JSON-RPC error code that other MCP servers send with these statuses.
const refused = -32000

var (
	errTooLarge   = &refusal{http.StatusRequestEntityTooLarge, refused, "The request is too large."}
	errTooComplex = &refusal{http.StatusRequestEntityTooLarge, refused,
		"The request has too many values, or is nested too deeply: send less at a time, or send it as text."}
	errUserBusy = &refusal{http.StatusTooManyRequests, refused,
		"This user's clients have too many requests running: try again in a few seconds."}
	errBusy = &refusal{http.StatusServiceUnavailable, refused,
		"Too many requests are running: try again in a few seconds."}
	errNotReceived = &refusal{http.StatusBadRequest, refused, "The request did not arrive in full."}
	errNotJSON     = &refusal{http.StatusBadRequest, mcp.PARSE_ERROR, "The request is not valid JSON."}
)

// retryAfter is the Retry-After value of a 429 or 503 response, in seconds.
const retryAfter = "5"

// ServeHTTP handles POST /mcp, behind the gate.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" {
		r.Body = http.NoBody
		e.mcp.ServeHTTP(w, r) // responds with the media type that is required
		return
	}
	body, done, refusal := e.receive(w, r)
	if refusal != nil {
		e.refuse(w, r, refusal)
		return
	}
	defer done()
	if body[0] == '[' {
		e.answerBatch(w, r, body)
	} else {
		e.answer(w, r, body)
	}
}

// answer writes the response to one message.
func (e *endpoint) answer(w http.ResponseWriter, r *http.Request, text []byte) {
	if _, failure := parseMessage(text); failure != nil {
		writeJSON(w, http.StatusBadRequest, failure)
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	e.mcp.ServeHTTP(w, r)
}

// receive returns the request's body, which is valid JSON without surrounding space. The caller must call done after
// the response.
func (e *endpoint) receive(w http.ResponseWriter, r *http.Request) (body []byte, done func(), _ *refusal) {
	id := oauth.CallerFrom(r.Context()).Identity()
	user := id.Issuer + " " + id.Subject
	body, arrived, refusal := e.read(r, user)
	if refusal != nil {
		return nil, nil, refusal
	}
	defer arrived()
	// From here on, the connection is read only to notice a disconnect. The response may take any time.
	http.NewResponseController(w).SetReadDeadline(time.Time{}) // an error means that deadlines are not supported
	if body = trim(body); !json.Valid(body) || !utf8.Valid(body) {
		return nil, nil, errNotJSON
	}
	weight, depth := weigh(body)
	subscription := r.Header.Get(mcp.HeaderMethod) == string(mcp.MethodSubscriptionsListen)
	pool := e.small.decoding
	switch {
	case weight > maxWeight(e.maxBody) || depth > maxDepth || subscription && weight > subscriptionWeight:
		return nil, nil, errTooComplex
	case subscription:
		return body, func() {}, nil
	case weight > smallWeight:
		pool = e.large.decoding
	}
	done, refusal = pool.take(r.Context(), user, weight)
	return body, done, refusal
}

// read returns the request's raw body. The caller must call done once another pool accounts for its memory.
func (e *endpoint) read(r *http.Request, user string) (body []byte, done func(), _ *refusal) {
	size, pool := r.ContentLength, e.small.reading
	switch {
	case size > e.maxBody:
		return nil, nil, errTooLarge
	case size > smallBody:
		pool = e.large.reading
	case size < 0: // unknown; most requests are small
		size = smallBody
	}
	done, refusal := pool.take(r.Context(), user, size)
	if refusal != nil {
		return nil, nil, refusal
	}
	body, ended, err := readAtMost(r.Body, nil, size)
	if err == nil && !ended && size < e.maxBody {
		given := done
		done, refusal = e.large.reading.take(r.Context(), user, e.maxBody)
		given() // not earlier: while the request waits, it holds the bytes read so far
		if refusal != nil {
			return nil, nil, refusal
		}
		body, ended, err = readAtMost(r.Body, body, e.maxBody)
	}
	switch {
	case err != nil:
		refusal = errNotReceived
	case !ended || int64(len(body)) > e.maxBody:
		refusal = errTooLarge
	default:
		return body, done, nil
	}
	done()
	return nil, nil, refusal
}

// readAtMost appends to b until it has more than size bytes or the body has ended.
func readAtMost(body io.Reader, b []byte, size int64) (_ []byte, ended bool, err error) {
	b = append(make([]byte, 0, size+1), b...)
	for len(b) < cap(b) && err == nil {
		var n int
		n, err = body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
	}
	if err == io.EOF {
		return b, true, nil
	}
	return b, false, err
}

func (e *endpoint) refuse(w http.ResponseWriter, r *http.Request, refusal *refusal) {
	if r.Context().Err() != nil {
		return // the client disconnected, or its token has expired or been revoked: then the gate responds
	}
	level := slog.LevelInfo
	switch refusal.status {
	case http.StatusServiceUnavailable:
		level = slog.LevelError
		fallthrough
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryAfter)
	}
	e.log.Log(r.Context(), level, "request refused", "status", refusal.status, "cause", refusal.message)
	writeJSON(w, refusal.status, newError(nil, refusal.code, refusal.message))
}
