package admission_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cargokey/authz/internal/admission"
)

var config = admission.Config{Most: 8, Least: 2, Line: 8, Wait: time.Second, Kinds: 1}

// enters has a request enter and tells what became of it.
func enters(g *admission.Gate) chan error {
	verdict := make(chan error, 1)
	go func() { verdict <- g.Enter(context.Background()) }()
	synctest.Wait()
	return verdict
}

func waits(t *testing.T, verdict chan error) {
	t.Helper()
	select {
	case err := <-verdict:
		t.Fatalf("it does not wait: %v", err)
	default:
	}
}

func told(t *testing.T, verdict chan error, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-verdict:
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	default:
		t.Fatalf("it waits, want %v", want)
	}
}

// A client that waits for its answers before it asks again offers no more than it has
// connections: none of them is refused, however slow the work.
func TestClosedLoopThatFitsIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.NewGate(admission.Config{Most: 8, Least: 2, Line: 8, Wait: time.Second, Kinds: 1, Refused: func() { t.Error("refused") }})
		var wg sync.WaitGroup
		for n := range 16 { // half of them wait
			wg.Go(func() {
				for range 30 {
					if err := g.Enter(t.Context()); err != nil {
						t.Errorf("connection %d: %v", n, err)
						return
					}
					begun := time.Now()
					time.Sleep(20 * time.Millisecond)
					g.LeaveAfter(0, time.Since(begun))
				}
			})
		}
		wg.Wait()
	})
}

func TestNewestGoesFirstAndOldestIsPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 2, Wait: time.Second})
		told(t, enters(g), nil)
		first, second := enters(g), enters(g)
		waits(t, first)
		third := enters(g)
		told(t, first, admission.ErrFull)
		waits(t, second)
		waits(t, third)
		g.Leave()
		told(t, third, nil)
		waits(t, second)
		g.Leave()
		told(t, second, nil)
	})
}

func TestOldestGoesFirstAgainOnceTheOverloadIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 4, Wait: time.Minute})
		told(t, enters(g), nil)
		first, second := enters(g), enters(g)
		time.Sleep(time.Second)
		g.Leave()
		told(t, first, nil)
		waits(t, second)
		g.Leave()
		told(t, second, nil)
	})
}

// What an overload leaves in the line is not served late, and is not left there either.
func TestWhoCameInAnOverloadIsNotServedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 2, Wait: time.Second})
		told(t, enters(g), nil)
		first, second, third := enters(g), enters(g), enters(g)
		told(t, first, admission.ErrFull)
		time.Sleep(200 * time.Millisecond)
		fourth := enters(g)
		told(t, second, admission.ErrFull)
		g.Leave()
		told(t, fourth, nil)
		g.Leave()
		told(t, third, admission.ErrWaited)
		told(t, enters(g), nil)
	})
}

func TestNobodyWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused atomic.Int64
		g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 2, Wait: time.Second, Refused: func() { refused.Add(1) }})
		told(t, enters(g), nil)
		begun := time.Now()
		if err := g.Enter(t.Context()); !errors.Is(err, admission.ErrWaited) || time.Since(begun) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := g.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		g.Leave() // nobody is left in the line to be let in
		told(t, enters(g), nil)
		if n := refused.Load(); n != 1 {
			t.Errorf("%d are said to be refused", n)
		}
	})
}

func TestWhoCameBackCountsThoughThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 2, Wait: time.Second})
		told(t, enters(g), nil)
		g.Leave()
		told(t, enters(g), nil)
		g.Reenter()
		waiting := enters(g)
		g.Leave()
		waits(t, waiting)
		g.Leave()
		told(t, waiting, nil)
	})
}

// station is a server that answers each request in its own time where no more are in
// work than it has hands, and in proportion longer where there are.
type station struct {
	hands  int64
	each   time.Duration
	inWork atomic.Int64
	worst  atomic.Int64
	served atomic.Int64
	counts atomic.Bool // what is served now
}

func (s *station) serve(g *admission.Gate, ctx context.Context) {
	begun, counts := time.Now(), s.counts.Load()
	if g.Enter(ctx) != nil {
		return
	}
	entered := time.Now()
	n := s.inWork.Add(1)
	time.Sleep(s.each * time.Duration(max(n, s.hands)) / time.Duration(s.hands))
	s.inWork.Add(-1)
	g.LeaveAfter(0, time.Since(entered))
	if !counts {
		return
	}
	s.served.Add(1)
	for took := int64(time.Since(begun)); ; {
		if worst := s.worst.Load(); took <= worst || s.worst.CompareAndSwap(worst, took) {
			return
		}
	}
}

// offer sends a request each interval for a while. Neither its beginning counts, until
// the pace is found, nor what is left in the line at its end.
func (s *station) offer(g *admission.Gate, every, lasts time.Duration) {
	s.worst.Store(0)
	s.served.Store(0)
	var wg sync.WaitGroup
	begun := time.Now()
	for end := begun.Add(lasts); time.Now().Before(end); time.Sleep(every) {
		s.counts.Store(time.Since(begun) > lasts/2 && time.Until(end) > lasts/10)
		wg.Go(func() { s.serve(g, context.Background()) })
	}
	wg.Wait()
}

// Ten times what can be done is offered: what is let in takes at most three times as
// long as when it is quiet, nearly as much is done as can be, and it is over when the
// flood is.
func TestFloodSlowsDownNobodyWhoIsLetIn(t *testing.T) {
	for name, s := range map[string]*station{
		"a database on this machine": {hands: 4, each: 10 * time.Millisecond},
		"a database far away":        {hands: 64, each: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := admission.NewGate(admission.Config{Most: 192, Least: 4, Line: 192, Wait: time.Second, Kinds: 1})
				capacity := s.each / time.Duration(s.hands) // one each
				s.offer(g, 4*capacity, 2*time.Second)
				quiet := s.worst.Load()
				s.offer(g, capacity/10, 6*time.Second)
				if worst := s.worst.Load(); worst > 3*quiet {
					t.Errorf("%s in a flood, %s before it", time.Duration(worst), time.Duration(quiet))
				}
				if could := int64(2400 * time.Millisecond / capacity); s.served.Load() < could*7/10 {
					t.Errorf("%d are served, of %d", s.served.Load(), could)
				}
				s.offer(g, 4*capacity, time.Second)
				if worst := s.worst.Load(); worst > 2*quiet {
					t.Errorf("%s after the flood, %s before it", time.Duration(worst), time.Duration(quiet))
				}
			})
		})
	}
}

func BenchmarkEnterAndLeave(b *testing.B) {
	g := admission.NewGate(config)
	for b.Loop() {
		if err := g.Enter(context.Background()); err != nil {
			b.Fatal(err)
		}
		g.LeaveAfter(0, time.Millisecond)
	}
}

// A refusal costs a place in the line and the push out of it.
func BenchmarkRefusal(b *testing.B) {
	g := admission.NewGate(admission.Config{Most: 1, Least: 1, Line: 8, Wait: time.Minute, Kinds: 1})
	if err := g.Enter(context.Background()); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		go g.Enter(ctx)
	}
}
