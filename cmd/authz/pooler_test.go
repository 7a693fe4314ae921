package main

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Two instances share three connections to Postgres through a PgBouncer in
// transaction mode, whose clients they have more of.
func TestServersBehindAPoolerKeepWhatAlwaysHolds(t *testing.T) {
	t.Parallel()
	seed := faultSeed(t)
	s := newFaultSite(t, faultOptions{instances: 2, pooler: 3})
	stop := sync.OnceFunc(s.world.Load(12, 10*time.Millisecond, seed))
	defer stop()
	s.world.Await("tokens", s.progress(60))
	// What is begun anew while others use the same connections.
	s.churns()
	s.servers[0].kill9InTurn(stop)
	stop = sync.OnceFunc(s.world.Load(12, 10*time.Millisecond, seed+1))
	defer stop()
	s.world.Await("tokens", s.progress(30))
	s.settle(stop, seed)
	if answers := s.world.Answers(); answers[503] > 0 {
		t.Errorf("answers: %v", answers)
	}
	s.checkLogs()
	s.refusesMigrations()

	conn := s.connect()
	defer conn.Close(context.Background())
	var connections int
	if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity where usename = $1`, serverLogin).Scan(&connections); err != nil {
		t.Fatal(err)
	}
	if connections == 0 || connections > 3 {
		t.Errorf("the servers have %d connections to Postgres", connections)
	}
}

// kill9InTurn kills it when the load on it has ended, and starts it again.
func (i *faultServer) kill9InTurn(stop func()) {
	i.site.t.Helper()
	stop()
	i.kill9()
	i.start()
}

// refusesMigrations checks that migrations, which take a lock of their session, are
// not run where a pooler would give it to the next.
func (s *faultSite) refusesMigrations() {
	s.t.Helper()
	url, err := s.pooler.URL(s.pg.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	p := startAuthz(s.t, s.program, environment(s.t, "AUTHZ_DATABASE_URL="+url), "migrate")
	if err := p.await(&p.errOut, "connect to Postgres itself"); err != nil {
		s.t.Error(err)
	}
	if code, err := p.wait(); err != nil || code == 0 {
		s.t.Errorf("it exits with %d, %v", code, err)
	}
}
