package clients

import (
	"net/http"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// RegistrationRequest holds the members of RFC 7591 section 2 that we use. It says that others are to be ignored.
type RegistrationRequest struct {
	RedirectURIs    []string `json:"redirect_uris"`
	ClientName      string   `json:"client_name"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	ApplicationType string   `json:"application_type"`
}

// RegistrationResponse is defined in RFC 7591 section 3.2.1. Strict clients reject null values and missing
// redirect_uris, and require client_secret_expires_at with every secret, even if it is 0: hence the pointer.
type RegistrationResponse struct {
	ClientID        string   `json:"client_id"`
	IssuedAt        int64    `json:"client_id_issued_at"`
	Secret          string   `json:"client_secret,omitempty"`
	SecretExpiresAt *int64   `json:"client_secret_expires_at,omitempty"`
	RedirectURIs    []string `json:"redirect_uris"`
	ClientName      string   `json:"client_name,omitempty"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	ApplicationType string   `json:"application_type,omitempty"`
}

func InvalidMetadata(description string) error {
	return &Error{Code: "invalid_client_metadata", Description: description, Status: http.StatusBadRequest}
}

// noUsableRedirect returns an error if /authorize would deny all of a client's redirect URIs, so that its developer
// learns it now. One usable URI is enough: clients register the callbacks of several programs at once.
func (reg *Registry) noUsableRedirect() error {
	private := "No private scheme is allowed here."
	if len(reg.redirectSchemes) > 0 {
		private = "Of the private schemes, this server opens " + strings.Join(reg.redirectSchemes, ", ") + ", and in an " +
			"editor only the callback of an extension, such as vscode://publisher.extension/oauth/callback."
	}
	return &Error{Code: "invalid_redirect_uri", Status: http.StatusBadRequest, Description: "At least one redirect URI " +
		"must be https, or http on localhost, 127.0.0.1 or [::1]. " + private}
}

func (reg *Registry) Register(req *RegistrationRequest) (*RegistrationResponse, error) {
	if n := len(req.RedirectURIs); n == 0 || n > maxRedirectURIs {
		return nil, &Error{Code: "invalid_redirect_uri", Status: http.StatusBadRequest,
			Description: "Register between 1 and 10 redirect_uris."}
	}
	for _, raw := range req.RedirectURIs {
		if _, err := parseRedirectURI(raw); err != nil {
			return nil, &Error{Code: "invalid_redirect_uri", Status: http.StatusBadRequest, Err: err,
				Description: "Each redirect URI must be https, http on localhost, 127.0.0.1 or [::1], or a private " +
					"scheme, of at most 512 characters, without user name or fragment."}
		}
	}
	usable := func(raw string) bool { _, err := newRedirect(raw, reg.redirectSchemes); return err == nil }
	if !slices.ContainsFunc(req.RedirectURIs, usable) {
		return nil, reg.noUsableRedirect()
	}
	// RFC 7591 makes client_secret_basic the default, but MCP clients that omit the method are public clients, and fail
	// if they get a secret.
	if req.AuthMethod == "" {
		req.AuthMethod = authNone
	}
	if m := req.AuthMethod; m != authNone && m != authBasic && m != authPost {
		return nil, InvalidMetadata("token_endpoint_auth_method must be none, client_secret_basic or client_secret_post; " +
			"private_key_jwt is for clients with a metadata document.")
	}
	c := &store.Client{Name: upstream.CleanText(req.ClientName, maxClientName), RedirectURIs: req.RedirectURIs,
		AuthMethod: req.AuthMethod, IssuedAt: reg.now()}
	id, err := reg.issueClientID(c)
	if err != nil {
		return nil, err
	}
	resp := &RegistrationResponse{
		ClientID:      id,
		IssuedAt:      c.IssuedAt.Unix(),
		RedirectURIs:  c.RedirectURIs,
		ClientName:    c.Name,
		AuthMethod:    c.AuthMethod,
		GrantTypes:    GrantTypes,
		ResponseTypes: []string{"code"},
	}
	if t := req.ApplicationType; t == "native" || t == "web" {
		resp.ApplicationType = t
	}
	if c.AuthMethod != authNone {
		resp.Secret = clientSecret(reg.ring.Newest(), id)
		resp.SecretExpiresAt = new(int64) // never
	}
	return resp, nil
}

// ErrRegistrationOff is returned if a client registered itself but registration is off. It can start no new sign-in.
// Its existing grants stay valid and can be refreshed.
var ErrRegistrationOff = &Error{Code: "access_denied", Status: http.StatusForbidden,
	Description: "Clients cannot register themselves at this server. Ask its operator for a client_id."}

// Ways for a client to authenticate at /token (RFC 7591 section 2).
const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
	authJWT   = "private_key_jwt" // only for clients by metadata document
)

// GrantTypes are the grant types that every client may use.
var GrantTypes = []string{"authorization_code", "refresh_token"}
