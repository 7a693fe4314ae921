package audittrail_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/audittrail"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a database with a trail.
type world struct {
	t             testing.TB
	db            pgtest.Database
	owner, server *postgres.Store
	admin         *pgx.Conn
	keys          audittrail.Keys
	now           time.Time
	logs          *buffer
	metrics       *prometheus.Registry
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.New(t), now: time.Now().UTC().Truncate(time.Microsecond), logs: &buffer{}}
	w.connect()
	w.keys = keysOf(t, "first")
	// Events of days before are written as well.
	for d := -3; d <= 2; d++ {
		day := w.now.Truncate(24*time.Hour).AddDate(0, 0, d)
		w.exec(`select authz.ensure_partition('audit_events', $1, $2)`, day, day.AddDate(0, 0, 1))
	}
	w.exec(`update authz.audit_positions set began_at = began_at - interval '3 days', made_at = made_at - interval '3 days'`)
	must(t, w.owner.Maintain(t.Context(), w.now))
	return w
}

// connect opens what is connected to the database at db.
func (w *world) connect() {
	w.t.Helper()
	ctx := w.t.Context()
	w.connectOwner()
	var err error
	w.server, err = postgres.Open(ctx, w.db.ServerURL, postgres.AsServer())
	must(w.t, err)
	w.t.Cleanup(w.server.Close)
	w.admin, err = pgx.Connect(ctx, w.db.OwnerURL)
	must(w.t, err)
	w.t.Cleanup(func() { w.admin.Close(context.WithoutCancel(ctx)) })
}

func (w *world) connectOwner() {
	w.t.Helper()
	var err error
	w.owner, err = postgres.Open(w.t.Context(), w.db.OwnerURL)
	must(w.t, err)
	w.t.Cleanup(w.owner.Close)
}

func logger(w *world) *slog.Logger { return slog.New(slog.NewTextHandler(w.logs, nil)) }

// keysOf are those of sealing keys, of which the first one seals.
func keysOf(t testing.TB, names ...string) audittrail.Keys {
	t.Helper()
	var raw [][]byte
	for _, name := range names {
		digest := authz.DigestOf(name)
		raw = append(raw, digest[:])
	}
	sealer, err := jwks.NewSealer(raw...)
	must(t, err)
	keys, err := audittrail.NewKeys(sealer)
	must(t, err)
	return keys
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.admin.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// write records n events of a moment, each in a transaction of its own.
func (w *world) write(n int, at time.Time) []authz.AuditEvent {
	w.t.Helper()
	var all []authz.AuditEvent
	for i := range n {
		e := authz.NewAuditEvent(at.Add(time.Duration(i)*time.Millisecond), "test.test", authz.ActorOperator("ada"))
		e.ClientID, e.Detail = "shop", map[string]any{"n": i, "text": "ü\"<"}
		must(w.t, w.server.RecordEvents(w.t.Context(), []authz.AuditEvent{e}))
		all = append(all, e)
	}
	return all
}

func (w *world) sealer(store audittrail.Store) *audittrail.Sealer {
	w.t.Helper()
	w.metrics = prometheus.NewRegistry()
	s, err := audittrail.NewSealer(audittrail.Config{
		Store: store, Keys: w.keys, Metrics: audittrail.NewMetrics(w.metrics, time.Now),
		Log: logger(w), Now: time.Now, Every: time.Second,
	})
	must(w.t, err)
	return s
}

// seal seals all that there is, by an instance of its own.
func (w *world) seal() {
	w.t.Helper()
	w.awaitFinal()
	w.exec(`update authz.followers set held_until = clock_timestamp() where holder is not null`)
	must(w.t, w.sealer(w.server).Seal(w.t.Context()))
}

// awaitFinal returns once nothing that was written can be overtaken. Other tests use the
// same Postgres.
func (w *world) awaitFinal() {
	w.t.Helper()
	var upto string
	must(w.t, w.admin.QueryRow(w.t.Context(), `select pg_current_xact_id()::text`).Scan(&upto))
	for waits := true; waits; {
		must(w.t, w.admin.QueryRow(w.t.Context(), `select pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8`, upto).Scan(&waits))
		time.Sleep(time.Millisecond)
	}
}

func (w *world) verify(keys audittrail.Keys, c audittrail.Choice) *audittrail.Report {
	w.t.Helper()
	report, err := audittrail.Verify(w.t.Context(), w.owner, keys, c)
	must(w.t, err)
	return report
}

// isWhole holds that nothing is broken, and that as many events are sealed and not.
func (w *world) isWhole(when string, sealed, unsealed int64) *audittrail.Report {
	w.t.Helper()
	report := w.verify(w.keys, audittrail.Choice{})
	if report.Broken() || len(report.LostKeys) > 0 {
		w.t.Errorf("%s: %s", when, describe(report))
	}
	var events, unsealedEvents int64
	for _, d := range report.Days {
		events += d.Events
		unsealedEvents += d.Open
	}
	if events != sealed || unsealedEvents != unsealed {
		w.t.Errorf("%s: %d events are sealed and %d not, want %d and %d", when, events, unsealedEvents, sealed, unsealed)
	}
	return report
}

// describe lists what is broken.
func describe(r *audittrail.Report) string {
	var b bytes.Buffer
	for _, x := range r.Breaks {
		fmt.Fprintf(&b, "%s\n", x)
	}
	for _, d := range r.Days {
		for _, x := range d.Breaks {
			fmt.Fprintf(&b, "%s: %s\n", d.Day, x)
		}
	}
	return b.String()
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
