package clients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and rejects duplicate members

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/upstream"
)

// A client need not register: its client_id may be the https URL of a JSON document that describes it (OAuth Client ID
// Metadata Document, required since MCP 2025-11-25). The publisher of the document is the client, so one document
// serves every installation of a program. The document is fetched when the client requests a sign-in, and stored with
// the grant. /token uses the stored version. It looks for newer keys only, if the client has any, and uses the stored
// keys while the client's host does not respond (withdrawn.go).

// DocumentPolicy defines which clients may use a metadata document.
type DocumentPolicy int

const (
	DocumentsOff      DocumentPolicy = iota
	DocumentsOn                      // documents on public addresses
	DocumentsLoopback                // also documents on this computer, with or without TLS: for developing a client
)

// maxKeys is the maximum number of keys of a client. Each may have to be tried.
const maxKeys = 16

// clientDocument holds the members of a metadata document that this server uses. RFC 7591 section 2 defines them.
type clientDocument struct {
	ClientID      string          `json:"client_id"`
	Name          string          `json:"client_name"`
	RedirectURIs  []string        `json:"redirect_uris"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	AuthMethods   []string        `json:"token_endpoint_auth_methods_supported"` // OpenID Connect RP Metadata Choices
	Keys          json.RawMessage `json:"jwks"`
	KeysURI       string          `json:"jwks_uri"`
	Secret        json.RawMessage `json:"client_secret"`
	SecretExpires json.RawMessage `json:"client_secret_expires_at"`
}

// namesDocument reports whether a client_id is a document URL. No client_id that this server issues begins like that.
func namesDocument(clientID string) bool {
	return strings.HasPrefix(clientID, "https://") || strings.HasPrefix(clientID, "http://")
}

// Publisher returns the host of a client's metadata document, or "" if the client has none.
func Publisher(c *store.Client) string {
	if u, err := url.Parse(c.ID); err == nil && namesDocument(c.ID) {
		return u.Host
	}
	return ""
}

// parseDocumentURL checks the URL of a document or of its key set: https, with a path, without dot segments, fragment
// and user (Client ID Metadata Document, Client Identifier). As with redirect URIs, it must survive a round trip byte
// for byte, so that the checked URL is the fetched URL.
func (p DocumentPolicy) parseDocumentURL(raw string) (*url.URL, error) {
	bad := func(problem string) (*url.URL, error) { return nil, badDocument("its address " + problem) }
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxClientID || !origin.Printable(raw) || strings.ContainsAny(raw, `#\`):
		return bad("is too long, or has characters that an address cannot have")
	case err != nil || u.String() != raw || u.User != nil || !origin.ValidHost(u):
		return bad("is not a plain URL")
	case u.Scheme != "https" && (u.Scheme != "http" || p != DocumentsLoopback || !origin.IsLoopback(u.Hostname())):
		return bad("does not begin with https")
	case u.Path == "":
		return bad("has no path")
	case slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return bad("has dots for a path segment")
	}
	return u, nil
}

// badDocument returns the error for a client with unacceptable metadata. The problem is for its developers.
func badDocument(problem string) *Error {
	return &Error{Code: "invalid_client", Status: http.StatusBadRequest,
		Description: "The metadata document of the application cannot be used: " + problem + "."}
}

// parseDocument reads the metadata document that was fetched from the URL id.
func (p DocumentPolicy) parseDocument(id string, raw []byte) (*store.Client, error) {
	var d clientDocument
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, badDocument("it is not the JSON object that it should be")
	}
	c := &store.Client{ID: id, Name: upstream.CleanText(d.Name, maxClientName), AuthMethod: d.AuthMethod, Document: raw,
		Keys: d.Keys, KeysURI: d.KeysURI}
	for _, uri := range d.RedirectURIs {
		if _, err := parseRedirectURI(uri); err == nil { // other servers may accept the others
			c.RedirectURIs = append(c.RedirectURIs, uri)
		}
	}
	switch {
	case d.ClientID != id: // "using simple string comparison"
		return nil, badDocument("its client_id is not the address that it was fetched from")
	case c.Name == "":
		return nil, badDocument("it has no client_name")
	case len(c.RedirectURIs) == 0:
		return nil, badDocument("it has no redirect_uris that this server can use")
	case d.Secret != nil || d.SecretExpires != nil:
		return nil, badDocument("it holds a client_secret, which everybody can read there")
	}
	if c.AuthMethod == "" {
		c.AuthMethod = authNone
	}
	if c.AuthMethod != authNone && c.AuthMethod != authJWT {
		return nil, badDocument("its token_endpoint_auth_method is neither none nor private_key_jwt")
	}
	if err := p.checkKeys(c); err != nil {
		return nil, err
	}
	// If the client leaves the choice to the server, both methods are allowed.
	if slices.Contains(d.AuthMethods, authNone) {
		c.AuthMethod = authNone
	}
	return c, nil
}

