package watch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/storage/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is a database with clients, whose trail is written by a test.
type world struct {
	t     *testing.T
	url   string
	owner *postgres.Store
	admin *pgx.Conn
	log   syncBuffer

	unhurried bool // instances go at their usual pace
}

// syncBuffer is what all watchers of a test have logged.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

func newWorld(t *testing.T, clients ...string) *world {
	t.Helper()
	db := pgtest.New(t)
	w := &world{t: t, url: db.ServerURL, owner: open(t, db.OwnerURL)}
	conn, err := pgx.Connect(t.Context(), db.OwnerURL)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	w.admin = conn
	must(t, w.owner.Maintain(t.Context(), now()))
	for _, id := range clients {
		w.register(id)
	}
	return w
}

func (w *world) register(id string) {
	w.t.Helper()
	must(w.t, w.owner.CreateClient(w.t.Context(), &authz.Client{
		ID: id, AuthMethod: authz.ClientSecretBasic, TokenFormat: authz.FormatJWT, Secrets: []authz.Digest{authz.DigestOf(id)},
		Introspects: []string{},
	}, w.event(authz.AuditClientCreated, "")))
}

func open(t *testing.T, url string, options ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, options...)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func now() time.Time { return time.Now().Truncate(time.Microsecond) }

func (w *world) event(kind authz.AuditKind, client string) authz.AuditEvent {
	e := authz.NewAuditEvent(now(), kind, authz.ActorServer)
	e.ClientID, e.RequestID, e.RemoteAddr = client, "request", "192.0.2.7:1000"
	return e
}

// retired is that somebody came with a secret of the client that has ended: each raises
// an alert of its own.
func (w *world) retired(client, secret string) authz.AuditEvent {
	e := w.event(authz.AuditRetiredSecretUsed, client)
	e.Detail = map[string]any{"credential": secret, "endpoint": "token", "times": 1}
	return e
}

// jktOf is the name of a key.
func jktOf(key string) string {
	digest := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

func (w *world) issued(client, key string) authz.AuditEvent {
	e := w.event(authz.AuditTokenIssued, client)
	e.JKT, e.Resource = jktOf(key), "https://labels.test"
	e.Detail = map[string]any{"scope": "read write", "credential": "secret", "user_agent": "labels/1.0", "offset_ms": 12}
	return e
}

func (w *world) write(events ...authz.AuditEvent) {
	w.t.Helper()
	must(w.t, w.owner.RecordEvents(w.t.Context(), events))
}

// instance is a server's part in the analysis.
type instance struct {
	store   *postgres.Store
	metrics *prometheus.Registry
	watcher *watch.Watcher
	end     func()
}

// start runs an instance of the analysis until it is ended; edit may change how.
func (w *world) start(edit func(*watch.Config)) *instance {
	w.t.Helper()
	// One connection, since it never needs two at a time.
	store := open(w.t, w.url, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 1 }))
	i := &instance{store: store, metrics: prometheus.NewRegistry()}
	c := watch.Config{
		Keeper: store, Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: i.metrics, Now: time.Now,
		Issuer: "https://auth.test",
	}
	if edit != nil {
		edit(&c)
	}
	watcher, err := watch.New(c)
	must(w.t, err)
	if i.watcher = watcher; !w.unhurried {
		watcher.Hasten()
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); i.watcher.Run(ctx) }()
	i.end = func() { cancel(); <-done }
	w.t.Cleanup(i.end)
	return i
}

// metric is a metric's value, of all its labels that match.
func (i *instance) metric(name string, labels ...string) float64 {
	families, err := i.metrics.Gather()
	if err != nil {
		panic(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := len(labels) == 0
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == labels[0]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// await waits for a state.
func (w *world) await(what string, reached func() bool) {
	w.t.Helper()
	wait := patience
	if w.unhurried {
		wait *= 10
	}
	for deadline := time.Now().Add(wait); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("no state in which %s\n%s", what, &w.log)
		}
	}
}

func (w *world) number(sql string, args ...any) (n int) {
	w.t.Helper()
	must(w.t, w.admin.QueryRow(w.t.Context(), sql, args...).Scan(&n))
	return n
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.admin.Exec(w.t.Context(), sql, args...)
	must(w.t, err)
}

// learnt is what is kept of a client: how many tokens, and how many refusals.
func (w *world) learnt(client string) (issued, refused int) {
	w.t.Helper()
	b := w.baseline(client)
	if b == nil {
		return 0, 0
	}
	for _, h := range b.LastWeek(time.Now().Add(time.Hour)) {
		issued, refused = issued+int(h.Issued), refused+int(h.Refused)
	}
	return issued, refused
}

// baseline is what is kept of a client; nil: nothing is.
func (w *world) baseline(client string) *behaviour.Baseline {
	w.t.Helper()
	kept, err := w.owner.Baselines(w.t.Context(), []string{client})
	must(w.t, err)
	if kept[client] == nil {
		return nil
	}
	b := &behaviour.Baseline{}
	if err := json.Unmarshal(kept[client], b); err != nil {
		w.t.Fatalf("%v: %s", err, kept[client])
	}
	return b
}

// alerts are all that are kept.
func (w *world) alerts() []watch.Kept {
	w.t.Helper()
	all, err := w.owner.Alerts(w.t.Context(), postgres.AlertFilter{Acknowledged: true})
	must(w.t, err)
	return all
}

func clientName(i int) string { return fmt.Sprintf("client-%d", i) }
