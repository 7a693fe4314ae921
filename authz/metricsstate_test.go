package authz_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// awaitMetric waits until a sample is what it is to be.
func (i *instance) awaitMetric(name string, want float64) {
	i.w.t.Helper()
	end := time.Now().Add(time.Minute)
	for i.metric(name) != want || !strings.Contains(i.internalGet("/metrics").body, "\n"+name+" ") {
		if time.Now().After(end) {
			i.w.t.Fatalf("%s stays %v", name, i.metric(name))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Who watches metrics learns of an instance that is not ready though nobody asks
// /readyz.
func TestMetricsTellWhetherTheInstanceIsReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); i.server.Run(ctx) }()
	i.awaitMetric("authz_ready", 1)
	w.exec("alter function authz.has_partitions rename to has_no_partitions")
	i.awaitMetric("authz_ready", 0)
	w.exec("alter function authz.has_no_partitions rename to has_partitions")
	i.internalGet("/readyz")
	i.awaitMetric("authz_ready", 1)
	i.server.Drain()
	i.awaitMetric("authz_ready", 0)
	cancel()
	<-ran
}

func TestMetricsTellOfPartitionsFromTheStartOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	for _, family := range []string{"tokens", "spent_proofs", "audit_events", "audit_seals"} {
		name := `authz_partitions_prepared_until_timestamp_seconds{family="` + family + `"}`
		if until := i.metric(name); until < float64(time.Now().Add(5*time.Hour).Unix()) {
			t.Errorf("partitions of %s are prepared until %v", family, until)
		}
	}
}

// Without the setting no client is named, and the first of what matters is an
// increase: its counter was there before.
func TestMetricsNameNoClientUnlessTheyAreTold(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		w := newWorld(t)
		w.named = named
		i := w.instance()
		client := w.client(authz.Client{ID: "robbed", DPoPKeys: authz.EnrolledKey})
		const unenrolled = "authz_unenrolled_dpop_keys_total"
		i.awaitMetric(unenrolled+`{client_id=""}`, 0)
		i.do(i.tokenRequest(client, newKey(t), clientCredentials))
		name := ""
		if named {
			name = "robbed"
		}
		if got := i.metric(unenrolled + `{client_id="` + name + `"}`); got != 1 {
			t.Errorf("clients are named: %t: %s counts %v", named, unenrolled, got)
		}
		if strings.Contains(i.internalGet("/metrics").body, "robbed") != named {
			t.Errorf("clients are named: %t, and /metrics is otherwise", named)
		}
	}
}
