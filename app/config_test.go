package app

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// getenv returns an environment of NAME=value lines.
func getenv(lines ...string) func(string) string {
	env := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

func parse(t *testing.T, lines ...string) Settings {
	t.Helper()
	s, err := ParseConfig(nil, getenv(lines...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// public is the minimum configuration of a public server.
var public = []string{
	"BASE_URL=https://mcp.example.com", "GITHUB_CLIENT_ID=id", "GITHUB_CLIENT_SECRET=canary", "ALLOW=github:octocat",
}

func TestNothingSetIsDevelopment(t *testing.T) {
	got := parse(t)
	if !got.Rules.AdmitAnyone() {
		t.Error("nobody is admitted")
	}
	got.Rules, got.Clients = nil, clientSettings{} // which other tests check
	want := Settings{
		BaseURL: "http://localhost:8080", Loopback: true, Listen: []string{"127.0.0.1:8080", "[::1]:8080"},
		DataDir: "data", DatabaseURL: "sqlite:" + filepath.Join("data", "server.db"), LocalOnly: true,
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 90 * 24 * time.Hour, TokenCache: 5 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPublicServer(t *testing.T) {
	s := parse(t, append(public, "ALLOWED_ORIGINS=https://a.example, http://localhost:6274",
		"DATABASE_URL=postgres://u:p@db/mcp", "SECRET="+randomKey, "LOG_LEVEL=debug", "LOG_FORMAT=text", "TOKEN_CACHE=0")...)
	if len(s.Providers) != 1 || s.Providers[0].ID != "github" || s.Loopback {
		t.Errorf("got %d providers, loopback %v; want GitHub, false", len(s.Providers), s.Loopback)
	}
	if s.Rules.AdmitAnyone() {
		t.Error("ALLOW=github:octocat admits anyone")
	}
	if len(s.KeyRing) != 1 || s.TokenCache != 0 || s.LogLevel.String() != "DEBUG" || s.LogFormat != "text" {
		t.Errorf("got %d keys, cache %v, level %v, format %q", len(s.KeyRing), s.TokenCache, s.LogLevel, s.LogFormat)
	}
	if diff := cmp.Diff([]string{"https://a.example", "http://localhost:6274"}, s.AllowedOrigins); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsGoBeforeVariables(t *testing.T) {
	t.Setenv("LISTEN", "192.0.2.1:1") // of this process; must be ignored
	for _, args := range [][]string{
		{"--base-url=http://localhost:9000", "--log-level", "warn"},
		{"serve", "--base-url=http://localhost:9000", "--log-level", "warn"},
		{"--base-url=http://localhost:9000", "--log-level", "warn", "serve"},
	} {
		s, err := ParseConfig(args, getenv("BASE_URL=http://localhost:7000", "LOG_LEVEL=error", "DATA_DIR=d"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.BaseURL != "http://localhost:9000" || s.Listen[0] != "127.0.0.1:9000" || s.LogLevel.String() != "WARN" {
			t.Errorf("%v: got %s, %s, %s", args, s.BaseURL, s.Listen, s.LogLevel)
		}
		if s.DataDir != "d" {
			t.Errorf("%v: DATA_DIR is %q, want the variable's", args, s.DataDir)
		}
	}
}

func TestEmptyVariablesAreUnset(t *testing.T) {
	var lines []string
	for _, v := range variables() {
		lines = append(lines, v.name+"= ")
	}
	if diff := cmp.Diff(parse(t).BaseURL, parse(t, lines...).BaseURL); diff != "" {
		t.Error(diff)
	}
}

func TestMistakes(t *testing.T) {
	const origin, example = "BASE_URL must be https://HOST", "BASE_URL=https://mcp.example.com"
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"origin with a trailing slash", []string{"BASE_URL=https://a.example/"}, []string{origin, example}},
		{"D8, D12: origin with a path", []string{"BASE_URL=https://a.example/mcp"}, []string{origin, example}},
		{"origin with a query", []string{"BASE_URL=https://a.example?"}, []string{origin, example}},
		{"origin with a fragment", []string{"BASE_URL=https://a.example#"}, []string{origin, example}},
		{"origin with a user", []string{"BASE_URL=https://u:canary@a.example"}, []string{origin, example}},
		{"origin with a bad escape", []string{"BASE_URL=https://u:canary@a.example/%zz"}, []string{origin, example}},
		{"origin in capitals", []string{"BASE_URL=https://A.example"}, []string{origin, example}},
		{"origin without a scheme", []string{"BASE_URL=a.example"}, []string{origin, example}},
		{"origin without a host", []string{"BASE_URL=https://"}, []string{origin, example}},
		{"origin of another scheme", []string{"BASE_URL=ftp://a.example"}, []string{origin, example}},
		{"host that would reach a header", []string{"BASE_URL=https://a.example;sandbox"}, []string{origin, example}},
		{"host that is a wildcard", []string{"BASE_URL=https://*.example"}, []string{origin, example}},
		{"host that browsers rewrite", []string{"BASE_URL=https://127.1"}, []string{origin, example}},
		{"host with a zone", []string{"BASE_URL=http://[fe80::1%25eth0]:80"}, []string{origin, example}},
		{"long form of an address", []string{"BASE_URL=http://[0:0::1]:8080"}, []string{origin, example}},
		{"port too large", []string{"BASE_URL=https://a.example:65536"}, []string{origin, example}},
		{"IPv4 in IPv6", []string{"BASE_URL=https://[::ffff:192.0.2.7]"}, []string{origin, example}},
		{"port zero", []string{"BASE_URL=https://a.example:0"}, []string{origin, example}},
		{"port with a zero in front", []string{"BASE_URL=https://a.example:08443"}, []string{origin, example}},
		{"port that browsers leave out", []string{"BASE_URL=https://a.example:443"}, []string{"port 443", example}},
		{"S13: http in public", []string{"BASE_URL=http://a.example"}, []string{"BASE_URL must be https", example}},
		{"S13: http on a look-alike", []string{"BASE_URL=http://localhost.a.example"}, []string{"must be https", example}},
		{"S13: http on another loopback address", []string{"BASE_URL=http://127.0.0.2"}, []string{"must be https", example}},

		{"listen without a colon", []string{"LISTEN=8080"}, []string{"LISTEN must be", "LISTEN=127.0.0.1:8080"}},
		{"listen on no port", []string{"LISTEN=127.0.0.1:"}, []string{"LISTEN must be", "LISTEN=127.0.0.1:8080"}},
		{"listen on a name", []string{"LISTEN=a.example:80"}, []string{"IP address", "LISTEN=127.0.0.1:8080"}},
		{"development sign-in for the network", []string{"LISTEN=:8080"},
			[]string{"LISTEN must be loopback while no provider is set", "LISTEN=127.0.0.1:8080"}},
		{"development sign-in for the neighbours", []string{"LISTEN=192.168.0.2:8080"}, []string{"LISTEN must be loopback"}},

		{"public without a provider", []string{"BASE_URL=https://a.example", "ALLOW=anyone"}, []string{
			"GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET are needed", "https://a.example/callback/github",
			"https://github.com/settings/developers", "GITHUB_CLIENT_ID=Ov23li"}},
		{"public without a rule", append(public, "ALLOW="), []string{"ALLOW=anyone", "ALLOW=github:your-login"}},
		{"rules of nothing", append(public, "ALLOW=,"), []string{"ALLOW=anyone", "ALLOW=github:your-login"}},
		{"unknown rule", append(public, "ALLOW=gitlab:x"), []string{"ALLOW", "gitlab", "github:octocat"}},
		{"unknown rule on loopback", []string{"ALLOW=x"}, []string{"ALLOW", "github:octocat"}},
		{"half a provider", []string{"GITHUB_CLIENT_ID=id"}, []string{"GITHUB_CLIENT_SECRET"}},
		{"the other half", []string{"GITHUB_CLIENT_SECRET=canary"}, []string{"GITHUB_CLIENT_ID", "Ov23li"}},
		{"GitHub at no address", append(public, "GITHUB_URL=ghe"), []string{"GITHUB_URL", "https://github.example.com"}},
		{"API at no address", append(public, "GITHUB_API_URL=ghe"), []string{"GITHUB_API_URL", "/api/v3"}},
		{"unknown database", []string{"DATABASE_URL=mysql://u:canary@h/d"}, []string{"DATABASE_URL must", "=postgres://"}},
		{"SQLite without a path", []string{"DATABASE_URL=sqlite:"}, []string{"DATABASE_URL must", "=postgres://"}},
		{"PostgreSQL without slashes", []string{"DATABASE_URL=postgres:x"}, []string{"DATABASE_URL must"}},
		{"PostgreSQL without a secret", []string{"DATABASE_URL=postgres://u:canary@h/d"},
			[]string{"SECRET is needed with PostgreSQL", `SECRET="the output of: openssl rand -base64 32"`}},
		{"secret of words", []string{"SECRET=canary-canary-canary-canary-canary-canary-canary"},
			[]string{"SECRET has", "not random", "openssl rand"}},
		{"the example as a secret", []string{"SECRET=" + strings.Trim(secretExample, `"`)}, []string{"SECRET", "not random"}},

		{"any origin", []string{"ALLOWED_ORIGINS=*"}, []string{"ALLOWED_ORIGINS must", "=https://app.example.com"}},
		{"null origin", []string{"ALLOWED_ORIGINS=null"}, []string{"ALLOWED_ORIGINS must", "=https://app.example.com"}},
		{"empty origin", []string{"ALLOWED_ORIGINS=https://a.example,"}, []string{"ALLOWED_ORIGINS must"}},
		{"cleartext origin", []string{"ALLOWED_ORIGINS=http://a.example"}, []string{"ALLOWED_ORIGINS must be https"}},

		{"access for seconds", []string{"ACCESS_TOKEN_TTL=299s"}, []string{"ACCESS_TOKEN_TTL must", "ACCESS_TOKEN_TTL=1h"}},
		{"access for days", []string{"ACCESS_TOKEN_TTL=24h1s"}, []string{"ACCESS_TOKEN_TTL must"}},
		{"days as a unit", []string{"REFRESH_TOKEN_TTL=90d"}, []string{"REFRESH_TOKEN_TTL must", "REFRESH_TOKEN_TTL=2160h"}},
		{"refresh before access", []string{"REFRESH_TOKEN_TTL=1h"}, []string{"REFRESH_TOKEN_TTL must"}},
		{"cache below zero", []string{"TOKEN_CACHE=-1s"}, []string{"TOKEN_CACHE must", "TOKEN_CACHE=5s"}},
		{"cache for an hour", []string{"TOKEN_CACHE=1h"}, []string{"TOKEN_CACHE must", "TOKEN_CACHE=5s"}},
		{"log format", []string{"LOG_FORMAT=xml"}, []string{"LOG_FORMAT must", "LOG_FORMAT=json"}},
		{"log level", []string{"LOG_LEVEL=loud"}, []string{"LOG_LEVEL must", "LOG_LEVEL=info"}},

		{"all at once", []string{"BASE_URL=x", "DATABASE_URL=x", "SECRET=x", "ALLOWED_ORIGINS=x", "ACCESS_TOKEN_TTL=x",
			"REFRESH_TOKEN_TTL=x", "TOKEN_CACHE=x", "LOG_FORMAT=x", "LOG_LEVEL=x"},
			[]string{"BASE_URL", "DATABASE_URL", "SECRET", "ALLOWED_ORIGINS", "ACCESS_TOKEN_TTL", "REFRESH_TOKEN_TTL",
				"TOKEN_CACHE", "LOG_FORMAT", "LOG_LEVEL"}},
		{"all that hangs on a sound BASE_URL", []string{"BASE_URL=https://a.example", "LISTEN=x", "DATABASE_URL=x"},
			[]string{"LISTEN", "GITHUB_CLIENT_ID", "ALLOW", "DATABASE_URL"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			assertMistake(t, test.env, test.want)
		})
	}
}

// assertMistake checks that an environment is refused with an error that contains these texts and no secret.
func assertMistake(t *testing.T, env, want []string) {
	t.Helper()
	s, err := ParseConfig(nil, getenv(env...), nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range want {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error holds a secret:\n%v", err)
	}
	if diff := cmp.Diff(Settings{}, s); diff != "" {
		t.Errorf("settings beside an error: %s", diff)
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown flag", []string{"--listne=:80"}, "--listne"},
		{"misspelt secret", []string{"--secrett=canary"}, "--secrett"},
		{"secret that begins with a hyphen", []string{"--secret", "-canary"}, "SECRET"},
		{"secret after a space", []string{"--secret=", "canary"}, "--help"},
		{"unknown command", []string{"canary"}, "--help"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig(test.args, getenv(), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want something with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

// TestListenDefaults checks H2: a server with a loopback BASE_URL listens on loopback only.
func TestListenDefaults(t *testing.T) {
	for _, test := range []struct {
		base, listen string
		want         []string
	}{
		{"http://localhost:9000", "", []string{"127.0.0.1:9000", "[::1]:9000"}},
		{"http://127.0.0.1:9000", "", []string{"127.0.0.1:9000"}},
		{"http://[::1]:9000", "", []string{"[::1]:9000"}},
		{"http://localhost", "", []string{"127.0.0.1:80", "[::1]:80"}},
		{"https://localhost", "", []string{"127.0.0.1:443", "[::1]:443"}},
		{"http://localhost:9000", "127.0.0.1:7000", []string{"127.0.0.1:7000"}},
		{"https://mcp.example.com", "", []string{":8080"}},
		{"https://mcp.example.com:8443", "", []string{":8080"}},
		{"https://localhost.example.com", "", []string{":8080"}},
		{"https://192.0.2.7", "", []string{":8080"}},
		{"https://mcp.example.com", "localhost:7000", []string{"127.0.0.1:7000", "[::1]:7000"}},
		{"https://mcp.example.com", "[fe80::1%eth0]:7000", []string{"[fe80::1%eth0]:7000"}},
	} {
		s := parse(t, append(public, "BASE_URL="+test.base, "LISTEN="+test.listen)...)
		if diff := cmp.Diff(test.want, s.Listen); diff != "" {
			t.Errorf("BASE_URL=%s LISTEN=%s: %s", test.base, test.listen, diff)
		}
	}
}

func TestHelpListsEveryVariable(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}} {
		var out bytes.Buffer
		if _, err := ParseConfig(args, getenv("BASE_URL=nonsense", "SECRET=canary"), &out); !errors.Is(err, ErrHelp) {
			t.Fatalf("got %v, want errHelp", err)
		}
		for _, v := range variables() {
			if !strings.Contains(out.String(), "($"+v.name+")") || !strings.Contains(out.String(), v.def) {
				t.Errorf("%v lacks %s or its default %q", args, v.name, v.def)
			}
		}
		if strings.Contains(out.String(), "canary") {
			t.Errorf("%v shows a secret", args)
		}
	}
}

func TestDotenv(t *testing.T) {
	t.Setenv("SET_IN_BOTH", "environment")
	t.Setenv("SET_EMPTY", "")
	path := filepath.Join(t.TempDir(), ".env")
	write(t, path, "SET_IN_BOTH=file\nSET_EMPTY=file\nQUOTED='a$b#c'\n", 0o600)
	env, err := Environment(path)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{env("SET_IN_BOTH"), env("SET_EMPTY"), env("QUOTED"), env("SET_NOWHERE")}
	if diff := cmp.Diff([]string{"environment", "file", "a$b#c", ""}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Environment(filepath.Join(t.TempDir(), ".env")); err != nil {
		t.Errorf("without a file: %v", err)
	}
	write(t, path, "SECRET canary\n", 0o600)
	if _, err := Environment(path); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want an error without the line", err)
	}
	if _, err := Environment(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
}

func TestLogger(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	device, err := os.Open(os.DevNull) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for _, test := range []struct {
		format   string
		to       *os.File
		wantJSON bool
	}{
		{"", file, true}, {"", device, false},
		{"text", file, false}, {"text", device, false},
		{"json", file, true}, {"json", device, true},
	} {
		logger := parse(t, "LOG_LEVEL=warn", "LOG_FORMAT="+test.format).Logger(test.to)
		if _, got := logger.Handler().(*slog.JSONHandler); got != test.wantJSON {
			t.Errorf("%q to %s: got JSON %v, want %v", test.format, filepath.Base(test.to.Name()), got, test.wantJSON)
		}
		if ctx := t.Context(); logger.Enabled(ctx, slog.LevelInfo) || !logger.Enabled(ctx, slog.LevelWarn) {
			t.Errorf("%q does not begin at the level warn", test.format)
		}
	}
}

type documented struct{ name, def string }

// variables returns the variables that the struct declares.
func variables() (all []documented) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if flag := f.Tag.Get("name"); flag != "" {
			all = append(all, documented{variable(flag), f.Tag.Get("default")})
		}
	}
	return all
}

func TestDocumentedVariables(t *testing.T) {
	for _, test := range []struct {
		file, begin, end, row string
	}{
		{"../README.md", "<!-- variables -->", "<!-- /variables -->", "(?m)^\\| `([A-Z_]+)` \\| (?:`([^`|]*)` )?.*\\|$"},
		{"../.env.example", "", "", "(?m)^#([A-Z_]+)=(.*)$"},
	} {
		text, err := os.ReadFile(test.file)
		if err != nil {
			t.Error(err)
			continue
		}
		_, table, _ := strings.Cut(string(text), test.begin)
		if test.end != "" {
			table, _, _ = strings.Cut(table, test.end)
		}
		rows := regexp.MustCompile(test.row).FindAllStringSubmatch(table, -1)
		var got []documented
		for _, row := range rows {
			got = append(got, documented{row[1], row[2]})
		}
		want := variables()
		for i := range min(len(got), len(want)) {
			if want[i].def == "" {
				got[i].def = "" // it depends, or is none: the file explains it, or gives an example
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(documented{})); diff != "" {
			t.Errorf("%s: %s", test.file, diff)
		}
	}
}

// TestExampleIsAllComments checks that a copy of .env.example changes nothing.
func TestExampleIsAllComments(t *testing.T) {
	env, err := Environment("../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables() {
		if got := env(v.name); got != os.Getenv(v.name) {
			t.Errorf("%s is set to %q", v.name, got)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // regardless of the umask
		t.Fatal(err)
	}
}
