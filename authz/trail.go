package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// ErrNotHeld is returned to a follower of the trail that another instance has taken
// over from, or that has moved on meanwhile.
var ErrNotHeld = errors.New("another instance follows the audit trail")
