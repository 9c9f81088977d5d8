package app

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// everythingWrong is a configuration in which every variable is wrong that can be. A variable that is absent here is
// wrong because it is missing.
var everythingWrong = map[string]string{
	"BASE_URL": "x", "LISTEN": "x", "GITHUB_URL": "x", "GITHUB_API_URL": "x", "GITHUB_WEBHOOK_SECRET": "canary",
	"GOOGLE_CLIENT_ID": "canary", "OIDC_ISSUER": "x", "OIDC_NAME": "x", "OIDC_SCOPES": "x", "OIDC_AUTH_METHOD": "x",
	"OIDC_GROUPS_CLAIM": "x", "ALLOW": "x", "DENY": "x", "DATA_DIR": "x", "DATABASE_URL": "x", "SECRET": "canary",
	"CLIENT_REGISTRATION": "x", "CLIENT_METADATA": "x", "CLIENTS": "/nowhere", "REDIRECT_SCHEMES": ":",
	"ALLOWED_ORIGINS": "x", "ACCESS_TOKEN_TTL": "x", "REFRESH_TOKEN_TTL": "x", "TOKEN_CACHE": "x", "LOG_FORMAT": "x",
	"LOG_LEVEL": "x",
}

// TestEveryMistakeIsNamedExactlyOnce checks that no mistake hides another one, whether or not BASE_URL is right.
func TestEveryMistakeIsNamedExactlyOnce(t *testing.T) {
	anyValue := []string{"DATA_DIR", "OIDC_NAME", "OIDC_GROUPS_CLAIM", "GITHUB_WEBHOOK_SECRET"} // cannot be wrong
	for _, base := range []string{"x", "http://localhost:8080", "https://mcp.example.com"} {
		env := maps.Clone(everythingWrong)
		env["BASE_URL"] = base
		named := namedIn(t, env)
		for _, v := range variables() {
			want := 1
			if v.name == "BASE_URL" && base != "x" || slices.Contains(anyValue, v.name) {
				want = 0
			}
			if named[v.name] != want {
				t.Errorf("BASE_URL=%s: %s is named %d times, want %d", base, v.name, named[v.name], want)
			}
			delete(named, v.name)
		}
		if len(named) > 0 {
			t.Errorf("BASE_URL=%s: lines begin with %v", base, named)
		}
	}
}

// TestMistakesBehindMistakes checks pairs of mistakes: the first used to hide the second, or to cause a second error
// without a mistake.
func TestMistakesBehindMistakes(t *testing.T) {
	secret := fileOfClients(t, clientNamed("a", "client_secret", longSecret, "client_name", ""))
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, env string // separated by semicolons
		want      map[string]int
	}{
		{"rules that are none, and one that cannot match", "ALLOW=x,oidc-group:a", map[string]int{"ALLOW": 2}},
		{"a bad DENY, and no ALLOW", "BASE_URL=https://a.example;GITHUB_CLIENT_ID=a;GITHUB_CLIENT_SECRET=b;DENY=x",
			map[string]int{"ALLOW": 1, "DENY": 1}},
		{"rules of nothing", "BASE_URL=x;ALLOW=,", map[string]int{"BASE_URL": 1, "ALLOW": 1}},
		{"loopback documents, if BASE_URL is right", "BASE_URL=x;CLIENT_METADATA=loopback",
			map[string]int{"BASE_URL": 1}},
		{"nothing to complain of but BASE_URL", "BASE_URL=x", map[string]int{"BASE_URL": 1}},
		{"scopes of no provider", "OIDC_SCOPES=openid groups",
			map[string]int{"OIDC_ISSUER": 1, "OIDC_CLIENT_ID": 1, "OIDC_CLIENT_SECRET": 1}},
		{"anyone and others", "ALLOW=github:octocat,anyone;LOG_LEVEL=x", map[string]int{"ALLOW": 1, "LOG_LEVEL": 1}},
		{"ALLOW and DENY of the same", "ALLOW=github:octocat;DENY=github:octocat", map[string]int{"ALLOW": 1}},
		{"a client without a name, in a file that others can read", "CLIENTS=" + secret, map[string]int{"CLIENTS": 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{}
			for _, line := range strings.Split(test.env, ";") {
				name, value, _ := strings.Cut(line, "=")
				env[name] = value
			}
			if got := namedIn(t, env); !maps.Equal(got, test.want) {
				t.Errorf("named: %v, want %v", got, test.want)
			}
		})
	}
}

// namedIn returns how many lines of the configuration's error begin with each variable.
func namedIn(t *testing.T, env map[string]string) map[string]int {
	t.Helper()
	_, err := ParseConfig(nil, func(name string) string { return env[name] }, nil)
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error holds a secret:\n%v", err)
	}
	named := map[string]int{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		name, _, _ := strings.Cut(line, " ")
		named[strings.TrimSuffix(name, ":")]++
	}
	return named
}

// TestWhoMayComeInMustBeSaidOnceOthersCanConnect checks that a loopback BASE_URL with a LISTEN address on the network
// needs ALLOW, with and without a provider.
func TestWhoMayComeInMustBeSaidOnceOthersCanConnect(t *testing.T) {
	github := []string{"GITHUB_CLIENT_ID=id", "GITHUB_CLIENT_SECRET=canary"}
	for _, listen := range []string{"LISTEN=0.0.0.0:8080", "LISTEN=:8080", "LISTEN=[::]:8080",
		"LISTEN=192.168.0.2:8080"} {
		want := []string{"ALLOW must say who may come in, because LISTEN", "ALLOW=github:your-login"}
		assertMistake(t, append(github, listen), want)
		assertMistake(t, []string{listen}, append(want, "LISTEN must be loopback"))
		for _, allow := range []string{"ALLOW=anyone", "ALLOW=github:octocat"} { // the valid configurations
			if parse(t, append(github, listen, allow)...).LocalOnly {
				t.Errorf("%s with %s answers this machine only", listen, allow)
			}
		}
	}
	for _, listen := range []string{"", "LISTEN=127.0.0.1:8080", "LISTEN=[::1]:8080", "LISTEN=localhost:8080"} {
		if !parse(t, append(github, listen)...).LocalOnly {
			t.Errorf("%q without ALLOW answers other machines", listen)
		}
	}
}

// TestPortOfHostedClients checks the warning about a port in BASE_URL: claude.ai uses only 443 (claude-ai-mcp#85).
func TestPortOfHostedClients(t *testing.T) {
	for base, warned := range map[string]bool{"https://mcp.example.com:8443": true, "https://[2001:db8::1]:8443": true,
		"https://mcp.example.com": false, "https://[2001:db8::1]": false, "http://localhost:8080": false} {
		log := new(bytes.Buffer)
		s := Settings{BaseURL: base, Loopback: strings.Contains(base, "localhost")}
		(&App{settings: s, Log: slog.New(slog.NewTextHandler(log, nil))}).Greet(io.Discard)
		if got := strings.Contains(log.String(), "call 443 only"); got != warned {
			t.Errorf("%s: got a warning: %t, want %t", base, got, warned)
		}
	}
}
