package authz

import (
	"context"
	"errors"
	"time"

	"github.com/cargokey/authz/jwks"
)

// Errors of a Store that callers branch on. Any other error means that the
// Store could not do, or could not tell whether it has done, what was asked:
// the caller refuses.
var (
	// ErrNotFound: no such client, resource or token.
	ErrNotFound = errors.New("not found")
	// ErrExists: a client or resource of this name is registered already.
	ErrExists = errors.New("is registered already")
	// ErrURLTaken: a base URL is another resource's.
	ErrURLTaken = errors.New("a base URL is another resource's already")
	// ErrNameTaken: a certificate's name is another client's.
	ErrNameTaken = errors.New("the certificate's name is another client's already")
	// ErrChanged: what is to be updated was changed since it was read.
	ErrChanged = errors.New("was changed by someone else meanwhile; look at it and try again")
	// ErrInUse: a scope or a resource is granted to, or introspected by, a client.
	ErrInUse = errors.New("is still granted to, or introspected by, a client")
	// ErrNotDefined: a grant names a resource or a scope that is not registered.
	ErrNotDefined = errors.New("names a resource or a scope that is not registered")
	// ErrProofSpent: the proof was accepted before.
	ErrProofSpent = errors.New("the proof was spent before")
	// ErrKeyNotAdmitted: the DPoP key is revoked, or is not one that the client
	// may have tokens for; or there is none, and the client needs one.
	ErrKeyNotAdmitted = errors.New("the client may have no token for this DPoP key")
	// ErrKeyRevoked: the DPoP key is revoked, for every client and for good.
	ErrKeyRevoked = errors.New("the DPoP key is revoked, for good")
	// ErrNotEndorsed: the key that vouches for another one is not enrolled and in
	// force, or the client's keys are not enrolled at all.
	ErrNotEndorsed = errors.New("the endorsing key is not enrolled for the client and in force")
	// ErrTooManyKeys: the client has maxDPoPKeys already, ended ones included.
	ErrTooManyKeys = errors.New("the client has too many DPoP keys")
	// ErrOnlySigner: no other signing key could take over.
	ErrOnlySigner = errors.New("is the only signing key of its algorithm: no other takes over")
	// ErrSigningKeyRevoked: the key that signed the token was revoked meanwhile.
	ErrSigningKeyRevoked = errors.New("the signing key was revoked")
	// ErrClientChanged: the client, or the resource that it asks a token for, is not
	// there, or not what it was when it was read. Nothing was done, and nothing spent:
	// whoever reads it anew may ask again.
	ErrClientChanged = errors.New("the client or the resource was changed, disabled or deleted since it was read")
	// ErrNotPrepared: the database answers, and tokens cannot be recorded in it.
	ErrNotPrepared = errors.New("the database's schema is not one that this build knows, or it is read-only, or lacks a partition for now, or room on its disk")
	// ErrNoSecrets: the client is known by its certificate or by its keys.
	ErrNoSecrets = errors.New("is known by its certificate or by keys of its own, and has no secrets")
	// ErrNoKeys: the client authenticates by something else.
	ErrNoKeys = errors.New("authenticates by other means than keys of its own")
	// ErrAssertionSpent: the client assertion was used before.
	ErrAssertionSpent = errors.New("the client assertion was used before")
	// ErrCopied: the database is a copy of the one that was served, and nobody has
	// said what became of what is not in it.
	ErrCopied = errors.New("the database is a copy, restored or moved, of the one that was served: say which it is by authz database restored or authz database moved")
	// ErrNotOwner: the token is another client's.
	ErrNotOwner = errors.New("the token is another client's")
)

