package clients

import (
	"errors"
	"fmt"
	"net/http"

	"example.com/mcp-federated-login/oauth/store"
)

// An Error is a failure as the other side may see it. The cause is only for the log.
type Error struct {
	// Code is an OAuth error code (RFC 6749 sections 4.1.2.1 and 5.2, RFC 7591 section 3.2.2, RFC 8707 section 2), or
	// one of ours where they have none.
	Code        string
	Description string   // one sentence, for a developer; ASCII without quotes or backslashes (RFC 6749 section 5.2)
	Status      int      // HTTP status
	Err         error    // the cause, for the log; may be nil
	Scopes      []string // of a 401: scopes that the client had and should request again; may be nil
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Description
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// InvalidRequest returns the error for a request that its sender must change.
func InvalidRequest(description string) error {
	return &Error{Code: "invalid_request", Description: description, Status: http.StatusBadRequest}
}

// AsError returns err as the other side may see it. Any error except an [Error] is a server failure: the caller can
// only try again, and nothing has been consumed.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{
		Code:        "temporarily_unavailable",
		Description: "The server cannot answer right now. Nothing was consumed: try again in a few seconds.",
		Status:      http.StatusServiceUnavailable,
		Err:         err,
	}
}

// Because returns the error with a cause, which the operator needs and the other side must not see.
func (e *Error) Because(g *store.Grant, why string) error {
	c := *e
	c.Err = fmt.Errorf("grant %s: %s", g.ID, why)
	return &c
}
