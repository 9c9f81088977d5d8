package mcpserver

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// A message is what JSON-RPC says of a message. What is absent is nil.
type message struct{ id, method []byte }

// parseMessage returns the message that a valid JSON text holds, or the JSON-RPC error to answer it with.
func parseMessage(text []byte) (message, json.RawMessage) {
	if text[0] != '{' {
		return message{}, newError(nil, mcp.INVALID_REQUEST, "A message must be a JSON object.")
	}
	found := members(text, "id", "method")
	return message{found[0], found[1]}, nil
}

// echo returns an id as it came, or nil if JSON-RPC has no such ids.
func echo(id []byte) json.RawMessage {
	if id == nil || !isString(id) && !isNumber(id) {
		return nil
	}
	return id
}

func isString(value []byte) bool { return value[0] == '"' }
func isNumber(value []byte) bool { return value[0] == '-' || value[0] >= '0' && value[0] <= '9' }

// members returns the values of the members of a JSON object that have these names, the last of
// each. It compares names as encoding/json does, which mcp-go uses: "ID" is an id.
func members(object []byte, names ...string) [][]byte {
	values := make([][]byte, len(names))
	for part := range parts(object) {
		end := stringEnd(part, 0)
		name := unquote(part[:end])
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
		if i < 0 {
			continue
		}
		_, value, _ := bytes.Cut(part[end:], []byte(":"))
		values[i] = trim(value)
	}
	return values
}

// parts returns the elements of an array, or the members of an object, from a valid JSON text.
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

// stringEnd returns where a string ends that begins at i, in a valid JSON text.
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

// trim removes the space that JSON knows.
func trim(text []byte) []byte { return bytes.Trim(text, " \t\r\n") }
