package audittrail_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/audittrail"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

// Clocks of instances are hours apart, commits come late and across midnight, and others
// seal at the same time: nothing of it is a break.
func TestTrailOfInstancesThatDisagreeIsWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	midnight := w.now.Truncate(24 * time.Hour)
	slow, err := pgx.Connect(t.Context(), w.db.ServerURL)
	must(t, err)
	defer slow.Close(context.WithoutCancel(t.Context()))
	tx, err := slow.Begin(t.Context())
	must(t, err)
	const insert = `insert into authz.audit_events (id, at, kind, actor) values (gen_random_uuid(), $1, 'test.slow', 'server')`
	_, err = tx.Exec(t.Context(), insert, midnight.Add(-time.Minute))
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var sealers, writers sync.WaitGroup
	for range 3 {
		s := w.sealer(w.server)
		sealers.Go(func() {
			for ctx.Err() == nil {
				// Each takes over from the others in the middle of their work.
				if err := letGo(ctx, w.db.OwnerURL); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if err := s.Seal(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				time.Sleep(3 * time.Millisecond)
			}
		})
	}
	const instances, each = 4, 15
	for i := range instances {
		at := midnight.Add(time.Duration(i-2) * time.Hour)
		writers.Go(func() {
			for n := range each {
				w.write(1, at.Add(time.Duration(n)*10*time.Minute))
			}
		})
	}
	writers.Wait()
	_, err = tx.Exec(t.Context(), insert, midnight.Add(time.Minute))
	must(t, err)
	must(t, tx.Commit(t.Context()))
	w.write(1, midnight)
	stop()
	sealers.Wait()
	w.seal()
	w.isWhole("in the end", instances*each+3, 0)
}

// letGo ends the lease of whoever seals.
func letGo(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `update authz.followers set held_until = clock_timestamp() where holder is not null`)
	return err
}

// crashing is a Store whose sealer is killed once, before its seals are written or when
// they are and it has not heard of it.
type crashing struct {
	*postgres.Store
	written bool
	crashed bool
}

var errKilled = errors.New("killed")

func (c *crashing) AddSeals(ctx context.Context, name, holder string, from, to authz.TrailPosition, seals []authz.TrailSeal) error {
	if c.crashed {
		return c.Store.AddSeals(ctx, name, holder, from, to, seals)
	}
	c.crashed = true
	if c.written {
		if err := c.Store.AddSeals(ctx, name, holder, from, to, seals); err != nil {
			return err
		}
	}
	return errKilled
}

func TestSealerThatIsKilledSealsNothingTwiceAndLeavesNothingOut(t *testing.T) {
	t.Parallel()
	for name, written := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write(3, w.now)
			w.awaitFinal()
			s := w.sealer(&crashing{Store: w.server, written: written})
			if err := s.Seal(t.Context()); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			w.write(2, w.now)
			w.awaitFinal()
			must(t, s.Seal(t.Context()))
			w.isWhole("by itself", 5, 0)
			w.write(2, w.now)
			w.seal()
			w.isWhole("by another", 7, 0)
		})
	}
}

func TestTrailFromBeforeThereWereSealsIsToldApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(3, w.now.AddDate(0, 0, -3))
	w.write(2, w.now.AddDate(0, 0, -2))
	w.exec(`update authz.audit_events set recorded_in = null`)
	w.exec(`update authz.audit_positions set made_at = made_at + interval '1 day'`)
	w.isWhole("at first", 0, 0)
	w.write(2, w.now.AddDate(0, 0, -2))
	w.write(1, w.now)
	w.seal()
	report := w.isWhole("sealed", 3, 0)
	var states []string
	for _, d := range report.Days {
		states = append(states, string(d.State))
	}
	if got := strings.Join(states, " "); got != "before whole empty whole empty empty" || report.Days[1].Before != 2 {
		t.Errorf("the days are %s: %+v", got, report.Days)
	}
}

