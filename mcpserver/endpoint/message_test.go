package endpoint

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzMembers checks that members finds the same members as encoding/json in every text that it accepts as an object,
// and that parts finds the elements of arrays.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{}`, `[]`, ` { "id" : 1 , "x" : [ 1 , {"id":2} ] } `, `{"ID":"a\"}","\u0069d":null}`,
		`[1,"]",{"a":[]},[[2]],null]`, `{"":{},"id":{"id":3}}`, `{"ıd":1,"ſ":2}`, `["\\","\\\"",","]`,
		`{"a":1,"a":2}`, "1"} {
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
			got, _ := members(text, "id", "s")
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

// TestParseMessage checks which messages do not reach mcp-go, and which id their response has.
func TestParseMessage(t *testing.T) {
	for _, test := range []struct{ name, text, id string }{ // id of the error; empty if there is none
		{"integer", `{"id":1,"method":"ping"}`, ""},
		{"zero", `{"id":0,"method":"ping"}`, ""},
		{"negative", `{"id":-7,"method":"ping"}`, ""},
		{"2^53", `{"id":9007199254740992,"method":"ping"}`, ""},
		{"-2^53", `{"id":-9007199254740992,"method":"ping"}`, ""},
		{"string", `{"id":"1","method":"ping"}`, ""},
		{"empty string", `{"id":"","method":"ping"}`, ""},
		{"string with escapes", `{"id":"\u00e9\n\ud83d\ude00","method":"ping"}`, ""},
		{"string of a large number", `{"id":"9007199254740993","method":"ping"}`, ""},
		{"notification", `{"method":"x"}`, ""},
		{"response", `{"id":1,"result":{}}`, ""},
		{"error response without an id", `{"id":null,"error":{"code":1,"message":"x"}}`, ""},
		{"2^53 + 1", `{"id":9007199254740993,"method":"ping"}`, "9007199254740993"},
		{"-2^53 - 1", `{"id":-9007199254740993,"method":"ping"}`, "-9007199254740993"},
		{"beyond float64", `{"id":1` + string(bytes.Repeat([]byte("0"), 400)) + `,"method":"ping"}`,
			"1" + string(bytes.Repeat([]byte("0"), 400))},
		{"fraction", `{"id":1.5,"method":"ping"}`, "1.5"},
		{"fraction of zero", `{"id":1.0,"method":"ping"}`, "1.0"},
		{"exponent", `{"id":1e3,"method":"ping"}`, "1e3"},
		{"exponent in capitals", `{"id":1E3,"method":"ping"}`, "1E3"},
		{"null", `{"id":null,"method":"ping"}`, "null"},
		{"object", `{"id":{},"method":"ping"}`, "null"},
		{"array", `{"id":[1],"method":"ping"}`, "null"},
		{"boolean", `{"id":true,"method":"ping"}`, "null"},
		{"half a surrogate pair", `{"id":"\ud800","method":"ping"}`, `"\ud800"`},
		{"in capitals", `{"ID":null,"method":"ping"}`, "null"},
		{"escaped name", `{"\u0069d":null,"method":"ping"}`, "null"},
		{"two ids", `{"id":1,"id":2,"method":"ping"}`, "null"},
		{"two ids in disguise", `{"id":1,"method":"ping","Id":null}`, "null"},
		{"two methods", `{"id":1,"method":"ping","METHOD":"tools/list"}`, "1"},
		{"two params", `{"id":1,"method":"ping","params":{},"params":{}}`, "1"},
		{"two names", `{"id":1,"method":"x","params":{"name":"a","name":"b"}}`, "1"},
		{"two arguments", `{"id":1,"method":"x","params":{"arguments":{},"Arguments":{}}}`, "1"},
		{"two of what nobody reads", `{"id":1,"method":"x","y":1,"y":2,"params":{"y":1,"y":2}}`, ""},
		{"two in the arguments", `{"id":1,"method":"x","params":{"arguments":{"name":1,"name":2}}}`, ""},
		{"progressToken", `{"id":1,"method":"x","params":{"_meta":{"progressToken":7}}}`, ""},
		{"progressToken, string", `{"id":1,"method":"x","params":{"_meta":{"progressToken":"9007199254740993"}}}`, ""},
		{"progressToken, large", `{"id":1,"method":"x","params":{"_meta":{"progressToken":9007199254740993}}}`, "1"},
		{"no object", `5`, "null"},
		{"string instead of a message", `"x"`, "null"},
		{"null instead of a message", `null`, "null"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, failure := parseMessage([]byte(test.text))
			var got struct {
				ID    json.RawMessage
				Error struct{ Code int }
			}
			if failure != nil {
				if err := json.Unmarshal(failure, &got); err != nil || got.Error.Code > -32600 {
					t.Fatalf("%s is not a JSON-RPC error: %v", failure, err)
				}
			}
			if diff := cmp.Diff(test.id, string(got.ID)); diff != "" {
				t.Errorf("id of the error (-want +got):\n%s", diff)
			}
		})
	}
}
