// Package store defines the data that the authorization server keeps: the [Store] interface and its rows. Package
// sqlstore implements it.
package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"example.com/mcp-federated-login/upstream"
)

// Store keeps users, clients, grants, tokens and sealed upstream credentials. Package sqlstore is the implementation.
//
// Every method is one statement or one transaction. Methods that find nothing return [ErrNotFound]. Any other error
// that the method does not name is a failure of the store, never of the caller: it becomes a 503, and nothing has been
// written. A Store is safe for concurrent use by any number of processes.
type Store interface {
	// Client returns the client with this [HashOf] its client_id, if it ever had a grant.
	Client(ctx context.Context, id Hash) (Client, error)

	// SaveDocument stores the current metadata document of a client, with its keys. [ErrConflict] is returned if there
	// is no row of a client with a document, because nothing is written for strangers, or if the stored version is not
	// older.
	SaveDocument(ctx context.Context, c Client) error

	// FlowUsed reports whether a sign-in with this hash of its flow id has already been stored.
	FlowUsed(ctx context.Context, flow Hash) (bool, error)

	// SignIn stores the result of a completed sign-in, in one transaction that locks the user's row first: the user and
	// the client (inserted or updated), a grant, its code, and the upstream credential for (user, upstream scopes). The
	// credential is written through seal, with its next version, to every live grant bound to it, including the new
	// one; its lease is cleared. [ErrConflict] is returned if the flow has been used before.
	SignIn(ctx context.Context, s SignIn, seal SealFunc) error

	// Code returns an authorization code with its grant, redeemed or not, expired or not.
	Code(ctx context.Context, code Hash) (Code, error)

	// RedeemCode marks the code redeemed at that time, erases its wrap, stores the grant's first pair of tokens and
	// sets the grant's counter to 1. If several callers try, one succeeds; the others get [ErrConflict].
	//
	// In the same transaction it ends other redeemed grants of the same user, and returns their ids: those of the same
	// client, if this one replaces them; and the least recently used ones beyond [MaxGrants].
	RedeemCode(ctx context.Context, code Hash, at time.Time, pair Pair, replaces bool) (ended []ID, err error)

	// Token returns an access or refresh token with its grant, spent or not, expired or not.
	Token(ctx context.Context, token Hash) (Token, error)

	// Rotate spends the refresh token of pair n: if the grant's counter is still n it becomes n+1, the token is stamped
	// as spent at that time, that of pair n-1 as retired, and the new pair is stored. Otherwise nothing changes and it
	// returns [ErrConflict].
	Rotate(ctx context.Context, refresh Hash, n int64, at time.Time, pair Pair) error

	// Reissue adds an access token to pair n and increments [Grant.Reissued], if the grant's counter is still n and
	// Reissued what the caller saw. Otherwise nothing changes and it returns [ErrConflict].
	Reissue(ctx context.Context, grant ID, n, reissued int64, at time.Time, access Token) error

	// UserGrants returns a user's grants that are live at that time, redeemed or not, the newest first.
	UserGrants(ctx context.Context, user Hash, at time.Time) ([]Grant, error)

	// EndGrant removes a grant with its code and tokens, and its credential if no other grant is bound to it. Ending a
	// grant that does not exist is not an error.
	EndGrant(ctx context.Context, grant ID) error

	// EndGrants removes all grants and credentials of a user, in one transaction that locks the user's row first.
	EndGrants(ctx context.Context, user Hash) error

	// EndToken removes one access token. Removing one that does not exist is not an error.
	EndToken(ctx context.Context, token Hash) error

	// Credential returns the upstream credential that the grant is bound to, with the grant's own sealed key.
	Credential(ctx context.Context, grant ID) (Credential, error)

	// Lease gives owner the sole right to renew this version of a credential until the given time. [ErrConflict] is
	// returned if another owner has the lease, or if the version is no longer the credential's.
	Lease(ctx context.Context, credential ID, version int64, owner string, at, until time.Time) error

	// Unlease ends the lease early. Not having it is not an error.
	Unlease(ctx context.Context, credential ID, owner string) error

	// SaveCredential writes the next version of a credential through seal, to every live grant bound to it, in one
	// transaction that locks the user's row first. [ErrConflict] is returned unless the version is still the
	// credential's. It clears a lease but does not need one: a renewed token must not be lost because a lease expired.
	SaveCredential(ctx context.Context, credential ID, version int64, at time.Time, seal SealFunc) error

	// JudgeCredential stores the provider's verdict on this version of a credential: dead, or, with a zero time, alive.
	// Either clears a suspicion. [ErrConflict] is returned if the version is no longer the credential's.
	JudgeCredential(ctx context.Context, credential ID, version int64, deadAt time.Time) error

	// MarkAsked records that the provider is asked at that time whether it accepts this version of a credential.
	// [ErrConflict] is returned if a time after before is recorded, or if the version is no longer the credential's.
	MarkAsked(ctx context.Context, credential ID, version int64, at, before time.Time) error

	// SuspectCredentials records for all upstream credentials of a user that, since that time, the provider must be
	// asked before they are used. A user who does not exist has none.
	SuspectCredentials(ctx context.Context, user Hash, at time.Time) error

	// Blocks returns the operator's blocks; see [Client.BlockedBy].
	Blocks(ctx context.Context) ([]string, error)

	// KeysInUse returns the names of the ring keys that rows still live at that time need.
	KeysInUse(ctx context.Context, at time.Time) ([]string, error)

	// Purge removes rows that no request can need any more, and returns how many rows it changed: expired grants,
	// access tokens, codes and assertions; refresh tokens that retired long ago; credentials without a grant; and, if
	// not seen for long, clients without a grant, and users without one who are not pinned. It also erases the wraps of
	// retired tokens.
	Purge(ctx context.Context, p PurgeLimits) (int, error)

	// User returns a user as last described by the provider.
	User(ctx context.Context, id Hash) (User, error)

	// PinTaken reports whether an account at the issuer is pinned to the login: see [upstream.Identity.Pinned].
	PinTaken(ctx context.Context, issuer, login string) (bool, error)

	// SaveUser stores the provider's current data on a user, unless the row was changed since factsAt.
	SaveUser(ctx context.Context, u User, factsAt time.Time) error

	// UseAssertion records, until it expires, that a client's assertion was used. [ErrConflict] is returned if it was
	// used before.
	UseAssertion(ctx context.Context, assertion Hash, expiresAt time.Time) error
}

