package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/templates"
)

const (
	maxQuery = 8 << 10 // bytes of a query at /authorize
	maxState = 1024    // bytes of a client's state
)

// s256Challenge matches an S256 code_challenge (RFC 7636 section 4.2): the base64url of a SHA-256.
var s256Challenge = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// An authRequest is a validated authorization request (RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 8707
// section 2).
type authRequest struct {
	question  // what the consent page shows to the user
	client    *store.Client
	redirect  clients.Redirect
	state     string
	challenge string
	scopes    []Scope
}

// handleAuthorize handles GET /authorize: it validates the request and asks the user for consent. It sets no cookie and
// stores nothing, so fetching it twice changes nothing.
func (s *Server) handleAuthorize(w http.ResponseWriter, r *http.Request) {
	r = withReference(r, r.URL.RawQuery)
	req, err := s.parseAuthorize(r.Context(), r.URL.RawQuery, nil)
	if err != nil {
		s.authorizeError(w, r, req, err)
		return
	}
	s.log.InfoContext(r.Context(), "asking for consent", "client", req.Name,
		"redirect", req.redirect.Place(), "scopes", len(req.scopes))
	s.askConsent(w, r, req, http.StatusOK, "")
}

// askConsent shows the consent page. The notice explains why the user is asked again; it is empty the first time.
func (s *Server) askConsent(w http.ResponseWriter, r *http.Request, req *authRequest, status int, notice string) {
	page := templates.ConsentPage{
		Notice:       notice,
		ClientName:   req.Name,
		Sealed:       s.sealQuestion(req.question),
		Known:        s.clients.Preregistered(req.client),
		Publisher:    clients.Publisher(req.client),
		RedirectHost: req.redirect.Place(),
		RedirectURI:  req.redirect.String(),
		Local:        req.redirect.Local(),
		Development:  s.development,
	}
	for _, p := range s.providers {
		if len(ofProvider(req.scopes, p)) == 0 {
			continue
		}
		// Check now that the flow fits into a cookie, while the error can still be returned to the client.
		if _, err := s.sealFlow(newFlow(p.ID, req.question, s.now())); err != nil {
			s.authorizeError(w, r, req, err)
			return
		}
		page.Providers = append(page.Providers, templates.ProviderButton{ID: p.ID, Name: p.Name,
			Unavailable: p.Unavailable()})
	}
	for _, sc := range req.scopes {
		line := templates.ScopeLine{Text: sc.Sentence}
		if p := s.providers.Find(sc.Provider); p != nil {
			line.Only = p.Name
		}
		page.Scopes = append(page.Scopes, line)
	}
	s.pages.Consent(w, status, page)
}

// parseAuthorize validates a query in two steps. If the client or its redirect URI is not valid, it returns a nil
// request, and the browser must not be redirected. After that the request is never nil, so that an error page can
// link back to the client.
//
// If asked is not nil, the query belongs to a question that was asked before. Then the redirect URI and the scopes are
// those of the question, even if the client's document has changed. It checks again that the client is still allowed.
func (s *Server) parseAuthorize(ctx context.Context, raw string, asked *question) (*authRequest, error) {
	if len(raw) > maxQuery {
		return nil, clients.InvalidRequest("The request is too long.")
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, clients.InvalidRequest("The query cannot be parsed.")
	}
	// "Request and response parameters MUST NOT be included more than once" (RFC 6749 section 3.1). These two decide
	// where the browser may be redirected, so they are checked first.
	if len(q["client_id"]) != 1 || len(q["redirect_uri"]) > 1 {
		return nil, clients.InvalidRequest("There must be one client_id and at most one redirect_uri.")
	}
	client, err := s.clients.ForSignIn(ctx, q.Get("client_id"))
	if errors.Is(err, clients.ErrUnknown) {
		return nil, &clients.Error{Code: "invalid_client", Description: "This server does not know the application.",
			Status: http.StatusBadRequest, Err: err}
	}
	if err != nil {
		return nil, err
	}
	var to clients.Redirect
	if requested := q.Get("redirect_uri"); asked == nil {
		to, err = s.clients.Redirect(client, requested)
	} else {
		to, err = s.clients.AskedRedirect(ctx, cmp.Or(requested, asked.Redirect))
	}
	if err != nil {
		return nil, err
	}
	req := &authRequest{client: client, redirect: to}
	if asked != nil {
		req.question, req.scopes = *asked, s.declaredScopes(strings.Fields(asked.Scopes))
	} else {
		req.scopes = s.requestedScopes(q.Get("scope"))
		req.question = question{Request: raw, Name: templates.DisplayName(client.Name), Scopes: scopeNames(req.scopes)}
		if q.Get("redirect_uri") == "" {
			req.Redirect = to.String()
		}
	}
	return req, s.parseGrantRequest(req, q)
}

