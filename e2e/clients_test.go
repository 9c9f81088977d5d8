package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const clientSecret = "canary-RkQ0d3X8mWn2Zp5tYv7sLb1cHg6uJe9a"

// clientsFile writes a file of clients and returns its path.
func clientsFile(t *testing.T, clients ...map[string]any) string {
	t.Helper()
	text, err := json.Marshal(clients)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clients.json")
	writeFile(t, path, string(text), 0o640)
	return path
}

// registeredBy returns a client as the operator registers it, with these further members.
func registeredBy(id string, more ...string) map[string]any {
	c := map[string]any{"client_id": id, "client_name": "Notebook", "redirect_uris": []string{callbackURI}}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// TestPreRegisteredClient also checks that the URL of a metadata document pins that client. Nothing is fetched then:
// Claude's host refuses the addresses of some clouds (claude-ai-mcp#650).
func TestPreRegisteredClient(t *testing.T) {
	const pinned = "https://client.example/metadata.json"
	w := newWorld(t, map[string]string{"CLIENTS": clientsFile(t,
		registeredBy("public"), registeredBy(pinned),
		registeredBy("basic", "client_secret", clientSecret),
		registeredBy("form", "client_secret", clientSecret, "token_endpoint_auth_method", "client_secret_post"))})
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("basic:"+clientSecret))
	for _, test := range []struct {
		name, id, authorization string
		changed                 []string
		status                  int
		code                    string
	}{
		{"R11: public", "public", "", nil, 200, ""},
		{"R11: pinned document", pinned, "", nil, 200, ""},
		{"R6, R7: Basic", "basic", basic, []string{"client_id", ""}, 200, ""},
		{"R6, R7: body", "form", "", []string{"client_secret", clientSecret}, 200, ""},
		{"R7: the other way than registered", "basic", "", []string{"client_secret", clientSecret}, 200, ""},
		{"R6: no secret", "basic", "", nil, 401, "invalid_client"},
		{"R6: wrong secret", "form", "", []string{"client_secret", flipped(clientSecret)}, 401, "invalid_client"},
		{"K5: not in the file", "basic", "", []string{"client_id", "other"}, 401, "invalid_client"},
		{"K7: another client's code", "basic", "", []string{"client_id", "public"}, 400, "invalid_grant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := w.browser().open(w.authorizeURL(test.id, nil))
			if !strings.Contains(p.text, "Notebook wants to connect") || strings.Contains(p.text, "not verified") ||
				!strings.Contains(p.text, "Any program on this computer") {
				t.Errorf("the page does not tell the operator's client from others:\n%s", p.text)
			}
			header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			if test.authorization != "" {
				header.Set("Authorization", test.authorization)
			}
			redeemed := w.call(http.MethodPost, "/token", header, codeForm(test.id, w.code(test.id), test.changed...).Encode())
			assertJSONError(t, redeemed, test.status, test.code)
			if test.status != http.StatusOK {
				return
			}
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {redeemed.str("refresh_token")}}
			form.Set("client_id", "public")
			if test.id != "public" {
				assertJSONError(t, w.post("/token", form), 400, "invalid_grant") // K7
			}
			form.Set("client_id", test.id)
			for i := 0; i < len(test.changed); i += 2 {
				form.Set(test.changed[i], test.changed[i+1])
			}
			if test.authorization != "" {
				form.Del("client_id")
			}
			assertJSONError(t, w.call(http.MethodPost, "/token", header, form.Encode()), 200, "")
		})
	}
	t.Run("one client serves many installations", func(t *testing.T) {
		first, second := w.redeemAs("octocat", "public"), w.redeemAs("octocat", "public")
		if diff := cmp.Diff([]bool{true, true}, w.alive(first, second)); diff != "" {
			t.Errorf("alive (-want +got):\n%s", diff)
		}
	})
	t.Run("the secret stays here", func(t *testing.T) {
		if strings.Contains(w.logs.String(), clientSecret) || strings.Contains(string(w.stored().files), clientSecret) {
			t.Error("it is in the log or in the database")
		}
	})
}

// TestPreRegisteredClientTakenOut checks that the file's contents apply at each use, and that nothing is lost if an
// edit was a mistake.
func TestPreRegisteredClientTakenOut(t *testing.T) {
	file := clientsFile(t, registeredBy("notebook"), registeredBy("other"))
	w := newWorld(t, map[string]string{"CLIENTS": file})
	held, code := w.redeem("notebook", w.code("notebook")), w.code("notebook")

	w.env["CLIENTS"] = clientsFile(t, registeredBy("other"))
	w.restart()
	assertJSONError(t, w.refresh("notebook", held.refresh), 401, "invalid_client")
	assertJSONError(t, w.post("/token", codeForm("notebook", code)), 401, "invalid_client")
	assertJSONError(t, w.post("/revoke", url.Values{"client_id": {"notebook"}, "token": {held.refresh}}), 401,
		"invalid_client")
	p := w.browser().open(w.authorizeURL("notebook", nil))
	assertErrorPage(t, p, http.StatusBadRequest, "/authorize", "is not known here")
	w.redeem("other", w.code("other")) // the valid request

	w.env["CLIENTS"] = file
	w.restart()
	assertJSONError(t, w.refresh("notebook", held.refresh), 200, "")

	w.env["CLIENTS"] = clientsFile(t, registeredBy("notebook", "client_secret", clientSecret))
	w.restart()
	assertJSONError(t, w.post("/token", codeForm("notebook", code)), 401, "invalid_client")
	assertJSONError(t, w.post("/token", codeForm("notebook", code, "client_secret", clientSecret)), 200, "")
}

