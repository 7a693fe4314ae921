package authz

import (
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
			m := NewMetrics(prometheus.NewRegistry())
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for ev := c.ev; p.Next(); {
					m.observe(&ev, 300*time.Microsecond)
				}
			})
		})
	}
}
