package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBatches checks H14. Clients of 2025-03-26 send no version header.
func TestBatches(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	send := func(version, body string) answer {
		header := legacyHeader(access)
		header.Del("Mcp-Protocol-Version")
		if version != "" {
			header.Set("Mcp-Protocol-Version", version)
		}
		return w.call(http.MethodPost, "/mcp", header, body)
	}
	const (
		ping       = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
		whoami     = `{"jsonrpc":"2.0","id":"two","method":"tools/call","params":{"name":"whoami","arguments":{}}}`
		notify     = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
		response   = `{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`
		initialize = `{"jsonrpc":"2.0","id":9,"method":"initialize","params":{"protocolVersion":"2025-03-26",` +
			`"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
		modern = `{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{"_meta":` + modernMeta + `}}`
	)
	const invalid, noMethod, parse, mismatch = -32600, -32601, -32700, -32020
	for _, test := range []struct {
		name, version, body string
		status              int
		want                string // the responses in order: id and "ok" or error code
	}{
		{"control: no batch", "", ping, 200, "1 ok"},
		{"two requests", "", "[" + ping + "," + whoami + "]", 200, "[1 ok, two ok]"},
		{"with the version in the header", "2025-03-26", "[" + ping + "]", 200, "[1 ok]"},
		{"space before", "", " \r\n\t[" + ping + "] ", 200, "[1 ok]"},
		{"requests and notifications", "", "[" + notify + "," + ping + "," + notify + "]", 200, "[1 ok]"},
		{"notifications alone", "", "[" + notify + "," + notify + "]", 202, ""},
		{"responses alone", "", "[" + response + `,{"jsonrpc":"2.0","id":6,"error":{"code":1,"message":"x"}}]`, 202, ""},
		{"the same id twice", "", "[" + ping + "," + ping + "]", 200, "[1 ok, 1 ok]"},
		{"a method that there is not", "", `[{"jsonrpc":"2.0","id":3,"method":"x"},` + ping + "]", 200,
			fmt.Sprintf("[3 %d, 1 ok]", noMethod)},
		{"initialize", "", "[" + initialize + "," + ping + "]", 200, fmt.Sprintf("[9 %d, 1 ok]", invalid)},
		{"initialize in disguise", "", `[{"jsonrpc":"2.0","id":9,"method":"ping","METHOD":"initialize"}]`, 200,
			fmt.Sprintf("[9 %d]", invalid)},
		{"a modern request", "", "[" + modern + "," + ping + "]", 200, fmt.Sprintf("[4 %d, 1 ok]", mismatch)},
		{"garbage", "", `[1,"x",null,{"foo":"boo"},[],` + ping + "]", 200,
			fmt.Sprintf("[null %[1]d, null %[1]d, null %[1]d, null %[1]d, null %[1]d, 1 ok]", invalid)},
		{"empty", "", "[]", 400, fmt.Sprintf("null %d", invalid)},
		{"not closed", "", "[" + ping, 400, fmt.Sprintf("null %d", parse)},
		{"something after it", "", "[" + ping + "]" + ping, 400, fmt.Sprintf("null %d", parse)},
		{"not JSON", "", "[" + ping + ",}]", 400, fmt.Sprintf("null %d", parse)},
		{"fifty", "", "[" + strings.Repeat(ping+",", 49) + ping + "]", 200, "[" + strings.Repeat("1 ok, ", 49) + "1 ok]"},
		{"fifty-one", "", "[" + strings.Repeat(ping+",", 50) + ping + "]", 400, fmt.Sprintf("null %d", invalid)},
		{"a million nothings", "", "[" + strings.Repeat("1,", 1<<20) + "1]", 413, "null -32000"},
		{"a revision without batches", "2025-06-18", "[" + ping + "]", 400, fmt.Sprintf("null %d", invalid)},
		{"another revision without batches", "2025-11-25", "[" + ping + "]", 400, fmt.Sprintf("null %d", invalid)},
		{"the newest revision", "2026-07-28", "[" + modern + "]", 400, fmt.Sprintf("null %d", invalid)},
		{"a revision that nobody knows", "2024-12-24", "[" + ping + "]", 400, fmt.Sprintf("null %d", invalid)},
	} {
		t.Run("H14: "+test.name, func(t *testing.T) {
			a := send(test.version, test.body)
			if a.status != test.status {
				t.Errorf("got status %d, want %d: %.300s", a.status, test.status, a.body)
			}
			if diff := cmp.Diff(test.want, outcome(t, a)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
	// A client that gets a 403 sends the batch again, and would repeat the calls that succeeded.
	t.Run("one message lacks a scope", func(t *testing.T) {
		id := w.register(callbackURI)
		q := w.browser().signIn(w.authorizeURL(id, func(q url.Values) { q.Set("scope", "account:read") }))
		header := legacyHeader(w.redeem(id, q.Get("code")).access)
		header.Del("Mcp-Protocol-Version")
		_, list := eras[1].call("")
		a := w.call(http.MethodPost, "/mcp", header, "["+whoami+","+list+"]")
		if got := string(a.body); a.status != http.StatusOK || !strings.Contains(got, "octocat") ||
			!strings.Contains(got, "this needs the scope repos:read") {
			t.Errorf("got %d %s, want the one answer, and what is missing for the other", a.status, got)
		}
		if a := w.call(http.MethodPost, "/mcp", header, list); a.status != http.StatusForbidden {
			t.Errorf("control: the message by itself: got status %d, want 403", a.status)
		}
	})
	t.Run("the token is revoked while it runs", func(t *testing.T) {
		victim, api := w.signIn(), newSlowAPI(t)
		address := w.serve(newStreamServer())
		header := w.as(legacyHeader(victim.access))
		header.Del("Mcp-Protocol-Version")
		slow := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fetch","arguments":{"url":"` + api.URL + `"}}}`
		ping := `{"jsonrpc":"2.0","id":"done","method":"ping"}`
		answered := make(chan answer, 1)
		go func() {
			answered <- fetch(t, http.MethodPost, address+"/mcp", header, strings.NewReader("["+ping+","+slow+","+ping+"]"))
		}()
		<-api.arrived
		w.post("/revoke", url.Values{"client_id": {victim.clientID}, "token": {victim.refresh}})
		<-api.abandoned
		if a := <-answered; a.status != http.StatusOK || strings.Count(string(a.body), `"done"`) != 1 {
			t.Errorf("got %d %s, want what was done until then", a.status, a.body)
		}
	})
	t.Run("5 MB", func(t *testing.T) {
		header := legacyHeader(access)
		header.Del("Mcp-Protocol-Version")
		large := io.MultiReader(strings.NewReader(`["` + strings.Repeat("x", 5<<20) + `"]`)) // without Content-Length
		if got := fetch(t, http.MethodPost, w.base+"/mcp", header, large).status; got != http.StatusRequestEntityTooLarge {
			t.Errorf("got status %d, want 413", got)
		}
	})
	t.Run("another media type", func(t *testing.T) {
		header := legacyHeader(access)
		header.Set("Content-Type", "text/plain")
		if got := w.call(http.MethodPost, "/mcp", header, "["+ping+"]").status; got != http.StatusBadRequest {
			t.Errorf("got status %d, want 400", got)
		}
	})
}

// outcome sums up the JSON-RPC responses in a response body.
func outcome(t *testing.T, a answer) string {
	t.Helper()
	type response struct {
		ID     *any
		Result any
		Error  *struct{ Code int }
	}
	one := func(r response) string {
		id := "null"
		if r.ID != nil {
			id = fmt.Sprint(*r.ID)
		}
		if r.Error != nil {
			return fmt.Sprint(id, " ", r.Error.Code)
		}
		return id + " ok"
	}
	if len(a.body) == 0 {
		return ""
	}
	var single response
	if json.Unmarshal(a.body, &single) == nil {
		return one(single)
	}
	var all []response
	if err := json.Unmarshal(a.body, &all); err != nil {
		t.Fatalf("%v: %.300s", err, a.body)
	}
	var s []string
	for _, r := range all {
		s = append(s, one(r))
	}
	return "[" + strings.Join(s, ", ") + "]"
}
