package authz

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tallyEvery is how often what was counted goes to the audit trail. A process
// that is killed takes with it the counts since then, and no more.
const tallyEvery = time.Second

// maxTallied bounds what one period tells apart. It is far more than there are
// gateways and resources; what comes beyond it is counted without a name.
const maxTallied = 4096

// maxNamed bounds how many sightings of one kind and client a period tells apart:
// who has a client's secret may come with any number of keys, and is not to fill
// the trail with them. What comes beyond it is one event, without names.
const maxNamed = 16

// tally counts who asked about what, for the audit trail: an event for each
// request would cost each a write. A request waits neither for the Store nor
// for its failure.
//
// An event is written once or, where nobody knows whether it was, again, under
// the same ID.
type tally struct {
	store   Store
	now     func() time.Time
	metrics *Metrics
	// refusals have the same periods.
	refusals *refusals

	mu     sync.Mutex
	since  time.Time // when the period that is counted began
	counts map[tallied]*tallyCount
	sights map[sighting]*sighted
	named  map[sighting]int // how many of one kind and client

	flushing   sync.Mutex
	unrecorded []AuditEvent // of earlier periods; nil: all are recorded
}

// tallied is what is told apart.
type tallied struct {
	kind     AuditKind
	clientID string
	resource string
	outcome  string
}

type tallyCount struct {
	n      int64
	metric prometheus.Counter
}

func newTally(store Store, now func() time.Time, m *Metrics) *tally {
	return &tally{store: store, now: now, metrics: m, refusals: newRefusals(now, m.eventsDropped), since: now(), counts: map[tallied]*tallyCount{}, sights: map[sighting]*sighted{}, named: map[sighting]int{}}
}

// add counts a request by who made it. All of it comes from closed sets: the ID
// of a client that has authenticated, a registered resource or "", where it is
// not known which, and one of a few outcomes.
func (t *tally) add(kind AuditKind, clientID, resource, outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tallied{kind, clientID, resource, outcome}
	count := t.counts[key]
	if count == nil && len(t.counts) >= maxTallied {
		key.clientID, key.resource = "", ""
		count = t.counts[key]
	}
	if count == nil {
		count = &tallyCount{metric: t.metrics.checks.WithLabelValues(string(key.kind), t.metrics.client(key.clientID), key.resource, key.outcome)}
		t.counts[key] = count
	}
	count.n++
	count.metric.Inc()
}

// sighting is what is told apart of what is worth an event each, and may come any
// number of times: of each the first of a period goes to the trail, with how many
// there were.
type sighting struct {
	kind     AuditKind
	clientID string
	what     string
	further  bool // of a client, beyond maxNamed
}

type sighted struct {
	first AuditEvent
	n     int64
}

// sight counts a sighting; event makes its event where it is the first.
func (t *tally) sight(key sighting, event func() AuditEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.sights[key]
	if of := (sighting{kind: key.kind, clientID: key.clientID}); seen == nil && t.named[of] < maxNamed {
		t.named[of]++
	} else if seen == nil {
		of.further = true
		key, event = of, t.further(of, event)
		seen = t.sights[key]
	}
	if seen == nil && len(t.sights) >= maxTallied {
		key = sighting{kind: key.kind}
		event = func() AuditEvent { return NewAuditEvent(t.now(), key.kind, ActorServer) }
		seen = t.sights[key]
	}
	if seen == nil {
		seen = &sighted{first: event()}
		t.sights[key] = seen
	}
	seen.n++
}

// further makes the event of all that comes beyond maxNamed: where the first of it
// came from, and no name of a key or a secret.
func (t *tally) further(of sighting, event func() AuditEvent) func() AuditEvent {
	return func() AuditEvent {
		first := event()
		e := NewAuditEvent(t.now(), of.kind, first.Actor)
		e.ClientID, e.RequestID, e.RemoteAddr = first.ClientID, first.RequestID, first.RemoteAddr
		e.Detail = map[string]any{"further": true}
		return e
	}
}

// event is the first one's, with how many there were, and when it was: At will be
// the moment of recording.
func (s *sighted) event() AuditEvent {
	e := s.first
	e.Detail = map[string]any{"times": s.n, "first_at": e.At.Format(time.RFC3339Nano)}
	maps.Copy(e.Detail, s.first.Detail)
	return e
}

// flush writes what was counted to the audit trail. Where that fails it is kept
// for the next flush, and counting goes on.
func (t *tally) flush(ctx context.Context) error {
	t.flushing.Lock()
	defer t.flushing.Unlock()
	if err := t.record(ctx); err != nil { // what the last flush left
		return err
	}
	t.unrecorded = t.collect()
	return t.record(ctx)
}

func (t *tally) record(ctx context.Context) error {
	if len(t.unrecorded) == 0 {
		return nil
	}
	// The moment of the attempt: the trail has a partition for now, and may have
	// none for what the clock said then.
	now := t.now()
	for i := range t.unrecorded {
		t.unrecorded[i].At = now
	}
	if err := t.store.RecordEvents(ctx, t.unrecorded); err != nil {
		return fmt.Errorf("recording who asked: %w", err)
	}
	t.unrecorded = nil
	return nil
}

// collect ends the period and makes its events.
func (t *tally) collect() []AuditEvent {
	now := t.now()
	t.mu.Lock()
	counts, sights, since := t.counts, t.sights, t.since
	t.counts, t.sights, t.since = make(map[tallied]*tallyCount, len(counts)), map[sighting]*sighted{}, now
	t.named = map[sighting]int{}
	t.mu.Unlock()
	events := t.refusals.collect(now)
	for _, seen := range sights {
		events = append(events, seen.event())
	}
	for key, count := range counts {
		actor := ActorServer // of what is counted without a name
		if key.clientID != "" {
			actor = actorClient(key.clientID)
		}
		e := NewAuditEvent(now, key.kind, actor)
		e.ClientID, e.Resource = key.clientID, key.resource
		e.Detail = map[string]any{
			key.outcome: count.n,
			"from":      since.Format(time.RFC3339Nano),
			"to":        now.Format(time.RFC3339Nano),
		}
		events = append(events, e)
	}
	return events
}
