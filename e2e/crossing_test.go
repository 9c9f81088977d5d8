package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/server"
)

// A conversation is a request whose response arrives bit by bit.
type conversation struct {
	lines  <-chan string // closed at the end
	hangUp func()
}

func (w *world) converse(address string, header http.Header, body string) conversation {
	w.t.Helper()
	ctx, hangUp := context.WithCancel(w.t.Context())
	w.t.Cleanup(hangUp)
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header, req.Host = header, header.Get("Host")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	return conversation{lines, hangUp}
}

// until reads up to the line that contains the text, and returns it; it returns "" if there is none.
func (c conversation) until(what string) string {
	for line := range c.lines {
		if strings.Contains(line, what) {
			return line
		}
	}
	return ""
}

// TestNothingCrossesOver checks two users at once, with the same request ids and with any session id they like.
// Messages for one never reach the other, and neither can answer in the other's place. TestOthersCannotCancelACall
// checks cancelling.
func TestNothingCrossesOver(t *testing.T) {
	w, api, mallorysAPI := newWorld(t, nil), newSlowAPI(t), newSlowAPI(t)
	alice, mallory := w.signIn(), w.signInAs("mallory")
	ms := newStreamServer()
	ours := w.serve(ms) + "/mcp"
	stateless := httptest.NewServer(server.NewStreamableHTTPServer(ms, server.WithStateLess(true),
		server.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler))))
	t.Cleanup(stateless.Close)
	bare := stateless.URL

	call := func(access, session, tool, args string) (http.Header, string) {
		header := w.as(legacyHeader(access))
		if session != "" {
			header.Set("Mcp-Session-Id", session)
		}
		return header, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s}}`,
			tool, args)
	}
	// asked makes Alice's call of the tool that asks, and returns it with the question when it has asked.
	asked := func(t *testing.T, address, session string, wait bool) (conversation, string) {
		header, body := call(alice.access, session, "ask", fmt.Sprintf(`{"url":%q,"wait":%t}`, api.URL, wait))
		c := w.converse(address, header, body)
		<-api.arrived
		question := c.until("elicitation/create")
		if question == "" {
			t.Fatal("nothing was asked")
		}
		return c, question
	}

	// Mallory calls a tool while Alice's call waits for her answer, and listens.
	listensIn := func(t *testing.T, address, session string) bool {
		a, _ := asked(t, address, session, false)
		header, body := call(mallory.access, session, "fetch", fmt.Sprintf(`{"url":%q}`, mallorysAPI.URL))
		m := w.converse(address, header, body)
		<-mallorysAPI.arrived
		api.release <- struct{}{}
		if a.until(`"id":1`) == "" {
			t.Error("Alice got no result")
		}
		mallorysAPI.release <- struct{}{}
		return m.until("private") != ""
	}
	// Mallory answers Alice's question. Its id is easy to guess: they are numbered from 1.
	answers := func(t *testing.T, address, session string) bool {
		a, question := asked(t, address, session, true)
		var request struct{ ID int }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(question, "data: ")), &request); err != nil {
			t.Fatal(err)
		}
		api.release <- struct{}{}
		header := w.as(legacyHeader(mallory.access))
		if session != "" {
			header.Set("Mcp-Session-Id", session)
		}
		got := fetch(t, http.MethodPost, address, header, strings.NewReader(fmt.Sprintf(
			`{"jsonrpc":"2.0","id":%d,"result":{"action":"accept","content":{"name":"mallory"}}}`, request.ID)))
		if got.status != http.StatusAccepted {
			a.hangUp()
			return false
		}
		return a.until("mallory") != ""
	}
	const invented, stolen = "invented", "mcp-session-00000000-0000-4000-8000-000000000000"
	for _, test := range []struct {
		name, session string
		attack        func(t *testing.T, address, session string) bool
	}{
		{"notifications, without a session id", "", listensIn},
		{"notifications, with one that both invented", invented, listensIn},
		{"notifications, with Alice's", stolen, listensIn},
		{"answers to questions, with an invented session id", invented, answers},
		{"answers to questions, with Alice's", stolen, answers},
	} {
		succeeds := func(t *testing.T, address string) bool {
			for range 10 { // on a bare server it takes some luck
				if test.attack(t, address, test.session) {
					return true
				}
			}
			return false
		}
		t.Run("legacy/"+test.name, func(t *testing.T) {
			if succeeds(t, ours) {
				t.Error("what was Alice's reached Mallory, or the other way round")
			}
		})
		t.Run("legacy/"+test.name+"/control: a bare mcp-go server falls for it", func(t *testing.T) {
			if !succeeds(t, bare) {
				t.Error("nothing crossed over, so this test proves nothing")
			}
		})
	}

	// For modern requests, mcp-go shares only the state that TestOthersCannotCancelACall cancels.
	t.Run("modern/notifications and results", func(t *testing.T) {
		begin := func(access, say string) conversation {
			header, body := fetchCall(access, api.URL, say)
			header.Set("Mcp-Session-Id", invented)
			c := w.converse(ours, w.as(header), body)
			<-api.arrived
			return c
		}
		a, m := begin(alice.access, "for alice"), begin(mallory.access, "for mallory")
		api.release <- struct{}{}
		api.release <- struct{}{}
		for name, c := range map[string]conversation{"alice": a, "mallory": m} {
			var got []string
			for line := range c.lines {
				if strings.HasPrefix(line, "data: ") {
					got = append(got, line)
				}
			}
			if len(got) != 2 || !strings.Contains(got[0], "for "+name) || !strings.Contains(got[1], "survived") {
				t.Errorf("%s got %q, want one notification and the result", name, got)
			}
		}
	})
}
