package clients

import (
	"errors"
	"fmt"
	"net/http"

	"example.com/mcp-federated-login/oauth/store"
)

// An Error is a failure as the other side may see it. The cause is for the log alone.
type Error struct {
	// Code is an OAuth error code (RFC 6749 sections 4.1.2.1 and 5.2, RFC 7591 section 3.2.2, RFC 8707 section 2), or
	// one of ours where they have none.
	Code        string
	Description string   // one sentence, for a developer; ASCII without quotes or backslashes (RFC 6749 section 5.2)
	Status      int      // HTTP status
	Err         error    // what the log says besides; may be nil
	Scopes      []string // of a 401: what the client had, and should ask for again; may be nil
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Description
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// InvalidRequest is a request that its sender has to write differently.
func InvalidRequest(description string) error {
	return &Error{Code: "invalid_request", Description: description, Status: http.StatusBadRequest}
}

// AsError returns err as the other side may see it. What is not an [Error] is trouble of ours: the caller can do
// nothing about it but try again, and nothing has been consumed.
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

// Because returns the error with a cause: what the other side must not learn, and the operator wants to know.
func (e *Error) Because(g *store.Grant, why string) error {
	c := *e
	c.Err = fmt.Errorf("grant %s: %s", g.ID, why)
	return &c
}
