package behaviour

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// keptFleet is a Fleet as JSON.
type keptFleet struct {
	Version int       `json:"version"`
	Now     int64     `json:"now"`
	Late    int64     `json:"late,omitempty"`
	Held    []held    `json:"held,omitempty"`
	Crowds  []shown   `json:"crowds,omitempty"`
	Adopted []adopted `json:"adopted,omitempty"`
	Near    near      `json:"near"`
	Agents  int64     `json:"agents_since,omitempty"`
	Moving  int64     `json:"moving_until,omitempty"`
}

var errNoFleet = errors.New("behaviour: not a fleet as it is kept")

// MarshalJSON writes all of f: 300 kB at most, where 64 alerts are held back, and some
// hundred bytes as a rule.
func (f *Fleet) MarshalJSON() ([]byte, error) {
	return json.Marshal(keptFleet{version, f.now, f.late, f.held, f.crowds, f.adopted, f.near, f.agentsSince, f.moving})
}

// UnmarshalJSON reads what MarshalJSON has written, and refuses what it never writes.
func (f *Fleet) UnmarshalJSON(text []byte) error {
	var k keptFleet
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return fmt.Errorf("%w: %w", errNoFleet, err)
	}
	if k.Version != version || k.Now < 0 || k.Now > maxMoment || k.Late < 0 ||
		len(k.Held) > heldMax || len(k.Crowds) > crowdMax || len(k.Adopted) > adoptedMax || !k.Near.sound() {
		return errNoFleet
	}
	*f = Fleet{now: k.Now, late: k.Late, held: k.Held, crowds: k.Crowds, adopted: k.Adopted, near: k.Near, agentsSince: k.Agents, moving: k.Moving}
	return nil
}
