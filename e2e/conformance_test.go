//go:build conformance

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/server"

	"example.com/mcp-federated-login/mcpserver"
)

// suite is the official conformance suite (https://github.com/modelcontextprotocol/conformance). The release that npm
// calls latest is older than this alpha, and knows no authorization servers.
const suite = "@modelcontextprotocol/conformance@0.2.0-alpha.12"

// An exception is a check that does not pass.
type exception struct {
	status string // FAILURE or WARNING, as the suite reports it
	reason string
	// sessions: mcp-go v1.2.1 passes it within a session, and only there; this server keeps none, so that any instance
	// can answer any request. Otherwise mcp-go does not pass it in any case.
	sessions bool
}

// requirements are the suite's requirement sets for servers.
var requirements = []struct {
	revision   string
	further    []string             // scenarios that the suite runs as well, without demanding them
	exceptions map[string]exception // keyed by scenario and check
}{
	{"2025-11-25", nil, map[string]exception{
		"tools-call-elicitation scenario-timeout":                         {"FAILURE", noAnswer, true},
		"elicitation-sep1034-defaults scenario-timeout":                   {"FAILURE", noAnswer, true},
		"elicitation-sep1330-enums scenario-timeout":                      {"FAILURE", noAnswer, true},
		"tools-call-sampling scenario-timeout":                            {"FAILURE", noAnswer, true},
		"server-sse-multiple-streams server-sse-multiple-streams-session": {"WARNING", "there is no session ID", true},
	}},
	{"2026-07-28", []string{"http-header-validation"}, map[string]exception{
		"server-stateless sep-2575-server-rejects-undeclared-capability": {"FAILURE", internalError, false},
		"server-stateless sep-2575-missing-capability-http-400":          {"FAILURE", internalError, false},
		"sep-2164-resource-not-found sep-2164-data-uri":                  {"WARNING", "its error leaves out the URI", false},
	}},
}

const (
	noAnswer      = "mcp-go finds the call that a client's answer is for by its session alone"
	internalError = "mcp-go makes an internal error of a tool's MissingRequiredClientCapabilityError"
)

// TestConformanceAuthorization lets the suite sign in as a client, once for each way to get a client_id.
func TestConformanceAuthorization(t *testing.T) {
	for _, tt := range []struct {
		name string
		// start returns a server, a client_id for the redirect URI, and a file with the server's certificate, if any.
		start func(t *testing.T, redirectURI string) (w *world, clientID, certificate string)
	}{
		{"registered", func(t *testing.T, redirectURI string) (*world, string, string) {
			w := newWorld(t, nil)
			return w, w.register(redirectURI), ""
		}},
		{"by metadata document", func(t *testing.T, redirectURI string) (*world, string, string) {
			document := newDocumentHost(t).putClient("/client", map[string]any{"redirect_uris": []string{redirectURI}})
			return newWorld(t, loopbackDocuments), document, ""
		}},
		{"registered by the operator", func(t *testing.T, redirectURI string) (*world, string, string) {
			clients, err := json.Marshal([]map[string]any{{"client_id": "suite", "client_name": "Conformance suite",
				"redirect_uris": []string{redirectURI}}})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "clients.json")
			writeFile(t, file, string(clients), 0o600)
			return newWorld(t, map[string]string{"CLIENTS": file, "CLIENT_REGISTRATION": "off"}), "suite", ""
		}},
		{"registered, over TLS", func(t *testing.T, redirectURI string) (*world, string, string) {
			w, certificate := newTLSWorld(t)
			return w, w.register(redirectURI), certificate
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			callback := "http://" + l.Addr().String() + "/callback"
			l.Close() // the suite will listen there
			_, port, _ := net.SplitHostPort(l.Addr().String())
			w, clientID, certificate := tt.start(t, callback)
			var authorizeURL string
			var listening bool
			walk := func(line string) { // when the suite has said both where to sign in, and that it awaits the callback
				switch {
				case strings.HasPrefix(line, w.base+"/authorize?"):
					authorizeURL = line
				case strings.HasPrefix(line, "Callback server started"):
					listening = true
				default:
					return
				}
				if authorizeURL == "" || !listening {
					return
				}
				resp, err := http.Get(callback + "?" + w.browser().signIn(authorizeURL).Encode())
				if err != nil {
					t.Fatal("the suite's callback does not answer") // the error contains the code
				}
				resp.Body.Close()
			}
			checks := runSuite(t, []string{"NODE_EXTRA_CA_CERTS=" + certificate}, walk, "authorization", "--url", w.base,
				"--client-id", clientID, "--port", port, "--resource", w.base+"/mcp")
			judge(t, "authorization, "+tt.name, suiteList(t, "--authorization"), checks, nil)
		})
	}
}