func TestChainIsWholeFromTheOldestDayThatIsKeptOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for d := -3; d <= 0; d++ {
		w.write(2, w.now.AddDate(0, 0, d))
		w.seal()
		w.write(1, w.now.AddDate(0, 0, d))
		w.seal()
	}
	day := w.now.Truncate(24 * time.Hour)
	w.exec(`update authz.audit_retention set keep_days = 1`)
	must(t, w.server.Maintain(t.Context(), w.now))
	report := w.isWhole("without the events of the first day", 12, 0)
	if report.Days[0].State != audittrail.Dropped {
		t.Errorf("%+v", report.Days)
	}
	// Seals go by the day that they were made on.
	w.exec(`alter table authz.audit_seals detach partition ` + sealsOf(day))
	for d := -5; d <= -4; d++ {
		w.exec(`select authz.ensure_partition('audit_seals', $1, $2)`, day.AddDate(0, 0, d), day.AddDate(0, 0, d+1))
	}
	w.exec(`insert into authz.audit_seals select number, day, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous,
		digest, mac, mac_key, now() - interval '5 days' + number * interval '1 millisecond' from ` + sealsOf(day) + ` where number <= 3`)
	w.exec(`delete from ` + sealsOf(day) + ` where number <= 3`)
	w.exec(`alter table authz.audit_seals attach partition ` + sealsOf(day) + ` for values from ('` + day.Format(time.RFC3339) + `') to ('` + day.AddDate(0, 0, 1).Format(time.RFC3339) + `')`)
	w.isWhole("with seals of another day", 12, 0)
	must(t, w.server.Maintain(t.Context(), w.now))
	w.isWhole("without the first seals", 7, 0)
	w.exec(`delete from authz.audit_seals`)
	w.exec(`update authz.audit_retention r set dropped_seal = 8, dropped_digest = $1`, make([]byte, 32))
	if report := w.verify(w.keys, audittrail.Choice{}); !report.Broken() {
		t.Error("seals that were deleted pass for dropped")
	}
}

func sealsOf(day time.Time) string { return "authz.audit_seals_" + day.Format("20060102") + "_00" }

// What somebody writes by the documented encoding, and nothing of the package.
func TestDigestIsMadeAsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(2, w.now)
	w.seal()
	w.write(2, w.now)
	w.seal()
	numberOf := func(n int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	textOf := func(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }
	previous := authz.Digest{}
	err := w.owner.EachSeal(t.Context(), "", func(s authz.TrailSeal) error {
		heading := "authz audit seal 1\n" + string(previous[:]) + numberOf(s.Number) + s.Day +
			numberOf(s.From.RecordedIn) + string(s.From.ID[:]) + numberOf(s.Upto.RecordedIn) + string(s.Upto.ID[:]) + numberOf(int64(s.Events))
		text := heading
		events, err := w.owner.Trail(t.Context(), s.From, s.Events)
		must(t, err)
		for _, e := range events {
			text += numberOf(e.Position.RecordedIn) + string(e.ID[:]) + numberOf(e.At.UnixMicro()) + string(e.JTI[:]) +
				textOf(string(e.Kind)) + textOf(e.Actor) + textOf(e.ClientID) + textOf(e.Resource) + textOf(e.JKT) +
				textOf(e.RequestID) + textOf(e.RemoteAddr) + textOf(e.RecordedBy) + textOf(string(e.RawDetail))
		}
		if previous = sha256.Sum256([]byte(text)); previous != s.Digest {
			t.Errorf("seal %d: another digest", s.Number)
		}
		secret := authz.DigestOf("first")
		key, err := hkdf.Key(sha256.New, secret[:], nil, "authz audit seals", 32)
		must(t, err)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(heading))
		mac.Write(s.Digest[:])
		if !hmac.Equal(mac.Sum(nil), s.MAC[:]) {
			t.Errorf("seal %d: another MAC", s.Number)
		}
		return nil
	})
	must(t, err)
	if previous == (authz.Digest{}) {
		t.Error("no seals")
	}
}

func TestLogIsToldOfTheHeadOnceAMinuteAndAtTheEndOfADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.sealer(w.server)
	seal := func(day int, want int) {
		t.Helper()
		w.write(1, w.now.AddDate(0, 0, day))
		w.awaitFinal()
		must(t, s.Seal(t.Context()))
		if got := strings.Count(w.logs.String(), "audit trail sealed"); got != want {
			t.Errorf("the log has %d heads, want %d:\n%s", got, want, w.logs)
		}
	}
	seal(-2, 1)
	seal(-2, 1)
	seal(-1, 2)
	seal(-1, 2)
	head := regexp.MustCompile(`head=(\S+)`).FindAllStringSubmatch(w.logs.String(), -1)[1][1]
	kept, err := audittrail.ParseHead(head)
	must(t, err)
	if report := w.verify(w.keys, audittrail.Choice{Head: &kept}); report.Broken() {
		t.Error(describe(report))
	}
}

