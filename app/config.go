package app

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/joho/godotenv"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/upstream"
)

// config is the whole configuration, unparsed. Every named field is both a flag and a variable: --base-url is BASE_URL.
// All are strings. [config.settings] parses them, so that it can report all mistakes together.
type config struct {
	BaseURL            string `name:"base-url" default:"http://localhost:8080" help:"Public origin: https, or loopback."`
	Listen             string `name:"listen" help:"Address; by default BASE_URL's own on loopback, else :8080."`
	GitHubClientID     string `name:"github-client-id" help:"Client ID of your GitHub app: turns GitHub on."`
	GitHubClientSecret string `name:"github-client-secret" help:"A client secret of that app."`
	GitHubURL          string `name:"github-url" default:"https://github.com" help:"GitHub Enterprise or ghe.com address."`
	GitHubAPIURL       string `name:"github-api-url" help:"Its API; by default derived from GITHUB_URL."`
	GitHubWebhook      string `name:"github-webhook-secret" help:"Secret of that GitHub App's webhook: turns it on."`
	GoogleClientID     string `name:"google-client-id" help:"Client ID of your Google web client: turns Google on."`
	GoogleClientSecret string `name:"google-client-secret" help:"Its secret."`
	OIDCIssuer         string `name:"oidc-issuer" help:"Issuer of your OpenID Connect provider: turns it on."`
	OIDCClientID       string `name:"oidc-client-id" help:"Client ID there."`
	OIDCClientSecret   string `name:"oidc-client-secret" help:"Its secret."`
	OIDCName           string `name:"oidc-name" help:"What the button says; by default the issuer's host."`
	OIDCScopes         string `name:"oidc-scopes" default:"openid email profile" help:"Scopes of a sign-in there."`
	OIDCAuthMethod     string `name:"oidc-auth-method" help:"basic or post; by default what the provider says."`
	OIDCGroupsClaim    string `name:"oidc-groups-claim" help:"Claim (or path) that lists groups; by default none."`
	Allow              string `name:"allow" help:"Who may come in, by comma: github:LOGIN, github-org:ORG ... anyone."`
	Deny               string `name:"deny" help:"Who may not, whatever ALLOW says: the same entries."`
	DataDir            string `name:"data-dir" default:"data" help:"Folder of the SQLite file and generated secret."`
	DatabaseURL        string `name:"database-url" help:"sqlite:PATH or postgres://...; by default SQLite in DATA_DIR."`
	Secret             string `name:"secret" help:"Random keys, by comma, the first seals; by default one in DATA_DIR."`
	clientsConfig
	AllowedOrigins  string `name:"allowed-origins" help:"Further browser origins for /mcp, by comma."`
	AccessTokenTTL  string `name:"access-token-ttl" default:"1h" help:"Life of an access token, 5m to 24h."`
	RefreshTokenTTL string `name:"refresh-token-ttl" default:"2160h" help:"Idle life of a refresh token, 24h to 8760h."`
	TokenCache      string `name:"token-cache" default:"5s" help:"Cache time of valid tokens, up to 1m; 0 is off."`
	LogFormat       string `name:"log-format" help:"text or json; by default text on a terminal, else json."`
	LogLevel        string `name:"log-level" default:"info" help:"debug, info, warn or error."`

	Serve   struct{}        `cmd:"" default:"1" help:"Run the server. This is what happens without a command."`
	Grants  grantsCommands  `cmd:"" help:"See who is connected with which client, and disconnect them."`
	Clients clientsCommands `cmd:"" help:"See which clients are connected, and block some."`
}

// Settings is a valid, parsed configuration.
type Settings struct {
	BaseURL         string               // this server's origin
	Loopback        bool                 // BaseURL is localhost, 127.0.0.1 or [::1]
	Listen          []string             // the first must work, the second is localhost's ::1, which a machine may lack
	DataDir         string               // may not exist yet: see makeDataDir
	DatabaseURL     string               // sqlite:PATH or postgres://...
	KeyRing         [][]byte             // SECRET; nil if the secret is in DataDir: see loadSecret
	Providers       []*upstream.Provider // empty if development sign-in is on; then BaseURL and Listen are loopback
	Rules           upstream.Rules
	LocalOnly       bool // true with development sign-in, or without ALLOW: see [App.localOnly]
	Clients         clientSettings
	AllowedOrigins  []string
	AccessTokenTTL  time.Duration
	RefreshTokenTTL time.Duration
	TokenCache      time.Duration // zero if off
	LogFormat       string        // text, json, or empty: see logger
	LogLevel        slog.Level
	WebhookSecret   string          // GitHub's; empty if there is no webhook
	Command         operatorCommand // nil means serve
}

