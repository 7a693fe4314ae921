package authz

import (
	"fmt"
	"testing"
	"time"

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
