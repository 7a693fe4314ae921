package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fault is something that breaks, and is mended again by those who run it.
type fault struct {
	name string
	do   func(*faultSite, *rand.Rand) error
}

func faults() []fault {
	return []fault{
		{"kill -9 of a server", func(s *faultSite, random *rand.Rand) error {
			i := s.servers[random.IntN(len(s.servers))]
			i.kill9()
			i.start()
			return nil
		}},
		{"kill -9 of Postgres, all of it", func(s *faultSite, _ *rand.Rand) error {
			if err := s.pg.Kill(); err != nil {
				return err
			}
			return s.pg.Restart(s.t.Context())
		}},
		{"kill -9 of the postmaster", func(s *faultSite, _ *rand.Rand) error {
			if err := s.pg.KillPostmaster(); err != nil {
				return err
			}
			return s.pg.Restart(s.t.Context())
		}},
		{"kill -9 of a backend", func(s *faultSite, random *rand.Rand) error {
			bystander := s.connect()
			defer bystander.Close(context.Background())
			backends, err := s.backends()
			if err != nil || len(backends) == 0 {
				return fmt.Errorf("%d backends, %v", len(backends), err)
			}
			err = syscall.Kill(backends[random.IntN(len(backends))], syscall.SIGKILL)
			// Postgres ends all others and recovers, and it is over only then: until it
			// has noticed, it goes on as if nothing were.
			s.world.Await("Postgres to end all of its backends", func() bool {
				_, err := bystander.Exec(s.t.Context(), "select")
				return err != nil
			})
			return err
		}},
		{"pg_terminate_backend of some", func(s *faultSite, random *rand.Rand) error {
			conn := s.connect()
			defer conn.Close(context.Background())
			_, err := conn.Exec(s.t.Context(), `
				select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and hashint4(pid + $2) % 2 = 0`,
				serverLogin, random.Int32N(1000))
			return err
		}},
		{"kill -9 of all servers and Postgres", func(s *faultSite, _ *rand.Rand) error {
			for _, i := range s.servers {
				i.kill9()
			}
			if err := s.pg.Kill(); err != nil {
				return err
			}
			if err := s.pg.Restart(s.t.Context()); err != nil {
				return err
			}
			for _, i := range s.servers {
				i.start()
			}
			return nil
		}},
	}
}

// backends are the processes that serve the servers.
func (s *faultSite) backends() ([]int, error) {
	conn := s.connect()
	defer conn.Close(context.Background())
	rows, err := conn.Query(s.t.Context(), `select pid from pg_stat_activity where usename = $1`, serverLogin)
	if err != nil {
		return nil, err
	}
	var pids []int
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, rows.Err()
}

// churns disables a client and enables it again, under load.
func (s *faultSite) churns() {
	s.t.Helper()
	s.world.Disabling(s.churn, func() { runAuthz(s.t, s.program, s.owner, "client", "disable", s.churn.ID) })
	s.world.Await("what the disabled client is answered", s.progress(2))
	s.world.Enabling(s.churn, func() { runAuthz(s.t, s.program, s.owner, "client", "enable", s.churn.ID) })
}

// progress tells when so many more tokens were issued.
func (s *faultSite) progress(more int) func() bool {
	from := s.world.Issued()
	return func() bool { return s.world.Issued() >= from+more }
}

// The server, Postgres and parts of it are killed at random moments under load.
func TestWhatAlwaysHoldsSurvivesKills(t *testing.T) {
	t.Parallel()
	seed := faultSeed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newFaultSite(t, faultOptions{instances: 2, cutOff: true})
	all := faults()
	rounds, workers, pause := len(all), 6, 30*time.Millisecond
	if long() {
		rounds, workers, pause = 100, 10, 15*time.Millisecond
	}
	order := random.Perm(len(all))
	for round := range rounds {
		if round%len(all) == 0 {
			order = random.Perm(len(all))
		}
		f := all[order[round%len(all)]]
		stop := sync.OnceFunc(s.world.Load(workers, pause, random.Uint64()))
		func() {
			defer stop()
			s.world.Await("tokens", s.progress(8))
			if round%3 == 0 {
				s.churns()
			}
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // at any moment
			if err := f.do(s, random); err != nil {
				t.Fatalf("round %d, %s: %v", round, f.name, err)
			}
			s.awaitService()
		}()
		s.settle(stop, random.Uint64())
		if long() {
			t.Logf("round %d, %s: %d tokens so far", round, f.name, s.world.Issued())
		}
		if t.Failed() {
			t.Fatalf("that was round %d, %s", round, f.name)
		}
	}
	s.checkLogs()
	t.Logf("%d faults, %d tokens, answers %v", rounds, s.world.Issued(), s.world.Answers())
}
