package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/storage/postgres"
)

// analyst is who holds the follower of the analysis, for a test.
type analyst struct {
	t     *testing.T
	store *postgres.Store
	name  string
	at    authz.TrailPosition
	next  int64
}

// newAnalyst takes the lease, which nobody else may hold.
func newAnalyst(t *testing.T, store *postgres.Store, name string) *analyst {
	t.Helper()
	at, held, err := store.Follow(t.Context(), watch.Follower, name, time.Minute)
	if err != nil || !held {
		t.Fatalf("the lease: %v, %v", held, err)
	}
	_, number, err := store.Fleet(t.Context())
	must(t, err)
	return &analyst{t, store, name, at, number}
}

// events writes n events, and returns the place of the last once it can be read.
func (a *analyst) events(n int) authz.TrailPosition {
	a.t.Helper()
	var all []authz.AuditEvent
	for range n {
		all = append(all, authz.NewAuditEvent(clock(), authz.AuditTokenIntrospected, authz.ActorServer))
	}
	must(a.t, a.store.RecordEvents(a.t.Context(), all))
	for read, after := 0, a.at; ; {
		found, err := a.store.Trail(a.t.Context(), after, 1000)
		must(a.t, err)
		if read += len(found); len(found) > 0 {
			after = found[len(found)-1].Position
		}
		if read >= n {
			return after
		}
		time.Sleep(10 * time.Millisecond) // some other transaction is under way
	}
}

// finds is Findings from where the analyst stands to the end of the trail.
func (a *analyst) finds() watch.Findings {
	return watch.Findings{Holder: a.name, Number: a.next, From: a.at, To: a.events(1), At: clock(), Deliver: true}
}

func (a *analyst) keep(f watch.Findings) []watch.Kept {
	a.t.Helper()
	kept, err := a.store.KeepFindings(a.t.Context(), f)
	must(a.t, err)
	a.at, a.next = f.To, a.next+1
	return kept
}

var alertNumber int
var alertNumbers sync.Mutex

func raised(client string, kind behaviour.AlertKind, subject string, at time.Time) watch.Raised {
	alertNumbers.Lock()
	defer alertNumbers.Unlock()
	alertNumber++
	return watch.Raised{
		Alert: behaviour.Alert{
			Kind: kind, ClientID: client, At: at, Subject: subject, Normal: "one", Seen: "two", Why: "three", Do: "authz client list",
			EventID: "e", RequestID: "r",
		},
		ID: fmt.Sprintf("%012d", alertNumber), Times: 1, Last: at,
	}
}

func behaviourStores(t *testing.T) (server, owner *postgres.Store, admin *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	owner = open(t, db.OwnerURL)
	populate(t, owner, clock())
	return open(t, db.ServerURL, postgres.AsServer()), owner, connect(t, db.OwnerURL)
}

