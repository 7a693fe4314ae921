package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// A pooler that is led to another database keeps the connections of those who are
// connected to it: they learn of it all the same, before they serve from it.
func TestNoServerServesFromACopyThatItsPoolerIsLedTo(t *testing.T) {
	t.Parallel()
	for name, sql := range copies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			setLogin(t, db)
			admin, operator, now := connect(t, db.OwnerURL), open(t, db.OwnerURL), clock()
			populate(t, operator, now)
			store := open(t, through(t, pooler(t, db), db.ServerURL), postgres.AsServer())
			must(t, store.RecordToken(t.Context(), issue(now)))
			exec(t, admin, sql)
			if err := store.RecordToken(t.Context(), issue(now)); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("a token: %v", err)
			}
			if _, err := store.ActiveToken(t.Context(), randomDigest(), edgeCaller(), now); !errors.Is(err, authz.ErrCopied) {
				t.Errorf("introspection: %v", err)
			}
		})
	}
}

func TestFenceCountsAtOnceBehindAPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	setLogin(t, db)
	operator, now := open(t, db.OwnerURL), clock()
	populate(t, operator, now)
	store := open(t, through(t, pooler(t, db), db.ServerURL), postgres.AsServer())
	must(t, store.RecordToken(t.Context(), issue(now)))
	_, err := operator.ClaimRestored(t.Context(), now.Add(time.Second), event(authz.AuditDatabaseRestored, now))
	must(t, err)
	if first, err := store.Spend(t.Context(), randomDigest(), now, now.Add(time.Minute)); err != nil || first {
		t.Errorf("what was signed before the fence is spent: %v, %v", first, err)
	}
}
