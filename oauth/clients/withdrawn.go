package clients

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"log/slog"
	"slices"
	"strconv"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// The stored data of a client with a metadata document is used while its host is unreachable, also after a restart. So
// it has to follow the host's last response: a key may have been withdrawn because it was stolen. It is updated at
// /token and /revoke, where keys are used, and only for a client that has signed a user in. A sign-in that merely
// begins writes nothing.

// noKeys replaces withdrawn keys in the store. No host can publish it, because a key set without keys is invalid.
var noKeys = []byte(`{"keys":[]}`)

// servesStored reports whether the stored data of a client may be used while its host is unreachable.
func (reg *Registry) servesStored(c *store.Client) bool {
	return reg.documents.serves(c.IssuedAt) && reg.hasValidProof(c) && !bytes.Equal(c.Keys, noKeys)
}

// followDocument stores the client's current document and keys if they differ from the stored ones and were fetched
// later.
func (reg *Registry) followDocument(ctx context.Context, stored *store.Client, latest store.Client) {
	same := bytes.Equal(latest.Document, stored.Document) && bytes.Equal(latest.Keys, stored.Keys)
	if same || !latest.IssuedAt.After(stored.IssuedAt) {
		return
	}
	latest.Proof = reg.documentProof(reg.ring.Newest(), &latest)
	// Another instance may have been faster. After any other failure the next assertion tries again.
	if err := reg.store.SaveDocument(ctx, latest); err != nil && !errors.Is(err, store.ErrConflict) {
		host := Publisher(&latest)
		reg.log.Failure(ctx, slog.LevelWarn, "client's document not stored", host, "host", host, "cause", err)
	}
}

// withdrawKeys stores that the client's keys were withdrawn, with its latest document.
func (reg *Registry) withdrawKeys(ctx context.Context, stored *store.Client, latest store.Client) {
	latest.Keys, latest.IssuedAt = noKeys, reg.now()
	reg.followDocument(ctx, stored, latest)
}

// hasValidProof reports whether this server wrote the stored data of a client. Without this check, an attacker who can
// write to the database could redirect the codes of a client whose host is down, or restore a key that it has
// withdrawn. The proof of an earlier release covers only the document; it is still accepted.
func (reg *Registry) hasValidProof(c *store.Client) bool {
	return slices.ContainsFunc(reg.ring, func(k seal.Key) bool {
		return hmac.Equal(c.Proof, reg.documentProof(k, c)) || hmac.Equal(c.Proof, reg.earlierProof(k, c))
	})
}

// documentProof returns a MAC over a stored document, its keys, and when they were fetched.
func (reg *Registry) documentProof(k seal.Key, c *store.Client) []byte {
	fetched := strconv.FormatInt(c.IssuedAt.UnixMilli(), 10) // with the precision of the store
	return k.MAC(seal.LengthPrefixed([]byte(c.ID), c.Document, c.Keys, []byte(fetched)),
		"client document and keys", reg.baseURL)
}

// earlierProof returns the MAC over a stored document that an earlier release wrote.
func (reg *Registry) earlierProof(k seal.Key, c *store.Client) []byte {
	return k.MAC(seal.LengthPrefixed([]byte(c.ID), c.Document), "client document", reg.baseURL)
}
