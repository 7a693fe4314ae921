package audittrail_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/audittrail"
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
				if err := letGo(ctx, w.owner); err != nil && ctx.Err() == nil {
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
func letGo(ctx context.Context, owner *postgres.Store) error {
	conn, err := pgx.Connect(ctx, owner.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `update authz.followers set held_until = clock_timestamp() where holder is not null`)
	return err
}
