package watch

import (
	"maps"
	"slices"
	"time"
)

const (
	// ownersKnown bounds how many keys are remembered between batches.
	ownersKnown = 1 << 16
	// shownEvery is how often it is noted that a key is still shown.
	shownEvery = 24 * time.Hour
	// ownedADay bounds how many keys of one client are noted in a day: a client that
	// makes a key for each process has thousands, and one that makes a key for each
	// token, or who has its secret and means to fill the table, millions. Of keys
	// beyond it nobody is told when another client shows them.
	ownedADay = 20_000
)

// owners is a behaviour.KeyOwners: what is kept of the keys of the events at hand, and
// what is to be kept.
type owners struct {
	known map[string]KeyOwner // without a ClientID: nobody has shown it
	owned map[string]KeyOwner // to be kept
	shown map[string]KeyOwner // again, to be kept

	day   time.Time
	today map[string]int // keys noted, by client
}

func newOwners() *owners {
	return &owners{known: map[string]KeyOwner{}, owned: map[string]KeyOwner{}, shown: map[string]KeyOwner{}, today: map[string]int{}}
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
	if day := at.Truncate(24 * time.Hour); day.After(o.day) {
		o.day = day
		clear(o.today)
	}
	if o.today[clientID] >= ownedADay {
		return
	}
	o.today[clientID]++
	owner := KeyOwner{JKT: jkt, ClientID: clientID, FirstShown: at, LastShown: at}
	o.known[jkt], o.owned[jkt] = owner, owner
}

// show notes that a client has proven to have a key.
func (o *owners) show(jkt, clientID string, at time.Time) {
	owner := o.known[jkt]
	if owner.ClientID != clientID || at.Sub(owner.LastShown) < shownEvery {
		return
	}
	owner.JKT, owner.LastShown = jkt, at
	o.known[jkt] = owner
	if _, isNew := o.owned[jkt]; isNew {
		o.owned[jkt] = owner
		return
	}
	o.shown[jkt] = owner
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
