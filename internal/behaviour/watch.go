package behaviour

import (
	"time"
)

// KeyOwners knows which client has shown which DPoP key, over all clients: too much to
// keep in memory, so whoever feeds a Watch looks up those of the next events before.
type KeyOwners interface {
	// Owner is the client that first showed the key; "": none.
	Owner(jkt string) (clientID string)
	// Own notes that a client has shown a key that nobody had, or again one of its own,
	// once a day at most: a key that is not shown for 90 days may be forgotten. A client
	// gives rise to 2,000 in a day at most.
	Own(jkt, clientID string, at time.Time)
}

// Config is what New needs.
type Config struct {
	Owners KeyOwners
	// ProofLifetime and ClockSkew are the server's: a proof is accepted from ClockSkew
	// before its iat to ProofLifetime + ClockSkew after it. 0: 60 s and 15 s.
	ProofLifetime, ClockSkew time.Duration
	// Now is the time by the clock of whoever feeds it: an event that says to be of a
	// later one is of a wrong clock, and counts as of now. nil: events are believed.
	Now func() time.Time
}

// Watch holds the baselines of the clients of the events at hand, and what is known of
// all of them together. It is not safe for concurrent use.
type Watch struct {
	owners    KeyOwners
	room      [2]time.Duration // of a client's clock: behind the server's, and ahead
	baselines map[string]*Baseline
	changed   map[string]bool
	fleet     *Fleet
	now       func() time.Time
	out       []Alert
	event     Event // that is looked at: in one place, so that it costs no allocation
	sight     sight
}

// New makes a Watch that knows no client yet.
func New(cfg Config) *Watch {
	if cfg.ProofLifetime <= 0 {
		cfg.ProofLifetime = 60 * time.Second
	}
	if cfg.ClockSkew <= 0 {
		cfg.ClockSkew = 15 * time.Second
	}
	return &Watch{
		owners: cfg.Owners, room: [2]time.Duration{cfg.ProofLifetime + cfg.ClockSkew, cfg.ClockSkew},
		baselines: map[string]*Baseline{}, changed: map[string]bool{}, fleet: &Fleet{}, now: cfg.Now,
	}
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

// Tick tells that all events up to now have been observed, and returns the alerts that
// were held back and are due. Without it they come with later events, of any client.
func (w *Watch) Tick(now time.Time) []Alert {
	w.out = nil
	w.release(now.Unix())
	return w.out
}

// moment is when an event counts as, in Unix seconds.
func (w *Watch) moment(at time.Time) int64 {
	m := min(max(at.Unix(), 0), maxMoment)
	if w.now != nil && m > w.fleet.now+hour {
		m = min(m, w.now().Unix())
	}
	return m
}

// Observe learns from an event, and returns what departs from the normal: of this
// event, and what was held back until now.
func (w *Watch) Observe(e Event) []Alert {
	w.out = nil
	at := w.moment(e.At)
	w.release(w.fleet.moment(at))
	if e.ClientID == "" {
		return w.out
	}
	if e.Kind == ClientDeleted {
		w.Forget(e.ClientID)
		w.fleet.drop(e.ClientID)
		w.changed[e.ClientID] = true
		return w.out
	}
	b := w.baselines[e.ClientID]
	if b == nil {
		b = newBaseline(e.ClientID, at)
		w.baselines[e.ClientID] = b
	}
	if !w.changed[e.ClientID] {
		w.changed[e.ClientID] = true
	}
	w.event = e
	w.sight = sight{w: w, b: b, e: &w.event, at: b.moment(at), times: min(max(e.Times, 1), maxHourly)}
	w.sight.observe()
	return w.out
}

// sight is one event as it is looked at.
type sight struct {
	w     *Watch
	b     *Baseline
	e     *Event
	at    int64
	times int64
}

func (s *sight) observe() {
	switch s.e.Kind {
	case TokenIssued:
		s.issued()
	case TokenRefused:
		s.refused()
	case SecretRetired:
		s.retiredSecret()
	case KeyRefused:
		s.keyRefused()
	case KeyEnrolled:
		s.keyEnrolled()
	case ClientChanged:
		s.b.changedAt = s.at
	}
}

// issued is the way of nearly all events: what departs is told before it is learned.
func (s *sight) issued() {
	b := s.b
	s.awoken()
	agent := s.agent()
	network := s.network(agent)
	s.key(agent, network)
	s.scope()
	s.learnName(&b.resources, s.e.Resource, 80)
	s.learnName(&b.secrets, s.e.Credential, 64)
	b.hours.add(s.at, s.times, 0)
	b.minutes.add(s.at, s.times)
	b.perMinutes.note(b.minutes.last(5))
	s.burst()
	s.drift()
	if b.issuedAt != 0 {
		b.longest = max(b.longest, s.at-b.issuedAt)
	}
	b.issuedAt = max(b.issuedAt, s.at)
}

// learnName keeps a name of which a new one is no departure by itself.
func (s *sight) learnName(t *table, name string, most int) {
	if name == "" {
		return
	}
	if e := t.find(name); e != nil {
		t.use(e, s.at, s.times)
		return
	}
	name = short(name, most)
	if e := t.find(name); e != nil {
		t.use(e, s.at, s.times)
		return
	}
	t.add(name, s.at, s.times)
	t.novel(s.at)
}
