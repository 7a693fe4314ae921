package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// copies are what the row looks like in a copy, and by whose making.
var copies = map[string]string{
	"of another cluster":      `update authz.database set written_in = pg_current_xact_id(), system_identifier = system_identifier + 1`,
	"of another database":     `update authz.database set written_in = pg_current_xact_id(), database_oid = database_oid + 1`,
	"whose rows were written": `update authz.database set fence = fence`,
	"without the row":         `delete from authz.database`,
}

const promoted = `update authz.database set written_in = pg_current_xact_id(), timeline = 'FFFFFFFF'`

func TestNoServerServesFromACopy(t *testing.T) {
	t.Parallel()
	for name, sql := range copies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			admin, operator := connect(t, db.OwnerURL), open(t, db.OwnerURL)
			now := clock()
			populate(t, operator, now)
			store := open(t, db.ServerURL, postgres.AsServer())
			must(t, store.Ready(t.Context(), now))
			exec(t, admin, sql)

			if s, err := postgres.Open(t.Context(), db.ServerURL, postgres.AsServer()); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("a server that starts: %v", err)
				if err == nil {
					s.Close()
				}
			}
			if err := store.Ready(t.Context(), now); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("one that runs: %v", err)
			}
			endConnections(t, admin)
			reconnect(t, store, authz.ErrCopied)
			before := dump(t, admin)
			if err := store.RecordToken(t.Context(), issue(now)); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("a token by a new connection: %v", err)
			}
			if _, err := store.ActiveToken(t.Context(), randomDigest(), edgeCaller(), now); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("introspection by a new connection: %v", err)
			}
			same(t, before, dump(t, admin))

			// Operators' commands work, so that they can put right what is lost.
			must(t, operator.SetClientDisabled(t.Context(), edge, true, event(authz.AuditClientDisabled, now)))
			must(t, operator.ClaimMoved(t.Context(), event(authz.AuditDatabaseMoved, now)))
			must(t, store.Ready(t.Context(), now))
			must(t, store.RecordToken(t.Context(), issue(now)))
		})
	}
}

// endConnections ends those of the server.
func endConnections(t *testing.T, admin *pgx.Conn) {
	t.Helper()
	exec(t, admin, `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and usename = 'authz_server_login'`)
	for len(list[int32](t, admin, `select pid from pg_stat_activity where datname = current_database() and usename = 'authz_server_login'`)) > 0 {
		time.Sleep(time.Millisecond)
	}
}

// reconnect has a store find out that its connections have ended, after which it
// answers want.
func reconnect(t *testing.T, store *postgres.Store, want error) {
	t.Helper()
	for range 100 { // connections that were kept
		if err := store.Ready(t.Context(), clock()); errors.Is(err, want) {
			return
		}
	}
	t.Fatal("it does not reconnect")
}

func TestPromotedDatabaseServesAndIsTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	operator := open(t, db.OwnerURL)
	populate(t, operator, now)
	exec(t, connect(t, db.OwnerURL), promoted)
	store := open(t, db.ServerURL, postgres.AsServer())
	must(t, store.Ready(t.Context(), now))
	state, err := store.Database(t.Context())
	must(t, err)
	same(t, authz.DatabaseState{}, state)
	must(t, operator.ClaimMoved(t.Context(), event(authz.AuditDatabaseMoved, now)))
	state, err = store.Database(t.Context())
	must(t, err)
	same(t, authz.DatabaseState{SameTimeline: true}, state)
}

func TestRestoredDatabaseHasNoTokenThatIsActive(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	operator := open(t, db.OwnerURL)
	populate(t, operator, now)
	store := open(t, db.ServerURL, postgres.AsServer())
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))
	last, err := operator.ClaimRestored(t.Context(), now, event(authz.AuditDatabaseRestored, now))
	must(t, err)
	same(t, true, i.Event.At.Equal(last))
	if _, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now); !errors.Is(err, authz.ErrNotFound) {
		t.Errorf("introspection: %v", err)
	}
	if v, err := store.AdmitCall(t.Context(), goodCall(t, store, i.Token), now); err != nil || v.Token != nil || v.Spent {
		t.Errorf("a call: %+v, %v", v, err)
	}
	later := clock().Add(time.Second)
	must(t, store.RecordToken(t.Context(), issue(later)))
}

