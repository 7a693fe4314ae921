package postgres_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/storage/postgres"
)

// freezing is a connection that says nothing more from a write on.
type freezing struct {
	net.Conn
	left *atomic.Int64 // writes until then
	thaw <-chan struct{}
}

func (c freezing) Write(b []byte) (int, error) {
	if c.left.Add(-1) < 0 {
		<-c.thaw
	}
	return c.Conn.Write(b)
}

// An instance whose machine stops in the middle of a transaction, or is cut off, keeps
// the connection for as long as nobody ends it.
func TestWhoFreezesWhileItKeepsFindingsKeepsNobodyFromTheTrail(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	owner, admin := open(t, db.OwnerURL), connect(t, db.OwnerURL)
	populate(t, owner, clock())
	left, thaw, ended := &atomic.Int64{}, make(chan struct{}), make(chan struct{})
	left.Store(1 << 40)
	frozen := open(t, db.ServerURL, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) {
		c.MaxConns = 1
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return freezing{conn, left, thaw}, nil
		}
	}))
	a := newAnalyst(t, frozen, "one")
	f := a.finds()
	f.Deleted = []string{edge}
	t.Cleanup(func() { close(thaw); <-ended })
	left.Store(5) // it begins, and takes its turn: each statement is prepared, too
	go func() { defer close(ended); frozen.KeepFindings(context.Background(), f) }()
	const inside = `select from pg_stat_activity where datname = current_database() and state like 'idle in transaction%' and backend_xid is not null`
	eventually(t, "it is inside", func() error {
		var n int
		return admin.QueryRow(t.Context(), `select 1 where exists (`+inside+`)`).Scan(&n)
	})
	event := authz.NewAuditEvent(clock(), authz.AuditTokenIntrospected, authz.ActorServer)
	must(t, owner.RecordEvents(t.Context(), []authz.AuditEvent{event}))
	exec(t, admin, `select from pg_sleep(1)`)
	eventually(t, "its events are final", func() error {
		found, err := owner.Trail(t.Context(), a.at, 1000)
		if err == nil && (len(found) == 0 || found[len(found)-1].ID != event.ID) {
			err = authz.ErrNotFound
		}
		return err
	})
	exec(t, admin, `update authz.followers set held_until = clock_timestamp() where name = $1`, watch.Follower)
	if _, held, err := owner.Follow(t.Context(), watch.Follower, "two", time.Minute); err != nil || !held {
		t.Errorf("the other one follows: %v, %v", held, err)
	}
}
