package authz

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
)

// Metrics are what the server counts. Their labels come from closed sets.
type Metrics struct {
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	tokensIssued  *prometheus.CounterVec
	proofsRefused *prometheus.CounterVec
	proofOffset   prometheus.Histogram
	maintenance   *prometheus.CounterVec
	checks        *prometheus.CounterVec

	retiredSecrets    *prometheus.CounterVec
	unenrolledKeys    *prometheus.CounterVec
	assertionsRefused *prometheus.CounterVec
	endorsements      *prometheus.CounterVec // refused

	shed    *prometheus.CounterVec
	limited *prometheus.CounterVec

	eventsDropped prometheus.Counter

	unopenedKeys prometheus.Gauge
	signingGaps  prometheus.Gauge
	timeline     prometheus.Gauge
}

// NewMetrics makes the metrics and registers them with r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_requests_total", Help: "Requests, by endpoint and outcome (ok, or the OAuth error code).",
		}, []string{"endpoint", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authz_request_duration_seconds", Help: "Time from a request's first byte read to its answer written.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"endpoint"}),
		tokensIssued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_tokens_issued_total", Help: "Access tokens issued, by token type.",
		}, []string{"token_type"}),
		proofsRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_proofs_refused_total", Help: "DPoP proofs refused, by the check that failed.",
		}, []string{"check"}),
		proofOffset: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "authz_proof_iat_offset_seconds",
			Help:    "How far the server's clock is past a proof's iat, negative where the proof is from the future; also of proofs refused for it.",
			Buckets: []float64{-300, -60, -30, -15, -5, -2, -1, -.5, 0, .5, 1, 2, 5, 15, 30, 60, 75, 300, 3600},
		}),
		maintenance: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_maintenance_total", Help: "Runs of the upkeep of partitions, keys and the audit trail, by task and outcome.",
		}, []string{"task", "outcome"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_checks_total", Help: "Checks of tokens (token.introspected) and of calls (call.verified), by who asked, the resource where it is known, and outcome.",
		}, []string{"kind", "client_id", "resource", "outcome"}),
		retiredSecrets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_retired_secrets_used_total", Help: "Requests that came with a secret that has ended, by the client whose it was.",
		}, []string{"client_id"}),
	}
	m.unenrolledKeys = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_unenrolled_dpop_keys_total", Help: "Token requests of a client that has proven its secret, for a DPoP key that it may have no token for.",
	}, []string{"client_id"})
	m.assertionsRefused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_assertions_refused_total", Help: "Client assertions refused, by the check that failed; key, where the client has no such key, and replay.",
	}, []string{"check"})
	m.endorsements = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_endorsements_refused_total", Help: "Requests of a client that has proven its secret, with a new DPoP key that a key vouches for which is not enrolled, or has ended or is revoked.",
	}, []string{"client_id"})
	m.shed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_requests_shed_total", Help: "Requests refused with 503 for want of room, by where: public, gateway, or lookup, where clients are looked up while others fail to authenticate.",
	}, []string{"where"})
	m.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_authentications_limited_total", Help: "Failed authentications and refused proofs beyond the allowance, by whose it was: client or address.",
	}, []string{"by"})
	m.eventsDropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authz_audit_events_dropped_total", Help: "Refused requests without an event of their own in the audit trail, since there were too many in a second or the database was away: one event tells how many were alike.",
	})
	r.MustRegister(m.eventsDropped)
	m.unopenedKeys = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authz_signing_keys_unopened", Help: "Signing keys, in force or to be, that this instance cannot open as they are stored. More than 0 is an alarm.",
	})
	m.signingGaps = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authz_signing_gaps", Help: "Algorithms in use by which, now or at a time that is set already, another key signs than this instance has. More than 0 is an alarm.",
	})
	m.timeline = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authz_database_timeline_changed", Help: "1 where Postgres was promoted or recovered since an operator last claimed the database: what was not replicated by then is lost.",
	})
	r.MustRegister(m.requests, m.duration, m.tokensIssued, m.proofsRefused, m.proofOffset, m.maintenance, m.checks, m.retiredSecrets, m.unenrolledKeys,
		m.assertionsRefused, m.endorsements, m.shed, m.limited, m.unopenedKeys, m.signingGaps, m.timeline)
	return m
}

func (m *Metrics) observe(ev *event, outcome string, elapsed time.Duration) {
	m.requests.WithLabelValues(ev.endpoint, outcome).Inc()
	m.duration.WithLabelValues(ev.endpoint).Observe(elapsed.Seconds())
	if ev.proofOffset != nil {
		m.proofOffset.Observe(ev.proofOffset.Seconds())
	}
	if ev.err == nil {
		return
	}
	var proofErr *dpopbind.ProofError
	var assertionErr *clientassertion.Error
	switch {
	case errors.As(ev.err, &assertionErr):
		m.assertionsRefused.WithLabelValues(string(assertionErr.Check)).Inc()
	case errors.Is(ev.err, ErrAssertionSpent):
		m.assertionsRefused.WithLabelValues("replay").Inc()
	case errors.As(ev.err, &proofErr):
		if proofErr.Check == dpopbind.CheckIAT && proofErr.Offset != 0 {
			m.proofOffset.Observe(proofErr.Offset.Seconds())
		}
		m.proofsRefused.WithLabelValues(string(proofErr.Check)).Inc()
	case errors.Is(ev.err, dpopbind.ErrNoProof):
		m.proofsRefused.WithLabelValues("missing").Inc()
	case errors.Is(ev.err, ErrProofSpent):
		m.proofsRefused.WithLabelValues(string(dpopbind.CheckReplay)).Inc()
	}
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
