package watch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

const (
	// maxSummary bounds a baseline as it is kept, in bytes. None is as large: one that
	// was would be a mistake, and is begun anew.
	maxSummary = 64 << 10
	// maxText bounds each text of an alert, in bytes.
	maxText = 4 << 10
)

// analysis is what is known since a position of the trail. It goes from batch to batch;
// what it has found since it was last kept is in memory alone, and where it cannot be
// kept all of it is thrown away: it is in the trail, and is read again.
type analysis struct {
	keeper Keeper
	log    *slog.Logger
	m      *metrics
	pace   *pace

	watch  *behaviour.Watch
	owners *owners
	recent *recent

	number   int64               // of what is kept next
	from, to authz.TrailPosition // what is kept, and what is observed
	observed int                 // how many events are observed that are not kept
	since    time.Time           // when the first event was observed that is not kept; zero: all are
	heard    map[string]bool     // clients of events that are not kept
	gone     map[string]bool     // clients that were deleted in them
	raised   map[alike]*Raised
	order    []alike
}

// alike is what alerts have in common that are folded into one.
type alike struct {
	client  string
	kind    behaviour.AlertKind
	subject string
}

func newAnalysis(ctx context.Context, c Config, m *metrics, p *pace, at authz.TrailPosition) (*analysis, error) {
	kept, number, err := c.Keeper.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	o := newOwners()
	a := &analysis{
		keeper: c.Keeper, log: c.Log, m: m, pace: p, owners: o, recent: newRecent(), number: number, from: at, to: at,
		watch: newWatch(c, o),
		heard: map[string]bool{}, gone: map[string]bool{}, raised: map[alike]*Raised{},
	}
	if string(kept) == "{}" {
		return a, nil
	}
	fleet := &behaviour.Fleet{}
	if err := json.Unmarshal(kept, fleet); err != nil {
		c.Log.Error("what is known of all clients together does not read, and is begun anew")
		return a, nil
	}
	a.watch.LoadFleet(fleet)
	return a, nil
}

// observe learns from a batch of events. What of it cannot be understood is left out.
func (a *analysis) observe(ctx context.Context, batch []authz.TrailEvent, now time.Time) error {
	events := a.translate(batch)
	if err := a.load(ctx, events); err != nil {
		return err
	}
	for _, e := range events {
		a.one(e)
	}
	if len(batch) > 0 {
		a.to = batch[len(batch)-1].Position
		a.observed += len(batch)
		if a.since.IsZero() {
			a.since = now
		}
	}
	return nil
}

func (a *analysis) translate(batch []authz.TrailEvent) []behaviour.Event {
	var events []behaviour.Event
	poisoned := 0
	for i := range batch {
		e, matters, err := translate(&batch[i])
		switch {
		case err != nil:
			if poisoned++; poisoned == 1 {
				a.log.Error("an event of the audit trail is left out of the analysis", "event", batch[i].ID.String(), "kind", string(batch[i].Kind), "cause", err)
			}
		case matters:
			events = append(events, e)
		}
	}
	a.m.events.WithLabelValues("observed").Add(float64(len(events)))
	a.m.events.WithLabelValues("ignored").Add(float64(len(batch) - len(events) - poisoned))
	a.m.events.WithLabelValues("skipped").Add(float64(poisoned))
	return events
}

// load has what is kept of the clients and keys of these events at hand.
func (a *analysis) load(ctx context.Context, events []behaviour.Event) error {
	clients, keys := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		if e.JKT != "" {
			keys[e.JKT] = true
		}
		if e.ClientID == "" {
			continue
		}
		a.recent.touch(e.ClientID)
		// One that was deleted begins anew, though the database does not know it yet.
		if !a.watch.Knows(e.ClientID) && !a.gone[e.ClientID] {
			clients[e.ClientID] = true
		}
	}
	if ids := sorted(clients); len(ids) > 0 {
		kept, err := a.keeper.Baselines(ctx, ids)
		if err != nil {
			return err
		}
		for id, summary := range kept {
			a.loadOne(id, summary)
		}
	}
	if asked := a.owners.unknown(sorted(keys)); len(asked) > 0 {
		found, err := a.keeper.KeyOwners(ctx, asked)
		if err != nil {
			return err
		}
		a.owners.learn(asked, found)
	}
	return nil
}

