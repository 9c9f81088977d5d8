package endpoint

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
)

// A message holds the raw JSON-RPC members of a message. A nil field means that the member is absent.
type message struct{ id, method, params []byte }

// parseMessage returns the message in a valid JSON text, or the JSON-RPC error to respond with.
//
// mcp-go decodes numbers to float64 and strings to valid Unicode. It would respond to the request 9007199254740993 as
// 9007199254740992, and treat a request with "id": null as a notification. parseMessage refuses such requests: such ids
// are too rare to justify restoring them in everything that mcp-go writes, including streams.
func parseMessage(text []byte) (message, json.RawMessage) {
	if text[0] != '{' {
		return message{}, newError(nil, mcp.INVALID_REQUEST, "A message must be a JSON object.")
	}
	found, repeated := members(text, "id", "method", "params", "jsonrpc", "result", "error")
	m := message{found[0], found[1], found[2]}
	if repeated == "id" {
		return m, newError(nil, mcp.INVALID_REQUEST, "The message has more than one id.")
	}
	isRequest := m.method != nil && m.id != nil // a response has an id that this server chose
	switch {
	case repeated != "":
		return m, newError(echo(m.id), mcp.INVALID_REQUEST, "The message has more than one "+repeated+".")
	case isRequest && !isString(m.id) && !isInteger(m.id):
		return m, newError(echo(m.id), mcp.INVALID_REQUEST, "The id must be a string or an integer.")
	case isRequest && !survives(m.id):
		return m, newError(echo(m.id), mcp.INVALID_REQUEST, "The id cannot be sent back exactly: send a string of "+
			"Unicode, or an integer within 2^53.")
	case m.params == nil || m.params[0] != '{':
		return m, nil
	}
	found, repeated = members(m.params, "_meta", "name", "arguments")
	if repeated != "" {
		return m, newError(echo(m.id), mcp.INVALID_PARAMS, "The params have more than one "+repeated+".")
	}
	if meta := found[0]; meta != nil && meta[0] == '{' {
		found, repeated = members(meta, "progressToken")
		if token := found[0]; repeated != "" || isRequest && token != nil && !survives(token) {
			return m, newError(echo(m.id), mcp.INVALID_PARAMS, "The progressToken cannot be sent back exactly: send a "+
				"string of Unicode, or an integer within 2^53.")
		}
	}
	return m, nil
}

// echo returns an id unchanged, or nil if it is not a string or a number.
func echo(id []byte) json.RawMessage {
	if id == nil || !isString(id) && !isNumber(id) {
		return nil
	}
	return id
}

func isString(value []byte) bool { return value[0] == '"' }
func isNumber(value []byte) bool { return value[0] == '-' || value[0] >= '0' && value[0] <= '9' }

func isInteger(value []byte) bool { return isNumber(value) && !bytes.ContainsAny(value, ".eE") }

// survives reports whether a value is the same after mcp-go has decoded and encoded it. It checks only strings and
// numbers.
func survives(value []byte) bool {
	switch {
	case isString(value):
		// unquote replaces half of a surrogate pair with U+FFFD.
		return !strings.ContainsRune(unquote(value), utf8.RuneError)
	case isNumber(value):
		f, err := strconv.ParseFloat(string(value), 64)
		return err == nil && bytes.Equal(mustJSON(f), value)
	}
	return true
}

// members returns the values of a JSON object's members with these names, and one of the names that occurs more than
// once. It ignores case, like encoding/json, which mcp-go uses: "ID" is an id.
func members(object []byte, names ...string) (values [][]byte, repeated string) {
	values = make([][]byte, len(names))
	for part := range parts(object) {
		end := stringEnd(part, 0)
		name := unquote(part[:end])
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
		if i < 0 {
			continue
		}
		if values[i] != nil {
			repeated = names[i]
		}
		_, value, _ := bytes.Cut(part[end:], []byte(":"))
		values[i] = trim(value)
	}
	return values, repeated
}

// parts returns the elements of a JSON array or the members of a JSON object. The text must be valid JSON.
func parts(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		depth, start := 0, 1
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '"':
				i = stringEnd(text, i) - 1
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			if depth > 1 || depth == 1 && text[i] != ',' {
				continue
			}
			if part := trim(text[start:i]); len(part) > 0 && !yield(part) {
				return
			}
			start = i + 1
		}
	}
}

// stringEnd returns the index after the string that begins at i, in a valid JSON text.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func unquote(literal []byte) string {
	if !bytes.ContainsRune(literal, '\\') {
		return string(literal[1 : len(literal)-1])
	}
	var s string
	if err := json.Unmarshal(literal, &s); err != nil {
		panic(err) // it is a valid JSON string
	}
	return s
}

// trim removes JSON white space from both ends.
func trim(text []byte) []byte { return bytes.Trim(text, " \t\r\n") }
