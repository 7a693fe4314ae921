package authz

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/dpopbind"
)

// BenchmarkObserve is what a request costs in metrics alone.
func BenchmarkObserve(b *testing.B) {
	offset := time.Second
	for _, c := range []struct {
		name string
		ev   event
	}{
		{"Issued", event{endpoint: "token", proofOffset: &offset}},
		{"Refused", event{endpoint: "token", err: &oauthError{code: codeInvalidProof, cause: &dpopbind.ProofError{Check: dpopbind.CheckReplay}}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := &Server{metrics: NewMetrics(prometheus.NewRegistry()), log: slog.New(slog.DiscardHandler), now: time.Now}
			s.tally = newTally(nil, s.now, s.metrics)
			s.gateways.loaded.Store(&gatewayTable{})
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				ev := c.ev
				ev.started = time.Now()
				for p.Next() {
					s.finish(b.Context(), &ev, &attempt{})
				}
			})
		})
	}
}
