package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// rpc calls a method of the MCP endpoint, in the client's revision.
func (k *keeper) rpc(access, method, params string) answer {
	k.t.Helper()
	header := legacyHeader(access)
	if k.version == "2026-07-28" {
		header = mcpHeader(access, method, "whoami")
		params += `,"_meta":` + modernMeta
		if method != "tools/call" {
			header.Del("Mcp-Name")
		}
	}
	header.Set("Mcp-Protocol-Version", k.version)
	if k.version == "2025-03-26" || method == "initialize" { // it came with 2025-06-18, after the handshake
		header.Del("Mcp-Protocol-Version")
	}
	if access == "" {
		header.Del("Authorization")
	}
	maps.Copy(header, k.mcp)
	id := `"id":1,`
	if strings.HasPrefix(method, "notifications/") {
		id = ""
	}
	return k.send(http.MethodPost, k.endpoint(), header,
		`{"jsonrpc":"2.0",`+id+`"method":"`+method+`","params":{`+strings.TrimPrefix(params, ",")+`}}`)
}

func (k *keeper) endpoint() string {
	if k.path != "" {
		return k.w.base + k.path
	}
	return k.w.base + "/mcp"
}

// talk runs a whole conversation in the client's revision.
func (k *keeper) talk(access string) {
	k.t.Helper()
	if k.version == "2026-07-28" {
		a := k.rpc(access, "server/discover", "")
		result, _ := a.json["result"].(map[string]any)
		versions, _ := result["supportedVersions"].([]any)
		if a.status != http.StatusOK || !slices.Contains(versions, any(k.version)) {
			k.t.Errorf("server/discover: got %d %s", a.status, a.body)
		}
	} else {
		a := k.rpc(access, "initialize", `"protocolVersion":"`+k.version+`","capabilities":{},`+
			`"clientInfo":{"name":"zoo","version":"1"}`)
		result, _ := a.json["result"].(map[string]any)
		if a.status != http.StatusOK || result["protocolVersion"] != k.version {
			k.t.Errorf("initialize: got %d %s, want revision %s", a.status, a.body, k.version)
		}
		if got := k.rpc(access, "notifications/initialized", "").status; got != http.StatusAccepted {
			k.t.Errorf("notifications/initialized: got status %d, want 202", got)
		}
		// Clients open a stream for the server's messages, and end their session: this server has neither. Web pages,
		// which would need a preflight, do not send the second without a session.
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			if method == http.MethodDelete && k.header.Get("Origin") != "" {
				continue
			}
			a := k.send(method, k.endpoint(), http.Header{"Authorization": {"Bearer " + access},
				"Accept": {"text/event-stream"}}, "")
			if a.status != http.StatusMethodNotAllowed {
				k.t.Errorf("%s: got status %d, want 405", method, a.status)
			}
		}
	}
	a := k.rpc(access, "tools/list", "")
	if a.status != http.StatusOK || !strings.Contains(string(a.body), `"whoami"`) {
		k.t.Errorf("tools/list: got %d %s", a.status, a.body)
	}
	k.callTool(access)
}

func (k *keeper) callTool(access string) {
	k.t.Helper()
	a := k.rpc(access, "tools/call", `"name":"whoami","arguments":{}`)
	if a.status != http.StatusOK || !strings.Contains(string(a.body), `"login":"octocat"`) {
		k.t.Errorf("whoami: got %d %s", a.status, a.body)
	}
}

// refresh spends a refresh token in the client's manner. All responses must contain the same pair.
func (k *keeper) refresh(token string) (last answer) {
	k.t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	answers := make([]answer, max(1, k.atOnce))
	done := make(chan struct{})
	for i := range answers {
		go func() { answers[i] = k.askToken(form, true); done <- struct{}{} }()
	}
	for range answers {
		<-done
	}
	began := k.w.clock.now()
	for _, after := range k.again {
		k.w.clock.advance(began.Add(after).Sub(k.w.clock.now()))
		answers = append(answers, k.askToken(form, true))
	}
	first := answers[0]
	for _, a := range answers {
		k.wantTokens(a)
		for _, name := range []string{"access_token", "refresh_token"} {
			if a.str(name) != first.str(name) {
				k.t.Errorf("two uses of one refresh token got different ones for their %s: one will be lost", name)
			}
		}
	}
	if first.str("refresh_token") == token {
		k.t.Error("the refresh token was not rotated")
	}
	return answers[len(answers)-1]
}