const description = `A remote MCP server whose users sign in with GitHub, Google or OpenID Connect.

Every flag can be given as the variable that stands beside it, in the environment or in a file .env; a flag goes first,
then the environment, then .env. Give secrets as variables: other users of a machine can see a program's flags.`

// ErrHelp is returned if --help was given. The help has been printed.
var ErrHelp = errors.New("help requested")

// ParseConfig parses flags and variables. For --help, it prints the help and returns [ErrHelp]. It prints nothing else.
// Any other error lists all mistakes, one per line, and contains no secret.
func ParseConfig(args []string, getenv func(string) string, stdout io.Writer) (Settings, error) {
	var c config
	var helped bool
	// Kong's env tag would read the process's environment, and treat an empty variable as set.
	// Flags of commands have no variable: for example, USER is set everywhere and means something else.
	isVariable := func(v *kong.Value) bool { return v.Flag != nil && v.Tag.Has("name") }
	variables := func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v := strings.TrimSpace(getenv(variable(flag.Name))); v != "" && isVariable(flag.Value) {
			return v, nil
		}
		return nil, nil
	}
	parser, err := kong.New(&c,
		kong.Name("mcp-federated-login"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.ValueFormatter(func(v *kong.Value) string {
			if !isVariable(v) {
				return v.Help
			}
			return v.Help + " ($" + variable(v.Name) + ")"
		}),
		kong.WithHyphenPrefixedParameters(true), // otherwise --secret -x is an error that quotes -x
		kong.Resolvers(kong.ResolverFunc(variables)),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { helped = true }),
	)
	if err != nil {
		return Settings{}, err
	}
	parsed, err := parser.Parse(args)
	switch {
	case helped:
		return Settings{}, ErrHelp
	case err != nil && strings.HasPrefix(err.Error(), "unexpected argument"): // the error quotes it; it may be a secret
		return Settings{}, errors.New("an argument is neither a flag nor a command: see --help")
	case err != nil:
		return Settings{}, err
	}
	s, err := c.settings()
	if err == nil {
		s.Command, _ = parsed.Selected().Target.Addr().Interface().(operatorCommand)
	}
	return s, err
}

// variable returns the name of a flag's variable.
func variable(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// Environment returns a getenv function. The process's environment overrides the .env file, which may not exist.
func Environment(dotenv string) (func(string) string, error) {
	file, err := godotenv.Read(dotenv)
	var pathError *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &pathError):
		return nil, err
	case err != nil: // the error quotes the line, which may hold a secret
		return nil, fmt.Errorf("%s cannot be read: every line is NAME=value, with ' around values that hold $ or #", dotenv)
	}
	return func(name string) string { return cmp.Or(os.Getenv(name), file[name]) }, nil
}

// mistakes collects configuration errors.
type mistakes []error

// add adds an error that names the variable, the problem and a valid example value. The error leaves out the wrong
// value, because it may be a secret that was set in the wrong variable.
func (m *mistakes) add(variable, problem, example string) {
	*m = append(*m, fmt.Errorf("%s %s, for example %s=%s", variable, problem, variable, example))
}

