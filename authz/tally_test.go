package authz

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func newTestTally() *tally {
	return newTally(nil, time.Now, NewMetrics(prometheus.NewRegistry()))
}

func TestTallyIsBoundedAndLosesNoCount(t *testing.T) {
	y := newTestTally()
	const n = 3 * maxTallied
	for range 2 {
		for i := range n {
			y.add(AuditTokenIntrospected, fmt.Sprint("client-", i), "https://labels.test", "active")
		}
	}
	events := y.collect()
	var sum, nameless int64
	for _, e := range events {
		sum += e.Detail["active"].(int64)
		if e.ClientID == "" {
			nameless += e.Detail["active"].(int64)
			if e.Actor != ActorServer || e.Resource != "" {
				t.Errorf("%+v", e)
			}
		}
	}
	if len(events) != maxTallied+1 || sum != 2*n || nameless != 2*(n-maxTallied) {
		t.Errorf("%d events of %d requests, %d of them without a name", len(events), sum, nameless)
	}
	if again := y.collect(); len(again) != 0 {
		t.Errorf("%d events of no request", len(again))
	}
}

func TestCountingAgainAllocatesNothing(t *testing.T) {
	y := newTestTally()
	if n := testing.AllocsPerRun(100, func() {
		y.add(AuditTokenIntrospected, "edge", "https://labels.test", "active")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPeriodsOfATallyMeet(t *testing.T) {
	y := newTestTally()
	var last any
	for range 3 {
		y.add(AuditTokenIntrospected, "edge", "", "inactive")
		e := y.collect()[0]
		if last != nil && e.Detail["from"] != last {
			t.Errorf("a period begins at %v, the one before it ended at %v", e.Detail["from"], last)
		}
		last = e.Detail["to"]
	}
}

func BenchmarkTally(b *testing.B) {
	y := newTestTally()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			y.add(AuditTokenIntrospected, "edge", "https://labels.test", "active")
		}
	})
}

func TestSightingsOfAPeriodAreOneEventEach(t *testing.T) {
	y := newTestTally()
	made := 0
	see := func(what, requestID string) {
		y.sight(sighting{kind: AuditRetiredSecretUsed, clientID: "shop", what: what}, func() AuditEvent {
			made++
			e := NewAuditEvent(time.Now(), AuditRetiredSecretUsed, ActorServer)
			e.ClientID, e.RequestID, e.Detail = "shop", requestID, map[string]any{"credential": what}
			return e
		})
	}
	for range 2 {
		for _, requestID := range []string{"first", "second", "third"} {
			see("a", requestID)
		}
		see("b", "first")
		times := map[any]any{}
		for _, e := range y.collect() {
			times[e.Detail["credential"]] = e.Detail["times"]
			if e.RequestID != "first" || e.ClientID != "shop" || e.Detail["first_at"] == nil {
				t.Errorf("%+v", e)
			}
		}
		if diff := cmp.Diff(map[any]any{"a": int64(3), "b": int64(1)}, times); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if made != 4 {
		t.Errorf("%d events were made", made)
	}
	if again := y.collect(); len(again) != 0 {
		t.Errorf("%d events of nothing", len(again))
	}
}

func TestSightingsAreBoundedAndNoneIsLost(t *testing.T) {
	y := newTestTally()
	see := func(client, what string) {
		y.sight(sighting{kind: AuditDPoPKeyRefused, clientID: client, what: what}, func() AuditEvent {
			e := NewAuditEvent(time.Now(), AuditDPoPKeyRefused, actorClient(client))
			e.ClientID, e.JKT, e.RequestID = client, what, "r"
			return e
		})
	}
	for range 2 { // each period anew
		const clients, keys = 3 * maxTallied / maxNamed, 2 * maxNamed
		for c := range clients {
			for k := range keys {
				see(fmt.Sprint("client-", c), fmt.Sprint("key-", k))
			}
		}
		var sum int64
		events := y.collect()
		for _, e := range events {
			sum += e.Detail["times"].(int64)
		}
		if len(events) > maxTallied+1 || sum != clients*keys {
			t.Errorf("%d events of %d", len(events), sum)
		}
		if len(y.named) != 0 || len(y.sights) != 0 {
			t.Error("something is kept")
		}
	}
}

// Who has a client's secret comes with as many keys as they like.
func TestFloodOfKeysOfOneClientIsAFewEventsAPeriod(t *testing.T) {
	y := newTestTally()
	see := func(client string, key int) {
		y.sight(sighting{kind: AuditDPoPKeyRefused, clientID: client, what: fmt.Sprint(key)}, func() AuditEvent {
			e := NewAuditEvent(time.Now(), AuditDPoPKeyRefused, actorClient(client))
			e.ClientID, e.JKT, e.RequestID, e.RemoteAddr = client, fmt.Sprint(key), fmt.Sprint("r-", key), "192.0.2.7"
			return e
		})
	}
	const n = 10_000
	for key := range n {
		see("robbed", key)
		see("robbed", 0) // one that has a name keeps it
	}
	see("other", 1)
	named, further, other := 0, 0, 0
	for _, e := range y.collect() {
		switch {
		case e.ClientID == "other":
			other++
		case e.Detail["further"] == true:
			further++
			if e.JKT != "" || e.Detail["times"] != int64(n-maxNamed) || e.RequestID != "r-16" || e.RemoteAddr == "" || e.Actor != "client:robbed" {
				t.Errorf("%+v", e)
			}
		default:
			named++
			if want := int64(1); e.JKT != "0" && e.Detail["times"] != want || e.JKT == "0" && e.Detail["times"] != int64(n+1) {
				t.Errorf("%+v", e)
			}
		}
	}
	if named != maxNamed || further != 1 || other != 1 {
		t.Errorf("%d events with a name, %d without, %d of another client", named, further, other)
	}
}
