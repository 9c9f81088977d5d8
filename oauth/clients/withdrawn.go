package clients

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strconv"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/oauth/store"
)

// What is stored of a client by metadata document serves while its host cannot be asked, also after a restart. So it
// has to follow what the host said last: a key may have been withdrawn because it was stolen. It follows at /token and
// /revoke, where keys are looked at, and only for a client that has signed somebody in; a sign-in that merely begins
// writes nothing.

// noKeys is stored in the place of keys that were withdrawn. No host can publish it: a key set without keys is refused.
var noKeys = []byte(`{"keys":[]}`)

// servesStored reports whether what is stored of a client may serve while its host cannot be asked.
func (reg *Registry) servesStored(c *store.Client) bool {
	return reg.documents.serves(c.IssuedAt) && reg.hasValidProof(c) && !bytes.Equal(c.Keys, noKeys)
}

// followDocument stores what the client's document and keys are by now, if they are others than those stored, and were
// fetched later.
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

// withdrawKeys stores that the client's keys are not there any more, beside its latest document.
func (reg *Registry) withdrawKeys(ctx context.Context, stored *store.Client, latest store.Client) {
	latest.Keys, latest.IssuedAt = noKeys, reg.now()
	reg.followDocument(ctx, stored, latest)
}

// hasValidProof reports whether what is stored of a client is as this server wrote it: without that, whoever can write to the
// database could have the codes of a client whose host is down sent to themselves, or bring back a key that it has
// withdrawn. An earlier release proved the document alone; that goes on to count.
func (reg *Registry) hasValidProof(c *store.Client) bool {
	return slices.ContainsFunc(reg.ring, func(k seal.Key) bool {
		return hmac.Equal(c.Proof, reg.documentProof(k, c)) || hmac.Equal(c.Proof, reg.earlierProof(k, c))
	})
}

// documentProof returns a MAC over a stored document, its keys, and when they were fetched.
func (reg *Registry) documentProof(k seal.Key, c *store.Client) []byte {
	h := hmac.New(sha256.New, k.Derive("client document and keys", reg.baseURL))
	fetched := strconv.FormatInt(c.IssuedAt.UnixMilli(), 10) // as exact as it is stored
	h.Write(seal.LengthPrefixed([]byte(c.ID), c.Document, c.Keys, []byte(fetched)))
	return h.Sum(nil)
}

// earlierProof returns the MAC over a stored document that an earlier release wrote.
func (reg *Registry) earlierProof(k seal.Key, c *store.Client) []byte {
	h := hmac.New(sha256.New, k.Derive("client document", reg.baseURL))
	h.Write(seal.LengthPrefixed([]byte(c.ID), c.Document))
	return h.Sum(nil)
}