// Token is an issued token as the Store knows it. The token itself is not
// stored, only its digest.
type Token struct {
	JTI      JTI
	Digest   Digest
	ClientID string
	Resource string
	Scope    string // space-separated
	JKT      string // empty: bound to no DPoP key
	X5T      string // of the certificate that it is bound to (RFC 8705 §3.1); empty: to none
	// KID is the signing key's; empty: an opaque token.
	KID string
	// Credential names what the client authenticated by, as Client's secrets are
	// named.
	Credential string
	IssuedAt   time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero: not revoked
	// Ended: not revoked itself, and inactive since its client or its resource is
	// disabled or deleted, or was disabled or deleted or had its tokens revoked
	// since, or since a key of its own is revoked. Store.Tokens tells.
	Ended bool
}

// Spending names a proof, or a client assertion, so that it can be accepted only
// once.
type Spending struct {
	Digest   Digest        // of (jkt, htu, jti), or of (client_id, jti)
	IssuedAt time.Time     // the proof's iat, or the assertion's exp: each has one
	Window   time.Duration // how far from iat at least, either way, an equal name is the same proof
	// SignedAt is when it was signed, at the latest that is sure; zero: IssuedAt.
	SignedAt time.Time
}

// DatabaseState is what the Store knows of where it keeps things.
type DatabaseState struct {
	// SameTimeline: Postgres has not been promoted or recovered since the database
	// was claimed. Where it was, what was not replicated by then is lost.
	SameTimeline bool
	// Fence is the moment up to which nothing that was signed is accepted; zero:
	// there is none.
	Fence time.Time
}

// GatewayTable is what a gateway check goes by, all of one moment.
type GatewayTable struct {
	// Revision is another one after each change of a resource, or of a client
	// that is or was a gateway.
	Revision  int64
	Resources []FrontedResource
	Gateways  []Gateway
}

// FrontedResource is a Resource and the number of its registration, which the
// tokens for it carry.
type FrontedResource struct {
	*Resource
	Generation int64
}

// Gateway is a client that fronts resources.
type Gateway struct {
	ID       string
	Disabled bool
	Secrets  []EndingDigest
	TLSName  CertificateName
	Fronts   []string // URIs of resources
}

// EndingDigest is the digest of a secret and when it ends; the zero time is
// never. One that has Ended is over by everyone's clock.
type EndingDigest struct {
	Digest Digest
	EndsAt time.Time
	Ended  bool
}

// Call is a call of an API that its gateway asks about. All that needs no Store
// has been checked, by a GatewayTable.
type Call struct {
	Revision int64 // of that table
	// AnyRevision: the table was read after the call came, and holds for it even
	// where it has changed since.
	AnyRevision bool
	Resource    string
	Generation  int64 // of the resource
	Token       Digest
	Scopes      []string // those that the call needs
	JKT         string   // of the proof's key, whose signature was verified
	Proof       *Spending
	NonceFresh  bool   // the proof carries a nonce in force
	X5T         string // of the certificate that the call came with, by the gateway's word; empty: none
}

// Verdict is what the Store knows of a Call, all of one moment.
type Verdict struct {
	Revision    int64  // of the GatewayTable at that moment
	Token       *Token // nil: unknown, expired, revoked, ended, or for another resource
	ClientNonce bool   // the token's client is one whose proofs need a nonce
	// Certified: the token is bound to no certificate, or to the call's.
	Certified bool
	Spent     bool // this call, and none before, has spent the proof
}

// KeyRevocation is the revocation of a signing key, and its event.
type KeyRevocation struct {
	KID   string
	Event AuditEvent
}

// Issue is a token to record.
type Issue struct {
	Token Token
	Proof *Spending // nil: the token is bound to no DPoP key
	// Assertion is what the client has authenticated by (RFC 7523 §2.2); nil: by
	// something else.
	Assertion *Spending
	// Revision is the client's, and ResourceRevision that of the resource's terms, as
	// they were when the token was made: see Caller.
	Revision         int64
	ResourceRevision int64
	Event            AuditEvent
}

