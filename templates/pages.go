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

// Pages writes the pages that users see in their browsers. Any text on a page may come from a stranger. html/template
// escapes it, [DisplayName] removes unsafe characters that escaping keeps in names, and the headers that [Pages.write]
// sets make the browser block anything that gets past both.
type Pages struct {
	consentTemplate, errorTemplate, landingTemplate, signInTemplate, connectionsTemplate,
	handOverTemplate *template.Template
}

// New parses the templates. Every page shows the server's name.
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

// ConsentPage is the data of consent.html, which asks for the user's consent and lets the user choose a provider. Its
// form posts to /authorize: the Sealed fields, and either provider, another or decision=cancel. Both provider and
// another hold a provider's ID; another lets the user choose an account there.
type ConsentPage struct {
	Notice       string // why the user is asked again; empty the first time
	ClientName   string // as registered
	Known        bool   // the operator registered the client; if false, its name is not verified
	Publisher    string // host of the client's metadata document; empty if it has none
	RedirectHost string // where the response goes: a host, or a private scheme
	RedirectURI  string // as requested; printable ASCII
	Local        bool   // the redirect goes to a program on the user's own computer
	Scopes       []ScopeLine
	Providers    []ProviderButton
	Sealed       []Field // the data of the page, which the form sends back to the server
	Development  bool    // the providers are development providers
}

// A Field is a hidden field of a form.
type Field struct{ Name, Value string }

// A ScopeLine describes a scope in words: "See your public repositories".
type ScopeLine struct {
	Text string
	Only string // the name of the only provider that has the scope; empty if all have it
}

// A ProviderButton is a button to sign in with a provider. It has the upstream.Provider's ID and Name.
type ProviderButton struct {
	ID, Name    string
	Unavailable bool // at the moment
}

func (p *Pages) Consent(w http.ResponseWriter, status int, d ConsentPage) {
	d.ClientName = DisplayName(d.ClientName)
	p.write(w, status, p.consentTemplate, d)
}

// ErrorPage is the data of error.html, which tells the user what happened and what to do next.
type ErrorPage struct {
	Title     string            // what happened
	Message   string            // what it means, in a sentence or two
	Said      string            // the provider's own message; may be empty
	Speaker   string            // the provider's name; empty if Said is empty
	Next      []string          // what the user can do, one sentence each
	Remedies  []upstream.Remedy // the same, with links; shown before Next
	BackURL   template.URL      // the client's validated redirect URI with the OAuth error; empty if there is none
	BackHost  string            // where BackURL leads, in short
	Code      string            // the OAuth error code; may be empty
	Reference string            // also on every log line of this sign-in; may be empty
}

// RetryAfter is the Retry-After value of a 503 or 429 response, in seconds.
const RetryAfter = "5"

func (p *Pages) Error(w http.ResponseWriter, status int, d ErrorPage) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", RetryAfter)
	}
	p.write(w, status, p.errorTemplate, d)
}

// HandOverPage is the data of handover.html, which opens the client's application.
type HandOverPage struct {
	ClientName string       // as registered
	URL        template.URL // the client's validated redirect URI with the authorization response
	Place      string       // where URL leads, in short
	Denied     bool         // the user denied access; if false, the response holds a code
}

// HandOver writes a page that replaces a redirect to a private scheme. A plain redirect would leave the user with a
// blank tab, and with no help if the application does not open or runs on another computer. The page opens the
// application by itself only after a sign-in. Anyone can register a client, so if the user denies access, the page must
// not open the client's URL by itself: the user must press the button.
func (p *Pages) HandOver(w http.ResponseWriter, status int, d HandOverPage) {
	d.ClientName = DisplayName(d.ClientName)
	if !d.Denied {
		w.Header().Set("Refresh", "0;url="+string(d.URL)) // opens the application without a click or a script
	}
	p.write(w, status, p.handOverTemplate, d)
}

// LandingPage is the data of landing.html, which explains how to connect a client.
type LandingPage struct {
	URL         string // of the MCP endpoint
	Name        string // the server's name in client configurations; must not need quoting in a shell or in JSON
	Loopback    bool   // only programs on this computer can reach the server; hosted clients cannot
	Closed      bool   // clients cannot register themselves
	Documents   bool   // clients can use a metadata document
	Providers   []ProviderButton
	Development bool // the providers are development providers
}

func (p *Pages) Landing(w http.ResponseWriter, status int, d LandingPage) {
	p.write(w, status, p.landingTemplate, d)
}

// SignInPage is the data of signin.html, where users sign in to /connections. Its form posts provider or another.
type SignInPage struct {
	Providers   []ProviderButton
	Development bool // the providers are development providers
}

func (p *Pages) SignIn(w http.ResponseWriter, status int, d SignInPage) {
	p.write(w, status, p.signInTemplate, d)
}

// ConnectionsPage is the data of connections.html. Its forms post to /connections/...: disconnect gets the ID of a
// grant, and disconnect-all and sign-out get no data.
type ConnectionsPage struct {
	Login, Provider string // the signed-in user's login and provider
	Connections     []Connection
	Revokes         bool // this server can revoke the user's authorization at the provider
}

// A Connection describes a grant in words.
type Connection struct {
	ID      string
	Name    string   // as registered; unverified
	Hosts   []string // hosts that the client may redirect users to
	Scopes  []string // one sentence each
	Since   string
	Renewed string // when its tokens were last renewed
}

func (p *Pages) Connections(w http.ResponseWriter, status int, d ConnectionsPage) {
	for i := range d.Connections {
		d.Connections[i].Name = DisplayName(d.Connections[i].Name)
	}
	p.write(w, status, p.connectionsTemplate, d)
}

// contentSecurityPolicy has no form-action. Browsers apply it to every redirect after the post. The first redirect
// goes to a provider, which may redirect to any host.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

func (p *Pages) write(w http.ResponseWriter, status int, t *template.Template, data any) {
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, "base", data); err != nil {
		panic(fmt.Errorf("executing %s: %w", t.Name(), err)) // always a bug in the template, not in the data
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	// With no-referrer, the browser would send "Origin: null" with this server's own forms.
	h.Set("Referrer-Policy", "same-origin")
	// There is no Cross-Origin-Opener-Policy. Hosted clients open these pages in a pop-up. Any value except unsafe-none
	// would separate the pop-up from its opener forever, even after it returns to the client.
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // an error means that the browser disconnected
}

// maxNameLength limits the client's name on a page, in characters.
const maxNameLength = 64

// DisplayName makes a client's self-chosen name safe to show. Names are cleaned when they arrive, but a client_id from
// an older version of this server may hold a name that was not cleaned.
func DisplayName(s string) string {
	return cmp.Or(upstream.CleanText(s, maxNameLength), "An application without a name")
}
