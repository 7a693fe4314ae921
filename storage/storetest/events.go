package storetest

import (
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func recordedEvents() []property {
	return []property{
		{"EventsAreWrittenAsTheyAre", eventsAsTheyAre},
		{"NoEventsAreNoError", noEvents},
		{"ManyEventsAreWrittenTogether", manyEvents},
		{"OneEventThatCannotBeWrittenLeavesNoneOfThem", impossibleEvent},
	}
}

func eventsAsTheyAre(t *testing.T, w *world) {
	w.populate(t)
	counted := authz.NewAuditEvent(w.now, authz.AuditTokenIntrospected, "client:"+edge)
	counted.ClientID, counted.Resource = edge, labels
	counted.Detail = map[string]any{"active": float64(3), "from": "2026-01-02T03:04:05Z", "a \"quote\", a \\ and a comma": "é\n{}"}
	full := w.issue().Event
	full.RemoteAddr = `{"},NULL`
	bare := authz.NewAuditEvent(w.now.Add(-time.Hour), authz.AuditTokenIntrospected, authz.ActorServer)
	empty := authz.NewAuditEvent(w.now, authz.AuditTokenIntrospected, authz.ActorServer)
	empty.Detail = map[string]any{}
	encoded := authz.NewAuditEvent(w.now, authz.AuditTokenRefused, authz.ActorServer)
	for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
		encoded.ID, encoded.DetailJSON, encoded.Detail = authz.NewJTI(w.now), `{"reason": "a \"quote\"", "times": 3}`, map[string]any{"not": "this"}
		counted.ID, full.ID, bare.ID, empty.ID = authz.NewJTI(w.now), authz.NewJTI(w.now), authz.NewJTI(w.now), authz.NewJTI(w.now)
		before := byID(w.Events(t))
		must(t, s.RecordEvents(t.Context(), []authz.AuditEvent{counted, full, bare, empty, encoded}))
		encoded.DetailJSON, encoded.Detail = "", map[string]any{"reason": `a "quote"`, "times": float64(3)}
		after := byID(w.Events(t))
		if len(after) != len(before)+5 {
			t.Errorf("%d events were added", len(after)-len(before))
		}
		for _, e := range []authz.AuditEvent{counted, full, bare, empty, encoded} {
			same(t, e, after[e.ID])
		}
	}
}

func byID(events []authz.AuditEvent) map[authz.JTI]authz.AuditEvent {
	m := map[authz.JTI]authz.AuditEvent{}
	for _, e := range events {
		m[e.ID] = e
	}
	return m
}

func noEvents(t *testing.T, w *world) {
	w.populate(t)
	for _, s := range w.Servers {
		w.writes(t, func() error { return s.RecordEvents(t.Context(), nil) })
		w.writes(t, func() error { return s.RecordEvents(t.Context(), []authz.AuditEvent{}) })
	}
}

func manyEvents(t *testing.T, w *world) {
	w.populate(t)
	events := make([]authz.AuditEvent, 5000)
	for i := range events {
		events[i] = authz.NewAuditEvent(w.now, authz.AuditTokenIntrospected, "client:"+edge)
		events[i].ClientID, events[i].Resource = edge, labels
		events[i].Detail = map[string]any{"active": i}
	}
	before := len(w.Events(t))
	must(t, w.Servers[0].RecordEvents(t.Context(), events))
	if n := len(w.Events(t)) - before; n != len(events) {
		t.Errorf("%d events of %d", n, len(events))
	}
}

func impossibleEvent(t *testing.T, w *world) {
	w.populate(t)
	good := authz.NewAuditEvent(w.now, authz.AuditTokenIntrospected, authz.ActorServer)
	for _, spoil := range []func(*authz.AuditEvent){
		func(e *authz.AuditEvent) { e.At = w.now.AddDate(1, 0, 0) },
		func(e *authz.AuditEvent) { e.Kind = "" },
		func(e *authz.AuditEvent) { e.Actor = "\x00" },
		func(e *authz.AuditEvent) { e.Detail = map[string]any{"not JSON": func() {}} },
	} {
		bad := good
		spoil(&bad)
		w.refuses(t, nil, func() error {
			return w.Servers[0].RecordEvents(t.Context(), []authz.AuditEvent{good, bad})
		})
	}
}
