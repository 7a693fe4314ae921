package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

func family(t testing.TB, s *postgres.Store, name string) authz.PartitionFamily {
	t.Helper()
	families, err := s.Partitions(t.Context())
	must(t, err)
	for _, f := range families {
		if f.Family == name {
			return f
		}
	}
	t.Fatalf("there is no family %s", name)
	return authz.PartitionFamily{}
}

func TestPartitionsAreToldAsTheyStand(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	if f := family(t, store, "tokens"); !f.PreparedUntil(now).IsZero() || !f.OldestEnd().IsZero() || f.Detached != 0 {
		t.Errorf("without any: %+v", f)
	}
	must(t, store.Maintain(t.Context(), now))
	hour, day := now.UTC().Truncate(time.Hour), now.UTC().Truncate(24*time.Hour)
	for name, until := range map[string]time.Time{"tokens": hour.Add(7 * time.Hour), "spent_proofs": hour.Add(7 * time.Hour), "audit_events": day.Add(3 * 24 * time.Hour)} {
		f := family(t, store, name)
		if got := f.PreparedUntil(now); !got.Equal(until) {
			t.Errorf("%s: prepared until %s, want %s", name, got, until)
		}
		if got := f.OldestEnd(); !got.Equal(now.UTC().Truncate(f.Width)) { // the hour, or the day, before is made as well
			t.Errorf("%s: the oldest ends at %s", name, got)
		}
	}

	// A gap ends what is prepared, and what is old shows.
	gap := hour.Add(2 * time.Hour)
	exec(t, admin, `drop table authz.`+partitionOf("tokens", gap))
	makePartition(t, admin, "tokens", hour.Add(-50*time.Hour))
	f := family(t, store, "tokens")
	if got := f.PreparedUntil(now); !got.Equal(gap) {
		t.Errorf("before a gap, which begins at %s, it is prepared until %s", gap, got)
	}
	if !f.PreparedUntil(gap.Add(time.Minute)).IsZero() {
		t.Error("there is no partition for a moment, and it is prepared from then on")
	}
	if got := f.OldestEnd(); !got.Equal(hour.Add(-49 * time.Hour)) {
		t.Errorf("the oldest ends at %s", got)
	}

	// What was taken out, and what an operator keeps, is not the family's any more.
	old := partitionOf("tokens", hour.Add(-50*time.Hour))
	exec(t, admin, `alter table authz.tokens detach partition authz.`+old)
	if f := family(t, store, "tokens"); f.Detached != 0 || f.OldestEnd().Before(hour) {
		t.Errorf("one that an operator keeps counts: %+v", f)
	}
	exec(t, admin, `alter table authz.`+old+` rename to `+old+`_old`)
	if f := family(t, store, "tokens"); f.Detached != 1 {
		t.Errorf("one that is to be dropped does not count: %+v", f)
	}
	must(t, store.Maintain(t.Context(), now))
	if f := family(t, store, "tokens"); f.Detached != 0 || !f.PreparedUntil(now).Equal(hour.Add(7*time.Hour)) {
		t.Errorf("after upkeep: %+v", f)
	}
}

func TestWidthsOfPartitionsAreTheSchemas(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	families, err := open(t, db.ServerURL, postgres.AsServer()).Partitions(t.Context())
	must(t, err)
	var told []string
	for _, f := range families {
		told = append(told, fmt.Sprintf("%s %d", f.Family, int(f.Width.Seconds())))
	}
	schema := list[string](t, connect(t, db.OwnerURL), `select family || ' ' || extract(epoch from width)::bigint from authz.partition_families()`)
	if diff := cmp.Diff(schema, told); diff != "" {
		t.Errorf("families (-schema +told):\n%s", diff)
	}
}
