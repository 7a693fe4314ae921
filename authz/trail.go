package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TrailPosition is an event's place in the audit trail; the zero one is before all of
// them. Places have an order that clocks have no part in: once an event was read, none
// ever appears at a place before it.
type TrailPosition struct {
	RecordedIn int64 // the transaction that recorded it
	ID         JTI
}

// Compare is negative where p is before q.
func (p TrailPosition) Compare(q TrailPosition) int {
	if p.RecordedIn != q.RecordedIn {
		if p.RecordedIn < q.RecordedIn {
			return -1
		}
		return 1
	}
	return strings.Compare(string(p.ID[:]), string(q.ID[:]))
}

// String is the transaction's number and the event's id.
func (p TrailPosition) String() string {
	return strconv.FormatInt(p.RecordedIn, 10) + ":" + p.ID.String()
}

// TrailEvent is an event as it is read from the trail. Its Detail is nil, and
// RawDetail what the database has of it.
type TrailEvent struct {
	AuditEvent
	Position   TrailPosition // zero: the event is from before there were places
	RecordedBy string        // who was logged in to the database when it was written
	RawDetail  []byte        // JSON; nil: nothing
}

// DecodeDetail is what else the event says; nil: nothing.
func (e TrailEvent) DecodeDetail() (map[string]any, error) {
	if e.RawDetail == nil {
		return nil, nil
	}
	var detail map[string]any
	if err := json.Unmarshal(e.RawDetail, &detail); err != nil {
		return nil, fmt.Errorf("decoding the detail of event %s: %w", e.ID, err)
	}
	return detail, nil
}

// TrailSeal is over the events of one day that lie after one place in the trail and up to
// another: see package audittrail.
type TrailSeal struct {
	Number     int64  // from 1 on, over all days
	Day        string // of the events, UTC: 2006-01-02
	From, Upto TrailPosition
	Events     int
	Previous   Digest // of the seal before; zero: it is the first
	Digest     Digest
	MAC        [32]byte
	MACKey     string // the name of the key that it is by
}

// TrailRecord is what the database itself knows of the trail, beside its events and
// seals.
type TrailRecord struct {
	KeepDays      int
	DroppedBefore time.Time // up to where events were dropped for their age; zero: none
	DroppedSeal   int64     // the last seal that was; 0: none
	DroppedDigest Digest
	PlacesSince   time.Time     // when events began to have places
	SealedUpto    TrailPosition // where the seals' follower stands
}

// ErrNotHeld is returned to a follower of the trail that another instance has taken
// over from, or that has moved on meanwhile.
var ErrNotHeld = errors.New("another instance follows the audit trail")
