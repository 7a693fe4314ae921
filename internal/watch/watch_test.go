package watch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/watch"
)

func TestWhatDepartsBecomesAnAlertInAMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop")
	i := w.start(nil)
	e := w.retired("shop", "old")
	w.write(w.issued("shop", "key"), e)
	w.await("there is an alert", func() bool { return len(w.alerts()) == 1 })
	a := w.alerts()[0]
	if a.ClientID != "shop" || a.Kind != behaviour.RetiredSecret || a.EventID != e.ID.String() || a.RequestID != "request" ||
		a.Normal == "" || a.Seen == "" || a.Why == "" || a.Do == "" || a.Delivery.Wanted {
		t.Errorf("%+v", a)
	}
	if n := w.number(`select count(*) from authz.audit_events where kind = 'alert.raised' and actor = 'server' and client_id = 'shop' and detail->>'alert' = $1`, a.ID); n != 1 {
		t.Errorf("%d events", n)
	}
	w.await("its metrics tell", func() bool {
		return i.metric("authz_alerts_total", string(behaviour.RetiredSecret)) == 1 && i.metric("authz_behaviour_active") == 1
	})
	if id, ok := watch.ParseID(strings.ToUpper(a.ID)); !ok || id != a.ID {
		t.Errorf("its ID is %q", a.ID)
	}
	if !strings.Contains(w.log.String(), a.ID) {
		t.Error("it is not in the log")
	}
	// What is alike is folded, in the analysis and in the table.
	w.write(w.issued("shop", "key"))
	w.await("the tokens are learnt", func() bool { issued, _ := w.learnt("shop"); return issued == 2 })
	if n := w.number(`select count(*) from authz.dpop_key_owners where jkt = $1 and client_id = 'shop'`, jktOf("key")); n != 1 {
		t.Errorf("%d owners", n)
	}
}

// faulty is a Keeper whose writes fail in all ways that a network has.
type faulty struct {
	watch.Keeper
	rate *atomic.Int64 // in a hundred
}

func (f faulty) KeepFindings(ctx context.Context, findings watch.Findings) ([]watch.Kept, error) {
	switch n := rand.Int64N(100); {
	case n < f.rate.Load():
		return nil, errors.New("not applied")
	case n < 2*f.rate.Load():
		if _, err := f.Keeper.KeepFindings(ctx, findings); err != nil {
			return nil, err
		}
		return nil, errors.New("applied, and reported as failed")
	}
	return f.Keeper.KeepFindings(ctx, findings)
}

