// Package devidp is a stand-in for GitHub, Google and an OpenID Connect vendor, so that the server can be tried and
// tested without an account or an app.
//
// It behaves like each of them with one app, over real HTTP on an origin of its own: the provider code of package
// upstream runs against it unchanged. GitHub is at the paths of a GitHub Enterprise Server, with an OAuth App or a
// GitHub App. Google and the vendor are one engine, below /google and /oidc. There is one vendor only, because Auth0,
// Entra, Keycloak, Okta and Stytch differ from it in claims and metadata, which [Server.Lie] changes.
//
// It has no passwords: whoever can reach it may be anybody. Hence it listens on loopback only, and refuses whatever may
// come from elsewhere: a peer that is not loopback, a request that was forwarded, a foreign Host.
//
//	GET,POST /login/oauth/authorize                     authorize.go: the page where one picks a person
//	POST     /login/oauth/access_token                  token.go
//	DELETE   /api/v3/applications/{client_id}/token     token.go: delete a token
//	DELETE   /api/v3/applications/{client_id}/grant     token.go: delete an authorization with all tokens
//	GET      /api/v3/user, /user/emails, /user/repos    api.go
//	GET      /api/v3/repos/{owner}/{repo}               api.go
//	GET,POST /api/v3/repos/{owner}/{repo}/issues        api.go
//	GET      /api/v3/user/memberships/orgs/{org}        orgs.go
//	GET      /api/v3/orgs/{org}/teams/{team}/memberships/{login}   orgs.go
//
//	GET      /google/.well-known/openid-configuration   oidc.go; the same below /oidc
//	GET      /google/keys                               idtoken.go
//	GET,POST /google/authorize                          authorize.go
//	POST     /google/token                              oidc.go
//	GET      /google/userinfo                           oidc.go
//	POST     /google/revoke                             oidc.go; Google only
//	GET      /google/calendar/v3/calendars/primary/events   calendar.go; Google only
//
// Tests break it through methods, in faults.go and orgs.go; nothing in it can be broken or steered over HTTP.
package devidp

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// A Config says whom the stand-in serves.
type Config struct {
	// BaseURL is our own server's address, which must be on loopback. Its /callback/github is GitHub's one redirect URI,
	// and so on.
	BaseURL string
	// Dir is where the state file devidp.json is kept, so that a restart signs nobody out. Empty: in memory only.
	// One process at a time may use it.
	Dir string
	// Log tells who signs in. Required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Server is a running stand-in.
type Server struct {
	origin   string // http://host:port
	baseURL  string // our own server's
	dir      string
	log      *slog.Logger
	now      func() time.Time
	http     *http.Server
	provider *upstream.Provider // for the scopes that a scope implies

	mu     sync.Mutex // guards all below
	state  state
	codes  map[string]code // keyed by the code's hash
	key    *rsa.PrivateKey // of ID tokens, parsed; nil before the first
	kind   AppKind
	faults []fault
	iss    IssMode
	lies   map[Document]func(map[string]any)
	signed Signature
	calls  []Call

	orgs    map[string]*org   // at GitHub; none of this outlives the process
	renamed map[string]string // what people are called who have another name by now
}

// A vendor is an identity provider that the stand-in plays.
type vendor struct {
	id        string // of /callback/{id}
	name      string
	authorize string // path of the authorization endpoint
	issuer    string // path of the issuer
	prompts   []string
}

var (
	github = &vendor{"github", "GitHub", "/login/oauth/authorize", "/login/oauth", []string{"select_account"}}
	google = &vendor{"google", "Google", "/google/authorize", "/google", []string{"none", "consent", "select_account"}}
	// Many vendors refuse select_account, as this one; those that know it announce it.
	generic = &vendor{"oidc", "Example ID", "/oidc/authorize", "/oidc", []string{"none", "login", "consent"}}
)

func (s *Server) callback(v *vendor) string { return s.baseURL + "/callback/" + v.id }

func (s *Server) app(v *vendor) app { return s.state.Apps[v.id] }

// Start listens on the loopback name that BaseURL does not use, so that the two are different sites to a browser, as
// in production: on 127.0.0.1 beside localhost, else on localhost. The port is the one of the last run if it is free,
// else the first free one above BaseURL's.
func Start(c Config) (*Server, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, base.Hostname()) {
		return nil, fmt.Errorf("the development provider lets anybody be anybody: it serves a BASE_URL on loopback "+
			"only, such as http://localhost:8080, not %q", c.BaseURL)
	}
	s := &Server{
		baseURL: c.BaseURL,
		dir:     c.Dir,
		log:     c.Log,
		now:     c.Now,
		codes:   map[string]code{},
		lies:    map[Document]func(map[string]any){},
		orgs:    newOrgs(),
		renamed: map[string]string{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.state, err = load(c.Dir); err != nil {
		return nil, err
	}
	listeners, err := s.listen(base)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: s.guard(s.routes()), ReadHeaderTimeout: 10 * time.Second}
	if s.provider, err = upstream.GitHub(s.GitHub()); err == nil {
		err = s.save()
	}
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return nil, err
	}
	for _, l := range listeners {
		go s.http.Serve(l) // ends with Close
	}
	return s, nil
}

// URL returns the origin of the stand-in.
func (s *Server) URL() string { return s.origin }

