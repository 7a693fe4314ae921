package dpopbind_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

func spendName(n int) (key [32]byte) {
	binary.BigEndian.PutUint64(key[:], uint64(n))
	return key
}

func TestOfConcurrentSpendsOfOneKeyOneIsTheFirst(t *testing.T) {
	m := dpopbind.NewMemoryReplay(0, nil)
	until := time.Now().Add(time.Minute)
	var firsts atomic.Int64
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			first, err := m.Spend(t.Context(), spendName(1), time.Now(), until)
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	wg.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%d were first", firsts.Load())
	}
}

func TestASpentKeyIsRememberedUntilItsEndAndForgottenSoonAfter(t *testing.T) {
	c := newClock()
	m := dpopbind.NewMemoryReplay(1, c.now)
	until := now.Add(1500 * time.Millisecond)
	spend := func(key int, until time.Time) (bool, error) { return m.Spend(t.Context(), spendName(key), now, until) }
	if first, err := spend(1, until); !first || err != nil {
		t.Fatal(first, err)
	}
	for range 4 { // until is included
		if first, err := spend(1, until); first || err != nil {
			t.Errorf("at %v: %v, %v", c.now().Sub(now), first, err)
		}
		if _, err := spend(2, until); !errors.Is(err, dpopbind.ErrReplayFull) {
			t.Errorf("at %v: %v, want ErrReplayFull", c.now().Sub(now), err)
		}
		c.advance(500 * time.Millisecond)
	}
	c.advance(64 * time.Second) // a minute more, for proofs that are spent late
	if first, err := spend(2, c.now().Add(time.Second)); !first || err != nil {
		t.Errorf("the room of a forgotten key is not free: %v, %v", first, err)
	}
}

func TestASpentKeyIsRememberedForItsLatestProof(t *testing.T) {
	c := newClock()
	m := dpopbind.NewMemoryReplay(0, c.now)
	spend := func(until time.Duration) bool { return must(m.Spend(t.Context(), spendName(1), now, now.Add(until))) }
	if !spend(time.Second) || spend(time.Minute) || spend(2*time.Second) {
		t.Fatal("not spent once")
	}
	for range 60 {
		c.advance(time.Second)
		if spend(time.Second) {
			t.Fatalf("forgotten after %v", c.now().Sub(now))
		}
	}
}

func TestAClockThatIsSetBackForgetsNothing(t *testing.T) {
	c := newClock()
	m := dpopbind.NewMemoryReplay(0, c.now)
	c.advance(time.Hour)
	must(m.Spend(t.Context(), spendName(1), c.now(), c.now().Add(time.Minute)))
	c.advance(-time.Hour)
	for range 4 {
		if first := must(m.Spend(t.Context(), spendName(1), c.now(), c.now().Add(time.Minute))); first {
			t.Error("forgotten")
		}
		c.advance(20 * time.Minute)
	}
}

func TestAMemoryReplayHoldsNoMoreThanItMay(t *testing.T) {
	c := newClock()
	m := dpopbind.NewMemoryReplay(100, c.now)
	for round := range 3 {
		for n := range 200 {
			first, err := m.Spend(t.Context(), spendName(round*1000+n), c.now(), c.now().Add(time.Duration(n)*time.Millisecond))
			if n < 100 && (!first || err != nil) || n >= 100 && (first || !errors.Is(err, dpopbind.ErrReplayFull)) {
				t.Fatalf("round %d, key %d: %v, %v", round, n, first, err)
			}
		}
		// A full memory still knows what it holds.
		if first, err := m.Spend(t.Context(), spendName(round*1000), c.now(), c.now()); first || err != nil {
			t.Errorf("round %d: %v, %v", round, first, err)
		}
		c.advance(70 * time.Second)
	}
}

func TestAProofIsSpentOnceAndAReplayIsAProofError(t *testing.T) {
	m := dpopbind.NewMemoryReplay(0, func() time.Time { return now })
	raw := prooftest.New(now, method, tokenURL).String()
	if err := check(t, raw).Spend(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	err := check(t, prooftest.OtherS(raw)).Spend(t.Context(), m)
	if e := asProofError(t, err); e.Check != dpopbind.CheckReplay {
		t.Errorf("refused by the check %q", e.Check)
	}
	var unknown *dpopbind.ReplayUnknownError
	if err := check(t, raw).Spend(t.Context(), full(t)); !errors.As(err, &unknown) || !errors.Is(err, dpopbind.ErrReplayFull) {
		t.Errorf("full: %v", err)
	}
	// A store that says both "first" and an error is not believed.
	if err := check(t, raw).Spend(t.Context(), broken{}); !errors.As(err, &unknown) {
		t.Errorf("unreachable: %v", err)
	}
}
