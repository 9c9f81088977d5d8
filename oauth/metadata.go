package oauth

import (
	"net/http"

	"example.com/mcp-federated-login/oauth/clients"
	"github.com/go-jose/go-jose/v4"
)

const resourceMetadataPath = "/.well-known/oauth-protected-resource"

// Paths of the metadata documents. The first path of each is from its RFC. Existing clients also use the others: they
// take the MCP endpoint for the issuer, put its path before the well-known one, or know only OpenID. A document is the
// same at each of its paths.
var (
	serverMetadataPaths = []string{
		"/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server/mcp",
		"/mcp/.well-known/oauth-authorization-server",
		"/.well-known/openid-configuration",
		"/.well-known/openid-configuration/mcp",
		"/mcp/.well-known/openid-configuration",
	}
	endpointMetadataPaths = []string{resourceMetadataPath + "/mcp", "/mcp" + resourceMetadataPath}
)

// resourceMetadata is the document of RFC 9728 section 2.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	Name                 string   `json:"resource_name"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported"`
	BearerMethods        []string `json:"bearer_methods_supported"`
}

// serverMetadata is the document of RFC 8414 section 2, with RFC 9207 section 3.
type serverMetadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	RegistrationEndpoint  string   `json:"registration_endpoint,omitempty"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	ScopesSupported       []string `json:"scopes_supported"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods []string `json:"revocation_endpoint_auth_methods_supported"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	IssParameter          bool     `json:"authorization_response_iss_parameter_supported"`
	DocumentSupported     bool     `json:"client_id_metadata_document_supported,omitempty"`

	TokenAlgs      []jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationAlgs []jose.SignatureAlgorithm `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`
}

// handleResourceMetadata handles GET /.well-known/oauth-protected-resource/mcp and, for clients that only know the
// origin, the same without /mcp. RFC 9728 section 3.3: the resource in the document must be the one asked about.
func (s *Server) handleResourceMetadata(resource string) http.HandlerFunc {
	return serveMetadata(resourceMetadata{
		Resource:             resource,
		Name:                 s.name,
		AuthorizationServers: []string{s.baseURL},
		// Only the minimum, not every scope: some clients request all scopes listed here.
		ScopesSupported: s.signInScopes(),
		BearerMethods:   []string{"header"},
	})
}

// handleServerMetadata handles GET /.well-known/oauth-authorization-server. The document does not promise OpenID
// Connect, even at the OpenID paths: this server has no ID tokens.
func (s *Server) handleServerMetadata() http.HandlerFunc {
	methods, algorithms := s.clients.AuthMethods()
	var register string
	if s.clients.SelfRegistration() {
		register = s.baseURL + "/register"
	}
	return serveMetadata(serverMetadata{
		Issuer:                s.baseURL,
		AuthorizationEndpoint: s.baseURL + "/authorize",
		TokenEndpoint:         s.baseURL + "/token",
		RegistrationEndpoint:  register,
		RevocationEndpoint:    s.baseURL + "/revoke",
		// Every grant gets a refresh token; offline_access is listed for clients that request it first.
		ScopesSupported:       append(s.signInScopes(), "offline_access"),
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            clients.GrantTypes,
		TokenAuthMethods:      methods,
		RevocationAuthMethods: methods,
		ChallengeMethods:      []string{"S256"},
		IssParameter:          true,
		DocumentSupported:     s.clients.Documents(),

		TokenAlgs: algorithms, RevocationAlgs: algorithms,
	})
}

// serveMetadata serves a document that changes only with the configuration.
func serveMetadata(v any) http.HandlerFunc {
	body := encodeJSON(v)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		writeEncoded(w, http.StatusOK, body)
	}
}
