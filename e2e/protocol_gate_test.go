package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// discover calls server/discover in the newest protocol revision.
func (w *world) discover(access string) answer {
	w.t.Helper()
	h := mcpHeader(access, "server/discover", "")
	h.Del("Mcp-Name")
	return w.call(http.MethodPost, "/mcp", h,
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":`+modernMeta+`}}`)
}

// TestProtocolEveryRequestNeedsAToken checks that no request passes the gate without a valid token, whatever its method
// and whatever is wrong with its token.
func TestProtocolEveryRequestNeedsAToken(t *testing.T) {
	w := newWorld(t, nil)
	expired := w.signIn()
	w.tool(expired.access, "whoami") // puts it into the cache
	w.clock.advance(time.Hour)
	good, revoked := w.signIn(), w.signIn()
	w.tool(revoked.access, "whoami")
	w.post("/revoke", url.Values{"client_id": {revoked.clientID}, "token": {revoked.refresh}})
	legacy := func(method, body string) func(string) answer {
		return func(access string) answer { return w.call(method, "/mcp", legacyHeader(access), body) }
	}
	for _, request := range []struct {
		name string
		send func(access string) answer
		good int // status with a valid token
	}{
		{"tools/call", func(access string) answer { return w.tool(access, "whoami") }, 200},
		{"server/discover (H7)", w.discover, 200},
		{"initialize", legacy(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":`+
			`"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`), 200},
		{"ping", legacy(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"ping"}`), 200},
		{"notification", legacy(http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`), 202},
		{"malformed", legacy(http.MethodPost, `{`), 400},
		{"GET", legacy(http.MethodGet, ""), 405},
		{"DELETE", legacy(http.MethodDelete, ""), 405},
		{"PUT", legacy(http.MethodPut, ""), 405},
	} {
		for name, access := range map[string]string{"none": "", "invalid": flipped(good.access),
			"expired": expired.access, "revoked": revoked.access} {
			t.Run("Q1: "+request.name+" with a token that is "+name, func(t *testing.T) {
				if a := request.send(access); a.status != http.StatusUnauthorized {
					t.Errorf("got status %d, want 401", a.status)
				}
			})
		}
		t.Run("Q1: control: "+request.name+" with a good token", func(t *testing.T) {
			if got := request.send(good.access).status; got != request.good {
				t.Errorf("got status %d, want %d", got, request.good)
			}
		})
	}
}

// authParam follows RFC 9110 section 11.2, with the quoted string limited to the characters of RFC 6750 section 3.
var authParam = regexp.MustCompile(`^([a-z_]+)="([ !#-\[\]-~]*)"`)

// parseChallenge parses a WWW-Authenticate header as the strictest of clients: the scheme first, one challenge, every
// value quoted, no parameter twice.
func parseChallenge(header string) (map[string]string, error) {
	rest, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return nil, errors.New("the scheme Bearer does not come first")
	}
	params := map[string]string{}
	for {
		m := authParam.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("no quoted parameter at %q", rest)
		}
		if _, again := params[m[1]]; again {
			return nil, fmt.Errorf("%s comes twice", m[1])
		}
		params[m[1]] = m[2]
		if rest = rest[len(m[0]):]; rest == "" {
			return params, nil
		}
		if rest, ok = strings.CutPrefix(rest, ", "); !ok {
			return nil, fmt.Errorf("no comma at %q", rest)
		}
	}
}

func TestParseChallenge(t *testing.T) {
	for _, bad := range []string{"", "Bearer", `bearer a="b"`, `Basic realm="x", Bearer a="b"`,
		`Bearer a="b", Basic realm="x"`, `Bearer a=b`, `Bearer a="b" c="d"`, `Bearer a="b",`, `Bearer a="b", a="c"`,
		`Bearer a="b\"c"`, `Bearer a="b`, "Bearer a=\"\u00e9\"", "Bearer a=\"\t\""} {
		if got, err := parseChallenge(bad); err == nil {
			t.Errorf("%s: parsed to %v", bad, got)
		}
	}
	if got, err := parseChallenge(`Bearer a="b", c=""`); err != nil || got["a"] != "b" || len(got) != 2 {
		t.Errorf("control: got %v, %v", got, err)
	}
}

func TestProtocolChallenge(t *testing.T) {
	w := newWorld(t, nil)
	little := w.signInFor(w.register(callbackURI), "account:read")
	document := w.call(http.MethodGet, "/.well-known/oauth-protected-resource/mcp", nil, "")
	var supported []string
	for _, s := range document.json["scopes_supported"].([]any) {
		supported = append(supported, s.(string))
	}
	atSignIn := strings.Join(supported, " ")
	for _, test := range []struct {
		name   string
		a      answer
		status int
		code   string
		scope  string
	}{
		{"Q2, Q7: an empty token", w.tool("", "whoami"), 401, "invalid_token", atSignIn},
		{"Q2, Q7: no header", w.call(http.MethodPost, "/mcp", nil, ""), 401, "", atSignIn},
		{"Q2, Q7: a bad token", w.tool("x", "whoami"), 401, "invalid_token", atSignIn},
		{"Q2, Q7: a bad token, for GET", w.call(http.MethodGet, "/mcp", legacyHeader("x"), ""), 401, "invalid_token",
			atSignIn},
		{"Q5, Q6, Q9: a missing scope", w.tool(little.access, "list_repositories"), 403, "insufficient_scope",
			"account:read repos:read"},
		{"Q5, Q6, Q9: another missing scope", w.call(http.MethodPost, "/mcp", legacyHeader(little.access),
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_issue","arguments":{"repository":`+
				`"octocat/hello-world","title":"x"}}}`), 403, "insufficient_scope", "account:read issues:write"},
	} {
		t.Run("D6, Q11: "+test.name, func(t *testing.T) {
			got, header := challengeOf(t, test.a), test.a.header.Get("WWW-Authenticate")
			if test.a.status != test.status {
				t.Errorf("got status %d, want %d", test.a.status, test.status)
			}
			if got["error"] != test.code || got["scope"] != test.scope ||
				got["resource_metadata"] != w.base+"/.well-known/oauth-protected-resource/mcp" {
				t.Errorf("got %v, want error %q and scope %q", got, test.code, test.scope)
			}
			if strings.Contains(header, "offline_access") {
				t.Errorf("D6: %s", header)
			}
			for _, name := range []string{"scope=", "error=", "resource_metadata="} { // some clients search the whole header
				if n := strings.Count(header, name); n > 1 {
					t.Errorf("%s stands there %d times: %s", name, n, header)
				}
			}
		})
	}
	t.Run("Q8: one challenge leads to all that the call needs", func(t *testing.T) {
		challenge := challengeOf(t, w.tool(little.access, "list_repositories"))
		more := w.signInFor(little.clientID, challenge["scope"])
		for _, tool := range []string{"list_repositories", "whoami"} { // Q9: what was granted before still is
			if got := w.tool(more.access, tool).status; got != http.StatusOK {
				t.Errorf("%s afterwards: got status %d, want 200", tool, got)
			}
		}
	})
	t.Run("Q14: no 401 right after a grant or a refresh", func(t *testing.T) {
		mine := w.signIn()
		if got := w.discover(mine.access).status; got != http.StatusOK {
			t.Errorf("after the grant: got status %d, want 200", got)
		}
		w.clock.advance(time.Hour)
		w.discover(mine.access) // 401, and the client refreshes
		refreshed := w.refresh(mine.clientID, mine.refresh).str("access_token")
		if got := w.discover(refreshed).status; got != http.StatusOK {
			t.Errorf("after the refresh: got status %d, want 200", got)
		}
	})
}
