package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// TestZoo takes each client of the zoo through all its steps, from its first 401 to a call with refreshed tokens, and
// checks each response as strictly as the strictest client does.
func TestZoo(t *testing.T) {
	host := newDocumentHost(t)
	key := newSigner(t, jose.RS256, "cimd-20260428030119")
	host.put("/oauth/jwks.json", keySet(key))
	for _, s := range zoo {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("the client is as seen in " + s.seen)
				}
			})
			k := &keeper{specimen: s, t: t, key: key}
			k.openWorld()
			k.discover()
			k.introduce(host)
			a := k.redeemCode(k.authorize(host))
			k.talk(a.str("access_token"))
			a = k.refresh(a.str("refresh_token"))
			k.callTool(a.str("access_token"))
		})
	}
}

// A keeper plays one client in a separate world.
type keeper struct {
	specimen
	t          *testing.T
	w          *world
	endpoints  answer // the authorization server's metadata
	called     string // its name
	id, secret string
	key        signer // the key with which it signs, if it does
}

func (k *keeper) openWorld() {
	env := map[string]string{"CLIENT_METADATA": "loopback"}
	if k.entry != "" {
		env["CLIENTS"] = filepath.Join(k.t.TempDir(), "clients.json")
		if err := os.WriteFile(env["CLIENTS"], []byte("["+k.entry+"]"), 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
	k.w = newWorld(k.t, env)
}

// inWorld puts the world's URL into a value of the row.
func (k *keeper) inWorld(value string) string {
	upper := strings.Replace(k.w.base, "http://localhost", "HTTP://LOCALHOST", 1)
	return strings.NewReplacer("BASE", k.w.base, "UPPER", upper).Replace(value)
}

// send makes a request of the client itself, not of its user's browser. If the client is a web page, it first sends a
// preflight request.
func (k *keeper) send(method, address string, header http.Header, body string) answer {
	k.t.Helper()
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	for name, values := range k.header { // which may be in lower case
		header.Del(name)
		header[name] = values
	}
	origin := header.Get("Origin")
	if origin != "" {
		k.preflight(method, address, header)
	}
	a := fetch(k.t, method, address, header, strings.NewReader(body))
	if origin != "" && a.header.Get("Access-Control-Allow-Origin") != "*" {
		k.t.Errorf("%s %s: the page is not shown the answer", method, address)
	}
	if session, ok := a.header["Mcp-Session-Id"]; ok { // 51: clients lose, share and mix them up
		k.t.Errorf("%s %s: got session %q, want none", method, address, session)
	}
	return a
}

// preflight asks whether a page is allowed to send the request.
func (k *keeper) preflight(method, address string, header http.Header) {
	k.t.Helper()
	var names []string
	for name := range header {
		if name != "Origin" && name != "Accept" {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names) // or the server may refuse (Fetch, CORS-unsafe request-header names)
	a := fetch(k.t, http.MethodOptions, address, http.Header{"Origin": header["Origin"],
		"Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {strings.Join(names, ",")}}, nil)
	allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
	refused := func(name string) bool { return !strings.Contains(allowed, name) }
	if a.status/100 != 2 || slices.ContainsFunc(names, refused) {
		k.t.Errorf("preflight of %s %s: got %d, allowing %q, want %q", method, address, a.status, allowed, names)
	}
}

// strict reads a JSON object: no null, each member of the type of its example, and none of the required missing.
func (k *keeper) strict(a answer, required, optional map[string]any) {
	k.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" || a.json == nil {
		k.t.Fatalf("got %d %s, want a JSON object", a.status, got)
	}
	for name, value := range a.json {
		example, known := required[name]
		if !known {
			example = optional[name]
		}
		if value == nil || example != nil && fmt.Sprintf("%T", value) != fmt.Sprintf("%T", example) {
			k.t.Errorf("member %s is of type %T, want %T", name, value, example)
		}
		list, _ := value.([]any)
		if slices.Contains(list, nil) || value == "" {
			k.t.Errorf("member %s is empty or holds a null", name)
		}
	}
	for name := range required {
		if _, ok := a.json[name]; !ok {
			k.t.Errorf("member %s is missing", name)
		}
	}
}

// discover finds the authorization server in the client's way.
func (k *keeper) discover() {
	k.t.Helper()
	a := k.rpc("", "tools/list", "")
	if a.status != http.StatusUnauthorized { // 12: anything else, and no client would ever sign in
		k.t.Fatalf("without a token: got status %d, want 401", a.status)
	}
	exposed := strings.ToLower(a.header.Get("Access-Control-Expose-Headers"))
	if k.header.Get("Origin") != "" && !strings.Contains(exposed, "www-authenticate") {
		k.t.Errorf("the page is shown %q, and not the challenge", exposed)
	}
	issuer, resource := k.w.base, k.w.base+"/mcp"
	at := map[string]string{
		"":     challengeOf(k.t, a)["resource_metadata"],
		"path": k.w.base + "/.well-known/oauth-protected-resource/mcp",
		"root": k.w.base + "/.well-known/oauth-protected-resource",
	}
	if k.finds == "root" {
		resource = k.w.base
	}
	if k.finds != "without" {
		a := k.send(http.MethodGet, at[k.finds], nil, "")
		k.strict(a, map[string]any{"resource": "", "authorization_servers": []any{}},
			map[string]any{"scopes_supported": []any{}, "bearer_methods_supported": []any{}, "resource_name": ""})
		if got := a.str("resource"); got != resource { // 4, 5: VS Code compares it to what was typed
			k.t.Errorf("resource: got %q, want %q", got, resource)
		}
		issuer, _ = a.json["authorization_servers"].([]any)[0].(string)
	}
	k.endpoints = k.send(http.MethodGet, issuer+"/.well-known/oauth-authorization-server", nil, "")
	k.strict(k.endpoints, map[string]any{"issuer": "", "authorization_endpoint": "", "token_endpoint": "",
		"registration_endpoint": "", "response_types_supported": []any{}, "code_challenge_methods_supported": []any{},
		"token_endpoint_auth_methods_supported": []any{}}, map[string]any{"scopes_supported": []any{}})
	// 3: claude.ai goes to these without having looked. 6: the issuer has no slash at its end.
	for member, want := range map[string]string{"issuer": "", "authorization_endpoint": "/authorize",
		"token_endpoint": "/token", "registration_endpoint": "/register"} {
		if got := k.endpoints.str(member); got != k.w.base+want {
			k.t.Errorf("%s: got %q, want %q", member, got, k.w.base+want)
		}
	}
	methods, _ := k.endpoints.json["token_endpoint_auth_methods_supported"].([]any)
	if k.document != "" && (k.endpoints.json["client_id_metadata_document_supported"] != true ||
		!slices.Contains(methods, any("none"))) { // 21: else claude.ai registers instead
		k.t.Errorf("the metadata does not ask for documents of public clients: %s", k.endpoints.body)
	}
}

// introduce registers the client in its own way.
func (k *keeper) introduce(host *documentHost) {
	k.t.Helper()
	var known struct {
		Name         string   `json:"client_name"`
		ID           string   `json:"client_id"`
		Secret       string   `json:"client_secret"`
		RedirectURIs []string `json:"redirect_uris"`
		AuthMethod   string   `json:"token_endpoint_auth_method"`
	}
	text := k.registration + k.entry + strings.ReplaceAll(k.document, "HOST", host.url)
	if err := json.Unmarshal([]byte(text), &known); err != nil {
		k.t.Fatal(err)
	}
	k.called, k.id, k.secret = known.Name, known.ID, known.Secret
	if k.called == "" {
		k.called = "An application without a name"
	}
	if k.document != "" {
		host.put(strings.TrimPrefix(known.ID, host.url), json.RawMessage(text))
	}
	if k.registration == "" {
		return
	}
	a := k.send(http.MethodPost, k.endpoints.str("registration_endpoint"),
		http.Header{"Content-Type": {"application/json"}}, k.registration)
	required := map[string]any{"client_id": "", "redirect_uris": []any{}, "grant_types": []any{},
		"response_types": []any{}, "token_endpoint_auth_method": ""} // LM Studio, and the TypeScript SDK
	if known.AuthMethod == "" {
		known.AuthMethod = "none"
	}
	if known.AuthMethod != "none" {
		required["client_secret"], required["client_secret_expires_at"] = "", 0.0 // Smithery
	} else if _, ok := a.json["client_secret"]; ok {
		k.t.Error("a public client got a secret") // Copilot Studio
	}
	if a.status != http.StatusCreated {
		k.t.Fatalf("registering: got status %d: %s", a.status, a.body)
	}
	k.strict(a, required, map[string]any{"client_id_issued_at": 0.0, "client_name": "", "application_type": ""})
	if got := fmt.Sprint(a.json["redirect_uris"]); got != fmt.Sprint(known.RedirectURIs) {
		k.t.Errorf("redirect_uris: got %s, want %s", got, known.RedirectURIs)
	}
	if got := a.str("token_endpoint_auth_method"); got != known.AuthMethod {
		k.t.Errorf("token_endpoint_auth_method: got %q, want %q", got, known.AuthMethod)
	}
	k.id, k.secret = a.str("client_id"), a.str("client_secret")
}

// authorize has the user sign in, and returns the code.
func (k *keeper) authorize(host *documentHost) string {
	k.t.Helper()
	ask := func(redirectURI string) *page {
		q := url.Values{"response_type": {"code"}, "client_id": {k.id}, "redirect_uri": {redirectURI}, "state": {k.state},
			"scope": {k.scope}, "resource": {k.inWorld(k.resource)}, "code_challenge": {testChallenge},
			"code_challenge_method": {"S256"}}
		maps.DeleteFunc(q, func(_ string, values []string) bool { return values[0] == "" })
		maps.Copy(q, k.extra)
		return k.w.browser().open(k.endpoints.str("authorization_endpoint") + "?" + q.Encode())
	}
	other := ask(k.redirect + "x") // a wrong redirect_uri
	assertErrorPage(k.t, other, http.StatusBadRequest, "/authorize", "invalid_request")
	if len(other.links) != 0 {
		k.t.Errorf("for another redirect URI the page links to %q, want to nowhere", other.links)
	}

	consent := ask(k.redirect)
	scheme, rest, _ := strings.Cut(k.redirect, "://")
	destination, _, _ := strings.Cut(rest, "/")
	switch scheme {
	case "https":
	case "http":
		destination = "an application on this computer (" + destination + ")"
	default:
		destination = "an application on this computer (" + scheme + "://" + destination + ")"
	}
	says := []string{k.called + " wants to connect", "You will be sent to " + destination + " " + k.redirect}
	if k.document != "" {
		says = append(says, "It is described at "+strings.TrimPrefix(host.url, "https://"))
	}
	for _, text := range says { // hosts are broken into lines at their dots
		if !strings.Contains(strings.ReplaceAll(consent.text, " ", ""), strings.ReplaceAll(text, " ", "")) {
			k.t.Errorf("the consent page, with status %d, does not say %q:\n%s", consent.status, text, consent.text)
		}
	}
	back := consent.press("Continue with GitHub", nil).press("Authorize", nil)
	address := back.url.String()
	if scheme != "https" && scheme != "http" { // 31
		address = back.opens(k.t, true)
	} else if back.status != 0 {
		k.t.Fatalf("the sign-in ended at %s with status %d:\n%s", back.url.Path, back.status, back.text)
	}
	query, ok := strings.CutPrefix(address, k.redirect+"?")
	got, err := url.ParseQuery(query)
	if !ok || err != nil {
		k.t.Fatalf("the browser was sent elsewhere than to %s (%v)", k.redirect, err)
	}
	code := got["code"]
	delete(got, "code")
	if diff := cmp.Diff(url.Values{"state": {k.state}, "iss": {k.w.base}}, got); diff != "" || len(code) != 1 { // 7, 32
		k.t.Fatalf("got %d codes, and besides (-want +got):\n%s", len(code), diff)
	}
	return code[0]
}

// askToken makes a request to /token as the client does, or, to be refused, without the secrets that only the client
// has.
func (k *keeper) askToken(form url.Values, genuine bool) answer {
	k.t.Helper()
	form, header := maps.Clone(form), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	maps.Copy(header, k.token)
	form.Set("client_id", k.id)
	if k.resource != "" {
		form.Set("resource", k.inWorld(k.resource))
	}
	secret, key := k.secret, k.key
	if !genuine {
		secret, key = flipped("a"+secret), newSigner(k.t, jose.ES256, key.KeyID)
	}
	switch k.auth {
	case "client_secret_basic":
		form.Del("client_id")
		user := url.QueryEscape(k.id) + ":" + url.QueryEscape(secret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user)))
	case "client_secret_post":
		form.Set("client_secret", secret)
	case "private_key_jwt":
		form = asserted(form, key.sign(k.w.claims(k.id, nil), nil))
	}
	return k.send(http.MethodPost, k.endpoints.str("token_endpoint"), header, form.Encode())
}

func (k *keeper) redeemCode(code string) answer {
	k.t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {k.redirect},
		"code_verifier": {testVerifier}}
	maps.Copy(form, k.redeem)
	status, refusal := http.StatusUnauthorized, "invalid_client"
	forged := maps.Clone(form)
	if k.auth == "" {
		forged.Set("code_verifier", strings.ToLower(testVerifier))
		status, refusal = http.StatusBadRequest, "invalid_grant"
	}
	assertJSONError(k.t, k.askToken(forged, false), status, refusal) // is refused
	a := k.askToken(form, true)
	k.wantTokens(a)
	return a
}

// wantTokens checks a token response.
func (k *keeper) wantTokens(a answer) {
	k.t.Helper()
	assertJSONError(k.t, a, http.StatusOK, "")
	k.strict(a, map[string]any{"access_token": "", "token_type": "", "expires_in": 0.0, "refresh_token": "",
		"scope": ""}, nil)
	want := githubScopes // also for calendar:read, which is not GitHub's, and for unknown scopes
	if strings.Contains(k.scope, "account:read") && !strings.Contains(k.scope, "repos:read") {
		want = "account:read"
	}
	life, _ := a.json["expires_in"].(float64)
	if got := a.str("scope"); got != want || a.str("token_type") != "Bearer" || life <= 0 {
		k.t.Errorf("got scope %q, type %q, life %v, want %q, Bearer", got, a.str("token_type"), life, want)
	}
}