// TestConformanceServer lets the suite use an MCP server behind our gate, and then mcp-go alone with its defaults, with
// sessions. This checks the statement about sessions above.
func TestConformanceServer(t *testing.T) {
	for _, tt := range requirements {
		t.Run(tt.revision, func(t *testing.T) {
			w := newWorld(t, nil)
			gated := httptest.NewServer(w.app.Routes(mcpserver.Handler(newEverything(), w.app.Log)))
			t.Cleanup(gated.Close)
			header := http.Header{"Host": {strings.TrimPrefix(w.base, "http://")}}
			if a := fetch(t, http.MethodPost, gated.URL+"/mcp", header, nil); a.status != http.StatusUnauthorized {
				t.Fatalf("status %d without a token: the gate is not there", a.status)
			}
			alone := httptest.NewServer(server.NewStreamableHTTPServer(newEverything()))
			t.Cleanup(alone.Close)

			run := func(origin string) map[string][]check {
				return runSuite(t, nil, nil, "server", "--requirements", tt.revision, "--timeout", "6000",
					"--url", origin+"/mcp")
			}
			scenarios := append(suiteList(t, "--requirements", tt.revision), tt.further...)
			judge(t, "server, "+tt.revision, scenarios, run(addToken(t, w, gated.URL)), tt.exceptions)
			found := troubles(run(alone.URL))
			for key, e := range tt.exceptions {
				if _, fails := found[key]; fails == e.sessions {
					t.Errorf("%s: mcp-go alone, with sessions, does not pass it: %t, want %t", key, fails, !e.sessions)
				}
			}
		})
	}
}

// addToken starts a proxy that signs requests in. It passes on other hosts' names: the suite tries some.
func addToken(t *testing.T, w *world, to string) string {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	token, proxy := w.signIn().access, httptest.NewUnstartedServer(nil)
	own := strings.Replace(proxy.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	proxy.Config.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		if r.In.Host == own {
			r.Out.Host = strings.TrimPrefix(w.base, "http://")
		}
		r.Out.Header.Set("Authorization", "Bearer "+token)
	}}
	proxy.Start()
	t.Cleanup(proxy.Close)
	return "http://" + own
}

// A check is a result that the suite reports.
type check struct {
	ID, Status, ErrorMessage string
}

// installed returns the suite's interpreter and script. The suite needs a newer Node than distributions have, so npm
// brings that too.
var installed = sync.OnceValues(func() ([]string, error) {
	const where = "command -v node && command -v conformance"
	var problems error
	for range 2 { // a download may fail
		out, err := exec.Command("npx", "--yes", "-p", "node@22", "-p", suite, "-c", where).Output()
		paths := strings.Fields(string(out))
		if err == nil && len(paths) == 2 {
			return paths, nil
		}
		problems = fmt.Errorf("%w\n%s", cmp.Or(err, errors.New("it is not on npx's PATH")), out)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			problems = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
	}
	return nil, fmt.Errorf("installing %s, which needs npx and the npm registry: %w", suite, problems)
})

