package authz

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the server counts. Their labels come from closed sets.
type Metrics struct {
	endpoints map[string]*endpointMetrics

	tokensIssued      counters
	proofsRefused     counters
	assertionsRefused counters
	limited           counters
	proofOffset       prometheus.Observer

	// By client, where clients are named.
	namesClients   bool
	retiredSecrets *prometheus.CounterVec
	unenrolledKeys *prometheus.CounterVec
	endorsements   *prometheus.CounterVec // refused
	checks         *prometheus.CounterVec

	maintenance *prometheus.CounterVec
	shed        *prometheus.CounterVec

	ready      prometheus.Gauge
	timeline   prometheus.Gauge
	keys       keyMetrics
	partitions partitionMetrics

	eventsDropped prometheus.Counter
}

// MetricsOption changes what NewMetrics makes.
type MetricsOption func(*Metrics)

// NameClients has metrics say which registered client they are about, in the label
// client_id. There are as many series then as there are clients; without it the label
// is empty.
func NameClients() MetricsOption { return func(m *Metrics) { m.namesClients = true } }

// NewMetrics makes the metrics and registers them with r.
func NewMetrics(r prometheus.Registerer, options ...MetricsOption) *Metrics {
	d := declarer{r}
	m := &Metrics{
		endpoints: newEndpointMetrics(d),
		tokensIssued: countersOf(d.counter("authz_tokens_issued_total", "Access tokens issued, by token type.", "token_type"),
			tokenTypes()...),
		proofsRefused: countersOf(d.counter("authz_proofs_refused_total",
			"DPoP proofs refused, by the check that failed; missing, where there was none.", "check"), proofChecks()...),
		assertionsRefused: countersOf(d.counter("authz_assertions_refused_total",
			"Client assertions refused, by the check that failed; key, where the client has no such key, and replay.", "check"), assertionChecks()...),
		limited: countersOf(d.counter("authz_authentications_limited_total",
			"Failed authentications and refused proofs beyond the allowance, by whose it was: client or address.", "by"), limitedByClient, limitedByAddress),
		proofOffset: d.histogram("authz_proof_iat_offset_seconds",
			"How far the server's clock is past a proof's iat, negative where the proof is from the future; also of proofs refused for it.",
			offsetBuckets).WithLabelValues(),

		retiredSecrets: d.counter("authz_retired_secrets_used_total",
			"Requests that came with a secret that has ended, by the client whose it was.", "client_id"),
		unenrolledKeys: d.counter("authz_unenrolled_dpop_keys_total",
			"Token requests of a client that has proven its secret, for a DPoP key that it may have no token for.", "client_id"),
		endorsements: d.counter("authz_endorsements_refused_total",
			"Requests of a client that has proven its secret, with a new DPoP key that a key vouches for which is not enrolled, or has ended or is revoked.", "client_id"),
		checks: d.counter("authz_checks_total",
			"Checks of tokens (token.introspected) and of calls (call.verified), by who asked, the resource where it is known, and outcome.",
			"kind", "client_id", "resource", "outcome"),

		maintenance: d.counter("authz_maintenance_total", "Runs of the upkeep of partitions, keys and the audit trail, by task and outcome.", "task", "outcome"),
		shed: d.counter("authz_requests_shed_total",
			"Requests refused with 503 for want of room, by where: public, gateway, or lookup, where clients are looked up while others fail to authenticate.", "where"),

		eventsDropped: d.counter("authz_audit_events_dropped_total",
			"Refused requests without an event of their own in the audit trail, since there were too many in a second or the database was away: one event tells how many were alike.").WithLabelValues(),

		ready: d.gauge("authz_ready",
			"1 where this instance could issue tokens when it last looked, which it does every five seconds; else 0.").WithLabelValues(),
		timeline: d.gauge("authz_database_timeline_changed",
			"1 where Postgres was promoted or recovered since an operator last claimed the database: what was not replicated by then is lost.").WithLabelValues(),
		keys:       newKeyMetrics(d),
		partitions: newPartitionMetrics(d),
	}
	for _, o := range options {
		o(m)
	}
	for _, v := range []*prometheus.CounterVec{m.retiredSecrets, m.unenrolledKeys, m.endorsements} {
		v.WithLabelValues("") // stays at 0 where clients are named
	}
	for _, task := range tasks() {
		for _, err := range []error{nil, errors.New("")} {
			m.maintenance.WithLabelValues(task, outcome(err))
		}
	}
	return m
}

// client is the label for a client that is registered.
func (m *Metrics) client(id string) string {
	if m.namesClients {
		return id
	}
	return ""
}

// offsetBuckets end where proofs begin to be refused by the defaults, on both sides,
// and tell the clock that drifts there from the one that is right.
var offsetBuckets = []float64{-300, -60, -30, -15, -5, -2, -1, -.5, 0, .5, 1, 2, 5, 15, 30, 60, 75, 300, 3600}

// endpointMetrics are those of one endpoint, found once.
type endpointMetrics struct {
	duration prometheus.Observer
	ok       prometheus.Counter
	answers  map[answered]prometheus.Counter
	other    prometheus.Counter
}

// An answer takes 0.3 ms where nothing waits, and one that waits for its turn more
// than a second: what is asked of the buckets is that they tell 0.3 ms from 0.6.
var durationBuckets = []float64{
	.0001, .0002, .0003, .0005, .00075, .001, .0015, .002, .003, .005, .0075, .01, .02, .05, .1, .25, .5, 1, 2.5, 5,
}

func newEndpointMetrics(d declarer) map[string]*endpointMetrics {
	requests := d.counter("authz_requests_total",
		"Requests that were answered, by endpoint, outcome (ok, refused, limited, shed or failed), and the OAuth error code; ok has none.",
		"endpoint", "outcome", "error")
	duration := d.histogram("authz_request_duration_seconds", "Time from a request's header read to its answer written.", durationBuckets, "endpoint")
	all := map[string]*endpointMetrics{}
	for _, endpoint := range endpoints {
		m := &endpointMetrics{
			duration: duration.WithLabelValues(endpoint),
			answers:  map[answered]prometheus.Counter{},
			other:    requests.WithLabelValues(endpoint, outcomeRefused, labelOther),
		}
		for _, a := range answers() {
			m.answers[a] = requests.WithLabelValues(endpoint, a.outcome, a.code)
		}
		m.ok = m.answers[answered{outcomeOK, ""}]
		all[endpoint] = m
	}
	return all
}

func (m *endpointMetrics) count(a answered) {
	counter := m.ok
	if a.outcome != outcomeOK {
		var known bool
		if counter, known = m.answers[a]; !known {
			counter = m.other
		}
	}
	counter.Inc()
}

func (m *Metrics) observe(ev *event, elapsed time.Duration) {
	at := m.endpoints[ev.endpoint]
	at.count(answeredWith(ev.err, ev.folded))
	at.duration.Observe(elapsed.Seconds())
	if offset, ok := ev.offset(); ok {
		m.proofOffset.Observe(offset.Seconds())
	}
	if ev.err == nil {
		return
	}
	switch check := ev.err.failedCheck(); {
	case check.name == "":
	case check.assertion:
		m.assertionsRefused.inc(check.name)
	default:
		m.proofsRefused.inc(check.name)
	}
}

func outcome(err error) string {
	if err != nil {
		return outcomeFailed
	}
	return outcomeOK
}

// declarer makes metrics and registers them.
type declarer struct{ prometheus.Registerer }

func (d declarer) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	d.MustRegister(v)
	return v
}

func (d declarer) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	d.MustRegister(v)
	return v
}

func (d declarer) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	d.MustRegister(v)
	return v
}
