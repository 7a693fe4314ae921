package authz

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/jwks"
)

// keyMetrics tell of the signing keys, by algorithm where there is one for each in use.
type keyMetrics struct {
	unopened prometheus.Gauge
	gaps     prometheus.Gauge

	age  *prometheus.GaugeVec
	next *prometheus.GaugeVec
	due  *prometheus.GaugeVec
}

func newKeyMetrics(d declarer) keyMetrics {
	return keyMetrics{
		unopened: d.gauge("authz_signing_keys_unopened",
			"Signing keys, in force or to be, that this instance cannot open as they are stored. More than 0 is an alarm.").WithLabelValues(),
		gaps: d.gauge("authz_signing_gaps",
			"Algorithms in use by which, now or at a time that is set already, another key signs than this instance has. More than 0 is an alarm.").WithLabelValues(),
		age: d.gauge("authz_signing_key_age_seconds", "How long ago the key that signs by the algorithm began to.", "alg"),
		next: d.gauge("authz_signing_key_next_change_timestamp_seconds",
			"When the next key takes over, in Unix time; 0 where it is not made yet.", "alg"),
		due: d.gauge("authz_signing_key_due_timestamp_seconds",
			"When the next key is to be made, in Unix time; 0 where keys do not rotate by themselves.", "alg"),
	}
}

// measure tells of the keys as they were read last: where they cannot be read any
// more they grow old all the same.
func (k *keyring) measure() {
	set := k.current()
	if set == nil {
		return
	}
	now, timeline, inUse := k.now(), set.Timeline(), k.algorithmsInUse()
	for _, a := range jwks.Algorithms() {
		signer, ok := timeline.Signer(a, now)
		if !ok || !slices.Contains(inUse, a) {
			k.metrics.keys.forget(a)
			continue
		}
		began, _ := timeline.Began(signer)
		k.metrics.keys.age.WithLabelValues(string(a)).Set(max(0, now.Sub(began).Seconds()))
		k.metrics.keys.next.WithLabelValues(string(a)).Set(unixOrZero(timeline.SignsUntil(signer)))
		var due time.Time
		if newest, ok := timeline.Newest(a); ok && k.rotation > 0 {
			due = newest.SignsFrom.Add(k.rotation - k.ahead)
		}
		k.metrics.keys.due.WithLabelValues(string(a)).Set(unixOrZero(due))
	}
}

func (m keyMetrics) forget(a jwks.Algorithm) {
	for _, v := range []*prometheus.GaugeVec{m.age, m.next, m.due} {
		v.DeleteLabelValues(string(a))
	}
}

func unixOrZero(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