// checkKeys checks the keys in a client's document.
func (p DocumentPolicy) checkKeys(c *store.Client) error {
	switch {
	case c.Keys != nil && c.KeysURI != "":
		return badDocument("it has both jwks and jwks_uri")
	case c.Keys != nil:
		_, err := parseKeySet(c.Keys)
		return err
	case c.KeysURI != "":
		_, err := p.parseDocumentURL(c.KeysURI)
		return err
	case c.AuthMethod == authJWT:
		return badDocument("it has neither jwks nor jwks_uri")
	}
	return nil
}

// parseKeySet reads a JSON Web Key Set (RFC 7517 section 5). It rejects private and symmetric keys: once published,
// anyone can sign with them.
func parseKeySet(raw []byte) (*jose.JSONWebKeySet, error) {
	var members struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &members) != nil || len(members.Keys) == 0 || len(members.Keys) > maxKeys {
		return nil, badDocument("its keys are not a JSON Web Key Set of at most 16 keys")
	}
	set := new(jose.JSONWebKeySet)
	for _, raw := range members.Keys {
		var private struct {
			D json.RawMessage `json:"d"`
			K json.RawMessage `json:"k"`
		}
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &private); err != nil || private.D != nil || private.K != nil {
			return nil, badDocument("its key set holds a private or symmetric key, or something that is no key")
		}
		// Unknown keys are to be ignored (RFC 7517 section 5).
		if json.Unmarshal(raw, &key) == nil && key.Valid() && key.IsPublic() {
			set.Keys = append(set.Keys, key)
		}
	}
	return set, nil
}

// fetchDocument returns the client as its document describes it, and the fetched copy. The copy was fetched after that
// time, or earlier if the document cannot be fetched now. [ErrNotFetched] is returned if there is no copy. A client is
// known if a user has signed in with it.
func (reg *Registry) fetchDocument(ctx context.Context, id string, after time.Time, known bool) (*store.Client, fetched,
	error) {
	policy := reg.documents.policy
	u, err := policy.parseDocumentURL(id)
	if err != nil {
		return nil, fetched{}, err
	}
	found, err := reg.documents.get(ctx, documentKind, u, after, known, func(raw []byte) error {
		_, err := policy.parseDocument(id, raw)
		return err
	})
	if err != nil {
		return nil, fetched{}, err
	}
	c, err := policy.parseDocument(id, found.body)
	return c, found, err
}

// clientByDocument returns the client as its current document describes it, or the last one if it cannot be fetched.
func (reg *Registry) clientByDocument(ctx context.Context, id string) (*store.Client, error) {
	c, found, err := reg.fetchDocument(ctx, id, time.Time{}, false)
	if errors.Is(err, ErrNotFetched) {
		stored, storeErr := reg.storedDocument(ctx, id)
		if storeErr == nil && errors.Is(err, errTooMany) { // strangers may be using all slots
			c, found, err = reg.fetchDocument(ctx, id, time.Time{}, true)
		}
		if err != nil {
			host := Publisher(&store.Client{ID: id})
			reg.log.Failure(ctx, slog.LevelInfo, "metadata document not fetched", host, "host", host, "cause", err)
		}
		if errors.Is(err, ErrNotFetched) && storeErr == nil && reg.servesStored(stored) {
			return stored, nil
		}
	}
	if err != nil {
		return nil, err
	}
	c.IssuedAt = found.at
	return c, nil
}