// parseGrantRequest validates the other parameters: state, response type, PKCE, scopes and resource.
func (s *Server) parseGrantRequest(req *authRequest, q url.Values) error {
	// An invalid state is not returned with the error either.
	if state := q.Get("state"); len(state) <= maxState && visible(state) && len(q["state"]) <= 1 {
		req.state = state
	} else {
		return clients.InvalidRequest("The state must come once and be at most 1024 visible ASCII characters.")
	}
	if name, ok := repeated(q, "response_type", "scope", "code_challenge", "code_challenge_method"); ok {
		return clients.InvalidRequest("The parameter " + name + " must come once.")
	}
	switch q.Get("response_type") {
	case "code":
	case "":
		return clients.InvalidRequest("response_type is missing.")
	default:
		return &clients.Error{Code: "unsupported_response_type", Description: "response_type must be code.",
			Status: http.StatusBadRequest}
	}
	// A missing method means plain (RFC 7636 section 4.3), which we do not offer.
	if q.Get("code_challenge_method") != "S256" || !s256Challenge.MatchString(q.Get("code_challenge")) {
		return clients.InvalidRequest("A code_challenge with code_challenge_method S256 is required (RFC 7636).")
	}
	req.challenge = q.Get("code_challenge")
	if len(req.scopes) == 0 { // only if asked before: a request without scopes gets the sign-in scopes
		return clients.InvalidRequest("This server no longer offers what was asked for.")
	}
	return s.checkResource(q["resource"])
}

// repeated returns the first of these parameters that occurs more than once.
func repeated(q url.Values, names ...string) (string, bool) {
	i := slices.IndexFunc(names, func(n string) bool { return len(q[n]) > 1 })
	if i < 0 {
		return "", false
	}
	return names[i], true
}

// visible reports whether s is made of VSCHAR (RFC 6749 appendix A), which includes the space.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// authorizeError shows the user why an authorization request failed. If the client is known, the page has a link that
// returns the same error to the client. It is not a redirect, because anyone can register a client and, with a
// deliberate mistake, make this server redirect users to it (RFC 9700 section 4.11.2).
func (s *Server) authorizeError(w http.ResponseWriter, r *http.Request, req *authRequest, err error) {
	e := clients.AsError(err)
	s.logError(r, e)
	page := templates.ErrorPage{Code: e.Code, Reference: reference(r.Context())}
	switch {
	case errors.Is(err, clients.ErrNotFetched) && e.Status >= 500:
		page.Title = "This application could not be verified"
		page.Message = "Its maker describes it at an address that this server cannot read right now. Nothing was changed."
		page.Next = []string{"Wait a few seconds and reload this page."}
	case e.Status >= 500:
		page.Title = "This server cannot answer right now"
		page.Message = "Something went wrong on our side. Nothing was changed."
		page.Next = []string{"Wait a few seconds and reload this page."}
	case errors.Is(err, clients.ErrUnknown):
		page.Title = "This application is not known here"
		page.Message = "Your MCP client used a registration that this server did not issue, or no longer accepts."
		page.Next = s.unknownClientSteps()
	case errors.Is(err, clients.ErrRegistrationOff):
		page.Title = "This application has not been admitted here"
		page.Message = "The people who run this server admit applications themselves, and this one is not among them."
		page.Next = []string{operatorsClientID}
	case errors.Is(err, clients.ErrBlocked):
		page.Title = "This application is blocked here"
		page.Message = "The people who run this server have blocked it, or the site that it sends people to."
		page.Next = []string{"If that surprises you, ask them why."}
	default:
		page.Title = "The application asked for something that cannot work"
		page.Message = e.Description
		page.Next = []string{
			"Go back to your MCP client and connect again.",
			"If that leads here again, tell the people who make the client what this page says.",
		}
	}
	if req != nil {
		s.addReturnLink(&page, req, e.Code, e.Description)
	}
	s.pages.Error(w, e.Status, page)
}

// operatorsClientID is how to connect where clients cannot register themselves.
const operatorsClientID = "Ask the people who run this server for a client ID, and connect again with that."

// unknownClientSteps say what to do about a client_id that is not known.
func (s *Server) unknownClientSteps() []string {
	if !s.clients.SelfRegistration() {
		return []string{operatorsClientID}
	}
	return registerAgainSteps
}

// registerAgainSteps say how to make clients forget a registration: none of them has a button for it.
var registerAgainSteps = []string{
	"Claude Code: run /mcp, choose this server, choose Clear authentication, and connect again.",
	"VS Code: run the command Authentication: Remove Dynamic Authentication Providers, and start the server again.",
	"Cursor: remove the server in Settings, MCP, and add it again.",
	"mcp-remote: delete the folder ~/.mcp-auth and start the client again.",
	"Other clients: remove this server and add it again.",
}