// Instances end at any moment, several are at it at once, and their writes fail.
func TestNothingIsLostOrDoubledHoweverInstancesEnd(t *testing.T) {
	t.Parallel()
	const clients, secrets = 12, 4 // of one kind no more are told apart within an hour
	rounds, lifetimes := 40, 4
	if os.Getenv("AUTHZ_TEST_LONG") != "" {
		rounds, lifetimes = 400, 60
	}
	var names []string
	for i := range clients {
		names = append(names, clientName(i))
	}
	w := newWorld(t, names...)
	var rate atomic.Int64
	rate.Store(20)
	edit := func(c *watch.Config) { c.Keeper = faulty{c.Keeper, &rate} }
	instances := []*instance{w.start(edit), w.start(edit)}
	written := make(chan struct{})
	go func() {
		defer close(written)
		for n := range rounds {
			var events []authz.AuditEvent
			for _, client := range names {
				events = append(events, w.retired(client, fmt.Sprint("secret ", n%secrets)), w.issued(client, fmt.Sprintf("%s %d", client, n)))
			}
			if err := w.owner.RecordEvents(t.Context(), events); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
	}()
	for range lifetimes {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		i := rand.IntN(len(instances))
		instances[i].end()
		instances[i] = w.start(edit)
	}
	<-written
	rate.Store(0)
	const want = secrets
	w.await("all is learnt", func() bool {
		for _, client := range names {
			if issued, refused := w.learnt(client); issued < rounds || refused < rounds {
				return false
			}
		}
		return true
	})
	for _, client := range names {
		if issued, refused := w.learnt(client); issued != rounds || refused != rounds {
			t.Errorf("%s: %d tokens and %d refusals are learnt, of %d each", client, issued, refused, rounds)
		}
	}
	// A secret that comes again within an hour is no further alert.
	perAlert := map[string]int{}
	for _, a := range w.alerts() {
		perAlert[a.ClientID]++
		if a.Kind != behaviour.RetiredSecret || a.Times != 1 {
			t.Errorf("an alert %+v", a)
		}
	}
	for _, client := range names {
		if perAlert[client] != want {
			t.Errorf("%s has %d alerts, want %d", client, perAlert[client], want)
		}
	}
	if n := w.number(`select count(*) from authz.audit_events where kind = 'alert.raised'`); n != want*clients {
		t.Errorf("%d events tell of alerts, want %d", n, want*clients)
	}
	if n := w.number(`select count(*) from authz.dpop_key_owners`); n != rounds*clients {
		t.Errorf("%d keys have an owner, want %d", n, rounds*clients)
	}
}

// frozen is a Keeper that stands still before it writes.
type frozen struct {
	watch.Keeper
	asked, thaw chan struct{}
}

func (f frozen) KeepFindings(ctx context.Context, findings watch.Findings) ([]watch.Kept, error) {
	if len(findings.Alerts) > 0 {
		select {
		case f.asked <- struct{}{}:
		default:
		}
		<-f.thaw
	}
	return f.Keeper.KeepFindings(ctx, findings)
}

func TestWhoThawsAfterItsLeaseWasTakenOverKeepsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop")
	asked, thaw := make(chan struct{}, 1), make(chan struct{})
	first := w.start(func(c *watch.Config) { c.Keeper = frozen{c.Keeper, asked, thaw} })
	w.await("one is at it", func() bool { return first.metric("authz_behaviour_active") == 1 })
	w.write(w.retired("shop", "one"))
	<-asked
	second := w.start(nil)
	w.await("the other has taken over", func() bool { return len(w.alerts()) == 1 })
	close(thaw)
	w.await("the first has noticed", func() bool { return first.metric("authz_behaviour_active") == 0 })
	w.write(w.retired("shop", "two"))
	w.await("both are alerts", func() bool { return len(w.alerts()) == 2 })
	for _, a := range w.alerts() {
		if a.Times != 1 {
			t.Errorf("%+v", a)
		}
	}
	if _, refused := w.learnt("shop"); refused != 2 || second.metric("authz_behaviour_active") != 1 {
		t.Errorf("%d refusals are learnt", refused)
	}
}

// A pause of the analysis is one of nothing else: it reads on where it was.
func TestWhatCameWhileNobodyWasAtItIsCaughtUpWith(t *testing.T) {
	t.Parallel()
	events, clients, most := 5_000, 25, 10
	w := newWorld(t)
	if os.Getenv("AUTHZ_TEST_LONG") != "" {
		events, clients, most, w.unhurried = 1_000_000, 500, 2000, true
	}
	for i := range clients {
		w.register(clientName(i))
	}
	for n := 0; n < events; n += 1000 {
		var batch []authz.AuditEvent
		for i := range 1000 {
			batch = append(batch, w.issued(clientName(i%clients), fmt.Sprint("key", i%(4*clients))))
		}
		w.write(batch...)
	}
	w.write(w.retired(clientName(0), "old"))
	began := time.Now()
	i := w.start(nil)
	w.await("it has caught up", func() bool { return len(w.alerts()) == 1 })
	t.Logf("%d events in %v", events, time.Since(began))
	i.end()
	sum := 0
	for n := range clients {
		issued, _ := w.learnt(clientName(n))
		sum += issued
	}
	if held := i.watcher.Held(); sum != events || held > most {
		t.Errorf("%d tokens are learnt, of %d; %d clients are held in memory", sum, events, held)
	}
	if lag := i.metric("authz_behaviour_lag_seconds"); lag > time.Since(began).Seconds() {
		t.Errorf("it says to be %f s behind", lag)
	}
}