// storedDocument returns the client as its document described it at the newest sign-in. /token uses this version.
func (reg *Registry) storedDocument(ctx context.Context, id string) (*store.Client, error) {
	row, err := reg.store.Client(ctx, store.HashOf(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Document == nil {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("looking up client: %w", err)
	}
	// The policy may have changed since. The current policy is checked when a sign-in begins.
	c, err := DocumentsLoopback.parseDocument(id, row.Document)
	if err != nil {
		return nil, fmt.Errorf("reading stored document: %v", err) // not %w: it is not the client's fault
	}
	c.Keys, c.Proof, c.IssuedAt = row.Keys, row.Proof, row.IssuedAt
	return c, nil
}

// SnapshotDocument adds to a client its current keys, for use while they cannot be fetched, and the proof that this
// server wrote the stored data.
func (reg *Registry) SnapshotDocument(ctx context.Context, c *store.Client) {
	if c.KeysURI != "" {
		keys, err := reg.keySet(ctx, c.KeysURI, time.Time{})
		if err == nil {
			c.Keys, c.IssuedAt = keys.body, earlier(c.IssuedAt, keys.at)
		} else if errors.Is(err, errWithdrawn) {
			c.Keys = noKeys
		} else if stored, storeErr := reg.storedDocument(ctx, c.ID); storeErr == nil && stored.KeysURI == c.KeysURI &&
			reg.hasValidProof(stored) {
			c.Keys, c.IssuedAt = stored.Keys, stored.IssuedAt // other grants may depend on them
		}
		if err != nil {
			host := Publisher(c)
			reg.log.Failure(ctx, slog.LevelWarn, "client's keys not fetched", host, "host", host, "cause", err)
		}
	}
	c.Proof = reg.documentProof(reg.ring.Newest(), c)
}

// keySet returns the key set at a URL, fetched after that time.
func (reg *Registry) keySet(ctx context.Context, address string, after time.Time) (fetched, error) {
	u, err := reg.documents.policy.parseDocumentURL(address)
	if err != nil {
		return fetched{}, err
	}
	// Key sets are fetched only for clients with a valid document, after a user has signed in.
	return reg.documents.get(ctx, keySetKind, u, after, true, func(raw []byte) error {
		_, err := parseKeySet(raw)
		return err
	})
}

// currentKeys returns the key set of a client that was read by [Registry.storedDocument], and when it was known to be
// the client's: after that time, or earlier if it cannot be fetched now. In that case [ErrNotFetched] is returned with
// the last known keys, if they are not too old. The client may have put newer keys into its document, or moved them to
// another URL.
func (reg *Registry) currentKeys(ctx context.Context, stored *store.Client, after time.Time) ([]byte, time.Time,
	error) {
	if reg.documents.policy == DocumentsOff {
		return stored.Keys, reg.now(), nil
	}
	latest, found, err := reg.fetchDocument(ctx, stored.ID, after, true)
	switch {
	case errors.Is(err, ErrNotFetched) && reg.servesStored(stored):
		latest, found = stored, fetched{at: stored.IssuedAt, stale: true}
	case errors.Is(err, errWithdrawn):
		reg.withdrawKeys(ctx, stored, *stored)
		return nil, time.Time{}, err
	case err != nil:
		return nil, time.Time{}, err
	}
	keys, at, newest, stale := latest.Keys, found.at, found, found.stale
	if latest.KeysURI != "" {
		moved := latest.KeysURI != stored.KeysURI
		set, err := reg.keySet(ctx, latest.KeysURI, after)
		switch {
		case err == nil:
			keys, at, newest, stale = set.body, earlier(at, set.at), set, stale || set.stale
			if !found.stale && found.at.After(set.at) {
				newest.at = found.at
			}
		case errors.Is(err, ErrNotFetched) && !moved && reg.servesStored(stored):
			keys, at, newest, stale = stored.Keys, stored.IssuedAt, fetched{stale: true}, true
		default:
			if moved && found.at.After(stored.IssuedAt) || !moved && errors.Is(err, errWithdrawn) {
				reg.withdrawKeys(ctx, stored, *latest)
			}
			return nil, time.Time{}, err
		}
	}
	if !newest.stale {
		c := *latest
		c.Keys, c.IssuedAt = keys, newest.at
		reg.followDocument(ctx, stored, c)
	}
	if stale {
		return keys, at, ErrNotFetched
	}
	return keys, at, nil
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
