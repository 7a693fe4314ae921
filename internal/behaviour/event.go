package behaviour

import (
	"net/netip"
	"time"
)

// Kind says what an Event tells of.
type Kind int

// The kinds of events. All others of the trail are of no concern here.
const (
	TokenIssued   Kind = iota + 1 // to ClientID, which has authenticated
	TokenRefused                  // see Reason
	SecretRetired                 // somebody came with a secret of the client that has ended
	KeyRefused                    // somebody with the client's credentials came with a DPoP key that is not enrolled
	KeyEnrolled                   // by an operator, or by a key that was: JKT is expected from now on
	// ClientChanged: an operator created it, or changed its grants or policy: a new scope or
	// key may be a part of that. A secret that is rotated is not meant, nor that it is
	// disabled and enabled: what is new is told then as ever.
	ClientChanged
	ClientDeleted // and with it all that is known of it
)

// Event is what the analysis needs to know of an event of the audit trail.
type Event struct {
	Kind      Kind
	At        time.Time
	ID        string // of the event in the trail
	RequestID string
	ClientID  string // a registered client; "": it is not known whose, and only counted
	// Authenticated: whoever it was had the client's credentials.
	Authenticated bool
	// Times is how many alike this one stands for; 0 is one.
	Times int64

	JKT        string
	Network    netip.Prefix // where from: /24 or /48; not valid: not known
	UserAgent  string       // the product, with its version where it names one ("/1.2"); "": none
	Credential string       // which secret or key it has authenticated with
	Resource   string
	Scopes     []string
	// Reason is why it was refused: the proof's check ("replay", "iat", …), the
	// assertion's, or the OAuth error code; of a closed set.
	Reason string
	// Offset is how far the server's clock was past the proof's iat.
	Offset    time.Duration
	HasOffset bool
}
