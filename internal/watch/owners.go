package watch

import (
	"maps"
	"slices"
	"time"
)

// ownersKnown bounds how many keys are remembered between batches.
const ownersKnown = 1 << 16

// owners is a behaviour.KeyOwners: what is kept of the keys of the events at hand, and
// what is to be kept.
type owners struct {
	known map[string]KeyOwner // without a ClientID: nobody has shown it
	owned map[string]KeyOwner // to be kept
	shown map[string]KeyOwner // again, to be kept
}

func newOwners() *owners {
	return &owners{known: map[string]KeyOwner{}, owned: map[string]KeyOwner{}, shown: map[string]KeyOwner{}}
}

// unknown are those of the keys that have to be looked up.
func (o *owners) unknown(jkts []string) []string {
	var missing []string
	for _, jkt := range jkts {
		if _, ok := o.known[jkt]; !ok {
			missing = append(missing, jkt)
		}
	}
	return missing
}

// learn takes what was looked up: of the keys asked for, those that were found.
func (o *owners) learn(asked []string, found map[string]KeyOwner) {
	for _, jkt := range asked {
		o.known[jkt] = found[jkt]
	}
}

// Owner is behaviour.KeyOwners'.
func (o *owners) Owner(jkt string) string { return o.known[jkt].ClientID }

// Own is behaviour.KeyOwners'.
func (o *owners) Own(jkt, clientID string, at time.Time) {
	owner := o.known[jkt]
	if owner.ClientID != clientID {
		owner = KeyOwner{JKT: jkt, ClientID: clientID, FirstShown: at, LastShown: at}
		o.owned[jkt] = owner
	} else if owner.LastShown = at; o.owned[jkt].JKT != "" {
		o.owned[jkt] = owner
	} else {
		o.shown[jkt] = owner
	}
	o.known[jkt] = owner
}

// disown forgets the keys of a client that is gone.
func (o *owners) disown(clientID string) {
	for jkt, owner := range o.known {
		if owner.ClientID == clientID {
			o.known[jkt] = KeyOwner{}
			delete(o.owned, jkt)
			delete(o.shown, jkt)
		}
	}
}

// many tells whether it is time to keep what there is: while the analysis catches up, a
// day of keys may come between two times that it keeps by the clock.
func (o *owners) many(most int) bool {
	return len(o.owned) > most || len(o.shown) > most || len(o.known) > ownersKnown
}

// kept is called when what was to be kept is: memory is bounded here.
func (o *owners) kept() {
	clear(o.owned)
	clear(o.shown)
	if len(o.known) > ownersKnown {
		clear(o.known)
	}
}

// inOrder are the values in the order of their keys: two transactions that write the
// same rows write them in the same order.
func inOrder(m map[string]KeyOwner) []KeyOwner {
	var all []KeyOwner
	for _, jkt := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[jkt])
	}
	return all
}