// settings parses and checks the configuration.
func (c config) settings() (Settings, error) {
	s := Settings{DataDir: c.DataDir, LogFormat: c.LogFormat, WebhookSecret: c.GitHubWebhook}
	var wrong mistakes

	base, err := origin.Parse(c.BaseURL)
	if err != nil {
		wrong.add("BASE_URL", err.Error(), "https://mcp.example.com")
		base = nil // unknown: checks that need it are skipped
	} else {
		s.BaseURL, s.Loopback = c.BaseURL, origin.IsLoopback(base.Hostname())
	}
	c.access(&s, base, &wrong)

	s.DatabaseURL = cmp.Or(c.DatabaseURL, "sqlite:"+filepath.Join(c.DataDir, "server.db"))
	postgres := strings.HasPrefix(s.DatabaseURL, "postgres://") || strings.HasPrefix(s.DatabaseURL, "postgresql://")
	path, sqlite := strings.CutPrefix(s.DatabaseURL, "sqlite:")
	if !postgres && (!sqlite || path == "") {
		wrong.add("DATABASE_URL", "must begin with sqlite: or postgres://", "postgres://mcp@db.example.com/mcp")
	}
	switch s.KeyRing, err = parseKeyRing(c.Secret); {
	case c.Secret == "" && postgres:
		wrong.add("SECRET", "is needed with PostgreSQL, the same on every instance", secretExample)
	case err != nil:
		wrong.add("SECRET", err.Error(), secretExample)
	}

	s.Clients = c.clientSettings(s.Loopback || base == nil, &wrong)
	for _, from := range list(c.AllowedOrigins) {
		if _, err := origin.Parse(from); err != nil {
			wrong.add("ALLOWED_ORIGINS", err.Error(), "https://app.example.com,http://localhost:6274")
			break
		}
		s.AllowedOrigins = append(s.AllowedOrigins, from)
	}

	for _, d := range []struct {
		name, value string
		to          *time.Duration
		min, max    time.Duration
		example     string
	}{
		{"ACCESS_TOKEN_TTL", c.AccessTokenTTL, &s.AccessTokenTTL, 5 * time.Minute, 24 * time.Hour, "1h"},
		{"REFRESH_TOKEN_TTL", c.RefreshTokenTTL, &s.RefreshTokenTTL, 24 * time.Hour, 8760 * time.Hour, "2160h"},
		{"TOKEN_CACHE", c.TokenCache, &s.TokenCache, 0, time.Minute, "5s"},
	} {
		if *d.to, err = time.ParseDuration(d.value); err != nil || *d.to < d.min || *d.to > d.max {
			wrong.add(d.name, fmt.Sprintf("must be a time from %s to %s", d.min, d.max), d.example)
		}
	}

	if !slices.Contains([]string{"", "text", "json"}, s.LogFormat) {
		wrong.add("LOG_FORMAT", "must be text or json", "json")
	}
	if s.LogLevel.UnmarshalText([]byte(c.LogLevel)) != nil {
		wrong.add("LOG_LEVEL", "must be debug, info, warn or error", "info")
	}
	if len(wrong) > 0 {
		return Settings{}, errors.Join(wrong...)
	}
	return s, nil
}

// access sets the listen addresses, the providers and the access rules: who can connect, and who may sign in. The base
// is nil if it is unknown.
func (c config) access(s *Settings, base *url.URL, wrong *mistakes) {
	var err error
	if s.Listen, err = listenAddresses(c.Listen, base); err != nil {
		wrong.add("LISTEN", err.Error(), "127.0.0.1:8080")
	}
	public := slices.ContainsFunc(s.Listen, isPublic)

	if c.Allow == "" && s.Loopback {
		c.Allow, s.LocalOnly = "anyone", true
		if public {
			wrong.add("ALLOW", "must say who may come in, because LISTEN lets other machines connect",
				"github:your-login")
		}
	}
	if strings.Trim(c.Allow, ", ") == "" && (base != nil || c.Allow != "") {
		wrong.add("ALLOW", "must say who may sign in: ALLOW=anyone, or certain people", "github:your-login")
	}
	rules, err := upstream.ParseRules(c.Allow, c.Deny)
	s.Rules = rules
	configured := c.providers(s, wrong)
	switch {
	case len(configured) > 0 || base == nil:
	case !s.Loopback:
		wrong.add("GITHUB_CLIENT_ID", fmt.Sprintf("and GITHUB_CLIENT_SECRET are needed on a public BASE_URL, unless "+
			"GOOGLE_CLIENT_ID or OIDC_ISSUER is set: register an app at %s/settings/developers with the callback URL "+
			"%s/callback/github and copy both from its page", c.GitHubURL, c.BaseURL), "Ov23liAbCdEfGhIjKlMn")
	case public:
		wrong.add("LISTEN", "must be loopback while no provider is set, because anybody may use the development sign-in",
			"127.0.0.1:8080")
	}
	if len(configured) == 0 {
		configured, s.LocalOnly = []string{"github", "google"}, true // the providers that the development provider replaces
	}
	for _, err := range []error{err, rules.CheckTogether(), rules.Check(configured, c.OIDCGroupsClaim)} {
		if err != nil {
			*wrong = append(*wrong, err)
		}
	}
}

