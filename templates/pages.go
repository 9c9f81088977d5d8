package templates

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"example.com/mcp-federated-login/static"
	"example.com/mcp-federated-login/upstream"
)

// Pages writes what people see in their browsers. Everything on a page may come from a stranger: html/template escapes
// it, [DisplayName] takes out of names what escaping leaves in, and the headers that [Pages.write] sets make the
// browser refuse whatever gets past both.
type Pages struct {
	consentTemplate, errorTemplate, landingTemplate, signInTemplate, connectionsTemplate,
	handOverTemplate *template.Template
}

// New parses the templates. The server's name, as people know it, is on every page.
func New(server string) *Pages {
	parse := func(name string) *template.Template {
		return template.Must(template.New(name).Funcs(template.FuncMap{
			"server": func() string { return server },
			"static": static.Path,
			"labels": func(host string) []string { return strings.SplitAfter(host, ".") },
		}).ParseFS(sources, "base.html", name))
	}
	return &Pages{parse("consent.html"), parse("error.html"), parse("landing.html"), parse("signin.html"),
		parse("connections.html"), parse("handover.html")}
}

// ConsentPage is the data of consent.html, which asks the person, and is where they choose a provider. Its form posts
// to /authorize: what is sealed, and then provider or another (the ID of a provider, to choose an account
// there), or decision=cancel.
type ConsentPage struct {
	Notice       string // why the person is asked again; empty the first time
	ClientName   string // as registered
	Known        bool   // the operator registered the client; else nobody has verified its name
	Publisher    string // host of the client's metadata document; empty: it has none
	RedirectHost string // where the answer goes: a host, or a private scheme
	RedirectURI  string // as requested; printable ASCII
	Local        bool   // the redirect ends at a program on the person's own computer
	Scopes       []ScopeLine
	Providers    []ProviderButton
	Sealed       []Field // what the page shows, for the server to read again
	Development  bool    // the providers are stand-ins
}

// A Field is a field of a form that the person does not see.
type Field struct{ Name, Value string }

// A ScopeLine says in words what a scope allows: "See your public repositories".
type ScopeLine struct {
	Text string
	Only string // the name of the only provider that has it; empty: all have
}

// A ProviderButton is one way to sign in: its upstream.Provider's ID and Name.
type ProviderButton struct {
	ID, Name    string
	Unavailable bool // for the moment
}

func (p *Pages) Consent(w http.ResponseWriter, status int, d ConsentPage) {
	d.ClientName = DisplayName(d.ClientName)
	p.write(w, status, p.consentTemplate, d)
}

// ErrorPage is the data of error.html, which tells the person what happened and what to do next.
type ErrorPage struct {
	Title     string            // what happened
	Message   string            // what it means, in a sentence or two
	Said      string            // what the provider says of it in its own words; may be empty
	Speaker   string            // the provider's name; empty if Said is
	Next      []string          // what the person can do, a sentence each
	Remedies  []upstream.Remedy // the same, with links; they come first
	BackURL   template.URL      // the client's validated redirect URI with the OAuth error; empty: there is no way back
	BackHost  string            // where BackURL leads, in short
	Code      string            // the OAuth error code; may be empty
	Reference string            // also on every log line of this sign-in; may be empty
}

// RetryAfter is what a 503 or 429 asks for, in seconds.
const RetryAfter = "5"

func (p *Pages) Error(w http.ResponseWriter, status int, d ErrorPage) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", RetryAfter)
	}
	p.write(w, status, p.errorTemplate, d)
}

// HandOverPage is the data of handover.html, from where the browser opens the client's application.
type HandOverPage struct {
	ClientName string       // as registered
	URL        template.URL // the client's validated redirect URI with the authorization response
	Place      string       // where it leads, in short
	Denied     bool         // the response is that the person did not allow it; else it holds a code
}

// HandOver is what a redirect is for a private scheme. A bare redirect would leave the person in front of a blank tab,
// and without a way out if the application does not open, or runs on another computer. Only a sign-in opens the
// application by itself. Anybody can register a client, so a person who says no to one should not have its address
// opened: for that they must press the button.
func (p *Pages) HandOver(w http.ResponseWriter, status int, d HandOverPage) {
	d.ClientName = DisplayName(d.ClientName)
	if !d.Denied {
		w.Header().Set("Refresh", "0;url="+string(d.URL)) // opens it without a click or a script
	}
	p.write(w, status, p.handOverTemplate, d)
}

// LandingPage is the data of landing.html, which says how to connect a client.
type LandingPage struct {
	URL         string // of the MCP endpoint
	Name        string // what clients are told to call the server; must not need quoting in a shell or in JSON
	Loopback    bool   // only programs on this computer can reach the server, hosted clients cannot
	Closed      bool   // clients cannot register themselves
	Documents   bool   // they can come with a metadata document
	Providers   []ProviderButton
	Development bool // the providers are stand-ins
}

func (p *Pages) Landing(w http.ResponseWriter, status int, d LandingPage) {
	p.write(w, status, p.landingTemplate, d)
}

// SignInPage is the data of signin.html, where one signs in to /connections. Its form posts provider or another.
type SignInPage struct {
	Providers   []ProviderButton
	Development bool // the providers are stand-ins
}

func (p *Pages) SignIn(w http.ResponseWriter, status int, d SignInPage) {
	p.write(w, status, p.signInTemplate, d)
}

// ConnectionsPage is the data of connections.html. Its forms post to /connections/...: the ID of a grant to disconnect;
// to disconnect-all and sign-out nothing.
type ConnectionsPage struct {
	Login, Provider string // who is signed in, and where
	Connections     []Connection
	Revokes         bool // the provider lets us revoke the person's authorization
}

// A Connection is a grant, in words.
type Connection struct {
	ID      string
	Name    string   // as registered; unverified
	Hosts   []string // where it may send people
	Scopes  []string // a sentence each
	Since   string
	Renewed string // when its tokens were last renewed
}

func (p *Pages) Connections(w http.ResponseWriter, status int, d ConnectionsPage) {
	for i := range d.Connections {
		d.Connections[i].Name = DisplayName(d.Connections[i].Name)
	}
	p.write(w, status, p.connectionsTemplate, d)
}

// contentSecurityPolicy has no form-action: browsers apply it to every redirect that follows the post, and ours goes
// to a provider and from there to who knows where.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

func (p *Pages) write(w http.ResponseWriter, status int, t *template.Template, data any) {
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, "base", data); err != nil {
		panic(fmt.Errorf("executing %s: %w", t.Name(), err)) // a bug in the template, whatever the data
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	// With no-referrer, the browser would send "Origin: null" with our own form.
	h.Set("Referrer-Policy", "same-origin")
	// There is no Cross-Origin-Opener-Policy: hosted clients open us in a pop-up, and any value but unsafe-none would
	// cut it off from its opener for good, also once it is back at the client.
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the person has gone; nobody is left to tell
}

// maxNameLength is how many characters of a client's name are shown.
const maxNameLength = 64

// DisplayName makes a name that somebody chose for themselves fit to be shown. Names are cleaned when they arrive, but
// a client_id that an older version of this server issued may carry one that was not.
func DisplayName(s string) string {
	return cmp.Or(upstream.CleanText(s, maxNameLength), "An application without a name")
}