// TestTokensOfAClientTakenOutEndWithTheRestart checks that the gate refuses them, and that nothing is lost if it was a
// mistake. Clients that the operator did not name, or pinned by their document, are not touched.
func TestTokensOfAClientTakenOutEndWithTheRestart(t *testing.T) {
	host := newDocumentHost(t)
	pinned := host.putClient("/client", nil)
	all := clientsFile(t, registeredBy("notebook"), registeredBy(pinned), registeredBy("other"))
	w := newWorld(t, map[string]string{"CLIENTS": all, "CLIENT_METADATA": "loopback"})
	byItself := w.signIn()
	documented := w.redeem(pinned, w.code(pinned))
	taken, other := w.redeem("notebook", w.code("notebook")), w.redeem("other", w.code("other"))

	w.env["CLIENTS"] = clientsFile(t, registeredBy("other"))
	w.restart()
	a := w.tool(taken.access, "whoami")
	assertJSONError(t, a, http.StatusUnauthorized, "invalid_token")
	if !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("the challenge is %q", a.header.Get("WWW-Authenticate"))
	}
	if !strings.Contains(w.logs.String(), "not in CLIENTS any more") {
		t.Error("the log does not say why")
	}
	for name, held := range map[string]tokens{"registered by itself": byItself, "pinned": documented,
		"still there": other} {
		if got := w.tool(held.access, "whoami").status; got != http.StatusOK {
			t.Errorf("control: %s: got status %d, want 200", name, got)
		}
	}

	w.env["CLIENTS"] = all
	w.restart()
	if got := w.tool(taken.access, "whoami").status; got != http.StatusOK {
		t.Errorf("after it was put back: got status %d, want 200", got)
	}
}

// TestRegistrationOff checks that no new client can register itself, and that existing clients go on working.
func TestRegistrationOff(t *testing.T) {
	w := newWorld(t, map[string]string{"CLIENTS": clientsFile(t, registeredBy("notebook"))})
	const metadata, unknown = "/.well-known/oauth-authorization-server", "mcp_ci_unknown"
	register := w.base + "/register"
	if got := w.call("GET", metadata, nil, "").str("registration_endpoint"); got != register {
		t.Fatalf("control: registration_endpoint is %q, want %q", got, register)
	}
	held := w.signIn()
	consent := w.browser().open(w.authorizeURL(held.clientID, nil))
	code := w.code(held.clientID)

	w.env["CLIENT_REGISTRATION"] = "off"
	w.restart()
	if got, ok := w.call("GET", metadata, nil, "").json["registration_endpoint"]; ok {
		t.Errorf("the metadata names %v", got)
	}
	assertJSONError(t, w.registration(map[string]any{"redirect_uris": []string{callbackURI}}), 403, "access_denied")
	for name, p := range map[string]*page{"asked": w.browser().open(w.authorizeURL(held.clientID, nil)),
		"asked before, answered now": consent.press("Continue with GitHub", nil)} {
		t.Run(name, func(t *testing.T) {
			assertErrorPage(t, p, http.StatusForbidden, "/authorize", "Ask the people who run this server for a client ID")
			if len(p.links) != 0 {
				t.Errorf("the page links to %q, want to nowhere", p.links)
			}
		})
	}
	assertErrorPage(t, w.browser().open(w.authorizeURL(unknown, nil)), http.StatusBadRequest, "/authorize",
		"Ask the people who run this server for a client ID")
	const closed, documents = "Applications cannot register here by themselves", "a metadata document of its own"
	if text := w.browser().open(w.base + "/").text; !strings.Contains(text, closed) || !strings.Contains(text, documents) {
		t.Errorf("the landing page does not say how to connect:\n%s", text)
	}
	again := w.refresh(held.clientID, held.refresh)
	assertJSONError(t, again, 200, "")
	assertJSONError(t, w.refresh(held.clientID, again.str("refresh_token")), 200, "")
	assertJSONError(t, w.post("/token", codeForm(held.clientID, code)), 200, "") // it was allowed before
	w.redeem("notebook", w.code("notebook"))

	w.env["CLIENT_METADATA"] = "off"
	w.restart()
	if text := w.browser().open(w.base + "/").text; !strings.Contains(text, closed) || strings.Contains(text, documents) {
		t.Errorf("the landing page names another way than a client ID:\n%s", text)
	}

	w.env["CLIENT_REGISTRATION"] = "on"
	w.restart()
	if text := w.browser().open(w.base + "/").text; strings.Contains(text, closed) {
		t.Errorf("the landing page says that registration is closed:\n%s", text)
	}
	w.redeem(held.clientID, w.code(held.clientID))
}

// TestPreRegisteredClientIsBlocked checks that such a client can be blocked by the client_id that the operator gave it.
func TestPreRegisteredClientIsBlocked(t *testing.T) {
	w := newWorld(t, map[string]string{"CLIENTS": clientsFile(t, registeredBy("notebook"), registeredBy("portal"))})
	held, other := w.redeem("notebook", w.code("notebook")), w.redeem("portal", w.code("portal"))
	if out := w.must("clients", "block", "notebook"); !strings.Contains(out, "Grants ended: 1\n") {
		t.Errorf("blocking it says %q", out)
	}
	assertJSONError(t, w.refresh("notebook", held.refresh), http.StatusBadRequest, "invalid_grant")
	assertErrorPage(t, w.browser().open(w.authorizeURL("notebook", nil)), http.StatusForbidden, "/authorize", "blocked")
	assertJSONError(t, w.refresh("portal", other.refresh), http.StatusOK, "")
}
