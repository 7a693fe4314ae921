package audittrail

import "fmt"

// Report is what Verify has found.
type Report struct {
	Days []Day `json:"days"`
	Head *Head `json:"head,omitempty"` // the last seal; nil: there is none
	// Breaks are those of the chain itself. Those of a day are with it.
	Breaks []Break `json:"breaks,omitempty"`
	// LostKeys are the keys that seals are by and that Verify does not have, with how many
	// seals each is of: those fit the trail, and who made them is not known.
	LostKeys map[string]int `json:"lost_keys,omitempty"`
}

// State says how a day is.
type State string

// The states of a day.
const (
	Whole     State = "whole"     // all that was sealed is as it was
	Broken    State = "broken"    // see its breaks
	Unsealed  State = "unsealed"  // nothing of it is sealed yet
	Empty     State = "empty"     // there are no events of it
	Before    State = "before"    // all of it is from before there were seals
	Unchecked State = "unchecked" // it was not asked for, and its seals alone were looked at
	Dropped   State = "dropped"   // its events have gone for their age
)

// Day is what became of the events of a day.
type Day struct {
	Day    string  `json:"day"`
	State  State   `json:"state"`
	Seals  int     `json:"seals"`
	Events int64   `json:"events"`           // that are sealed, as the seals say
	Open   int64   `json:"unsealed"`         // that are not sealed yet
	Before int64   `json:"before_the_chain"` // from before there were seals
	Late   int     `json:"late_events"`      // sealed when the day was over by a day or more
	Breaks []Break `json:"breaks,omitempty"`
}

// Break is a place where the trail is not as it was.
type Break struct {
	Seal   int64  `json:"seal,omitempty"` // its number; 0: of no seal
	After  string `json:"after,omitempty"`
	Upto   string `json:"upto,omitempty"`
	Since  string `json:"since,omitempty"` // moments of the first and the last event there is
	Until  string `json:"until,omitempty"`
	Reason string `json:"reason"`
}

func (b Break) String() string {
	s := b.Reason
	if b.Seal != 0 {
		s = fmt.Sprintf("seal %d: %s", b.Seal, s)
	}
	if b.After != "" {
		s += fmt.Sprintf(", between the places %s and %s", b.After, b.Upto)
	}
	if b.Since != "" {
		s += fmt.Sprintf(" (events of %s to %s)", b.Since, b.Until)
	}
	return s
}

// Broken tells whether anything is not as it was.
func (r *Report) Broken() bool {
	for _, d := range r.Days {
		if len(d.Breaks) > 0 {
			return true
		}
	}
	return len(r.Breaks) > 0
}
