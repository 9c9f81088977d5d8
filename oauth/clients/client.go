package clients

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// A registered client's client_id is its registration: the metadata, compressed, under our MAC. So registering stores
// nothing, nobody can fill a table with clients, and a client_id survives any restart. It stays short, because some
// clients keep their whole record in a credential store of 1,280 characters.
const (
	clientIDPrefix  = "mcp_ci_"
	maxClientID     = 1024 // characters
	maxClientName   = 100  // characters
	maxRedirectURIs = 10
)

// ErrUnknown is returned if this server never issued the client_id, or issued it under a removed secret, or the
// operator has removed it from CLIENTS. Clients then discard their registration and register again, so it is returned
// only if it is true.
var ErrUnknown = errors.New("unknown client_id")

// registration is the content of a client_id.
type registration struct {
	Name         string   `json:"n,omitempty"`
	RedirectURIs []string `json:"r"`
	AuthMethod   string   `json:"a,omitempty"` // absent means none
	IssuedAt     int64    `json:"t"`           // Unix seconds
	Nonce        []byte   `json:"x"`
}

// registrations packs them, using the words that most of them share.
var registrations = seal.NewPacker(`client_secret_basicclient_secret_post/oauth/callbackhttps://vscode.dev/redirect` +
	`{"n":"","a":"","r":["http://127.0.0.1:/callback","http://localhost:/callback","https://"],"t":17,"x":"`)

// issueClientID returns the client_id of a registration.
func (reg *Registry) issueClientID(c *store.Client) (string, error) {
	carried := registration{Name: c.Name, RedirectURIs: c.RedirectURIs, IssuedAt: c.IssuedAt.Unix(),
		Nonce: make([]byte, 8)}
	if c.AuthMethod != authNone {
		carried.AuthMethod = c.AuthMethod
	}
	rand.Read(carried.Nonce)
	plain, err := json.Marshal(carried)
	if err != nil {
		return "", err
	}
	packed := registrations.Pack(plain)
	id := base64.RawURLEncoding.EncodeToString(append(packed, reg.clientMAC(reg.ring.Newest(), packed)...))
	if len(clientIDPrefix+id) > maxClientID {
		return "", &Error{Code: "invalid_client_metadata", Status: http.StatusBadRequest,
			Description: "The name and redirect URIs are too long together. Register fewer or shorter ones."}
	}
	return clientIDPrefix + id, nil
}

// SelfRegistered reports whether the client registered itself. Such a client_id belongs to one installation. It keeps
// only the tokens of its newest sign-in, so its other grants are replaced.
func SelfRegistered(c *store.Client) bool { return strings.HasPrefix(c.ID, clientIDPrefix) }

// TakenOut reports whether the operator has removed the client from CLIENTS: its client_id has no other source. A
// client that was listed there by its document URL is not affected: its document is used from then on.
func (reg *Registry) TakenOut(c *store.Client) bool {
	return reg.known[c.ID] == nil && !SelfRegistered(c) && !namesDocument(c.ID)
}

func (reg *Registry) clientMAC(k seal.Key, registration []byte) []byte {
	return k.MAC(registration, "client id", reg.baseURL)
}

// clientSecret returns the secret of a confidential client. It is derived, so that registering stores nothing.
func clientSecret(k seal.Key, clientID string) string {
	return base64.RawURLEncoding.EncodeToString(k.MAC([]byte(clientID), "client secret"))
}

// client returns the client with that client_id. If the operator did not register it, it is as at its last sign-in. It
// is read from the client_id, or from the store if that is a document URL or its secret was removed. The store keeps
// every client that had a grant. [ErrUnknown] is returned if there is no such client.
func (reg *Registry) client(ctx context.Context, id string) (*store.Client, error) {
	if c := reg.known[id]; c != nil {
		return c, nil
	}
	if namesDocument(id) {
		return reg.storedDocument(ctx, id)
	}
	if !strings.HasPrefix(id, clientIDPrefix) || len(id) > maxClientID {
		return nil, ErrUnknown
	}
	if c, err := reg.readClientID(id); !errors.Is(err, ErrUnknown) {
		return c, err
	}
	c, err := reg.store.Client(ctx, store.HashOf(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("looking up client: %w", err)
	}
	return &c, nil
}

// readClientID is the inverse of issueClientID. The MAC is checked before anything is decompressed.
func (reg *Registry) readClientID(id string) (*store.Client, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(id, clientIDPrefix))
	// The decoder ignores line breaks and stray bits. Each client has one client_id, with one spelling.
	if err != nil || clientIDPrefix+base64.RawURLEncoding.EncodeToString(raw) != id || len(raw) <= sha256.Size {
		return nil, ErrUnknown
	}
	packed, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	for _, k := range reg.ring {
		if hmac.Equal(mac, reg.clientMAC(k, packed)) {
			return unpackClient(k, id, packed)
		}
	}
	return nil, ErrUnknown
}

func unpackClient(k seal.Key, id string, packed []byte) (*store.Client, error) {
	plain, err := registrations.Unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("reading client_id: %w", err)
	}
	var reg registration
	if err := json.Unmarshal(plain, &reg); err != nil {
		return nil, fmt.Errorf("reading client_id: %w", err)
	}
	c := &store.Client{ID: id, Name: reg.Name, RedirectURIs: reg.RedirectURIs, AuthMethod: reg.AuthMethod,
		IssuedAt: time.Unix(reg.IssuedAt, 0)}
	if c.AuthMethod == "" {
		c.AuthMethod = authNone
	} else {
		hash := store.HashOf(clientSecret(k, id))
		c.SecretHash = hash[:]
	}
	return c, nil
}
