package clients

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"example.com/mcp-federated-login/oauth/origin"
	"example.com/mcp-federated-login/oauth/store"
)

// The operator can block a client, or every client that redirects to a host. Each step of a sign-in and /token check
// for blocks. The gate does not: blocking also ends the grants, and no new ones follow. The client never gets
// invalid_client, because it would register again under another client_id. A page tells the user.

// ErrBlocked is returned if the client of an authorization request is blocked. The user is not redirected to it.
var ErrBlocked = &Error{Code: "access_denied", Status: http.StatusForbidden,
	Description: "The operator of this server has blocked the client."}

// checkBlocked returns [ErrBlocked] if the client is blocked.
func (reg *Registry) checkBlocked(ctx context.Context, client *store.Client) error {
	blocks, err := reg.blocks(ctx)
	if err != nil {
		return err
	}
	if BlockedBy(client, blocks) {
		return ErrBlocked
	}
	return nil
}

func (reg *Registry) blocks(ctx context.Context) ([]string, error) {
	blocks, err := reg.store.Blocks(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking up blocks: %w", err)
	}
	return blocks, nil
}

// ShortID returns a short name for the client. Unlike its client_id, people can copy it.
func ShortID(c *store.Client) store.ID {
	hash := store.HashOf(c.ID)
	return store.ID(hash[:len(store.ID{})])
}

// Hosts returns the hosts by which the client can be blocked: of its metadata document and of its redirect URIs.
func Hosts(c *store.Client) []string {
	addresses := c.RedirectURIs
	if namesDocument(c.ID) {
		addresses = append([]string{c.ID}, addresses...)
	}
	var hosts []string
	for _, raw := range addresses {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			hosts = append(hosts, origin.HostName(u.Hostname()))
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// BlockedBy reports whether one of these blocks, spelled as by [BlockName], matches the client: its short ID; the
// client_id that an operator gave it; or one of its hosts, or a parent domain.
func BlockedBy(c *store.Client, blocks []string) bool {
	if slices.Contains(blocks, ShortID(c).String()) || slices.Contains(blocks, origin.HostName(c.ID)) {
		return true
	}
	for _, host := range Hosts(c) {
		for ; host != ""; _, host, _ = strings.Cut(host, ".") {
			if slices.Contains(blocks, host) {
				return true
			}
		}
	}
	return false
}

// BlockName returns the spelling of a block that an operator requests by short ID, client_id or host.
func BlockName(s string) (string, error) {
	_, notAddress := DocumentsLoopback.parseDocumentURL(s)
	if c := (&store.Client{ID: s}); SelfRegistered(c) || notAddress == nil {
		return ShortID(c).String(), nil
	}
	s = origin.HostName(s)
	if id, err := hex.DecodeString(s); err == nil && len(id) == len(store.ID{}) {
		return s, nil
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s, nil
	}
	if !origin.IsName(s) {
		return "", errors.New("neither a client nor a host: name a client by its ID or client_id, or a host without " +
			"scheme, port and path, for example client.example.com")
	}
	return s, nil
}
