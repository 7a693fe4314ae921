package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

var _ dpopbind.Replay = (*postgres.Store)(nil)

func TestOfManySpendingsOfOneProofOneIsFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	stores := []*postgres.Store{open(t, db.ServerURL, postgres.AsServer()), open(t, db.ServerURL, postgres.AsServer())}
	now := clock()
	must(t, stores[0].Maintain(t.Context(), now))
	for range 20 {
		key := [32]byte(randomDigest())
		var first atomic.Int64
		var wg sync.WaitGroup
		for n := range 32 {
			wg.Go(func() {
				ok, err := stores[n%2].Spend(t.Context(), key, now, now.Add(75*time.Second))
				if err != nil {
					t.Error(err)
				}
				if ok {
					first.Add(1)
				}
			})
		}
		wg.Wait()
		if first.Load() != 1 {
			t.Fatalf("%d were first", first.Load())
		}
	}
}

func TestNameOfASpentProofIsTakenForItsWindowAcrossTheHour(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := open(t, db.ServerURL, postgres.AsServer())
	hour := clock().UTC().Truncate(time.Hour).Add(time.Hour)
	must(t, s.Maintain(t.Context(), hour))
	spend := func(key [32]byte, iat time.Time) bool {
		t.Helper()
		first, err := s.Spend(t.Context(), key, iat, iat.Add(75*time.Second))
		must(t, err)
		return first
	}
	key := [32]byte(randomDigest())
	if !spend(key, hour.Add(-10*time.Second)) {
		t.Fatal("a new one is not first")
	}
	if spend(key, hour.Add(80*time.Second)) {
		t.Error("the name was free again while both could be accepted")
	}
	if !spend(key, hour.Add(10*time.Minute)) {
		t.Error("the name is taken for good")
	}
}

func TestProofThatCannotBeSpentIsAnError(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	// There is no partition.
	if first, err := s.Spend(t.Context(), [32]byte(randomDigest()), now, now.Add(time.Minute)); err == nil || first {
		t.Errorf("%t, %v", first, err)
	}
	must(t, s.Maintain(t.Context(), now))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if first, err := s.Spend(ctx, [32]byte(randomDigest()), now, now.Add(time.Minute)); err == nil || first {
		t.Errorf("%t, %v", first, err)
	}
}
