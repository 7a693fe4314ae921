package authz

import (
	"context"
	"fmt"
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

// tally counts who asked about what, for the audit trail: an event for each
// request would cost each a write. A request waits neither for the Store nor
// for its failure.
//
// An event is written once or, where nobody knows whether it was, again, under
// the same ID.
type tally struct {
	store  Store
	now    func() time.Time
	checks *prometheus.CounterVec

	mu     sync.Mutex
	since  time.Time // when the period that is counted began
	counts map[tallied]*tallyCount

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
	return &tally{store: store, now: now, checks: m.checks, since: now(), counts: map[tallied]*tallyCount{}}
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
		count = &tallyCount{metric: t.checks.WithLabelValues(string(key.kind), key.clientID, key.resource, key.outcome)}
		t.counts[key] = count
	}
	count.n++
	count.metric.Inc()
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
	counts, since := t.counts, t.since
	t.counts, t.since = make(map[tallied]*tallyCount, len(counts)), now
	t.mu.Unlock()
	var events []AuditEvent
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
