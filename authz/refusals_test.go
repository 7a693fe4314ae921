package authz

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// refuse adds one as a request does.
func refuse(r *refusals, as refusedAs) {
	as.kind, as.endpoint = AuditTokenRefused, "token"
	r.add(as, &event{requestID: "r", remote: "192.0.2.7"}, func() AuditEvent { return as.event(r.now()) })
}

// newTestRefusals also tells how many are counted as without an event of their own.
func newTestRefusals() (r *refusals, dropped func() float64) {
	registry := prometheus.NewRegistry()
	r = newRefusals(time.Now, NewMetrics(registry).eventsDropped)
	return r, func() float64 {
		families, _ := registry.Gather()
		for _, f := range families {
			if f.GetName() == "authz_audit_events_dropped_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
}

// total is how many refusals events stand for, in all and of those named.
func total(events []AuditEvent) (all int64) {
	for _, e := range events {
		if times, ok := e.Detail["times"].(int64); ok {
			all += times
		} else {
			all++
		}
	}
	return all
}

func TestRefusalsOfOneClientBeyondTheBoundAreOneEventForEachReason(t *testing.T) {
	r, dropped := newTestRefusals()
	for range 2 { // each period anew
		for range 100 {
			refuse(r, refusedAs{clientID: "shop", authenticated: true, code: "invalid_dpop_proof", reason: "replay"})
			refuse(r, refusedAs{clientID: "shop", authenticated: true, code: "invalid_scope", reason: "invalid_scope"})
			refuse(r, refusedAs{clientID: "shop", code: "invalid_client", reason: "invalid_client"})
		}
		refuse(r, refusedAs{clientID: "other", authenticated: true, code: "invalid_scope", reason: "invalid_scope"})
		own, further := map[string]int{}, map[string]int64{}
		events := r.collect(time.Now())
		for _, e := range events {
			name := fmt.Sprint(e.ClientID, " ", e.Detail["reason"], " ", e.Detail["authenticated"])
			if e.Detail["further"] != nil {
				further[name] += e.Detail["times"].(int64)
				if e.RequestID != "r" || e.RemoteAddr != "192.0.2.7" || e.Detail["first_at"] == nil {
					t.Errorf("%+v", e)
				}
			} else {
				own[name]++
			}
			if want := map[bool]string{true: actorClient(e.ClientID), false: ActorServer}[e.Detail["authenticated"].(bool)]; e.Actor != want {
				t.Errorf("%+v", e)
			}
		}
		if total(events) != 301 || own["shop replay true"]+own["shop invalid_scope true"] != maxRefusalsOfClient || own["shop invalid_client false"] != maxRefusalsOfClient ||
			own["other invalid_scope true"] != 1 || len(further) != 3 || further["shop invalid_client false"] != 100-maxRefusalsOfClient {
			t.Errorf("%v, and further %v", own, further)
		}
	}
	if n := dropped(); n != 2*(300-2*maxRefusalsOfClient) {
		t.Errorf("%v are counted as without an event of their own", n)
	}
	if again := r.collect(time.Now()); len(again) != 0 {
		t.Errorf("%d events of nothing", len(again))
	}
}

// What ten thousand refusals in a second add to the trail, of which none is lost.
func TestFloodOfRefusalsAddsABoundedNumberOfEventsAndLosesNone(t *testing.T) {
	const flood, reasons = 10_000, 60 // more than there are
	for name, row := range map[string]struct {
		as   func(n int) refusedAs
		most int
	}{
		"strangers who name nobody, for one reason": {func(int) refusedAs {
			return refusedAs{code: "invalid_client", reason: "invalid_client"}
		}, maxRefusalsOfClient + 1},
		"strangers who name nobody": {func(n int) refusedAs {
			return refusedAs{code: "invalid_dpop_proof", reason: fmt.Sprint(n % reasons)}
		}, maxRefusalsOfClient + reasons},
		"strangers who name each client": {func(n int) refusedAs {
			return refusedAs{clientID: fmt.Sprint(n), code: "invalid_client", reason: fmt.Sprint(n % reasons)}
		}, strangersRefusals + strangersFolded + reasons},
		"one client": {func(n int) refusedAs {
			return refusedAs{clientID: "shop", authenticated: true, code: "invalid_dpop_proof", reason: fmt.Sprint(n % reasons)}
		}, maxRefusalsOfClient + reasons},
		"all clients": {func(n int) refusedAs {
			return refusedAs{clientID: fmt.Sprint(n), authenticated: true, code: "invalid_scope", reason: fmt.Sprint(n % reasons)}
		}, maxRefusals + maxFolded + reasons},
		"everybody": {func(n int) refusedAs {
			return refusedAs{clientID: fmt.Sprint(n / 2), authenticated: n%2 == 0, code: "invalid_scope", reason: fmt.Sprint(n / 2 % reasons)}
		}, maxRefusals + strangersRefusals + maxFolded + strangersFolded + 2*reasons},
	} {
		r, _ := newTestRefusals()
		for period := range 3 {
			for n := range flood {
				refuse(r, row.as(n))
			}
			if kept := len(r.events) + len(r.of) + len(r.folded); kept > 2*row.most {
				t.Errorf("%s: %d are kept", name, kept)
			}
			events := r.collect(time.Now())
			if len(events) > row.most || total(events) != flood {
				t.Errorf("%s: %d events stand for %d, and may be %d", name, len(events), total(events), row.most)
			}
			if period == 0 {
				t.Logf("%s: %d events in a second, %d in a day", name, len(events), len(events)*24*60*60)
			}
		}
	}
}

// Who has a client's name is not to hide what is done with its credentials.
func TestStrangersTakeNobodysPlaceAmongTheRefusals(t *testing.T) {
	r, _ := newTestRefusals()
	for n := range 10_000 {
		refuse(r, refusedAs{clientID: fmt.Sprint(n % 1000), code: "invalid_client", reason: "invalid_client"})
	}
	for n := range 1000 {
		refuse(r, refusedAs{clientID: fmt.Sprint(n), authenticated: true, code: "invalid_dpop_proof", reason: "replay"})
	}
	own := 0
	for _, e := range r.collect(time.Now()) {
		if e.Detail["reason"] == "replay" && e.Detail["further"] == nil {
			own++
		}
	}
	if own != 1000 {
		t.Errorf("%d of 1000 have an event of their own", own)
	}
}

func TestRefusalThatHasWaitedSaysWhenItWas(t *testing.T) {
	r, _ := newTestRefusals()
	refuse(r, refusedAs{code: "invalid_client", reason: "invalid_client"})
	at := r.events[0].At
	if e := r.collect(at.Add(time.Minute))[0]; e.Detail["first_at"] != at.Format(time.RFC3339Nano) {
		t.Errorf("%+v", e)
	}
	refuse(r, refusedAs{code: "invalid_client", reason: "invalid_client"})
	if e := r.collect(r.events[0].At.Add(time.Second))[0]; e.Detail["first_at"] != nil {
		t.Errorf("%+v", e)
	}
}

func BenchmarkRefusal(b *testing.B) {
	for name, as := range map[string]refusedAs{
		"of a flood":       {code: "invalid_client", reason: "invalid_client"},
		"of all that come": {clientID: "shop", authenticated: true, code: "invalid_scope", reason: "invalid_scope"},
	} {
		b.Run(name, func(b *testing.B) {
			r, _ := newTestRefusals()
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if as.authenticated && n%maxRefusalsOfClient == 0 {
					r.collect(time.Now())
				}
				refuse(r, as)
			}
		})
	}
}