// GitHub returns what an operator would copy from the page of the OAuth App.
func (s *Server) GitHub() upstream.GitHubConfig {
	a := s.app(github)
	return upstream.GitHubConfig{ClientID: a.ClientID, ClientSecret: a.ClientSecret, URL: s.origin}
}

// Google returns what an operator would copy from the page of the client, and where the stand-in is.
func (s *Server) Google() upstream.GoogleConfig {
	a, address := s.app(google), s.origin+google.issuer
	return upstream.GoogleConfig{ClientID: a.ClientID, ClientSecret: a.ClientSecret, Issuer: address, APIURL: address}
}

// OIDC returns what an operator would copy from the page of the client.
func (s *Server) OIDC() upstream.OIDCConfig {
	a := s.app(generic)
	return upstream.OIDCConfig{Issuer: s.origin + generic.issuer, ClientID: a.ClientID, ClientSecret: a.ClientSecret,
		Name: generic.name, GroupsClaim: "groups"}
}

// Close stops the stand-in at once.
func (s *Server) Close() error { return s.http.Close() }

// listen finds a port and sets s.origin.
func (s *Server) listen(base *url.URL) ([]net.Listener, error) {
	host, addresses := "localhost", []string{"127.0.0.1", "::1"}
	if base.Hostname() == "localhost" {
		host, addresses = "127.0.0.1", addresses[:1]
	}
	basePort, err := strconv.Atoi(cmp.Or(base.Port(), map[string]string{"http": "80", "https": "443"}[base.Scheme]))
	if err != nil {
		return nil, fmt.Errorf("BASE_URL has no usable port: %q", base)
	}
	var ports []int
	if s.state.Port != 0 && s.state.Port != basePort {
		ports = append(ports, s.state.Port)
	}
	for port := basePort + 1; port <= 65535; port++ {
		ports = append(ports, port)
	}
	var listeners []net.Listener
	for _, port := range ports {
		if listeners, err = listenAll(addresses, port); err != nil {
			continue
		}
		if s.state.Port != 0 && s.state.Port != port {
			s.log.Warn("the development provider's old port is taken: its people have to sign in again",
				"old", s.state.Port, "new", port)
		}
		s.state.Port = port
		s.origin = "http://" + net.JoinHostPort(host, strconv.Itoa(port))
		return listeners, nil
	}
	return nil, fmt.Errorf("the development provider finds no free port above %d: %w", basePort, err)
}

// listenAll listens on every address at one port, or on none. A machine without IPv6 is fine.
func listenAll(addresses []string, port int) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range addresses {
		var config net.ListenConfig
		l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		noIPv6 := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
		if err != nil && noIPv6 && len(listeners) > 0 {
			continue
		}
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, v := range []*vendor{github, google, generic} {
		mux.HandleFunc("GET "+v.authorize, s.getAuthorize(v))
		mux.HandleFunc("POST "+v.authorize, s.postAuthorize(v))
	}
	for _, v := range []*vendor{google, generic} {
		mux.HandleFunc("GET "+v.issuer+"/.well-known/openid-configuration", s.getMetadata(v))
		mux.HandleFunc("GET "+v.issuer+"/keys", s.getKeys)
		mux.HandleFunc("POST "+v.issuer+"/token", s.postToken(v))
		mux.HandleFunc("GET "+v.issuer+"/userinfo", s.getUserinfo(v))
	}
	mux.HandleFunc("POST /google/revoke", s.postRevoke)
	mux.HandleFunc("GET /google/calendar/v3/calendars/primary/events", s.getEvents)
	mux.HandleFunc("POST /login/oauth/access_token", s.postAccessToken)
	mux.HandleFunc("DELETE /api/v3/applications/{client_id}/token", s.asApp(s.deleteToken))
	mux.HandleFunc("DELETE /api/v3/applications/{client_id}/grant", s.asApp(s.deleteGrant))
	mux.HandleFunc("GET /api/v3/user", s.asPerson(s.getUser))
	mux.HandleFunc("GET /api/v3/user/emails", s.asPerson(s.getEmails))
	mux.HandleFunc("GET /api/v3/user/repos", s.asPerson(s.getRepos))
	mux.HandleFunc("GET /api/v3/repos/{owner}/{repo}", s.asPerson(s.getRepo))
	mux.HandleFunc("GET /api/v3/repos/{owner}/{repo}/issues", s.asPerson(s.getIssues))
	mux.HandleFunc("POST /api/v3/repos/{owner}/{repo}/issues", s.asPerson(s.postIssue))
	mux.HandleFunc("GET /api/v3/user/memberships/orgs/{org}", s.asPerson(s.getOrgMembership))
	mux.HandleFunc("GET /api/v3/orgs/{org}/teams/{team}/memberships/{login}", s.asPerson(s.getTeamMembership))
	mux.HandleFunc("/api/v3/", apiNotFound)
	return mux
}

// guard refuses what does not come straight from this machine, and what was meant for another server: a web page whose
// name was made to resolve to loopback (DNS rebinding) gives itself away by its Host.
func (s *Server) guard(next http.Handler) http.Handler {
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if "http://"+strings.ToLower(r.Host) != s.origin {
			http.Error(w, "This is the development provider at "+s.origin+".", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		s.record(r)
		s.serveFault(w, r, next)
	})
	local := localOnly(own)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Fake-IdP", "1")
		w.Header().Set("Cache-Control", "no-store")
		local.ServeHTTP(w, r)
	})
}