// Whoever leaves a transaction open keeps all that is written after from being read.
func TestTransactionThatIsLeftOpenShowsAsLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop")
	i := w.start(nil)
	defer i.end()
	w.await("it is at work", func() bool { return i.metric("authz_behaviour_active") == 1 })
	tx, err := w.admin.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), `select pg_current_xact_id()`)
	must(t, err)
	late := w.retired("shop", "old")
	late.At = late.At.Add(-time.Minute)
	w.write(late)
	w.await("it says how far it is behind", func() bool { return i.metric("authz_behaviour_lag_seconds") >= 60 })
	must(t, tx.Rollback(t.Context()))
	w.await("it has caught up", func() bool { return len(w.alerts()) == 1 && i.metric("authz_behaviour_lag_seconds") < 60 })
}

func TestPoisonedEventsAreLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop")
	w.exec(`alter table authz.alerts add constraint never_check check (subject <> 'never')`)
	w.write(w.issued("shop", "key"))
	for _, detail := range []string{`"text"`, `{"times": "many"}`, `{"offset_ms": 1e400}`, `[]`, `{"scope": {}}`} {
		w.exec(`insert into authz.audit_events (id, at, kind, actor, client_id, detail)
			values (gen_random_uuid(), now(), 'token.issued', 'client:shop', 'shop', $1::jsonb)`, detail)
	}
	w.exec(`insert into authz.audit_events (id, at, kind, actor, client_id, detail)
		values (gen_random_uuid(), now(), 'token.refused', 'server', 'shop', '{"times": 9223372036854775807, "reason": "invalid_scope", "offset_ms": -9223372036854775808}')`)
	w.write(w.retired("shop", "one"), w.retired("shop", "never"), w.retired("shop", "two"))
	i := w.start(nil)
	w.await("the others are alerts", func() bool { return len(w.alerts()) == 2 })
	w.write(w.retired("shop", "three"))
	w.await("it goes on", func() bool { return len(w.alerts()) == 3 })
	if issued, _ := w.learnt("shop"); issued != 1 {
		t.Errorf("%d tokens are learnt", issued)
	}
	if n := i.metric("authz_behaviour_events_total", "skipped"); n < 6 {
		t.Errorf("%f events are said to be left out", n)
	}
	if log := w.log.String(); !strings.Contains(log, "left out of the analysis") || !strings.Contains(log, "cannot be kept") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}

func TestOfAClientThatIsDeletedNothingIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop", "other")
	w.start(nil)
	w.write(w.issued("shop", "key"), w.issued("shop", "key"), w.issued("other", "else"))
	w.await("both are learnt", func() bool { a, _ := w.learnt("shop"); b, _ := w.learnt("other"); return a == 2 && b == 1 })
	must(t, w.owner.DeleteClient(t.Context(), "shop", w.event(authz.AuditClientDeleted, "shop")))
	w.await("it is forgotten", func() bool {
		return w.number(`select count(*) from authz.client_baselines where client_id = 'shop'`) == 0 &&
			w.number(`select count(*) from authz.dpop_key_owners where client_id = 'shop'`) == 0
	})
	// Another one of that name is another one.
	w.register("shop")
	w.write(w.issued("shop", "key"))
	w.await("it begins anew", func() bool { issued, _ := w.learnt("shop"); return issued == 1 })
	w.write(w.issued("other", "key"))
	w.await("its key is its own", func() bool { return len(w.alerts()) == 1 })
	if a := w.alerts()[0]; a.Kind != behaviour.SharedKey || a.Other != "shop" || a.ClientID != "other" {
		t.Errorf("%+v", a)
	}
}