func (a *analysis) loadOne(id string, summary json.RawMessage) {
	b := &behaviour.Baseline{}
	if err := json.Unmarshal(summary, b); err != nil {
		a.log.Error("a client's baseline does not read, and is begun anew", "client_id", id)
		return
	}
	b.ClientID = id
	a.watch.Load(b)
}

// one observes an event. A mistake in the analysis costs what one event tells, and not
// the server.
func (a *analysis) one(e behaviour.Event) {
	defer func() {
		if mistake := recover(); mistake != nil {
			a.m.events.WithLabelValues("skipped").Inc()
			a.log.Error("the analysis failed at an event of the audit trail, and goes on", "event", e.ID, "cause", fmt.Sprint(mistake))
		}
	}()
	for _, alert := range a.watch.Observe(e) {
		a.fold(alert)
	}
	if e.ClientID != "" {
		a.heard[e.ClientID] = true
	}
	if e.Kind == behaviour.ClientDeleted {
		a.gone[e.ClientID] = true
		a.owners.disown(e.ClientID)
	}
}

// tick tells that all there is has been observed.
func (a *analysis) tick(now time.Time) {
	for _, alert := range a.watch.Tick(now) {
		a.fold(alert)
	}
}

func (a *analysis) fold(alert behaviour.Alert) {
	alert = clean(alert)
	key := alike{alert.ClientID, alert.Kind, alert.Subject}
	if r := a.raised[key]; r != nil {
		r.Times++
		if alert.At.After(r.Last) {
			r.Last = alert.At
		}
		return
	}
	a.raised[key] = &Raised{Alert: alert, ID: newID(), Times: 1, Last: alert.At}
	a.order = append(a.order, key)
}

// clean bounds what may come of what a client has sent, and leaves out what Postgres
// takes in no text.
func clean(a behaviour.Alert) behaviour.Alert {
	for _, text := range []*string{&a.Subject, &a.Normal, &a.Seen, &a.Why, &a.Do} {
		*text = strings.ReplaceAll(strings.ToValidUTF8(*text, "?"), "\x00", "?")
		if len(*text) > maxText {
			*text = strings.ToValidUTF8((*text)[:maxText], "")
		}
	}
	return a
}

// due tells whether what was found is to be kept now: an alert is not to wait, and all
// else is written seldom, since a client's baseline costs the same however many events
// have changed it.
func (a *analysis) due(now time.Time) bool {
	return len(a.raised) > 0 || len(a.heard) > a.pace.held || a.owners.many(a.pace.held) ||
		!a.since.IsZero() && now.Sub(a.since) >= a.pace.keep
}

// keep writes what was found since the last time. After an error the analysis is of no
// use any more.
func (a *analysis) keep(ctx context.Context, f Findings) ([]Kept, error) {
	f.Number, f.From, f.To = a.number, a.from, a.to
	if a.watch.FleetChanged() {
		fleet, err := json.Marshal(a.watch.Fleet())
		if err != nil {
			return nil, fmt.Errorf("keeping what is known of all clients: %w", err)
		}
		f.Fleet = fleet
	}
	f.Baselines = map[string]json.RawMessage{}
	for _, id := range a.watch.Changed() {
		if summary, ok := a.summary(id); ok {
			f.Baselines[id] = summary
		} else {
			f.Deleted = append(f.Deleted, id)
		}
	}
	f.Owned, f.Shown = inOrder(a.owners.owned), inOrder(a.owners.shown)
	for _, key := range a.order {
		f.Alerts = append(f.Alerts, *a.raised[key])
	}
	kept, err := a.keeper.KeepFindings(ctx, f)
	if err != nil {
		return nil, err
	}
	a.number++
	a.from, a.since, a.observed = a.to, time.Time{}, 0
	clear(a.heard)
	clear(a.gone)
	clear(a.raised)
	a.order = nil
	a.owners.kept()
	a.recent.trim(a.pace.held, a.watch.Forget)
	return kept, nil
}

// summary is a baseline as it is kept; none: it is to go.
func (a *analysis) summary(id string) (json.RawMessage, bool) {
	b := a.watch.Baseline(id)
	if b == nil {
		return nil, false
	}
	summary, err := json.Marshal(b)
	if err != nil || len(summary) > maxSummary {
		a.log.Error("a client's baseline cannot be kept, and is begun anew", "client_id", id, "bytes", len(summary))
		a.watch.Forget(id)
		return nil, false
	}
	return summary, true
}

func sorted[K cmp.Ordered](m map[K]bool) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
