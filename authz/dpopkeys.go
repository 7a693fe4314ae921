package authz

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

// DPoPKeyPolicy says which DPoP keys a client may have tokens for.
type DPoPKeyPolicy string

// The policies that this server knows.
const (
	AnyKey      DPoPKeyPolicy = "any"       // whichever it proves
	EnrolledKey DPoPKeyPolicy = "enrolled"  // those that are enrolled and in force
	FirstUseKey DPoPKeyPolicy = "first-use" // those and, where none ever was, the first that it proves
)

// DPoPKeyPolicies lists the policies that this server knows.
func DPoPKeyPolicies() []DPoPKeyPolicy { return []DPoPKeyPolicy{AnyKey, EnrolledKey, FirstUseKey} }

// Validate tells whether the policy is one that this server knows.
func (p DPoPKeyPolicy) Validate() error {
	if !slices.Contains(DPoPKeyPolicies(), p) {
		return fmt.Errorf("the policy on DPoP keys %q is not known; it may be one of %q", string(p), DPoPKeyPolicies())
	}
	return nil
}

// DPoPKey is a key that is enrolled for a client.
type DPoPKey struct {
	JKT        string
	EnrolledAt time.Time
	// EnrolledBy is "operator:" and a name, "first-use", or "jkt:" and the
	// thumbprint of the key that vouched for it.
	EnrolledBy string
	EndsAt     time.Time // zero: until it is removed
	Revoked    bool
}

// Endorsement is a new key that an enrolled one vouches for. Both have signed
// for it, and both signatures are verified.
type Endorsement struct {
	Caller
	JKT       string     // of the new key
	By        string     // thumbprint of the enrolled key
	ByEndsAt  time.Time  // of the enrolled key, where that is sooner than before; zero: unchanged
	Spent     []Spending // the new key's proof, and the endorsement itself
	Assertion *Spending  // what the client has authenticated by; nil: by something else
}

// ValidJKT tells whether s can be the thumbprint of a key: the base64url encoding
// of a SHA-256 (RFC 7638 §3), in its one canonical form.
func ValidJKT(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32 && base64.RawURLEncoding.EncodeToString(b) == s
}

// refusedKey is the cause of a refusal: the client has proven to be who it says,
// and to hold a key that it may have no token for. That may be a service whose key
// nobody has enrolled, or whose policy an operator has just changed, which the trail
// tells beside it; and it is what a thief of a secret looks like.
type refusedKey struct {
	clientID string
	jkt      string // empty: none was proven
}

func (e *refusedKey) Error() string {
	return fmt.Sprintf("client %s: it may have no token for the DPoP key %q", e.clientID, e.jkt)
}

func (e *refusedKey) Unwrap() error { return ErrKeyNotAdmitted }

// errKeyNotAdmitted is one answer for a key that is not enrolled, has ended or is
// revoked.
func errKeyNotAdmitted(clientID, jkt string) *oauthError {
	e := errUnauthorizedClient("This DPoP key is not enrolled for this client, or has ended or is revoked. Use a key that is enrolled, " +
		"have an enrolled key endorse this one, or ask an operator to enrol it.")
	e.cause = &refusedKey{clientID, jkt}
	return e
}

// noteRefusedKey tells operators that somebody has the client's secret, and not
// its key. The request waits for none of it.
func (s *Server) noteRefusedKey(ev *event, refused *refusedKey) {
	s.metrics.unenrolledKeys.WithLabelValues(s.metrics.client(refused.clientID)).Inc()
	s.tally.sight(sighting{kind: AuditDPoPKeyRefused, clientID: refused.clientID, what: refused.jkt}, func() AuditEvent {
		e := NewAuditEvent(s.now(), AuditDPoPKeyRefused, actorClient(refused.clientID))
		e.ClientID, e.JKT, e.RequestID, e.RemoteAddr = refused.clientID, refused.jkt, ev.requestID, ev.remote
		e.Detail = map[string]any{"endpoint": ev.endpoint, "credential": ev.credential}
		return e
	})
}

// refusedEndorsement is the cause of a refusal: the client has proven to be who it
// says, and a key vouches for another one that has no say, or none any more. A
// service may be late, or its keys not enrolled at all; and it is what a thief of a
// key that was taken back looks like.
type refusedEndorsement struct {
	clientID string
	by       string // thumbprint of the key that vouches
	jkt      string // of the new key
}

func (e *refusedEndorsement) Error() string {
	return fmt.Sprintf("client %s: the DPoP key %q cannot vouch for another: %v", e.clientID, e.by, ErrNotEndorsed)
}

func (e *refusedEndorsement) Unwrap() error { return ErrNotEndorsed }

// noteRefusedEndorsement tells operators that somebody uses a key that was taken
// back. The request waits for none of it.
func (s *Server) noteRefusedEndorsement(ev *event, refused *refusedEndorsement) {
	s.metrics.endorsements.WithLabelValues(s.metrics.client(refused.clientID)).Inc()
	s.tally.sight(sighting{kind: AuditEndorsementRefused, clientID: refused.clientID, what: refused.by}, func() AuditEvent {
		e := NewAuditEvent(s.now(), AuditEndorsementRefused, actorClient(refused.clientID))
		e.ClientID, e.JKT, e.RequestID, e.RemoteAddr = refused.clientID, refused.by, ev.requestID, ev.remote
		e.Detail = map[string]any{"for": refused.jkt, "credential": ev.credential}
		return e
	})
}
