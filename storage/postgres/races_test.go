package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func TestFirstSigningKeyWaitsForAnotherInstancesFirstKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin, first := connect(t, db.OwnerURL), connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	store := open(t, db.ServerURL, postgres.AsServer())
	exec(t, first, `begin`)
	exec(t, first, `select pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0))`)
	exec(t, first, `insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
		values ('first', 'ES256', '{}', '', 'one', now(), now())`)

	second := make(chan error, 1)
	go func() {
		second <- store.AddFirstSigningKey(t.Context(), jwks.SealedKey{
			Info:      jwks.Info{KID: "second", Algorithm: jwks.ES256, CreatedAt: now, SignsFrom: now},
			PublicJWK: []byte(`{}`), SealedBy: "one", Sealed: []byte{},
		}, event(authz.AuditKeyCreated, now))
	}()
	for list[int](t, admin, `select count(*)::int from pg_locks where not granted and locktype = 'advisory'
		and database = (select oid from pg_database where datname = current_database())`)[0] == 0 {
		select {
		case err := <-second:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	exec(t, first, `commit`)
	must(t, <-second)
	same(t, []string{"first"}, list[string](t, admin, `select kid from authz.signing_keys`))
}

// What the Store's own methods do in two ways is held by either of them: these
// change the tables by hand, so that one way is left.
func TestTokenIsInactiveByEachOfItsReasons(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"its client is disabled":                `update authz.clients set disabled_at = now() where id = 'shop'`,
		"its client is of another generation":   `update authz.clients set generation = default where id = 'shop'`,
		"its resource is of another generation": `update authz.resources set generation = default`,
	} {
		db := pgtest.New(t)
		admin := connect(t, db.OwnerURL)
		store := open(t, db.OwnerURL)
		now := clock()
		populate(t, store, now)
		i := issue(now)
		must(t, store.RecordToken(t.Context(), i))
		_, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
		must(t, err)
		call := goodCall(t, store, i.Token)
		if v, err := store.AdmitCall(t.Context(), call, now); err != nil || !v.Spent {
			t.Fatalf("%s: admitted before: %t, %v", name, v.Spent, err)
		}
		exec(t, admin, statement)
		call = goodCall(t, store, i.Token)
		if v, err := store.AdmitCall(t.Context(), call, now); err != nil || v.Revision != call.Revision || v.Token != nil || v.Spent {
			t.Errorf("%s: a call: %+v, %v", name, v, err)
		}
		if _, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now); err != authz.ErrNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenRecordedWhileItsClientIsDisabledStaysInactive(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	owner := open(t, db.OwnerURL)
	now := clock()
	populate(t, owner, now)
	store := open(t, db.ServerURL, postgres.AsServer())
	i := issue(now)
	// The proof is being spent elsewhere, so that recording waits in the middle.
	exec(t, admin, `begin`)
	exec(t, admin, `insert into authz.spent_proofs (digest, iat) values ($1, $2)`, i.Proof.Digest[:], i.Proof.IssuedAt)
	recorded := make(chan error, 1)
	go func() { recorded <- store.RecordToken(t.Context(), i) }()
	waitsForALock(t, connect(t, db.OwnerURL), recorded)
	must(t, owner.SetClientDisabled(t.Context(), shop, true, event(authz.AuditClientDisabled, now)))
	must(t, owner.SetClientDisabled(t.Context(), shop, false, event(authz.AuditClientEnabled, now)))
	exec(t, admin, `rollback`)
	must(t, <-recorded) // it began before
	if _, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now); err != authz.ErrNotFound {
		t.Errorf("the token: %v, want it inactive", err)
	}
}

// waitsForALock returns when a statement waits for another one's end.
func waitsForALock(t *testing.T, watch *pgx.Conn, done <-chan error) {
	t.Helper()
	for list[int](t, watch, `select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)[0] == 0 {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// Of a proof that is being spent elsewhere nothing is known until that has ended.
func TestCallWaitsForTheSpendingOfItsProofElsewhere(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]bool{"commit": false, "rollback": true} {
		db := pgtest.New(t)
		admin := connect(t, db.OwnerURL)
		owner := open(t, db.OwnerURL)
		now := clock()
		populate(t, owner, now)
		store := open(t, db.ServerURL, postgres.AsServer())
		i := issue(now)
		must(t, store.RecordToken(t.Context(), i))
		call := goodCall(t, owner, i.Token)
		exec(t, admin, `begin`)
		exec(t, admin, `insert into authz.spent_proofs (digest, iat) values ($1, $2)`, call.Proof.Digest[:], call.Proof.IssuedAt)
		var verdict authz.Verdict
		admitted := make(chan error, 1)
		go func() {
			v, err := store.AdmitCall(t.Context(), call, now)
			verdict = v
			admitted <- err
		}()
		waitsForALock(t, connect(t, db.OwnerURL), admitted)
		exec(t, admin, end)
		must(t, <-admitted)
		if verdict.Token == nil || verdict.Spent != want {
			t.Errorf("after a %s there: %+v", end, verdict)
		}
	}
}
