package mcpserver

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzMembers checks that members finds what encoding/json finds, in whatever it takes for an object, and that parts
// finds the elements of arrays.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{}`, `[]`, ` { "id" : 1 , "x" : [ 1 , {"id":2} ] } `, `{"ID":"a\"}","\u0069d":null}`,
		`[1,"]",{"a":[]},[[2]],null]`, `{"":{},"id":{"id":3}}`, `{"ıd":1,"ſ":2}`, `["\\","\\\"",","]`, `{"a":1,"a":2}`, "1"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if text = trim(text); !json.Valid(text) {
			return
		}
		weigh(text)
		switch text[0] {
		case '{':
			var want struct {
				ID json.RawMessage `json:"id"`
				S  json.RawMessage `json:"s"`
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			got := members(text, "id", "s")
			if !bytes.Equal(got[0], want.ID) || !bytes.Equal(got[1], want.S) {
				t.Errorf("%q: got %q, want %q and %q", text, got, want.ID, want.S)
			}
		case '[':
			var want []json.RawMessage
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			i := 0
			for part := range parts(text) {
				if i >= len(want) || !bytes.Equal(part, want[i]) {
					t.Fatalf("%q: element %d is %q", text, i, part)
				}
				i++
			}
			if i != len(want) {
				t.Errorf("%q: got %d elements, want %d", text, i, len(want))
			}
		}
	})
}
