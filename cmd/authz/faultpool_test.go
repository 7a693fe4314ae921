package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
)

// The connections of a server are all taken: each waits for a lock that somebody
// holds, an operator in psql for one. Whoever comes then waits for a connection.
func TestPoolThatRunsDryIsA503InTimeAndRecovers(t *testing.T) {
	t.Parallel()
	const pool, workers = 2, 8
	seed := faultSeed(t)
	s := newFaultSite(t, faultOptions{instances: 1, pool: pool})
	only := s.servers[0]
	stop := sync.OnceFunc(s.world.Load(workers, 0, seed))
	defer stop()
	s.world.Await("tokens", s.progress(8))

	// Of what everybody reads, and of what a token is recorded in.
	tables := []string{"authz.clients"}
	if long() {
		tables = append(tables, "authz.tokens", "authz.spent_proofs", "authz.audit_events")
	}
	for _, table := range tables {
		conn := s.connect()
		for _, sql := range []string{"begin", "lock table " + table + " in access exclusive mode"} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		refused := s.world.Answers()[http.StatusServiceUnavailable]
		s.world.Await("503s while "+table+" is locked", func() bool {
			return s.world.Answers()[http.StatusServiceUnavailable] >= refused+workers
		})
		if status, says := only.get("/healthz"); status != http.StatusOK {
			t.Errorf("not alive while %s is locked: %d %s", table, status, says)
		}
		backends, err := s.backends()
		// Those that were given up are ended at once, by a request to Postgres.
		if err != nil || len(backends) > 4*pool {
			t.Errorf("the server has %d connections, %v; its pool has %d", len(backends), err, pool)
		}
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil { // rolls back
			t.Fatal(err)
		}
		s.awaitService()
	}
	s.settle(stop, seed)
	s.checkLogs()
	t.Logf("answers %v, the slowest after %s", s.world.Answers(), s.world.Slowest())
}
