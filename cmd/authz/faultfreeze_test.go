package main

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// Postgres hangs, as a machine does that is out of memory or lost its disk: its
// connections stay open, and nothing answers on them.
func TestPostgresThatHangsIsA503InTimeAndLosesNothing(t *testing.T) {
	t.Parallel()
	seed := faultSeed(t)
	s := newFaultSite(t, faultOptions{instances: 2})
	s.world.Await("a token of each client", func() bool {
		for _, c := range s.world.Services {
			s.world.Token(s.servers[0].at, c)
		}
		return s.world.Issued() >= 8
	})
	quiet := s.size()
	atLeast, crowd := 6*time.Second, 40 // the first requests get their 503 after five seconds
	if long() {
		atLeast, crowd = 10*time.Second, 200
	}

	stop := sync.OnceFunc(s.world.Load(8, 20*time.Millisecond, seed))
	defer stop()
	s.world.Await("tokens", s.progress(8))
	if err := s.pg.Freeze(); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	issued, refused := s.world.Issued(), s.world.Answers()[http.StatusServiceUnavailable]
	// What comes all at once, besides the load.
	var all sync.WaitGroup
	for n := range crowd {
		all.Go(func() {
			i := s.servers[n%len(s.servers)]
			if status := s.world.Token(i.at, s.world.Services[n%len(s.world.Services)]); status != http.StatusServiceUnavailable {
				t.Errorf("a token request to a server whose Postgres hangs is answered with %d", status)
			}
		})
	}
	for _, i := range s.servers {
		if status, says := i.readiness(); status != http.StatusServiceUnavailable {
			t.Errorf("ready while Postgres hangs: %d %s", status, says)
		}
		if status, says := i.get("/healthz"); status != http.StatusOK {
			t.Errorf("not alive while Postgres hangs: %d %s", status, says)
		}
	}
	all.Wait()
	s.world.Await("503s, all through the time", func() bool {
		return time.Since(frozen) >= atLeast && s.world.Answers()[http.StatusServiceUnavailable] >= refused+crowd+8
	})
	held := s.size()
	// What was answered before Postgres stopped may have come in a moment later.
	if n := s.world.Issued() - issued; n > 8 {
		t.Errorf("%d tokens were issued while Postgres was frozen", n)
	}
	if err := s.pg.Thaw(); err != nil {
		t.Fatal(err)
	}
	s.awaitService()
	s.settle(stop, seed)
	s.world.Await("what requests held to be given back", func() bool {
		s.world.CloseIdle() // each holds one
		return s.size().goroutines <= quiet.goroutines+50
	})
	if held.goroutines > quiet.goroutines+8*float64(crowd+8) || held.heap > 64<<20 {
		t.Errorf("with %d requests at a time: %+v, before: %+v", crowd+8, held, quiet)
	}
	s.checkLogs()
	t.Logf("before %+v, frozen %+v, after %+v; answers %v, the slowest after %s", quiet, held, s.size(), s.world.Answers(), s.world.Slowest())
}

// size is what the servers hold, of the one that holds most.
type size struct{ goroutines, heap float64 }

func (s *faultSite) size() size {
	var most size
	for _, i := range s.servers {
		most.goroutines = max(most.goroutines, i.gauge("go_goroutines"))
		most.heap = max(most.heap, i.gauge("go_memstats_heap_inuse_bytes"))
	}
	return most
}