// providers creates the providers in the order of their buttons. It returns the IDs of all configured providers,
// including those with mistakes.
func (c config) providers(s *Settings, wrong *mistakes) (configured []string) {
	add := func(p *upstream.Provider, err error) {
		if err != nil {
			*wrong = append(*wrong, err)
			return
		}
		s.Providers = append(s.Providers, p)
	}
	// Any setting of a provider turns it on, so that a forgotten client ID is reported.
	if c.GitHubClientID+c.GitHubClientSecret+c.GitHubAPIURL != "" || c.GitHubURL != "https://github.com" {
		configured = append(configured, "github")
		add(upstream.GitHub(upstream.GitHubConfig{ClientID: c.GitHubClientID, ClientSecret: c.GitHubClientSecret,
			URL: c.GitHubURL, APIURL: c.GitHubAPIURL, Organizations: s.Rules.AskGitHub()}))
	}
	if c.GoogleClientID+c.GoogleClientSecret != "" {
		configured = append(configured, "google")
		add(upstream.Google(upstream.GoogleConfig{ClientID: c.GoogleClientID, ClientSecret: c.GoogleClientSecret}))
	}
	if c.OIDCIssuer+c.OIDCClientID+c.OIDCClientSecret+c.OIDCName+c.OIDCAuthMethod+c.OIDCGroupsClaim != "" ||
		c.OIDCScopes != "openid email profile" {
		configured = append(configured, "oidc")
		add(upstream.OIDC(upstream.OIDCConfig{Issuer: c.OIDCIssuer, ClientID: c.OIDCClientID,
			ClientSecret: c.OIDCClientSecret, Name: c.OIDCName, AuthMethod: c.OIDCAuthMethod, GroupsClaim: c.OIDCGroupsClaim,
			Scopes: strings.FieldsFunc(c.OIDCScopes, func(r rune) bool { return r == ' ' || r == ',' })}))
	}
	if c.GitHubWebhook != "" && !slices.Contains(configured, "github") { // the development provider sends no webhooks
		configured = append(configured, "github")
		wrong.add("GITHUB_CLIENT_ID", "and GITHUB_CLIENT_SECRET are needed with GITHUB_WEBHOOK_SECRET",
			"Iv23liAbCdEfGhIjKlMn")
	}
	return configured
}

// isPublic reports whether other machines can reach a listen address.
func isPublic(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err != nil || !a.Addr().IsLoopback()
}

// listenAddresses returns the addresses to listen on. It returns none if they depend on the base and the base is
// unknown. The name localhost means both IPv4 and IPv6, because clients differ in which they try first, and in whether
// they try the other.
func listenAddresses(listen string, base *url.URL) ([]string, error) {
	switch {
	case listen == "" && base == nil:
		return nil, nil
	case listen == "" && !origin.IsLoopback(base.Hostname()):
		return []string{":8080"}, nil
	case listen == "":
		byDefault := map[string]string{"http": "80", "https": "443"}
		listen = net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), byDefault[base.Scheme]))
	}
	host, port, err := net.SplitHostPort(listen)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		return nil, errors.New("must be HOST:PORT or :PORT")
	}
	if host == "localhost" {
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		return nil, errors.New("must be an IP address or localhost, and a port")
	}
	return []string{listen}, nil
}

// list splits a comma-separated value. It keeps empty entries, so that the caller can report them.
func list(value string) []string {
	if value == "" {
		return nil
	}
	entries := strings.Split(value, ",")
	for i := range entries {
		entries[i] = strings.TrimSpace(entries[i])
	}
	return entries
}

// Logger returns a logger that writes to f.
func (s Settings) Logger(f *os.File) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel}
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&fs.ModeCharDevice != 0
	if s.LogFormat == "text" || s.LogFormat == "" && terminal {
		return slog.New(slog.NewTextHandler(f, options))
	}
	return slog.New(slog.NewJSONHandler(f, options))
}
