package audittrail

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what an instance tells of sealing.
type Metrics struct {
	events prometheus.Counter

	mu     sync.Mutex
	oldest time.Time // of what is not sealed; zero: all is
	known  time.Time // when that was so
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer, now func() time.Time) *Metrics {
	m := &Metrics{events: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authz_audit_events_sealed_total",
		Help: "Events of the audit trail that this instance has sealed.",
	})}
	lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "authz_audit_sealed_lag_seconds",
		Help: "Age of the oldest event of the audit trail that no instance has sealed; 0: all are. Where the database does not answer: since when that is not known.",
	}, func() float64 { return m.lag(now()).Seconds() })
	r.MustRegister(m.events, lag)
	return m
}

func (m *Metrics) sealed(events int) { m.events.Add(float64(events)) }

func (m *Metrics) unsealedSince(oldest, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oldest, m.known = oldest, now
}

// unknown is for when the database does not tell: there may be events since it last did.
func (m *Metrics) unknown(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.oldest.IsZero() {
		return
	}
	if m.known.IsZero() {
		m.known = now
	}
	m.oldest = m.known
}

func (m *Metrics) lag(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oldest.IsZero() {
		return 0
	}
	return max(now.Sub(m.oldest), 0)
}
