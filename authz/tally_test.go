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
		y.sight(sighting{AuditRetiredSecretUsed, "shop", what}, func() AuditEvent {
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
	const n = 3 * maxTallied
	for i := range n {
		y.sight(sighting{AuditRetiredSecretUsed, "shop", fmt.Sprint(i)}, func() AuditEvent {
			e := NewAuditEvent(time.Now(), AuditRetiredSecretUsed, ActorServer)
			e.ClientID = "shop"
			return e
		})
	}
	var sum, nameless int64
	events := y.collect()
	for _, e := range events {
		sum += e.Detail["times"].(int64)
		if e.ClientID == "" {
			nameless += e.Detail["times"].(int64)
		}
	}
	if len(events) != maxTallied+1 || sum != n || nameless != n-maxTallied {
		t.Errorf("%d events of %d, %d of them without a name", len(events), sum, nameless)
	}
}