var (
	// ErrNotFound is returned by a [Store] if it has no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned by a [Store] if the row was changed concurrently. Nothing has been written.
	ErrConflict = errors.New("somebody else was first")
)

// MaxGrants is the maximum number of live grants of a user. One more ends the least recently used one.
const MaxGrants = 50

// A Hash represents secret or long data in the store: it is the SHA-256 of a token, a code, a flow id, a client_id or
// an assertion, or of a user's identity.
type Hash [sha256.Size]byte

// HashOf returns the SHA-256 of s.
func HashOf(s string) Hash { return sha256.Sum256([]byte(s)) }

// An ID identifies a grant or a credential. It is random and not secret.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes logs show the same text as String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// A User is a user who has signed in, as their provider last described them.
type User struct {
	ID Hash // Identity.UserID
	upstream.Identity
	FactsAt          time.Time // when the provider last described them
	UnreachableSince time.Time // first failed lookup after FactsAt; zero if none failed
}

// A Client is an MCP client as it registered, as its metadata document describes it, or as the operator registered it.
// Each use checks whether its values are allowed.
type Client struct {
	ID           string
	Name         string // unverified unless the operator registered it: a client can choose any name
	RedirectURIs []string
	AuthMethod   string    // of token_endpoint_auth_method: none, client_secret_basic, client_secret_post, private_key_jwt
	SecretHash   []byte    // SHA-256 of the client_secret; empty if it has none
	IssuedAt     time.Time // of a client with a metadata document: when the stored data was fetched

	// Of a client with a metadata document, and read only by [Store.Client]:
	Document []byte // as last fetched
	Keys     []byte // JSON Web Key Set to verify its assertions; empty if it has none
	Proof    []byte // proves that this server wrote the document and the keys

	KeysURI string // URL of the newest keys; part of the document, not stored separately
}

