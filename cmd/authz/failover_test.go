package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// failsOver lets the primary of a site under load fail, promotes the standby, and
// holds the servers to what they promise.
func failsOver(t *testing.T, fail func(*faultSite) error) *faultSite {
	t.Helper()
	seed := faultSeed(t)
	s := newFaultSite(t, faultOptions{instances: 2, standby: true})
	stop := sync.OnceFunc(s.world.Load(8, 20*time.Millisecond, seed))
	defer stop()
	s.world.Await("tokens", s.progress(30))
	if err := fail(s); err != nil {
		t.Fatal(err)
	}
	refused := s.world.Answers()[http.StatusServiceUnavailable]
	s.world.Await("503s", func() bool { return s.world.Answers()[http.StatusServiceUnavailable] >= refused+9 })
	for _, i := range s.servers {
		if status, says := i.readiness(); status != http.StatusServiceUnavailable {
			t.Errorf("ready without a primary: %d %s", status, says)
		}
	}
	if err := s.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	s.awaitService()
	back := time.Since(promoted)
	if back > 5*time.Second {
		t.Errorf("service is back %s after the promotion", back)
	}
	s.world.Await("tokens of the new primary", s.progress(30))
	s.settle(stop, seed)
	t.Logf("back %s after the promotion; answers %v, the slowest after %s", back, s.world.Answers(), s.world.Slowest())
	return s
}

// leavesAlone checks that the primary of before, which runs again as if nothing had
// been, is left alone by servers that start and by those that connect anew, though
// it comes first in their URL.
func (s *faultSite) leavesAlone() {
	s.t.Helper()
	s.servers[0].kill9()
	s.servers[0].start()
	// Those of the standby that was promoted: the owner's URL has it first.
	s.exec(`select pg_terminate_backend(pid) from pg_stat_activity where usename = '` + serverLogin + `'`)
	s.awaitService()
	seed := faultSeed(s.t)
	stop := sync.OnceFunc(s.world.Load(4, 10*time.Millisecond, seed))
	defer stop()
	s.world.Await("tokens of the new primary", s.progress(20))
	s.settle(stop, seed)

	old, err := pgx.Connect(s.t.Context(), s.pg.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	defer old.Close(context.Background())
	s.world.Await("nobody to be connected to the old primary", func() bool {
		var n int
		// What waits for the standby waits for ever, and does not see that nobody is
		// there any more: a commit from before it hung.
		err := old.QueryRow(s.t.Context(), `
			select count(*) from pg_stat_activity where usename = $1 and wait_event is distinct from 'SyncRep'`, serverLogin).Scan(&n)
		return err == nil && n == 0
	})
	s.checkLogs()
}

func TestFailoverLosesNothingAndIsOverInFiveSeconds(t *testing.T) {
	t.Parallel()
	s := failsOver(t, func(s *faultSite) error { return s.pg.Kill() })
	if err := s.pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.leavesAlone()
}

// A machine that has frozen, or is gone from the network, does not say so. And when
// it is back, it does not know what was.
func TestFailoverFromAPrimaryThatHangsIsOverInFiveSeconds(t *testing.T) {
	t.Parallel()
	s := failsOver(t, func(s *faultSite) error { return s.pg.Freeze() })
	if err := s.pg.Thaw(); err != nil {
		t.Fatal(err)
	}
	s.leavesAlone()
}
