package watch

import (
	"net/netip"
	"strings"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

// kinds are the events of the trail that matter here. That a secret is rotated, or a client
// disabled and enabled, explains nothing of what it does then.
var kinds = map[authz.AuditKind]behaviour.Kind{
	authz.AuditTokenIssued:            behaviour.TokenIssued,
	authz.AuditTokenRefused:           behaviour.TokenRefused,
	authz.AuditEnrolmentRefused:       behaviour.TokenRefused,
	authz.AuditAuthenticationsLimited: behaviour.TokenRefused,
	authz.AuditRetiredSecretUsed:      behaviour.SecretRetired,
	authz.AuditDPoPKeyRefused:         behaviour.KeyRefused,
	authz.AuditEndorsementRefused:     behaviour.KeyRefused,
	authz.AuditDPoPKeyEnrolled:        behaviour.KeyEnrolled,
	authz.AuditClientCreated:          behaviour.ClientChanged,
	authz.AuditClientUpdated:          behaviour.ClientChanged,
	authz.AuditClientDeleted:          behaviour.ClientDeleted,
}

// reasonLimited stands for failed authentications that were not written down one by one.
const reasonLimited = "limited"

// translate makes of an event of the trail what the analysis needs to know of it. False:
// it is of no concern.
func translate(e *authz.TrailEvent) (behaviour.Event, bool, error) {
	kind, ok := kinds[e.Kind]
	if !ok {
		return behaviour.Event{}, false, nil
	}
	d, err := readDetail(e.RawDetail)
	if err != nil {
		return behaviour.Event{}, false, err
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
