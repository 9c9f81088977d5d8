package oauth

import (
	"context"
	"encoding/base32"
	"log/slog"
	"net/http"

	"example.com/mcp-federated-login/oauth/store"
)

type referenceKey struct{}

// withReference adds the reference of the sign-in to a request. It is shown on error pages and on every log line. It is
// a hash of the authorization request, which every step has, so nothing has to be stored.
func withReference(r *http.Request, authorizeQuery string) *http.Request {
	h := store.HashOf(authorizeQuery)
	return r.WithContext(context.WithValue(r.Context(), referenceKey{}, base32.StdEncoding.EncodeToString(h[:5])))
}

// reference returns the reference, or "" outside a sign-in.
func reference(ctx context.Context) string {
	ref, _ := ctx.Value(referenceKey{}).(string)
	return ref
}

// A referenceHandler adds the reference to log lines.
type referenceHandler struct{ slog.Handler }

func (h referenceHandler) Handle(ctx context.Context, rec slog.Record) error {
	if ref := reference(ctx); ref != "" {
		rec.AddAttrs(slog.String("ref", ref))
	}
	return h.Handler.Handle(ctx, rec)
}

func (h referenceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return referenceHandler{h.Handler.WithAttrs(attrs)}
}

func (h referenceHandler) WithGroup(name string) slog.Handler {
	return referenceHandler{h.Handler.WithGroup(name)}
}
