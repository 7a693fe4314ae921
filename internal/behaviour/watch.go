package behaviour

import "time"

// KeyOwners knows which client has shown which DPoP key, over all clients: too much to
// keep in memory, so whoever feeds a Watch looks up those of the next events before.
type KeyOwners interface {
	// Owner is the client that first showed the key; "": none.
	Owner(jkt string) (clientID string)
	// Own notes that a client has shown a key that nobody had.
	Own(jkt, clientID string, at time.Time)
}

// Baseline is what is normal for one client: a few kilobytes, however long it has been
// watched. It is kept as JSON.
type Baseline struct {
	ClientID string    `json:"-"`
	Since    time.Time `json:"since"` // of its first event
	Last     time.Time `json:"last"`  // of its last
}

// Watch holds the baselines of the clients of the events at hand. It is not safe for
// concurrent use.
type Watch struct {
	owners    KeyOwners
	baselines map[string]*Baseline
	changed   map[string]bool
}

// New makes a Watch that knows no client yet.
func New(owners KeyOwners) *Watch {
	return &Watch{owners: owners, baselines: map[string]*Baseline{}, changed: map[string]bool{}}
}

// Knows tells whether a client's baseline is held: before the first event of a client
// it has to be loaded, or the client counts as one that was never seen.
func (w *Watch) Knows(clientID string) bool { return w.baselines[clientID] != nil }

// Load takes a baseline that was kept.
func (w *Watch) Load(b *Baseline) { w.baselines[b.ClientID] = b }

// Forget drops a client's baseline, so that memory stays bounded; what has changed in
// it since Changed is lost.
func (w *Watch) Forget(clientID string) {
	delete(w.baselines, clientID)
	delete(w.changed, clientID)
}

// Baseline is that of a client; nil: it is not held. It is the Watch's own.
func (w *Watch) Baseline(clientID string) *Baseline { return w.baselines[clientID] }

// Observe learns from an event, and returns what departs from the normal.
func (w *Watch) Observe(e Event) []Alert { return nil }

// Changed returns the clients whose baselines have changed since it was called last,
// or that were deleted: those are not held any more.
func (w *Watch) Changed() []string {
	var ids []string
	for id := range w.changed {
		ids = append(ids, id)
	}
	clear(w.changed)
	return ids
}