func TestLagIsTheAgeOfTheOldestEventThatIsNotSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(1, w.now.Add(-time.Hour))
	other := w.sealer(w.server)
	_, held, err := w.server.Follow(t.Context(), audittrail.Follower, "somebody who hangs", time.Minute)
	if err != nil || !held {
		t.Fatal(held, err)
	}
	must(t, other.Seal(t.Context()))
	if lag := w.metric("authz_audit_sealed_lag_seconds"); lag < 3600 || lag > 2*3600 {
		t.Errorf("a lag of %v s", lag)
	}
	w.seal()
	if lag, sealed := w.metric("authz_audit_sealed_lag_seconds"), w.metric("authz_audit_events_sealed_total"); lag != 0 || sealed != 1 {
		t.Errorf("a lag of %v s, %v events sealed", lag, sealed)
	}
}

func (w *world) metric(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	must(w.t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	w.t.Fatalf("there is no %s", name)
	return 0
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "first")
	secret := authz.DigestOf("first")
	derived, err := hkdf.Key(sha256.New, secret[:], nil, "authz audit seals", 32)
	must(t, err)
	var b buffer
	w := &world{logs: &b}
	logger(w).Info("keys", "keys", keys)
	text := b.String() + keys.String() + keys.GoString()
	for _, key := range [][]byte{secret[:], derived} {
		if strings.Contains(text, string(key)) || strings.Contains(text, authz.Digest(key).Name()) {
			t.Errorf("a key is in %q", text)
		}
	}
}

// A new cluster counts its transactions from the beginning.
func TestTrailThatWasDumpedAndRestoredIsWhole(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"pg_dump", "psql"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	w := newWorld(t)
	w.write(3, w.now)
	w.seal()
	w.write(2, w.now)
	w.awaitFinal()
	// As if the cluster had been at work for years.
	w.exec(`update authz.audit_positions set added = 1000000000`)
	w.exec(`alter table authz.audit_events alter column recorded_in set default (pg_current_xact_id()::text::bigint + 1000000000)`)
	w.write(2, w.now)
	w.seal()
	head := w.isWhole("before", 7, 0).Head

	other, err := pgdev.Start(t.Context(), pgdev.Options{Unsafe: true})
	must(t, err)
	t.Cleanup(func() { must(t, other.Stop(context.Background())) })
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	dump := t.TempDir() + "/dump.sql"
	run("pg_dump", "--no-owner", "--file="+dump, w.db.OwnerURL)
	run("psql", "-qX", "--dbname="+other.URL(), "--command=create role authz_server nologin")
	run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "--dbname="+other.URL(), "--file="+dump)
	w.db = pgtest.Database{OwnerURL: other.URL(), ServerURL: other.URL()}
	w.connectOwner()
	_, err = w.owner.ClaimRestored(t.Context(), w.now, authz.NewAuditEvent(w.now, authz.AuditDatabaseRestored, authz.ActorOperator("ada")))
	must(t, err)
	w.connect()
	must(t, w.owner.Maintain(t.Context(), w.now))
	w.write(2, w.now)
	w.seal()
	if report := w.verify(w.keys, audittrail.Choice{Head: head}); report.Broken() {
		t.Error(describe(report))
	}
	w.isWhole("after", 10, 0)
}

func TestTrailIsWholeAfterAFailover(t *testing.T) {
	t.Parallel()
	primary, err := pgdev.Start(t.Context(), pgdev.Options{Unsafe: true})
	must(t, err)
	t.Cleanup(func() { must(t, primary.Stop(context.Background())) })
	conn, err := pgx.Connect(t.Context(), primary.URL())
	must(t, err)
	must(t, migrations.Up(t.Context(), conn))
	must(t, conn.Close(t.Context()))
	standby, err := primary.Standby(t.Context())
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, standby.Stop(context.Background())) })
	w := &world{t: t, db: pgtest.Database{OwnerURL: primary.URL(), ServerURL: primary.URL()}, logs: &buffer{}, keys: keysOf(t, "first"), now: time.Now().UTC()}
	w.connect()
	must(t, w.owner.Maintain(t.Context(), w.now))
	w.write(3, w.now)
	w.seal()
	w.write(2, w.now)
	must(t, primary.Kill())
	awaitReplay(t, standby)
	must(t, standby.Promote(t.Context()))
	w.db = pgtest.Database{OwnerURL: standby.URL(), ServerURL: standby.URL()}
	w.connect()
	w.write(2, w.now)
	w.seal()
	w.isWhole("after", 7, 0)
}

// awaitReplay returns when a standby has done all that it has heard of: to promote it is a
// statement, and what is done meanwhile may be in conflict with that.
func awaitReplay(t *testing.T, standby *pgdev.Postgres) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), standby.URL())
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for done := false; !done; time.Sleep(5 * time.Millisecond) {
		must(t, conn.QueryRow(t.Context(), `select pg_last_wal_receive_lsn() is not distinct from pg_last_wal_replay_lsn()`).Scan(&done))
	}
}
