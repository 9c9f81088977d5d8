package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/storm"
	"example.com/mcp-federated-login/templates"
)

// writeError writes err as the JSON of RFC 6749 section 5.2, which RFC 7009 and RFC 7591 share.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := clients.AsError(err)
	s.logError(r, e)
	if e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", templates.RetryAfter)
	}
	writeJSON(w, e.Status, map[string]string{"error": e.Code, "error_description": e.Description})
}

// logError logs a failure: this server's at level ERROR, others at INFO. This server's come in storms, so their log
// lines are limited.
func (s *Server) logError(r *http.Request, e *clients.Error) {
	ctx, level := r.Context(), slog.LevelInfo
	if e.Status >= 500 && !errors.Is(e, clients.ErrNotFetched) { // the client's developer must fix that
		level = slog.LevelError
	}
	args := []any{"path", r.URL.Path, "error", e.Code, "description", e.Description}
	if e.Err != nil {
		args = append(args, "cause", e.Err)
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the client disconnected: not a failure
		s.log.DebugContext(ctx, "refused", args...)
	case e.Status >= 500:
		s.log.Failure(ctx, level, "refused", string(seal.LengthPrefixed(r.URL.Path, e.Code, storm.Class(e.Err))), args...)
	default:
		s.log.Log(ctx, level, "refused", args...)
	}
}

// LogFailure logs a failure of the program around this server as [storm.Log.Failure] does.
func (s *Server) LogFailure(ctx context.Context, level slog.Level, message, kind string, args ...any) {
	s.log.Failure(ctx, level, message, kind, args...)
}

// LogLeftOut logs the failures that were left out so far. Call it at the end, when no request is running.
func (s *Server) LogLeftOut() { s.log.LeftOut(true) }

// writeJSON writes v. The response is not cached (RFC 6749 section 5.1), unless the caller has set Cache-Control.
func writeJSON(w http.ResponseWriter, status int, v any) { writeEncoded(w, status, encodeJSON(v)) }

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only for a type that cannot be JSON
	}
	return b
}

func writeEncoded(w http.ResponseWriter, status int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	w.Write(b)
}