// runSuite runs the suite, shows each line of its output to seen, and returns its checks by scenario. It keeps the
// output to itself: there are codes in it.
func runSuite(t *testing.T, env []string, seen func(line string), args ...string) map[string][]check {
	t.Helper()
	program, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	results := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program[0], slices.Concat(program[1:], args, []string{"-o", results})...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); seen != nil && lines.Scan(); {
		seen(lines.Text())
	}
	io.Copy(io.Discard, stdout)
	cmd.Wait() // a failed check is an error to it; we judge for ourselves

	files, _ := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	if len(files) == 0 {
		t.Fatalf("the suite wrote no results\n%s", &stderr)
	}
	byScenario := map[string][]check{}
	for _, file := range files {
		scenario := resultName.FindStringSubmatch(filepath.Base(filepath.Dir(file)))
		var checks []check
		if err := json.Unmarshal(readFile(t, file), &checks); err != nil || scenario == nil {
			t.Fatalf("cannot read the results in %s: %v", filepath.Base(filepath.Dir(file)), err)
		}
		byScenario[scenario[1]] = checks
	}
	return byScenario
}

// resultName is the name that the suite gives to the folder of a scenario's results.
var resultName = regexp.MustCompile(`^(?:authorization-)?server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// suiteList returns the scenarios that must run: the first list that the suite prints.
func suiteList(t *testing.T, args ...string) []string {
	t.Helper()
	program, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program[0], slices.Concat(program[1:], []string{"list"}, args)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var scenarios []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "  - "); ok {
			scenarios = append(scenarios, strings.Fields(name)[0])
		} else if scenarios != nil {
			break
		}
	}
	if scenarios == nil {
		t.Fatalf("the suite lists no scenarios:\n%s", out)
	}
	return scenarios
}

// troubles returns the checks that did not pass, keyed by scenario and check. If a check occurs several times, the
// worst counts.
func troubles(byScenario map[string][]check) map[string]check {
	found := map[string]check{}
	for scenario, checks := range byScenario {
		for _, c := range checks {
			key := scenario + " " + c.ID
			if c.Status != "SUCCESS" && c.Status != "INFO" && found[key].Status != "FAILURE" {
				found[key] = c
			}
		}
	}
	return found
}

// judge fails the test unless the required scenarios ran, and all checks except the exceptions passed. It logs the
// totals.
func judge(t *testing.T, name string, required []string, byScenario map[string][]check,
	exceptions map[string]exception) {
	t.Helper()
	count := map[string]int{}
	judged := map[string][]check{}
	for _, scenario := range required {
		judged[scenario] = byScenario[scenario]
		if len(byScenario[scenario]) == 0 {
			t.Errorf("%s did not run", scenario)
		}
		for _, c := range byScenario[scenario] {
			count[c.Status]++
		}
	}
	found := troubles(judged)
	for key, c := range found {
		if c.Status != exceptions[key].status {
			t.Errorf("%s: %s: %s", key, c.Status, c.ErrorMessage)
		}
	}
	for key := range exceptions {
		if _, ok := found[key]; !ok {
			t.Errorf("%s passes now: take it off the list", key)
		}
	}
	t.Logf("conformance: %s: %d scenarios, %d checks passed, %d failed, %d warnings", name, len(required),
		count["SUCCESS"], count["FAILURE"], count["WARNING"])
}

// newTLSWorld starts a world behind a TLS proxy. The certificate is returned as a file name.
func newTLSWorld(t *testing.T) (w *world, certificate string) {
	proxy := httptest.NewUnstartedServer(nil)
	base := "https://" + proxy.Listener.Addr().String()
	w = newWorld(t, map[string]string{"BASE_URL": base})
	target := &url.URL{Scheme: "http", Host: w.l.Addr().String()}
	proxy.Config.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	transport := http.DefaultTransport.(*http.Transport)
	transport.TLSClientConfig = proxy.Client().Transport.(*http.Transport).TLSClientConfig
	t.Cleanup(func() { transport.TLSClientConfig = nil })
	w.base = base
	certificate = filepath.Join(t.TempDir(), "certificate.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	if err := os.WriteFile(certificate, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return w, certificate
}
