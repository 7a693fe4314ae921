package authz

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/jwks"
)

// gauges are what is told, by name and algorithm.
func gauges(t *testing.T, r *prometheus.Registry, names ...string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]float64{}
	for _, f := range families {
		for _, name := range names {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				told[name+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	return told
}

func TestMetricsTellTheAgeAndTheChangesOfEachKeyInUse(t *testing.T) {
	const day = 24 * time.Hour
	begun := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	key := func(kid string, a jwks.Algorithm, from time.Time) jwks.Info {
		return jwks.Info{KID: kid, Algorithm: a, CreatedAt: from.Add(-day), SignsFrom: from}
	}
	const age, next, due = "authz_signing_key_age_seconds ES256", "authz_signing_key_next_change_timestamp_seconds ES256", "authz_signing_key_due_timestamp_seconds ES256"
	first, second := key("first", jwks.ES256, begun), key("second", jwks.ES256, begun.Add(30*day))
	unused := key("unused", jwks.RS256, begun)
	at := func(t time.Time) float64 { return float64(t.Unix()) }
	for _, c := range []struct {
		name     string
		rotation time.Duration
		now      time.Duration // since begun
		keys     []jwks.Info
		want     map[string]float64
	}{
		{"one key", 30 * day, 10 * day, []jwks.Info{first, unused},
			map[string]float64{age: (10 * day).Seconds(), next: 0, due: at(begun.Add(29 * day))}},
		{"the next one is due, and not there", 30 * day, 29*day + time.Hour, []jwks.Info{first},
			map[string]float64{age: (29*day + time.Hour).Seconds(), next: 0, due: at(begun.Add(29 * day))}},
		{"the next one is made", 30 * day, 29*day + time.Hour, []jwks.Info{first, second},
			map[string]float64{age: (29*day + time.Hour).Seconds(), next: at(second.SignsFrom), due: at(begun.Add(59 * day))}},
		{"the next one has taken over", 30 * day, 31 * day, []jwks.Info{first, second},
			map[string]float64{age: day.Seconds(), next: 0, due: at(begun.Add(59 * day))}},
		{"rotation is off", 0, 400 * day, []jwks.Info{first}, map[string]float64{age: (400 * day).Seconds(), next: 0, due: 0}},
		{"a clock that is behind", 30 * day, -time.Hour, []jwks.Info{first}, map[string]float64{age: 0, next: 0, due: at(begun.Add(29 * day))}},
	} {
		registry := prometheus.NewRegistry()
		now := begun.Add(c.now)
		k := &keyring{metrics: NewMetrics(registry), now: func() time.Time { return now }, algorithm: jwks.ES256, rotation: c.rotation, ahead: day}
		k.measure() // nothing is read yet
		set, err := jwks.NewSet(nil, c.keys...)
		if err != nil {
			t.Fatal(err)
		}
		k.metrics.keys.age.WithLabelValues(string(jwks.EdDSA)).Set(1) // was in use
		k.read.Store(&keysRead{set, now})
		k.measure()
		got := gauges(t, registry, "authz_signing_key_age_seconds", "authz_signing_key_next_change_timestamp_seconds", "authz_signing_key_due_timestamp_seconds")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