// Store keeps registrations, tokens, spent proofs, signing keys and the audit
// trail. What a method reports as done is durable and seen by every instance
// from then on; what it writes, it writes together with its AuditEvent or not
// at all. Times are the callers'.
type Store interface {
	// Ready returns nil when tokens can be recorded at the moment now: the
	// database answers, its schema is one that this build knows, there is a
	// partition for now, and the last that was to be written found room. Where it
	// answers and they cannot, it fails with ErrNotPrepared or ErrCopied.
	Ready(ctx context.Context, now time.Time) error
	// Database tells which database this is. It fails with ErrCopied, as every
	// method then does by which the server serves. What was signed up to the Fence
	// counts as spent, for every method that spends.
	Database(ctx context.Context) (DatabaseState, error)
	// Maintain makes partitions around now and drops those that are of no more
	// use. Instances may call it at the same time.
	Maintain(ctx context.Context, now time.Time) error
	// Partitions tells which there are, of each family.
	Partitions(ctx context.Context) ([]PartitionFamily, error)

	// Client returns a client with its grants and the secrets in force at now,
	// or ErrNotFound. A disabled client is found.
	Client(ctx context.Context, id string, now time.Time) (*Client, error)
	// Claimant is Client for who has yet to prove to be it: where secret is not
	// the digest of a secret in force, what the client may do is not read, so
	// that an unknown client and a wrong secret cost the same. Where it is the
	// digest of one that has ended, and is still kept, SecretEndedAt says so, at no
	// further cost.
	Claimant(ctx context.Context, id string, secret Digest, now time.Time) (*Client, error)
	Clients(ctx context.Context, now time.Time) ([]*Client, error)
	// CreateClient fails with ErrExists, ErrNameTaken or ErrNotDefined, and sets
	// c.Generation and c.AuthRevision. Tokens of an earlier client of the same ID stay
	// inactive.
	CreateClient(ctx context.Context, c *Client, event AuditEvent) error
	// SetClientDisabled fails with ErrNotFound. Enabling a client does not
	// bring back the tokens from before.
	SetClientDisabled(ctx context.Context, id string, disabled bool, event AuditEvent) error
	// DeleteClient fails with ErrNotFound. The client's tokens are inactive
	// from then on.
	DeleteClient(ctx context.Context, id string, event AuditEvent) error

	// RotateSecret gives a client one more secret, in force from then on, and ends
	// all others at othersEnd, which puts off the end of none. The zero time ends
	// them at once, on every instance, whatever its clock. Secrets that ended
	// SecretsKept before the event are forgotten. It fails with ErrNotFound,
	// ErrNoSecrets, and ErrExists for a secret that the client has or has had.
	RotateSecret(ctx context.Context, id string, secret Digest, othersEnd time.Time, event AuditEvent) error
	// SetClientKeys replaces the public keys of a client: the set and the names of
	// its keys, or the URL where they are. It fails with ErrNotFound and ErrNoKeys.
	SetClientKeys(ctx context.Context, id string, jwks []byte, names []string, uri string, event AuditEvent) error
	// SetClientCertificate changes the name that a client by TLSClientAuth is known
	// by in its certificate, and whether tokens are bound to its certificate; for a
	// client by another method the latter alone. From then on the name before is
	// nobody's, and the client has another AuthRevision. It fails with ErrNotFound,
	// with ErrChanged where the client has not the terms from any more, and with
	// ErrNameTaken.
	SetClientCertificate(ctx context.Context, id string, from, to CertificateTerms, event AuditEvent) error
	// ClientSecrets lists a client's secrets, the latest first, with those that
	// have ended and are still kept, or fails with ErrNotFound.
	ClientSecrets(ctx context.Context, id string) ([]ClientSecret, error)

	// Resource returns ErrNotFound for one that is not registered.
	Resource(ctx context.Context, uri string) (*Resource, error)
	Resources(ctx context.Context) ([]*Resource, error)
	// CreateResource fails with ErrExists or ErrURLTaken. It and UpdateResource
	// set r.Revision.
	CreateResource(ctx context.Context, r *Resource, event AuditEvent) error
	// UpdateResource replaces all but URI and CreatedAt, of the Revision that was
	// read. It fails with ErrNotFound, ErrChanged and ErrURLTaken, and with
	// ErrInUse where it would remove a granted scope.
	UpdateResource(ctx context.Context, r *Resource, event AuditEvent) error
	// DeleteResource fails with ErrNotFound or ErrInUse.
	DeleteResource(ctx context.Context, uri string, event AuditEvent) error

	// RecordToken spends the proof and the assertion and records the token in one
	// step: of any number of calls with the same proof or assertion, on any number
	// of instances, one succeeds and all others fail with ErrProofSpent or
	// ErrAssertionSpent, and spend nothing. It fails with
	// ErrClientChanged where the client is not what it was when it authenticated (see
	// Caller), with ErrKeyNotAdmitted where
	// it may have no token for this DPoP key (or none without one), and with
	// ErrSigningKeyRevoked. Where the client's keys are by first use, the first one
	// is enrolled in the same step, with an event of its own: of several at once,
	// on any number of instances, exactly one.
	RecordToken(ctx context.Context, issue Issue) error
	// SpendAssertion is for a request that records nothing: of any number of calls
	// with the same assertion one succeeds, and all others fail with
	// ErrAssertionSpent. That the client is still there, what is asked for tells.
	SpendAssertion(ctx context.Context, assertion Spending) error
	// ActiveToken returns the token of this digest if it is active at now and gateway
	// may introspect its resource. It fails with ErrClientChanged where the gateway is
	// not what it was, and with ErrNotFound in every other case.
	ActiveToken(ctx context.Context, digest Digest, gateway Caller, now time.Time) (*Token, error)
	// GatewayTable reads what gateway checks go by.
	GatewayTable(ctx context.Context) (*GatewayTable, error)
	// GatewayRevision is the Revision that GatewayTable would have.
	GatewayRevision(ctx context.Context) (int64, error)
	// AdmitCall tells what is known of a call, and spends its proof if, and only
	// if, the revision is the table's own or any will do, and the token is active, for the
	// resource, bound to the proof's key and has the scopes, and the nonce is
	// there if its client needs one. Of any number of calls with the same proof,
	// on any number of instances, one gets Spent. It takes one round trip.
	AdmitCall(ctx context.Context, call Call, now time.Time) (Verdict, error)
	// RevokeToken makes the token of this digest inactive. It fails with
	// ErrNotFound for a token that is unknown or so long expired that it is
	// active by no instance's clock, and with ErrNotOwner for one that was issued
	// to another client than owner, and with ErrClientChanged where owner is not what it
	// was. The zero Caller stands for the operator. A revoked token stays as it is.
	RevokeToken(ctx context.Context, digest Digest, owner Caller, event AuditEvent) (*Token, error)
	// RevokeTokenByJTI is RevokeToken for an operator who knows the name only.
	RevokeTokenByJTI(ctx context.Context, jti JTI, event AuditEvent) (*Token, error)
	// Tokens lists a client's tokens that have not expired at now, the latest
	// first, up to limit.
	Tokens(ctx context.Context, clientID string, now time.Time, limit int) ([]*Token, error)

	// SetDPoPKeyPolicy fails with ErrNotFound. Tokens that there are stay as they
	// are; the policy is for those to come.
	SetDPoPKeyPolicy(ctx context.Context, clientID string, policy DPoPKeyPolicy, event AuditEvent) error
	// DPoPKeys lists what is or was enrolled for a client, the latest first; of
	// keys that ended, those of the last 90 days at least.
	DPoPKeys(ctx context.Context, clientID string) ([]DPoPKey, error)
	// EnrolKey enrols a key, or enrols it anew, with another end. It fails with
	// ErrNotFound, ErrKeyRevoked or ErrTooManyKeys.
	EnrolKey(ctx context.Context, clientID string, key DPoPKey, event AuditEvent) error
	// RemoveKey ends a key at the moment of the event, so that the client gets no
	// more tokens for it; those that it has live on. It stays known as one that
	// has ended, so that no other key becomes the client's first. It fails with
	// ErrNotFound where no such key is in force.
	RemoveKey(ctx context.Context, clientID, jkt string, event AuditEvent) error
	// EndorseKey enrols a key that an enrolled one vouches for, and spends both
	// proofs of it: of any number of equal calls one succeeds, and the others fail
	// with ErrProofSpent. It fails with ErrClientChanged where the client is not what it
	// was (see Caller), with ErrNotEndorsed, and with ErrKeyNotAdmitted where the new key is
	// revoked or has been ended; then it writes nothing. It fails as well, as
	// RecordToken does that enrols a first key, where the event is two hours off the
	// Store's own clock.
	EndorseKey(ctx context.Context, e Endorsement, event AuditEvent) error

	// RevokeClientTokens makes all tokens of a client inactive, and leaves it
	// enabled. It fails with ErrNotFound. Like the two after it, it is one small
	// write, whatever the number of tokens.
	RevokeClientTokens(ctx context.Context, clientID string, event AuditEvent) error
	// RevokeResourceTokens makes all tokens for a resource inactive. It fails with
	// ErrNotFound.
	RevokeResourceTokens(ctx context.Context, uri string, event AuditEvent) error
	// RevokeDPoPKey makes all tokens that are bound to a key inactive, and admits
	// none for it any more, whoever's they are: for good.
	RevokeDPoPKey(ctx context.Context, jkt string, event AuditEvent) error

	// SigningKeys returns every key of the server, sealed, those that have ended
	// too, in the order that they sign in.
	SigningKeys(ctx context.Context) ([]jwks.SealedKey, error)
	// AddFirstSigningKey stores a key if there is none of its algorithm that nobody
	// has ended; if it was made now, within two hours, by the Store's own clock; and
	// if it signs within an hour of that. Of several calls, on any number of
	// instances, one stores its key; none fails for that.
	AddFirstSigningKey(ctx context.Context, key jwks.SealedKey, event AuditEvent) error
	// AddNextSigningKey stores a key if the one named after is the newest of its
	// algorithm that nobody has ended, and signs already; if the key signs a day
	// after that one at least, and 3 to 720 hours after it was made; and if, by the
	// Store's own clock, it was made now, within two hours, and signs in 90 minutes
	// or later. It tells whether it did: of several calls, on any number of
	// instances, one does.
	AddNextSigningKey(ctx context.Context, key jwks.SealedKey, after string, event AuditEvent) (bool, error)
	// AddSigningKey stores an operator's key, and revokes others, in one step. It
	// fails with ErrChanged where the newest key of its algorithm that nobody has
	// ended is not the one named after (empty: there is none), and with ErrNotFound
	// where a key to revoke is not there.
	AddSigningKey(ctx context.Context, key jwks.SealedKey, after string, event AuditEvent, revoked ...KeyRevocation) error
	// SigningKeyRecorded tells whether a key is stored, once all that was under way
	// to store keys has ended: where it says no, the key will not be there.
	SigningKeyRecorded(ctx context.Context, kid string) (bool, error)
	// RetireSigningKey has a key sign no more. It fails with ErrNotFound, and with
	// ErrOnlySigner where no other key of its algorithm signs or is to sign after
	// it; unless it may be the last one, and no resource has chosen the algorithm.
	RetireSigningKey(ctx context.Context, kid string, last bool, event AuditEvent) error
	// RevokeSigningKey makes all that a key has signed inactive, and any token that
	// it signs unrecordable. It fails with ErrNotFound. A revoked key stays as it is.
	RevokeSigningKey(ctx context.Context, kid string, event AuditEvent) error
	// ResealSigningKeys replaces the sealed part of keys, of all or of none. It
	// fails with ErrNotFound.
	ResealSigningKeys(ctx context.Context, keys []jwks.SealedKey, event AuditEvent) error

	// RecordEvents writes events of what changed nothing that the Store keeps:
	// all of them or none. Events that are recorded again, since nobody knew
	// whether they were, are there twice, under the same IDs.
	RecordEvents(ctx context.Context, events []AuditEvent) error
}
