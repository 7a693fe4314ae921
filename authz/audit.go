package authz

import "time"

// AuditKind says what an AuditEvent tells of.
type AuditKind string

// The kinds of events.
const (
	AuditTokenIssued  AuditKind = "token.issued"
	AuditTokenRevoked AuditKind = "token.revoked"
	// AuditTokenRefused is of a request for a token that was refused. It changes
	// nothing, and is written soon after it, with others.
	AuditTokenRefused AuditKind = "token.refused"
	// AuditRevocationRefused and AuditEnrolmentRefused are of requests to revoke a token
	// and to enrol a DPoP key that were refused: likewise.
	AuditRevocationRefused AuditKind = "token.revocation_refused"
	AuditEnrolmentRefused  AuditKind = "dpop_key.enrolment_refused"
	AuditClientCreated     AuditKind = "client.created"
	AuditClientDisabled    AuditKind = "client.disabled"
	AuditClientEnabled     AuditKind = "client.enabled"
	AuditClientDeleted     AuditKind = "client.deleted"
	AuditSecretRotated     AuditKind = "client.secret_rotated"
	AuditResourceCreated   AuditKind = "resource.created"
	AuditResourceUpdated   AuditKind = "resource.updated"
	AuditResourceDeleted   AuditKind = "resource.deleted"
	AuditKeyCreated        AuditKind = "signing_key.created"
	AuditKeyRetired        AuditKind = "signing_key.retired"
	AuditKeyRevoked        AuditKind = "signing_key.revoked"
	AuditKeysResealed      AuditKind = "signing_key.resealed"
	AuditKeyDestroyed      AuditKind = "signing_key.destroyed" // in an HSM; written before it is

	AuditClientUpdated   AuditKind = "client.updated"
	AuditDPoPKeyEnrolled AuditKind = "dpop_key.enrolled"
	AuditDPoPKeyRemoved  AuditKind = "dpop_key.removed"
	AuditDPoPKeyRevoked  AuditKind = "dpop_key.revoked"
	AuditClientRevoked   AuditKind = "client.tokens_revoked"
	AuditResourceRevoked AuditKind = "resource.tokens_revoked"
	// AuditDPoPKeyRefused is of a key that the client may have no token for: one a
	// second at most for each, see sighting.
	AuditDPoPKeyRefused AuditKind = "dpop_key.refused"
	// AuditEndorsementRefused is of a key that vouched for another and has no say:
	// likewise.
	AuditEndorsementRefused AuditKind = "dpop_key.endorsement_refused"

	// An operator's word for a database that is a copy.
	AuditDatabaseMoved    AuditKind = "database.moved"
	AuditDatabaseRestored AuditKind = "database.restored"

	// How long the trail is kept.
	AuditRetentionChanged AuditKind = "audit.retention_changed"

	// Of many requests in one event, soon after them: see tally.
	AuditTokenIntrospected AuditKind = "token.introspected"
	AuditCallVerified      AuditKind = "call.verified"

	// AuditAuthenticationsLimited is of a client or an address: one a minute at most,
	// see limited.
	AuditAuthenticationsLimited AuditKind = "authentication.limited"

	// What a client does that is not like it, and that somebody has looked at it.
	AuditAlertRaised       AuditKind = "alert.raised"
	AuditAlertAcknowledged AuditKind = "alert.acknowledged"

	// The first of a period, for all of it: see sighting.
	AuditRetiredSecretUsed AuditKind = "credential.retired_used"
)

// AuditKinds are all of them.
func AuditKinds() []AuditKind {
	return []AuditKind{
		AuditTokenIssued, AuditTokenRevoked, AuditTokenRefused, AuditRevocationRefused, AuditEnrolmentRefused, AuditClientCreated, AuditClientDisabled,
		AuditClientEnabled, AuditClientDeleted, AuditSecretRotated, AuditResourceCreated, AuditResourceUpdated,
		AuditResourceDeleted, AuditKeyCreated, AuditKeyRetired, AuditKeyRevoked, AuditKeysResealed,
		AuditKeyDestroyed, AuditClientUpdated, AuditDPoPKeyEnrolled, AuditDPoPKeyRemoved, AuditDPoPKeyRevoked,
		AuditClientRevoked, AuditResourceRevoked, AuditDPoPKeyRefused, AuditEndorsementRefused, AuditDatabaseMoved,
		AuditDatabaseRestored, AuditRetentionChanged, AuditTokenIntrospected, AuditCallVerified,
		AuditAuthenticationsLimited, AuditAlertRaised, AuditAlertAcknowledged, AuditRetiredSecretUsed,
	}
}

// AuditEvent is a line of the audit trail: who did what to what, when, from
// where. It is written in the transaction of what it tells of. Nothing in it
// is secret: tokens appear by their jti, keys by their thumbprint.
type AuditEvent struct {
	ID         JTI
	At         time.Time
	Kind       AuditKind
	Actor      string // "client:" or "operator:" and a name, or "server"
	ClientID   string
	Resource   string
	JTI        JTI // zero: no token
	JKT        string
	RequestID  string
	RemoteAddr string
	Detail     map[string]any // what else a reader wants to know; nil: nothing
	// DetailJSON is a JSON object that counts instead of Detail where it is not empty: of
	// events of which there are many.
	DetailJSON string
}

// NewAuditEvent makes an event of the moment now.
func NewAuditEvent(now time.Time, kind AuditKind, actor string) AuditEvent {
	return AuditEvent{ID: NewJTI(now), At: now, Kind: kind, Actor: actor}
}

// ActorServer is the actor of what the server does by itself.
const ActorServer = "server"

func actorClient(id string) string { return "client:" + id }

// ActorOperator is the actor of what someone does at the command line.
func ActorOperator(name string) string { return "operator:" + name }
