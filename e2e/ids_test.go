package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestIDsComeBackExactly checks that a response has the id of its request, byte by byte, and that a request is refused
// if that is impossible: in both eras, alone and in a batch.
func TestIDsComeBackExactly(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	batch := legacyHeader(access)
	batch.Del("Mcp-Protocol-Version")
	ways := []struct {
		name     string
		header   http.Header
		template string
	}{
		{"modern", mcpHeader(access, "tools/call", "whoami"), `{"jsonrpc":"2.0",%s"method":"tools/call","params":` +
			`{"name":"whoami","arguments":{},"_meta":` + modernMeta + `}}`},
		{"legacy", legacyHeader(access), `{"jsonrpc":"2.0",%s"method":"tools/call","params":{"name":"whoami"}}`},
		{"batch", batch, `[{"jsonrpc":"2.0",%s"method":"tools/call","params":{"name":"whoami"}}]`},
	}
	for _, way := range ways {
		for _, test := range []struct{ sent, refused string }{ // refused: the id of the error; empty if there is none
			{"1", ""}, {"0", ""}, {"-1", ""}, {"9007199254740992", ""}, {"-9007199254740992", ""}, {`"1"`, ""}, {`""`, ""},
			{`"9007199254740993"`, ""}, {`"é☃😀"`, ""},
			{"9007199254740993", "9007199254740993"}, {"18446744073709551615", "18446744073709551615"},
			{"1.5", "1.5"}, {"1.0", "1.0"}, {"1e3", "1e3"}, {`"\ud800"`, `"\ud800"`},
			{"null", "null"}, {"{}", "null"}, {"[1]", "null"}, {"true", "null"},
			{`1,"id":2`, "null"}, {`1,"ID":2`, "null"},
		} {
			t.Run(way.name+"/"+test.sent, func(t *testing.T) {
				a := w.call(http.MethodPost, "/mcp", way.header, fmt.Sprintf(way.template, `"id":`+test.sent+","))
				status := http.StatusOK
				if test.refused != "" && way.name != "batch" {
					status = http.StatusBadRequest
				}
				if a.status != status {
					t.Errorf("got status %d, want %d", a.status, status)
				}
				var got struct {
					ID     json.RawMessage
					Result any
					Error  struct{ Code int }
				}
				body := strings.TrimSuffix(strings.TrimPrefix(string(a.body), "["), "]")
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Fatalf("%v: %.300s", err, a.body)
				}
				if test.refused == "" && (string(got.ID) != test.sent || got.Result == nil) {
					t.Errorf("got %.300s, want the result of request %s", a.body, test.sent)
				}
				if test.refused != "" && (string(got.ID) != test.refused || got.Error.Code != -32600) {
					t.Errorf("got %.300s, want error -32600 of request %s", a.body, test.refused)
				}
			})
		}
		t.Run(way.name+"/control: no id", func(t *testing.T) {
			notification := strings.Replace(fmt.Sprintf(way.template, ""), "tools/call", "notifications/x", 1)
			header := way.header.Clone()
			if way.name == "modern" {
				header = mcpHeader(access, "notifications/x", "")
				header.Del("Mcp-Name")
			}
			if a := w.call(http.MethodPost, "/mcp", header, notification); a.status != http.StatusAccepted {
				t.Errorf("got %d %.300s, want 202", a.status, a.body)
			}
		})
	}
	for name, body := range map[string]string{
		"a second message": `{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}`,
		"a letter":         `{"jsonrpc":"2.0","id":1,"method":"ping"}x`,
		"another encoding": "{\"jsonrpc\":\"2.0\",\"id\":\"\xe9\",\"method\":\"ping\"}",
	} {
		t.Run("what is not JSON/"+name, func(t *testing.T) {
			a := w.call(http.MethodPost, "/mcp", legacyHeader(access), body)
			if a.status != http.StatusBadRequest || outcome(t, a) != "null -32700" {
				t.Errorf("got %d %.300s, want 400 with error -32700", a.status, a.body)
			}
		})
	}
}

// TestProgressTokensComeBackExactly checks that a progress notification has the token of its request, and that a
// request is refused if that is impossible.
func TestProgressTokensComeBackExactly(t *testing.T) {
	w, api := newWorld(t, nil), newSlowAPI(t)
	access, address := w.signIn().access, w.serve(newStreamServer())+"/mcp"
	for _, test := range []struct {
		token   string
		refused bool
	}{
		{"7", false}, {"0", false}, {"9007199254740992", false}, {`"9007199254740993"`, false},
		{"9007199254740993", true}, {"1e3", true}, {`"\udc00"`, true},
	} {
		for _, modern := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/modern %t", test.token, modern), func(t *testing.T) {
				header, body := fetchCall(access, api.URL, "x")
				meta := strings.TrimSuffix(modernMeta, "}") + `,"progressToken":` + test.token + "}"
				if !modern {
					header, meta = legacyHeader(access), `{"progressToken":`+test.token+"}"
				}
				body = strings.Replace(body, modernMeta, meta, 1)
				if test.refused {
					a := fetch(t, http.MethodPost, address, w.as(header), strings.NewReader(body))
					if a.status != http.StatusBadRequest || outcome(t, a) != "1 -32602" {
						t.Errorf("got %d %.300s, want 400 with error -32602", a.status, a.body)
					}
					return
				}
				c := w.converse(address, w.as(header), body)
				<-api.arrived
				if got := c.until("progressToken"); !strings.Contains(got, `"progressToken":`+test.token) {
					t.Errorf("got %.300s, want progress with the token", got)
				}
				api.release <- struct{}{}
				if c.until("survived") == "" {
					t.Error("the call had no result")
				}
			})
		}
	}
}

// TestToolsGetIntegersExactly checks that a tool gets the integer that the client sent, even if float64 cannot
// represent it.
func TestToolsGetIntegersExactly(t *testing.T) {
	w := newWorld(t, nil)
	access := w.signIn().access
	pages := make(chan string, 1)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pages <- r.URL.Query().Get("page")
		io.WriteString(w, "[]")
	}))
	t.Cleanup(api.Close)
	github := w.app.DevIDP.GitHub()
	github.APIURL = api.URL
	w.useGitHub(github)
	for sent, want := range map[string]string{
		"7":                "7",
		"9007199254740993": "9007199254740993", "9223372036854775807": "9223372036854775807",
	} {
		for _, era := range eras {
			header, body := era.call(access)
			body = strings.Replace(body, `"arguments":{}`, `"arguments":{"page":`+sent+"}", 1)
			a := w.call(http.MethodPost, "/mcp", header, body)
			if a.status != http.StatusOK || len(pages) == 0 {
				t.Fatalf("%s, %s: got %d %s", era.name, sent, a.status, a.body)
			}
			if got := <-pages; got != want {
				t.Errorf("%s, %s: the tool got %s, want %s", era.name, sent, got, want)
			}
		}
	}
	header, body := eras[0].call(access)
	a := w.call(http.MethodPost, "/mcp", header, strings.Replace(body, `"arguments":{}`, `"arguments":{"page":"x"}`, 1))
	if a.status != http.StatusOK || !strings.Contains(string(a.body), `"isError":true`) {
		t.Errorf("control: no integer: got %d %s, want the tool's error", a.status, a.body)
	}
}
