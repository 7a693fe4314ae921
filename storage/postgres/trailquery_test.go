package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

func queried(t testing.TB, s *postgres.Store, q authz.TrailQuery) []authz.TrailEvent {
	t.Helper()
	var all []authz.TrailEvent
	must(t, s.QueryTrail(t.Context(), q, func(e authz.TrailEvent) error { all = append(all, e); return nil }))
	return all
}

func TestQueryFindsWhatFitsAllOfItAndNothingElse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	store := open(t, db.OwnerURL)
	now := clock().UTC()
	must(t, store.Maintain(t.Context(), now))
	jti := authz.NewJTI(now)
	var written []authz.AuditEvent
	for i := range 48 {
		e := event([]authz.AuditKind{"token.issued", "token.refused", "tokenx.issued", "client.secret_rotated"}[i%4], now.Add(time.Duration(i-40)*time.Hour/2))
		e.ClientID = []string{"", "shop", "edge"}[i%3]
		e.Resource = []string{"", labels}[i%2]
		e.JKT = []string{"", "jkt"}[i/2%2]
		e.RequestID = fmt.Sprint("request", i%5)
		if i%7 == 0 {
			e.JTI = jti
		}
		if i%5 == 0 {
			e.Actor = "server"
		}
		written = append(written, e)
	}
	must(t, store.RecordEvents(t.Context(), written))
	for _, q := range []authz.TrailQuery{
		{},
		{Clients: []string{"shop"}},
		{Clients: []string{"shop", "edge"}, Kinds: []string{"token.*"}},
		{Kinds: []string{"token*"}},
		{Kinds: []string{"token.issued", "client.*"}, Resources: []string{labels}},
		{Kinds: []string{"client.secret_*"}},
		{Kinds: []string{"client_secret.*", "%", "_oken.issued"}},
		{JTIs: []authz.JTI{jti}},
		{JKTs: []string{"jkt"}, Since: now.Add(-5 * time.Hour)},
		{RequestIDs: []string{"request1", "request2"}, Until: now.Add(-time.Hour)},
		{Actors: []string{"server"}, Since: now.Add(-10 * time.Hour), Until: now},
		{Since: written[30].At, Until: written[31].At},
	} {
		all := queried(t, store, q)
		var got, want []authz.JTI
		for _, e := range all {
			got = append(got, e.ID)
		}
		for _, e := range queried(t, store, authz.TrailQuery{}) {
			if q.Matches(e) {
				want = append(want, e.ID)
			}
		}
		same(t, want, got)
		if !slices.IsSortedFunc(all, func(a, b authz.TrailEvent) int { return a.At.Compare(b.At) }) {
			t.Errorf("%+v: not by time", q)
		}
		q.Limit = 3
		got = nil
		for _, e := range queried(t, store, q) {
			got = append(got, e.ID)
		}
		same(t, want[max(0, len(want)-3):], got)
	}
	same(t, 48, len(queried(t, store, authz.TrailQuery{})))
}

func TestFollowingBeginsWithTheMomentThatIsAskedFor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	old, later := event("test.old", now.Add(-2*time.Hour)), event("test.later", now.Add(-time.Hour))
	for _, e := range []authz.AuditEvent{old, later} {
		must(t, store.RecordEvents(t.Context(), []authz.AuditEvent{e}))
	}
	awaitFinal(t, admin)
	from := func(since time.Time) authz.TrailPosition {
		at, err := store.TrailFrom(t.Context(), since)
		must(t, err)
		return at
	}
	end := from(time.Time{})
	next := event("test.next", now)
	must(t, store.RecordEvents(t.Context(), []authz.AuditEvent{next}))
	awaitFinal(t, admin)
	same(t, map[authz.JTI]bool{next.ID: true}, idsOf(readOn(t, store, end)))
	same(t, map[authz.JTI]bool{later.ID: true, next.ID: true}, idsOf(readOn(t, store, from(later.At))))
	same(t, map[authz.JTI]bool{}, idsOf(readOn(t, store, from(now.Add(time.Hour)))))
}

// Not with others: memory is the whole program's.
func TestQueryHoldsFewOfTheEventsInMemory(t *testing.T) {
	db := pgtest.New(t)
	store := open(t, db.OwnerURL)
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	many := 1_000_000
	if os.Getenv("AUTHZ_TEST_LONG") == "" {
		many = 50_000
	}
	exec(t, connect(t, db.OwnerURL), `insert into authz.audit_events (id, at, kind, actor, detail)
		select gen_random_uuid(), $1::timestamptz - i * interval '1 millisecond', 'test.test', 'server', '{"text": "text text text text text text text text text"}'
		from generate_series(1, $2::int) i`, now, many)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var n int
	stop := errors.New("enough")
	before := heap()
	err := store.QueryTrail(t.Context(), authz.TrailQuery{}, func(authz.TrailEvent) error {
		if n++; n == many {
			if grown := int64(heap()) - int64(before); grown > 8<<20 {
				t.Errorf("after %d events memory has grown by %d bytes", n, grown)
			}
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("%d events: %v", n, err)
	}
}

func TestRetentionThatIsChangedIsRecordedAndKept(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	owner, server := open(t, db.OwnerURL), open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	day := now.UTC().Truncate(24 * time.Hour)
	for d := 10; d > 0; d-- {
		makePartition(t, admin, "audit_events", day.AddDate(0, 0, -d))
	}
	for _, step := range []struct {
		days    int
		changed bool
		oldest  int
	}{{90, false, 10}, {7, true, 7}, {7, false, 7}, {3650, true, 7}, {1, true, 1}} {
		changed, err := owner.KeepTrail(t.Context(), step.days, event(authz.AuditRetentionChanged, now))
		must(t, err)
		same(t, step.changed, changed)
		must(t, server.Maintain(t.Context(), now))
		for d := 10; d > 0; d-- {
			if has := slices.Contains(partitions(t, admin), partitionOf("audit_events", day.AddDate(0, 0, -d))); has != (d <= step.oldest) {
				t.Errorf("kept for %d days, that of %d days ago is there: %t", step.days, d, has)
			}
		}
		record, err := owner.TrailRecord(t.Context())
		must(t, err)
		same(t, step.days, record.KeepDays)
		if step.oldest < 10 && !record.DroppedBefore.Equal(day.AddDate(0, 0, -step.oldest)) {
			t.Errorf("dropped before %s, kept for %d days", record.DroppedBefore, step.days)
		}
	}
	same(t, 3, len(queried(t, owner, authz.TrailQuery{Kinds: []string{"audit.retention_changed"}})))
	for _, days := range []int{0, -1, 3651} {
		if _, err := owner.KeepTrail(t.Context(), days, event(authz.AuditRetentionChanged, now)); err == nil {
			t.Errorf("kept for %d days", days)
		}
	}
}
