package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// told is the value of a metric that has no label but constant ones.
func told(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("%s is not told of", name)
	return 0
}

func TestMetricsOfThePoolAreThePools(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	store, err := postgres.Open(t.Context(), db.ServerURL+"&pool_max_conns=3", postgres.AsServer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	r := (&instance{}).registry(store)
	before := told(t, r, "authz_database_acquires_total")
	for range 5 {
		if _, err := store.Database(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := told(t, r, "authz_database_acquires_total") - before; n != 5 {
		t.Errorf("5 statements acquired %v connections", n)
	}
	if n := told(t, r, "authz_database_connections_max"); n != 3 {
		t.Errorf("there may be %v connections", n)
	}
	if told(t, r, "authz_database_connections_made_total") < 1 || told(t, r, "authz_database_connections_idle") < 1 {
		t.Error("no connection was made, or none is idle")
	}
	if told(t, r, "authz_build_info") != 1 {
		t.Error("the build is not told")
	}
}

// While somebody holds all that a pool has, its metrics say so, though no statement
// can be sent.
func TestMetricsOfAPoolThatIsStuckAreToldAllTheSame(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	store, err := postgres.Open(t.Context(), db.ServerURL+"&pool_max_conns=1", postgres.AsServer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	r := (&instance{}).registry(store)
	owner, err := pgx.Connect(t.Context(), db.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.WithoutCancel(t.Context()))
	if _, err := owner.Exec(t.Context(), "begin; lock table authz.signing_keys in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		_, _ = store.SigningKeys(t.Context())
	}()
	for end := time.Now().Add(patience); told(t, r, "authz_database_connections_acquired") != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no connection is at work")
		}
	}
	if _, err := owner.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	<-asking
}
