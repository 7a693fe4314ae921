package postgres_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// makeDay makes the partitions of a day that is over, and returns their names.
func makeDay(t testing.TB, admin *pgx.Conn, now time.Time) (names []string) {
	t.Helper()
	for h := 5; h < 29; h++ {
		at := now.Add(-time.Duration(h) * time.Hour)
		makePartition(t, admin, "tokens", at)
		makePartition(t, admin, "spent_proofs", at)
		exec(t, admin, `insert into authz.spent_proofs (digest, iat) select sha256(i::text::bytea), $1 from generate_series(1, 100) i`, at)
		names = append(names, partitionOf("tokens", at), partitionOf("spent_proofs", at))
	}
	return names
}

// recordWhile has tokens recorded, by four at a time, until so many are and while
// ends. It returns how long each took, in ascending order.
func recordWhile(t *testing.T, store *postgres.Store, enough int64, while func()) []time.Duration {
	t.Helper()
	const workers = 4
	took := make([][]time.Duration, workers)
	failed := make([]error, workers)
	var recorded atomic.Int64
	var over atomic.Bool
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for failed[w] == nil && (!over.Load() || recorded.Load() < enough) {
				i := issue(clock())
				begun := time.Now()
				failed[w] = store.RecordToken(t.Context(), i)
				took[w] = append(took[w], time.Since(begun))
				recorded.Add(1)
			}
		})
	}
	for recorded.Load() < enough/3 && t.Context().Err() == nil { // in the midst of it
		time.Sleep(time.Millisecond)
	}
	while()
	over.Store(true)
	all.Wait()
	must(t, errors.Join(failed...))
	return slices.Sorted(slices.Values(slices.Concat(took...)))
}

// What is dropped under load stops requests twice, for a moment: once in each family.
// That is less than one in a hundred of them. A machine that has other work slows
// some: one attempt of several has to show it.
func TestADayOfPartitionsIsDroppedInASecondAndRequestsDoNotFeelIt(t *testing.T) {
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	populate(t, open(t, db.OwnerURL), clock())
	store := open(t, db.ServerURL, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 5 }))
	const attempts, requests = 6, 4000
	recordWhile(t, store, requests/8, func() {}) // plans are made, and pages are there
	for attempt := 1; ; attempt++ {
		day := makeDay(t, admin, clock())
		quiet := recordWhile(t, store, requests, func() {})
		var upkeep time.Duration
		dropping := recordWhile(t, store, requests, func() {
			begun := time.Now()
			for haveAny(t, admin, day) { // one that would wait leaves it to the next
				must(t, store.Maintain(t.Context(), clock()))
			}
			upkeep = time.Since(begun)
		})
		before, meanwhile := quiet[len(quiet)*99/100], dropping[len(dropping)*99/100]
		if upkeep < time.Second && meanwhile < before*5/4 {
			return
		}
		t.Logf("attempt %d: it took %s; p99 %s before, and %s meanwhile", attempt, upkeep, before, meanwhile)
		if attempt == attempts {
			t.Fatal("none of these attempts shows it")
		}
	}
}

// haveAny tells whether a table of these names is there, by itself or detached.
func haveAny(t testing.TB, admin *pgx.Conn, names []string) bool {
	t.Helper()
	return list[bool](t, admin, `select exists (select from pg_class
		where relnamespace = 'authz'::regnamespace and regexp_replace(relname, '_old$', '') = any($1))`, names)[0]
}

func TestADayOfPartitionsLeavesAFamilyAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	kept := partitions(t, admin)
	makeDay(t, admin, now)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Nothing else is done here, so that no drop has to wait, and be left.
	for _, family := range []string{"tokens", "spent_proofs"} {
		same(t, []bool{true}, list[bool](t, admin, `select authz.drop_old_partition($1, $2)`, family, now))
		left := list[int](t, admin, `select count(*)::int from pg_inherits where inhparent = ('authz.' || $1)::regclass`, family)
		same(t, []int{8}, left)
	}
	same(t, kept, partitions(t, admin))
	same(t, []string{}, list[string](t, admin, `
		select c.relname::text from pg_index i join pg_class t on t.oid = i.indrelid join pg_class c on c.oid = i.indexrelid
		where t.relname ~ '_old$' and c.relname !~ '_old'`))
	must(t, store.Maintain(ctx, now))
	same(t, len(kept), hourTables(t, admin))
}

// hourTables counts all that have a partition's name, those that were detached too.
func hourTables(t testing.TB, admin *pgx.Conn) int {
	t.Helper()
	return list[int](t, admin, `select count(*)::int from pg_class
		where relnamespace = 'authz'::regnamespace and relkind = 'r' and relname ~ '_[0-9]{8}_[0-9]{2}(_old)?$'`)[0]
}

// What an upkeep that was cut short has detached, the next one drops, and nothing
// that is not old by both clocks, nor what an operator has detached to keep it.
func TestWhatWasDetachedIsDroppedOnceItIsOld(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	old, young, kept := now.Add(-5*time.Hour), now.Add(-2*time.Hour), now.Add(-6*time.Hour)
	families := []string{"tokens", "spent_proofs"}
	for _, family := range families {
		makePartition(t, admin, family, old)
		makePartition(t, admin, family, young)
		makePartition(t, admin, family, kept)
		for _, at := range []time.Time{old, young, kept} {
			exec(t, admin, `alter table authz.`+family+` detach partition authz.`+partitionOf(family, at))
		}
		for _, at := range []time.Time{old, young} {
			exec(t, admin, `alter table authz.`+partitionOf(family, at)+` rename to `+partitionOf(family, at)+`_old`)
		}
	}
	before := hourTables(t, admin)
	must(t, store.Maintain(t.Context(), now.AddDate(-1, 0, 0)))
	same(t, before, hourTables(t, admin))
	must(t, store.Maintain(t.Context(), now))
	for _, family := range families {
		for name, want := range map[string]bool{
			partitionOf(family, old) + "_old": false, partitionOf(family, young) + "_old": true, partitionOf(family, kept): true,
		} {
			same(t, []bool{want}, list[bool](t, admin, `select to_regclass('authz.' || $1) is not null`, name))
		}
	}
}
