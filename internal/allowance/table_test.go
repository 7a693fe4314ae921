package allowance_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cargokey/authz/internal/allowance"
)

var sixty = allowance.Of(60)

func TestAllowanceIsUsedUpAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := allowance.New(64)
		used := func(n int) (over int) {
			for range n {
				if is, _ := table.Use("x", sixty); is {
					over++
				}
			}
			return over
		}
		if over := used(60); over != 0 {
			t.Errorf("%d of 60 are over", over)
		}
		if over := used(10); over != 10 {
			t.Errorf("%d of 10 are over", over)
		}
		if over, _ := table.Use("y", sixty); over {
			t.Error("another name's allowance is used up")
		}
		time.Sleep(3 * time.Second) // what was over took none of it
		if over := used(4); over != 1 {
			t.Errorf("after 3 s %d of 4 are over", over)
		}
		time.Sleep(time.Hour)
		if over := used(61); over != 1 {
			t.Errorf("after an hour %d of 61 are over", over)
		}
	})
}

func TestUsedUpIsSaidOnceAMinuteWithHowOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Second)
		table := allowance.New(64)
		var said []int64
		for range 5 {
			for range 100 {
				if _, times := table.Use("x", allowance.Of(1)); times > 0 {
					said = append(said, times)
				}
			}
			time.Sleep(31 * time.Second)
		}
		if got := fmt.Sprint(said); got != "[1 199 199]" {
			t.Errorf("said %s", got)
		}
	})
}

func TestLowIsBeforeUsedUp(t *testing.T) {
	table := allowance.New(64)
	for n := range 60 {
		if low := table.Low("x", sixty); low != (n > 31) && n != 31 {
			t.Errorf("after %d: %t", n, low)
		}
		table.Use("x", sixty)
	}
	if table.Low("y", sixty) {
		t.Error("so is a name that was never seen")
	}
}

// Whoever makes names up is forgotten before who is seen often.
func TestTableStaysAsLargeAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := allowance.New(1024)
		for n := range 100_000 {
			if n%100 == 0 {
				table.Mark("often")
				time.Sleep(time.Millisecond)
			}
			table.Mark(fmt.Sprint("made up ", n))
		}
		if !table.Knows("often") {
			t.Error("what is seen often is forgotten")
		}
		known := 0
		for n := range 100_000 {
			if table.Knows(fmt.Sprint("made up ", n)) {
				known++
			}
		}
		if known > 1024 {
			t.Errorf("%d are known", known)
		}
	})
}

func BenchmarkUse(b *testing.B) {
	table := allowance.New(1 << 14)
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = fmt.Sprint("client ", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Use(names[i%len(names)], sixty)
	}
}