// A Grant is the access that one user allowed one client.
type Grant struct {
	ID         ID
	User       User
	Client     Client
	Credential ID
	Scopes     []string
	Audience   string
	PublicKey  []byte // X25519; the private half exists only wrapped, see seal.go
	Counter    int64  // number of the newest token pair; 0 until the code is redeemed
	Reissued   int64  // number of further access tokens issued with that pair
	CreatedAt  time.Time
	LastUsedAt time.Time // of the code's redemption or the newest refresh
	DeadAt     time.Time // when the provider rejected its credential; zero if it did not
}

// A SignIn is the data that the callback stores.
type SignIn struct {
	Flow           Hash
	Grant          Grant                    // Credential is ignored: the store finds or makes it
	Code           Code                     // Grant and Wrap are ignored
	WrapCode       func(credential ID) Wrap // returns the code's Wrap, which authenticates the credential
	UpstreamScopes []string
	At             time.Time
}

// A SealFunc seals an upstream token, under a new content key, to the given grants. It is called inside a transaction
// and must not block. See [Store.SignIn].
type SealFunc func(credential ID, version int64, to []Recipient) (Sealed, error)

// A Recipient is a live grant that is bound to a credential.
type Recipient struct {
	Grant     ID
	PublicKey []byte
}

// Sealed is a credential's new content: the ciphertext, the ring key that it needs, and the content key sealed to each
// recipient, in their order. The key is empty for a recipient that is not vouched for.
type Sealed struct {
	RingKey    string
	Ciphertext []byte
	Keys       [][]byte
}

// A Credential is a sealed upstream token as one grant sees it.
type Credential struct {
	ID         ID
	Version    int64
	DeadAt     time.Time // when the provider rejected it; zero if it did not
	SuspectAt  time.Time // since when the provider must be asked before use; zero if it need not be
	AskedAt    time.Time // when the provider issued this version, or was last asked about it
	RingKey    string
	Ciphertext []byte
	Key        []byte // the content key, sealed to the grant
}

// A Wrap is a secret encrypted under a key that needs both a live token and a ring key. See seal.go.
type Wrap struct {
	RingKey string // empty once the wrap has been erased
	Bytes   []byte
}

// A Code is an authorization code. It wraps the grant's seed.
type Code struct {
	Hash        Hash
	Grant       Grant
	Challenge   string // PKCE S256 (RFC 7636 section 4.2)
	RedirectURI string // as sent to /authorize
	Wrap        Wrap
	ExpiresAt   time.Time
	RedeemedAt  time.Time // zero if not yet
}

// TokenKind is the kind of a token.
type TokenKind string

const (
	Access  TokenKind = "access"
	Refresh TokenKind = "refresh"
)

// A Token is an access token, which wraps its grant's private key, or a refresh token, which wraps its grant's seed.
type Token struct {
	Hash      Hash
	Kind      TokenKind
	Grant     Grant
	N         int64 // the pair it belongs to
	Wrap      Wrap
	ExpiresAt time.Time
	SpentAt   time.Time // of a refresh token: when it was first presented; zero if not yet
	RetiredAt time.Time // of a refresh token: when its successor was first presented; zero if not yet
}

// A Pair is the access and the refresh token that are issued together. Their Grant is ignored.
type Pair struct {
	Access, Refresh Token
}

// PurgeLimits limits what [Store.Purge] may remove.
type PurgeLimits struct {
	At            time.Time // rows that have expired by then
	RetiredBefore time.Time // refresh tokens
	EraseBefore   time.Time // the wraps of refresh tokens that retired before
	SeenBefore    time.Time // users and clients without a grant
	Limit         int       // rows of each kind
}

func NewID() (id ID) {
	rand.Read(id[:])
	return id
}
