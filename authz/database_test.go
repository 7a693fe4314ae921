package authz_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

func (w *world) sql(statement string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database.OwnerURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	if _, err := conn.Exec(w.t.Context(), statement); err != nil {
		w.t.Fatal(err)
	}
}

// A balancer takes an instance out whose database was put back under it, and its
// operator reads why.
func TestInstanceOnACopyIsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	w.sql(`update authz.database set fence = fence`) // as one that was written anew
	if a := i.internalGet("/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.string("reason"), "authz database restored") {
		t.Errorf("%d %s", a.status, a.body)
	}
	event := operatorEvent(authz.AuditDatabaseMoved)
	if err := w.owner.ClaimMoved(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if a := i.internalGet("/readyz"); a.status != http.StatusOK {
		t.Errorf("claimed: %d %s", a.status, a.body)
	}
}

func TestPromotionIsToldByTheLogAndAGaugeUntilItIsClaimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sql(`update authz.database set written_in = pg_current_xact_id(), timeline = 'FFFFFFFF'`)
	const gauge = "authz_database_timeline_changed"
	i := w.instance()
	if i.metric(gauge) != 1 || !strings.Contains(w.logs.String(), "Postgres was promoted") {
		t.Errorf("%s is %v", gauge, i.metric(gauge))
	}
	if a := i.internalGet("/readyz"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := w.owner.ClaimMoved(t.Context(), operatorEvent(authz.AuditDatabaseMoved)); err != nil {
		t.Fatal(err)
	}
	i.running(func() {
		for i.metric(gauge) != 0 {
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// A client sees of a proof from before the fence what it sees of one that was used:
// it makes another one. Its tokens are gone, and new ones are good.
func TestClientOfARestoredDatabaseAsksAgainAndIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, c, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	before := i.token(c, key).string("access_token")
	early := i.proof(key)
	if _, err := w.owner.ClaimRestored(t.Context(), i.now(), operatorEvent(authz.AuditDatabaseRestored)); err != nil {
		t.Fatal(err)
	}
	if _, err := i.store.Database(t.Context()); err != nil { // as upkeep does
		t.Fatal(err)
	}
	if a := i.introspect(gateway, before); a.json["active"] != false {
		t.Errorf("a token from before: %s", a.body)
	}
	if a := i.withProof(c, early); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
		t.Errorf("a proof from before: %d %s", a.status, a.body)
	}
	i.offset.Add(int64(2 * time.Second))
	after := i.token(c, key).string("access_token")
	if a := i.introspect(gateway, after); a.json["active"] != true {
		t.Errorf("a token from after: %s", a.body)
	}
}
