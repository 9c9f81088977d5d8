package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"example.com/mcp-federated-login/oauth/clients"
)

// maxForm is the largest body in bytes, except at the MCP endpoint.
const maxForm = 64 << 10

var errTooLarge = &clients.Error{Code: "invalid_request", Description: "The body is too large.",
	Status: http.StatusRequestEntityTooLarge}

// readForm returns the parameters in the body. It ignores the query, because parameters there end up in logs. RFC 6749
// section 3.2: "Request and response parameters MUST NOT be included more than once", and those without a value count
// as omitted. Only the resource may repeat (RFC 8707 section 2).
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || t != "application/x-www-form-urlencoded" {
		return nil, clients.InvalidRequest("The body must be application/x-www-form-urlencoded.")
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, clients.InvalidRequest("The body cannot be parsed.")
	}
	for name, values := range form {
		if len(values) > 1 && name != "resource" {
			return nil, clients.InvalidRequest("A parameter must come once.")
		}
	}
	return form, nil
}

// readBody returns a body of at most maxForm bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, clients.InvalidRequest("The body did not arrive.")
	}
	return body, nil
}
