package watch

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

// kinds are the events of the trail that matter here. That a client is disabled or
// enabled explains nothing of what it does then.
var kinds = map[authz.AuditKind]behaviour.Kind{
	authz.AuditTokenIssued:            behaviour.TokenIssued,
	authz.AuditTokenRefused:           behaviour.TokenRefused,
	authz.AuditAuthenticationsLimited: behaviour.TokenRefused,
	authz.AuditRetiredSecretUsed:      behaviour.SecretRetired,
	authz.AuditDPoPKeyRefused:         behaviour.KeyRefused,
	authz.AuditEndorsementRefused:     behaviour.KeyRefused,
	authz.AuditDPoPKeyEnrolled:        behaviour.KeyEnrolled,
	authz.AuditClientCreated:          behaviour.ClientChanged,
	authz.AuditClientUpdated:          behaviour.ClientChanged,
	authz.AuditSecretRotated:          behaviour.CredentialChanged, // and neither its grants nor its policy
	authz.AuditClientDeleted:          behaviour.ClientDeleted,
}

// reasonLimited stands for failed authentications that were not written down one by one.
const reasonLimited = "limited"

// detail is what is read of an event's detail. What is not here is of no concern, and
// what is of another type than this is a mistake of who wrote it.
type detail struct {
	Scope         string `json:"scope"`
	Credential    string `json:"credential"`
	UserAgent     string `json:"user_agent"`
	OffsetMS      *int64 `json:"offset_ms"`
	Error         string `json:"error"`
	Reason        string `json:"reason"`
	Authenticated bool   `json:"authenticated"`
	Times         int64  `json:"times"`
	Limited       int64  `json:"limited"`

	// Of client.updated: what it authenticates by is replaced, and nothing else.
	Keys    json.RawMessage `json:"keys"`
	JWKSURI json.RawMessage `json:"jwks_uri"`
}

// translate makes of an event of the trail what the analysis needs to know of it. False:
// it is of no concern.
func translate(e *authz.TrailEvent) (behaviour.Event, bool, error) {
	kind, ok := kinds[e.Kind]
	if !ok {
		return behaviour.Event{}, false, nil
	}
	var d detail
	if len(e.RawDetail) > 0 {
		if err := json.Unmarshal(e.RawDetail, &d); err != nil {
			// Not err itself, which may quote what it is about.
			return behaviour.Event{}, false, fmt.Errorf("the detail of a %s is not what it should be", e.Kind)
		}
	}
	event := behaviour.Event{
		Kind: kind, At: e.At, ID: e.ID.String(), RequestID: e.RequestID, ClientID: e.ClientID, JKT: e.JKT,
		Network: networkOf(e.RemoteAddr), UserAgent: d.UserAgent, Credential: d.Credential,
		Resource: e.Resource, Scopes: strings.Fields(d.Scope), Times: max(d.Times, 0),
	}
	if d.OffsetMS != nil {
		event.Offset, event.HasOffset = boundOffset(*d.OffsetMS), true
	}
	switch e.Kind {
	case authz.AuditTokenIssued, authz.AuditDPoPKeyRefused, authz.AuditEndorsementRefused:
		event.Authenticated = true
	case authz.AuditTokenRefused, authz.AuditEnrolmentRefused:
		event.Authenticated = d.Authenticated
		if event.Reason = d.Reason; event.Reason == "" {
			event.Reason = d.Error
		}
	case authz.AuditClientUpdated:
		if d.Keys != nil || d.JWKSURI != nil {
			event.Kind = behaviour.CredentialChanged
		}
	case authz.AuditAuthenticationsLimited:
		event.Reason, event.Times = reasonLimited, max(d.Limited, 0)
	}
	return event, true, nil
}

// boundOffset keeps a number that nobody's clock says from overflowing.
func boundOffset(ms int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// The networks that are told apart: what one site has, as a rule.
const (
	bits4 = 24
	bits6 = 48
)

// networkOf is the network of an address, with or without a port; not valid: there is
// none, as of a Unix socket.
func networkOf(remote string) netip.Prefix {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		withPort, err := netip.ParseAddrPort(remote)
		if err != nil {
			return netip.Prefix{}
		}
		addr = withPort.Addr()
	}
	addr = addr.Unmap().WithZone("")
	bits := bits4
	if addr.Is6() {
		bits = bits6
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