func TestFindingsAreKeptOnceWhoeverTriesAgain(t *testing.T) {
	t.Parallel()
	server, _, admin := behaviourStores(t)
	one := newAnalyst(t, server, "one")
	f := one.finds()
	f.Baselines = map[string]json.RawMessage{shop: json.RawMessage(`{"since":"2026-01-01T00:00:00Z"}`)}
	f.Owned = []watch.KeyOwner{{JKT: "k", ClientID: shop, FirstShown: clock(), LastShown: clock()}}
	f.Alerts = []watch.Raised{raised(shop, behaviour.NewKey, "k", clock())}
	if kept := one.keep(f); len(kept) != 1 || kept[0].ID != f.Alerts[0].ID {
		t.Errorf("kept %+v", kept)
	}
	next := one.finds()
	for name, spoil := range map[string]func(*watch.Findings){
		"again":                            func(n *watch.Findings) { *n = f },
		"from elsewhere":                   func(n *watch.Findings) { n.From = f.From },
		"by another":                       func(n *watch.Findings) { n.Holder = "two" },
		"by who does not know of the last": func(n *watch.Findings) { n.Number = f.Number },
		"likewise, where it stands":        func(n *watch.Findings) { n.Number, n.To = f.Number, n.From },
	} {
		late := next
		late.Alerts = []watch.Raised{raised(shop, behaviour.NewScope, "s", clock())}
		spoil(&late)
		if _, err := server.KeepFindings(t.Context(), late); !errors.Is(err, watch.ErrNotHeld) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for table, want := range map[string]int{"client_baselines": 1, "dpop_key_owners": 1, "alerts": 1, "alert_deliveries": 1} {
		if n := count(t, admin, table); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
	still := next
	still.To, still.Fleet = still.From, json.RawMessage(`{"a": 1}`)
	one.keep(still)
	if fleet, number, err := server.Fleet(t.Context()); err != nil || number != 2 || string(fleet) != `{"a": 1}` {
		t.Errorf("%s %d %v", fleet, number, err)
	}
	if n := list[int](t, admin, `select count(*)::int from authz.audit_events where kind = 'alert.raised' and detail->>'alert' = $1`, f.Alerts[0].ID)[0]; n != 1 {
		t.Errorf("%d events", n)
	}
}

// Many instances that believe to hold the lease keep what each has found at the same
// time: one of them does.
func TestOfManyAtOnceOneKeepsItsFindings(t *testing.T) {
	t.Parallel()
	server, _, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	f := a.finds()
	var wait sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for range 6 {
		mine := f
		mine.Alerts = []watch.Raised{raised(shop, behaviour.NewKey, "k", clock())}
		wait.Go(func() {
			_, err := server.KeepFindings(t.Context(), mine)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				kept++
			} else if !errors.Is(err, watch.ErrNotHeld) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := list[int](t, admin, `select sum(times)::int from authz.alerts`)[0]; kept != 1 || n != 1 {
		t.Errorf("%d kept, %d alerts", kept, n)
	}
}

func TestAlikeAlertsAreFoldedUntilAcknowledgedOrSilent(t *testing.T) {
	t.Parallel()
	server, owner, _ := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	at := clock()
	raise := func(client string, kind behaviour.AlertKind, subject string, at time.Time) int {
		f := a.finds()
		f.Alerts = []watch.Raised{raised(client, kind, subject, at)}
		return len(a.keep(f))
	}
	for i, c := range []struct {
		client  string
		kind    behaviour.AlertKind
		subject string
		at      time.Time
		isNew   int
	}{
		{shop, behaviour.NewKey, "k", at, 1},
		{shop, behaviour.NewKey, "k", at.Add(time.Hour), 0},
		{shop, behaviour.NewKey, "k", at.Add(-time.Hour), 0}, // a clock that is behind
		{shop, behaviour.NewKey, "other", at, 1},
		{shop, behaviour.NewNetwork, "k", at, 1},
		{edge, behaviour.NewKey, "k", at, 1},
		{shop, behaviour.NewKey, "k", at.Add(time.Hour + watch.Silence - time.Second), 0},
		{shop, behaviour.NewKey, "k", at.Add(time.Hour + 3*watch.Silence), 1},
		{shop, behaviour.NewKey, "k", at.Add(time.Hour + 3*watch.Silence), 0},
	} {
		if n := raise(c.client, c.kind, c.subject, c.at); n != c.isNew {
			t.Errorf("alert %d: %d new ones, want %d", i, n, c.isNew)
		}
	}
	all, err := owner.Alerts(t.Context(), postgres.AlertFilter{ClientID: shop, Kind: string(behaviour.NewKey)})
	must(t, err)
	all = slices.DeleteFunc(all, func(k watch.Kept) bool { return k.Subject != "k" })
	if len(all) != 2 || all[0].Times != 2 || all[1].Times != 4 || !all[1].LastAt.Equal(at.Add(time.Hour+watch.Silence-time.Second)) || !all[1].RaisedAt.Equal(at) {
		t.Fatalf("%+v", all)
	}
	ack := func(id string) (bool, error) {
		return owner.AcknowledgeAlert(t.Context(), id, "looked", event(authz.AuditAlertAcknowledged, clock()))
	}
	for i, want := range []bool{true, false} {
		if done, err := ack(all[0].ID); err != nil || done != want {
			t.Errorf("acknowledgement %d: %v, %v", i, done, err)
		}
	}
	if _, err := ack("nosuchalert0"); !errors.Is(err, authz.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if n := raise(shop, behaviour.NewKey, "k", all[0].LastAt); n != 1 {
		t.Error("it is folded into one that was acknowledged")
	}
	acked, err := owner.Alert(t.Context(), all[0].ID)
	must(t, err)
	if acked.AcknowledgedBy != "operator:ada" || acked.Note != "looked" || acked.AcknowledgedAt.IsZero() || acked.Times != 2 {
		t.Errorf("%+v", acked)
	}
}

// Whoever makes a client show any number of keys does not bury what else there is.
func TestAlertsOfOneKindAreToldApartUpToABound(t *testing.T) {
	t.Parallel()
	server, owner, _ := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	f := a.finds()
	for i := range 3 * watch.MaxOpen {
		f.Alerts = append(f.Alerts, raised(shop, behaviour.NewKey, fmt.Sprint("key ", i), clock()))
	}
	f.Alerts = append(f.Alerts, raised(shop, behaviour.NewScope, "s", clock()))
	if n := len(a.keep(f)); n != watch.MaxOpen+2 {
		t.Errorf("%d alerts", n)
	}
	all, err := owner.Alerts(t.Context(), postgres.AlertFilter{ClientID: shop, Kind: string(behaviour.NewKey)})
	must(t, err)
	i := slices.IndexFunc(all, func(k watch.Kept) bool { return k.Subject == behaviour.Further })
	if len(all) != watch.MaxOpen+1 || i < 0 || all[i].Times != 2*watch.MaxOpen {
		t.Errorf("%d alerts, %+v", len(all), all)
	}
}

func TestFindingsThatTheDatabaseNeverTakesAreToldApart(t *testing.T) {
	t.Parallel()
	server, _, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	for name, spoil := range map[string]func(*watch.Findings){
		"a text": func(f *watch.Findings) {
			r := raised(shop, behaviour.NewKey, "\x00", clock())
			f.Alerts = []watch.Raised{r}
		},
		"a baseline": func(f *watch.Findings) { f.Baselines = map[string]json.RawMessage{shop: json.RawMessage(`{`)} },
		"a kind":     func(f *watch.Findings) { f.Alerts = []watch.Raised{raised(shop, "New Key", "", clock())} },
	} {
		f := a.finds()
		spoil(&f)
		if _, err := server.KeepFindings(t.Context(), f); !errors.Is(err, watch.ErrUnkeepable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if at, _, err := server.Follow(t.Context(), watch.Follower, "one", time.Minute); err != nil || at != a.at || count(t, admin, "alerts") != 0 {
		t.Errorf("something is kept: %v, %v", at, err)
	}
}

// The next partition may come in a moment.
func TestFindingsAreNotToBlameForAPartitionThatIsMissing(t *testing.T) {
	t.Parallel()
	server, owner, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	f := a.finds()
	f.Alerts = []watch.Raised{raised(shop, behaviour.NewKey, "k", clock())}
	f.At = clock().AddDate(0, 0, 30) // which nothing is there for yet
	_, err := server.KeepFindings(t.Context(), f)
	if err == nil || errors.Is(err, watch.ErrUnkeepable) {
		t.Errorf("without a partition: %v", err)
	}
	day := f.At.UTC().Truncate(24 * time.Hour)
	_, err = admin.Exec(t.Context(), `select authz.ensure_partition('audit_events', $1, $2)`, day, day.AddDate(0, 0, 1))
	must(t, err)
	a.keep(f)
	if all, err := owner.Alerts(t.Context(), postgres.AlertFilter{}); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestKeysOfClientsThatAreGoneAreNobodys(t *testing.T) {
	t.Parallel()
	server, owner, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	long := clock().Add(-watch.KeysKept - time.Hour)
	own := func(jkt, client string, shown time.Time) watch.KeyOwner {
		return watch.KeyOwner{JKT: jkt, ClientID: client, FirstShown: shown, LastShown: shown}
	}
	f := a.finds()
	f.Baselines = map[string]json.RawMessage{shop: json.RawMessage(`{}`), edge: json.RawMessage(`{}`)}
	f.Owned = []watch.KeyOwner{own("a", shop, clock()), own("b", edge, clock()), own("c", shop, long), own("d", shop, long)}
	a.keep(f)
	f = a.finds()
	f.Shown = []watch.KeyOwner{own("d", shop, clock()), own("a", edge, clock().Add(time.Hour))}
	a.keep(f)
	must(t, owner.DeleteClient(t.Context(), edge, event(authz.AuditClientDeleted, clock())))
	found, err := server.KeyOwners(t.Context(), []string{"a", "b", "c", "d", "e"})
	must(t, err)
	if len(found) != 3 || found["a"].ClientID != shop || found["b"].ClientID != "" || found["a"].LastShown.After(clock()) {
		t.Errorf("%+v", found)
	}
	// Whoever has shown it since has shown it first.
	f = a.finds()
	f.Owned = []watch.KeyOwner{own("b", shop, clock())}
	a.keep(f)
	// A round, two keys at a time.
	exec(t, admin, `insert into authz.dpop_key_owners values ('bb', 'edge', now(), now())`)
	after, rounds := "", 0
	for rounds == 0 || after != "" {
		after, err = server.ForgetBehaviour(t.Context(), clock(), after, 2)
		must(t, err)
		rounds++
	}
	same(t, []string{"a shop", "b shop", "d shop"}, list[string](t, admin, `select jkt || ' ' || client_id from authz.dpop_key_owners order by jkt`))
	same(t, []string{shop}, list[string](t, admin, `select client_id from authz.client_baselines`))
	if rounds < 3 {
		t.Errorf("%d steps", rounds)
	}
}

func TestOldAlertsGoWithTheirDeliveriesAndNotByAClockAlone(t *testing.T) {
	t.Parallel()
	server, owner, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	f := a.finds()
	f.Alerts = []watch.Raised{
		raised(shop, behaviour.NewKey, "old", clock().Add(-watch.AlertsKept-time.Hour)),
		raised(shop, behaviour.NewKey, "new", clock().Add(-watch.AlertsKept+time.Hour)),
	}
	a.keep(f)
	_, err := server.ForgetBehaviour(t.Context(), clock().Add(1000*time.Hour), "", 1)
	must(t, err)
	all, err := owner.Alerts(t.Context(), postgres.AlertFilter{})
	must(t, err)
	if len(all) != 1 || all[0].Subject != "new" || count(t, admin, "alert_deliveries") != 1 {
		t.Errorf("%+v", all)
	}
}

func TestServersRoleTakesNoAlertAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	owner, server := open(t, db.OwnerURL), open(t, db.ServerURL, postgres.AsServer())
	populate(t, owner, clock())
	a := newAnalyst(t, server, "one")
	f := a.finds()
	f.Alerts = []watch.Raised{raised(shop, behaviour.NewKey, "k", clock())}
	a.keep(f)
	role := connect(t, db.ServerURL)
	for sql, want := range map[string]string{
		`update authz.alerts set last_at = '2020-01-01'`:   "23514",
		`update authz.alerts set times = 0`:                "23514",
		`update authz.alerts set raised_at = '2020-01-01'`: "42501",
		`delete from authz.alerts`:                         "42501",
	} {
		var pgErr *pgconn.PgError
		if _, err := role.Exec(t.Context(), sql); !errors.As(err, &pgErr) || pgErr.Code != want {
			t.Errorf("%s: %v", sql, err)
		}
	}
	_, err := server.ForgetBehaviour(t.Context(), clock(), "", 1)
	must(t, err)
	if all, err := owner.Alerts(t.Context(), postgres.AlertFilter{}); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestOfEachClientTheFirstAlertIsDueAndIsDeliveredByOne(t *testing.T) {
	t.Parallel()
	server, _, admin := behaviourStores(t)
	a := newAnalyst(t, server, "one")
	f := a.finds()
	f.Alerts = []watch.Raised{
		raised(shop, behaviour.NewKey, "1", clock()), raised(shop, behaviour.NewKey, "2", clock()), raised(edge, behaviour.NewKey, "3", clock()),
	}
	a.keep(f)
	due := func() (subjects []string, all []watch.Delivery) {
		all, err := server.DueDeliveries(t.Context(), 10)
		must(t, err)
		for _, d := range all {
			subjects = append(subjects, d.Subject)
		}
		return subjects, all
	}
	subjects, all := due()
	same(t, []string{"1", "3"}, subjects)
	for i, want := range []bool{true, false} {
		if mine, err := server.BeginDelivery(t.Context(), all[0], time.Minute); err != nil || mine != want {
			t.Errorf("attempt %d: %v, %v", i, mine, err)
		}
	}
	if subjects, _ = due(); !slices.Equal(subjects, []string{"3"}) {
		t.Errorf("due: %q", subjects)
	}
	stale := all[0]
	all[0].Attempts++
	must(t, server.PostponeDelivery(t.Context(), stale, time.Hour)) // is of no attempt that is the last
	must(t, server.PostponeDelivery(t.Context(), all[0], 0))
	if subjects, _ = due(); !slices.Equal(subjects, []string{"3", "1"}) {
		t.Errorf("due: %q", subjects)
	}
	must(t, server.EndDelivery(t.Context(), all[0], clock()))
	if n, since, err := server.UndeliveredAlerts(t.Context()); err != nil || n != 2 || since.IsZero() {
		t.Errorf("%d undelivered since %v, %v", n, since, err)
	}
	if subjects, _ = due(); !slices.Equal(subjects, []string{"2", "3"}) && !slices.Equal(subjects, []string{"3", "2"}) {
		t.Errorf("due: %q", subjects)
	}
	if n := count(t, admin, "alert_deliveries"); n != 3 {
		t.Errorf("%d deliveries", n)
	}
}

// What the analysis asks has arrays, documents and intervals for parameters, whose types
// only Postgres knows.
func TestFindingsAreKeptBehindAPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := pooler(t, db)
	setLogin(t, db)
	populate(t, open(t, db.OwnerURL), clock())
	server := open(t, through(t, p, db.ServerURL), postgres.AsServer())
	a := newAnalyst(t, server, "one")
	f := a.finds()
	f.Fleet, f.Baselines = json.RawMessage(`{}`), map[string]json.RawMessage{shop: json.RawMessage(`{"a": "b"}`)}
	f.Owned = []watch.KeyOwner{{JKT: "k", ClientID: shop, FirstShown: clock(), LastShown: clock()}}
	f.Shown, f.Deleted = f.Owned, []string{edge}
	f.Alerts = []watch.Raised{raised(shop, behaviour.NewKey, "k", clock())}
	a.keep(f)
	baselines, err := server.Baselines(t.Context(), []string{shop, edge})
	must(t, err)
	owners, err := server.KeyOwners(t.Context(), []string{"k"})
	must(t, err)
	due, err := server.DueDeliveries(t.Context(), 8)
	must(t, err)
	if string(baselines[shop]) != `{"a": "b"}` || owners["k"].ClientID != shop || len(due) != 1 || due[0].Do != "authz client list" {
		t.Fatalf("%s, %+v, %+v", baselines, owners, due)
	}
	if mine, err := server.BeginDelivery(t.Context(), due[0], time.Minute); err != nil || !mine {
		t.Errorf("%v, %v", mine, err)
	}
	due[0].Attempts++
	must(t, server.PostponeDelivery(t.Context(), due[0], time.Second))
	must(t, server.EndDelivery(t.Context(), due[0], clock()))
	_, err = server.ForgetBehaviour(t.Context(), clock(), "", 10)
	must(t, err)
	if n, _, err := server.UndeliveredAlerts(t.Context()); err != nil || n != 0 {
		t.Errorf("%d undelivered, %v", n, err)
	}
}