// What was signed before may have been spent in the time that is lost; what was
// signed later was not. Each way of spending makes the difference, for an instance
// that ran on and for one that starts.
func TestNothingThatWasSignedBeforeTheFenceIsSpentAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin, operator := connect(t, db.OwnerURL), open(t, db.OwnerURL)
	now := clock()
	populate(t, operator, now)
	ran := open(t, db.ServerURL, postgres.AsServer())
	must(t, ran.Ready(t.Context(), now))
	exec(t, admin, copies["of another cluster"])
	endConnections(t, admin)
	_, err := operator.ClaimRestored(t.Context(), now, event(authz.AuditDatabaseRestored, now))
	must(t, err)
	reconnect(t, ran, nil)
	fence := list[time.Time](t, admin, `select fence from authz.database`)[0]
	if fence.Before(now) {
		t.Errorf("the fence is at %s, before %s", fence, now)
	}
	after := fence.Truncate(time.Second).Add(2 * time.Second)
	for name, store := range map[string]*postgres.Store{"ran": ran, "starts": open(t, db.ServerURL, postgres.AsServer())} {
		for way, spend := range waysToSpend(t, store, after) {
			for _, c := range []struct {
				signed time.Time
				spent  bool
			}{{fence.Add(-time.Minute), true}, {fence, true}, {fence.Add(time.Microsecond), false}} {
				switch spent, err := spend(c.signed); {
				case err != nil:
					t.Errorf("%s, %s: %v", name, way, err)
				case spent != c.spent:
					t.Errorf("%s, %s, signed %s from the fence: counts as spent: %t", name, way, c.signed.Sub(fence), spent)
				}
			}
		}
	}
}

func waysToSpend(t *testing.T, store *postgres.Store, now time.Time) map[string]func(signed time.Time) (spent bool, err error) {
	ctx := t.Context()
	fresh := func(signed time.Time) authz.Spending {
		return authz.Spending{Digest: randomDigest(), IssuedAt: signed, Window: 90 * time.Second}
	}
	assertion := func(signed time.Time) *authz.Spending {
		return &authz.Spending{Digest: randomDigest(), IssuedAt: now.Add(time.Minute), Window: 6 * time.Minute, SignedAt: signed}
	}
	return map[string]func(time.Time) (bool, error){
		"a token's proof": func(signed time.Time) (bool, error) {
			i := issue(now)
			p := fresh(signed)
			i.Proof = &p
			return verdict(store.RecordToken(ctx, i), authz.ErrProofSpent)
		},
		"a token's assertion": func(signed time.Time) (bool, error) {
			i := issue(now)
			i.Assertion = assertion(signed)
			return verdict(store.RecordToken(ctx, i), authz.ErrAssertionSpent)
		},
		"an assertion alone": func(signed time.Time) (bool, error) {
			return verdict(store.SpendAssertion(ctx, *assertion(signed)), authz.ErrAssertionSpent)
		},
		"a proof alone": func(signed time.Time) (bool, error) {
			first, err := store.Spend(ctx, randomDigest(), signed, signed.Add(time.Minute))
			return !first, err
		},
		"a call's proof": func(signed time.Time) (bool, error) {
			i := issue(now)
			if err := store.RecordToken(ctx, i); err != nil {
				return false, err
			}
			c := goodCall(t, store, i.Token)
			p := fresh(signed)
			c.Proof = &p
			v, err := store.AdmitCall(ctx, c, now)
			return !v.Spent, err
		},
		"an endorsement": func(signed time.Time) (bool, error) {
			// Nobody is enrolled: it is told once all has been spent.
			err := store.EndorseKey(ctx, authz.Endorsement{
				Caller: shopCaller(), JKT: newJKT(), By: newJKT(), Spent: []authz.Spending{fresh(signed.Add(time.Hour)), fresh(signed)},
			}, event(authz.AuditDPoPKeyEnrolled, now))
			if errors.Is(err, authz.ErrNotEndorsed) {
				err = nil
			}
			return verdict(err, authz.ErrProofSpent)
		},
	}
}

func verdict(err, spent error) (bool, error) {
	if errors.Is(err, spent) {
		return true, nil
	}
	return false, err
}

func TestFenceFarAheadOfTheDatabasesClockIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	operator := open(t, db.OwnerURL)
	populate(t, operator, clock())
	ahead := clock().Add(10 * time.Minute)
	if _, err := operator.ClaimRestored(t.Context(), ahead, event(authz.AuditDatabaseRestored, ahead)); err == nil {
		t.Error("nothing would be accepted for ten minutes")
	}
	state, err := operator.Database(t.Context())
	must(t, err)
	same(t, authz.DatabaseState{SameTimeline: true}, state)
}

// claims are writes that faults are tried on. To say it twice is to say it again.
func claims(t *testing.T, s *postgres.Store) map[string]faulty {
	claim := func(kind authz.AuditKind, do func(context.Context, authz.AuditEvent) error) faulty {
		added := rows{"audit_events": 1}
		return faulty{
			begin: func(int) func() error {
				e := event(kind, clock())
				return func() error { return do(t.Context(), e) }
			},
			adds: added, addsAgain: added,
		}
	}
	return map[string]faulty{
		"ClaimMoved": claim(authz.AuditDatabaseMoved, s.ClaimMoved),
		"ClaimRestored": claim(authz.AuditDatabaseRestored, func(ctx context.Context, e authz.AuditEvent) error {
			_, err := s.ClaimRestored(ctx, e.At, e)
			return err
		}),
	}
}
