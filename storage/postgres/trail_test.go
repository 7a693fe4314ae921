package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// readOn reads what is final from after a place on, in steps of few events.
func readOn(t testing.TB, s *postgres.Store, after authz.TrailPosition) []authz.TrailEvent {
	t.Helper()
	var all []authz.TrailEvent
	for {
		events, err := s.Trail(t.Context(), after, 7)
		must(t, err)
		for _, e := range events {
			if e.Position.Compare(after) <= 0 {
				t.Fatalf("%s comes after %s", e.Position, after)
			}
			after = e.Position
		}
		all = append(all, events...)
		if len(events) == 0 {
			return all
		}
	}
}

func idsOf(events []authz.TrailEvent) map[authz.JTI]bool {
	ids := map[authz.JTI]bool{}
	for _, e := range events {
		ids[e.ID] = true
	}
	return ids
}

const insertEventSQL = `insert into authz.audit_events (id, at, kind, actor) values ($1, $2, 'test.test', 'server')`

// Transactions overlap, end in another order than they began, write more after they
// were overtaken, or fail; and clocks are hours apart.
func TestNoEventAppearsBeforeOneThatWasRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	must(t, open(t, db.OwnerURL).Maintain(t.Context(), clock()))
	store := open(t, db.ServerURL, postgres.AsServer())
	const writers, each = 6, 12
	var written sync.Map
	var all sync.WaitGroup
	for w := range writers {
		conn := connect(t, db.ServerURL)
		all.Go(func() {
			at := clock().Add(time.Duration(w-writers/2) * time.Hour)
			for n := range each {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + n%3 {
					id := authz.NewJTI(at)
					if _, err = tx.Exec(t.Context(), insertEventSQL, [16]byte(id), at); err != nil {
						t.Error(err)
					}
					if n%4 != 3 {
						written.Store(id, true)
					}
					time.Sleep(time.Duration((w*7+n*3)%5) * time.Millisecond)
				}
				if end := tx.Commit; n%4 != 3 {
					err = end(t.Context())
				} else {
					err = tx.Rollback(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	var read []authz.TrailEvent
	var at authz.TrailPosition
	for last := false; !last; {
		select {
		case <-ended:
			last = true
		default:
		}
		if last {
			// Whoever else uses this Postgres may delay it.
			awaitFinal(t, connect(t, db.OwnerURL))
		}
		more := readOn(t, store, at)
		read = append(read, more...)
		if len(more) > 0 {
			at = more[len(more)-1].Position
		}
	}
	want := map[authz.JTI]bool{}
	written.Range(func(id, _ any) bool { want[id.(authz.JTI)] = true; return true })
	same(t, want, idsOf(read))
	if len(read) != len(want) {
		t.Errorf("%d events were read, of %d", len(read), len(want))
	}
}

// awaitFinal returns once nothing that was written before can be overtaken.
func awaitFinal(t testing.TB, admin *pgx.Conn) {
	t.Helper()
	upto := list[string](t, admin, `select pg_current_xact_id()::text`)[0]
	for list[bool](t, admin, `select pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8`, upto)[0] {
		time.Sleep(2 * time.Millisecond)
	}
}

func TestLongTransactionDelaysEventsAndLosesNone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin, slow := connect(t, db.OwnerURL), connect(t, db.ServerURL)
	store := open(t, db.OwnerURL)
	must(t, store.Maintain(t.Context(), clock()))
	exec(t, slow, `begin`)
	first, second := authz.NewJTI(clock()), event("test.test", clock())
	exec(t, slow, insertEventSQL, [16]byte(first), clock())
	must(t, store.RecordEvents(t.Context(), []authz.AuditEvent{second}))
	if events := readOn(t, store, authz.TrailPosition{}); len(events) != 0 {
		t.Errorf("%d events, before one that may come", len(events))
	}
	oldest, err := store.OldestAfter(t.Context(), authz.TrailPosition{})
	must(t, err)
	same(t, true, oldest.Equal(second.At))
	exec(t, slow, `commit`)
	awaitFinal(t, admin)
	same(t, map[authz.JTI]bool{first: true, second.ID: true}, idsOf(readOn(t, store, authz.TrailPosition{})))
}

func TestEventIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	full, bare := event(authz.AuditTokenIssued, now), event(authz.AuditKeyCreated, now)
	full.ClientID, full.Resource, full.JTI, full.JKT = shop, labels, authz.NewJTI(now), "jkt"
	full.RequestID, full.RemoteAddr, full.Detail = "request", "192.0.2.1", map[string]any{"scope": "read", "n": 1.5}
	for _, want := range []authz.AuditEvent{full, bare} {
		must(t, store.RecordEvents(t.Context(), []authz.AuditEvent{want}))
	}
	awaitFinal(t, connect(t, db.OwnerURL))
	events := readOn(t, store, authz.TrailPosition{})
	for i, want := range []authz.AuditEvent{full, bare} {
		got := events[i]
		same(t, "authz_server_login", got.RecordedBy)
		detail, err := got.DecodeDetail()
		must(t, err)
		got.Detail = detail
		got.At = got.At.UTC()
		want.At = want.At.UTC()
		same(t, want, got.AuditEvent)
	}
}

func TestOneInstanceAtATimeFollows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	one, two := open(t, db.ServerURL, postgres.AsServer()), open(t, db.ServerURL, postgres.AsServer())
	must(t, one.Maintain(t.Context(), clock()))
	must(t, one.RecordEvents(t.Context(), []authz.AuditEvent{event("test.test", clock()), event("test.test", clock())}))
	awaitFinal(t, admin)
	events := readOn(t, one, authz.TrailPosition{})
	start, first, second := authz.TrailPosition{}, events[0].Position, events[1].Position
	hold := func(s *postgres.Store, holder string, want bool, stands authz.TrailPosition) {
		t.Helper()
		at, held, err := s.Follow(t.Context(), "seals", holder, time.Minute)
		must(t, err)
		same(t, want, held)
		same(t, stands, at)
	}
	move := func(s *postgres.Store, holder string, from, to authz.TrailPosition, want error) {
		t.Helper()
		if err := s.AdvanceFollower(t.Context(), "seals", holder, from, to); !errors.Is(err, want) {
			t.Errorf("%s, from %s to %s: %v, want %v", holder, from, to, err, want)
		}
	}
	move(one, "one", start, first, authz.ErrNotHeld) // nobody's
	hold(one, "one", true, start)
	hold(one, "one", true, start)
	hold(two, "two", false, start)
	move(two, "two", start, first, authz.ErrNotHeld)
	move(one, "one", first, second, authz.ErrNotHeld) // it stands elsewhere
	move(one, "one", start, start, authz.ErrNotHeld)
	move(one, "one", start, authz.TrailPosition{RecordedIn: first.RecordedIn + 1<<40}, authz.ErrNotHeld) // not final
	move(one, "one", start, first, nil)
	move(one, "one", start, first, authz.ErrNotHeld) // again
	hold(two, "two", false, first)
	exec(t, admin, `update authz.followers set held_until = clock_timestamp() where name = 'seals'`)
	hold(two, "two", true, first)
	move(one, "one", first, second, authz.ErrNotHeld)
	hold(one, "one", false, first)
	move(two, "two", first, second, nil)
	for _, bad := range []struct {
		name, holder string
		hold         time.Duration
	}{{"nobody", "one", time.Minute}, {"seals", "", time.Minute}, {"seals", strings.Repeat("x", 65), time.Minute}, {"seals", "two", 0}, {"seals", "two", time.Hour}} {
		if _, _, err := two.Follow(t.Context(), bad.name, bad.holder, bad.hold); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// An instance that is frozen in the middle of a transaction keeps nobody waiting.
func TestFollowerIsAskedForWithoutWaiting(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	frozen, store := connect(t, db.OwnerURL), open(t, db.ServerURL, postgres.AsServer())
	exec(t, frozen, `begin`)
	exec(t, frozen, `select authz.follow('seals', 'frozen', '1 minute')`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, held, err := store.Follow(ctx, "seals", "other", time.Minute); held || err != nil {
		t.Errorf("held: %t, %v", held, err)
	}
}

// A new cluster counts its transactions from the beginning.
func TestPlacesGoOnRisingInADatabaseThatWasRestored(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	owner := open(t, db.OwnerURL)
	must(t, owner.Maintain(t.Context(), clock()))
	must(t, owner.RecordEvents(t.Context(), []authz.AuditEvent{event("test.test", clock())}))
	exec(t, admin, `update authz.audit_events set recorded_in = 1000000000000`) // of the cluster before
	// An operator's command comes before the claim.
	early := event("test.early", clock())
	must(t, owner.RecordEvents(t.Context(), []authz.AuditEvent{early}))
	must(t, owner.ClaimMoved(t.Context(), event(authz.AuditDatabaseMoved, clock())))
	late := event("test.late", clock())
	must(t, owner.RecordEvents(t.Context(), []authz.AuditEvent{late}))
	awaitFinal(t, admin)
	var kinds []string
	for _, e := range readOn(t, owner, authz.TrailPosition{}) {
		kinds = append(kinds, string(e.Kind))
	}
	same(t, "test.test", kinds[0])
	same(t, "test.late", kinds[3])
	same(t, 4, len(kinds))
	added := list[int64](t, admin, `select added from authz.audit_positions`)[0]
	must(t, owner.ClaimMoved(t.Context(), event(authz.AuditDatabaseMoved, clock())))
	same(t, added, list[int64](t, admin, `select added from authz.audit_positions`)[0])
}

// The end of the trail is looked for every few seconds: by the index, in the days that
// have one, and not at all in those before there were places.
func TestTrailIsReadByItsIndexFromAPlaceOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	now := clock()
	day := now.UTC().Truncate(24 * time.Hour)
	for d := -5; d <= -2; d++ {
		makePartition(t, admin, "audit_events", day.AddDate(0, 0, d))
	}
	must(t, store.Maintain(t.Context(), now))
	many := 200_000
	if testing.Short() {
		many = 20_000
	}
	for d := -5; d <= 0; d++ {
		exec(t, admin, `insert into authz.audit_events (id, at, kind, actor, recorded_in)
			select gen_random_uuid(), $1::timestamptz + i * interval '1 millisecond', 'test.test', 'server', $2::bigint + i / 20
			from generate_series(1, $3::int) i`, day.AddDate(0, 0, d), (d+5)*1_000_000, many/6)
	}
	exec(t, admin, `update authz.audit_positions set began_at = $1, added = 100000000`, day.AddDate(0, 0, -4))
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			exec(t, admin, `analyze authz.audit_events`)
		}
		for name, at := range map[string]int64{"its beginning": 0, "a day": 2_000_500, "its end": 6_000_000} {
			plan := explainTrail(t, admin, at)
			if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Bitmap") || !strings.Contains(plan, "Index Scan") {
				t.Errorf("from %s on (analyzed: %t) it is read by\n%s", name, analyzed, plan)
			}
			read := 0
			for _, m := range regexp.MustCompile(`(?m)Index Scan.*rows=(\d+)`).FindAllStringSubmatch(plan, -1) {
				var n int
				fmt.Sscan(m[1], &n)
				read += n
			}
			if read > 500 {
				t.Errorf("from %s on (analyzed: %t) %d rows are read for 100\n%s", name, analyzed, read, plan)
			}
		}
	}
	same(t, 100, len(firstEvents(t, store, authz.TrailPosition{RecordedIn: 1}, 100)))
}

func firstEvents(t testing.TB, s *postgres.Store, after authz.TrailPosition, limit int) []authz.TrailEvent {
	t.Helper()
	events, err := s.Trail(t.Context(), after, limit)
	must(t, err)
	return events
}

// explainTrail is the plan of the statement in read_audit, with its settings.
func explainTrail(t *testing.T, admin *pgx.Conn, at int64) string {
	t.Helper()
	body := list[string](t, admin, `select prosrc from pg_proc where oid = 'authz.read_audit'::regproc`)[0]
	_, body, _ = strings.Cut(body, "return query")
	body, _, _ = strings.Cut(body, ";")
	for name, parameter := range map[string]string{"p_recorded_in": "$1", "p_id": "$2", "p_limit": "$3", "begins": "$4", "ends": "$5"} {
		body = regexp.MustCompile(`\b`+name+`\b`).ReplaceAllLiteralString(body, parameter)
	}
	exec(t, admin, `begin`)
	defer exec(t, admin, `rollback`)
	exec(t, admin, `set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; set local enable_bitmapscan = off; set local jit = off`)
	exec(t, admin, `prepare look (bigint, uuid, integer, timestamptz, bigint) as `+body)
	defer exec(t, admin, `deallocate look`)
	began := list[string](t, admin, `select began_at::text from authz.audit_positions`)[0]
	return strings.Join(list[string](t, admin, fmt.Sprintf(`explain (analyze, costs off, timing off)
		execute look(%d, '00000000-0000-0000-0000-000000000000', 100, '%s', 1000000000)`, at, began), pgx.QueryExecModeSimpleProtocol), "\n")
}
