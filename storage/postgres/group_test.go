package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// doubled is a group that doubles numbers, each statement in a second, and what
// it was asked together. Negative numbers the database refuses; of minus a
// thousand nobody knows whether it was done.
type doubled struct {
	*group[int, int]
	mu     sync.Mutex
	groups [][]int
}

var errLost = errors.New("the connection is lost")

func newDoubled(t *testing.T) *doubled {
	d := &doubled{}
	d.group = newGroup(func(ctx context.Context, numbers []int) ([]int, error) {
		d.mu.Lock()
		d.groups = append(d.groups, slices.Clone(numbers))
		d.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		answers := make([]int, len(numbers))
		for i, n := range numbers {
			switch {
			case n == -1000:
				return nil, errLost
			case n < 0:
				return nil, &pgconn.PgError{Code: "23514"}
			}
			answers[i] = 2 * n
		}
		return answers, nil
	}, func(n int) ([32]byte, bool) {
		return [32]byte{byte(n), byte(n >> 8)}, n%10 != 0 // tens are nobody's names
	})
	t.Cleanup(d.close)
	return d
}

// askAllAtOnce asks from goroutines of their own, and returns what each got.
func (d *doubled) askAllAtOnce(t *testing.T, numbers ...int) (answers []int, errs []error) {
	answers, errs = make([]int, len(numbers)), make([]error, len(numbers))
	var wg sync.WaitGroup
	for i, n := range numbers {
		wg.Go(func() { answers[i], errs[i] = d.ask(t.Context(), n) })
		synctest.Wait()
	}
	wg.Wait()
	return answers, errs
}

func TestLoneQuestionIsAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		start := time.Now()
		for n := 1; n <= 3; n++ {
			if got, err := d.ask(t.Context(), n); got != 2*n || err != nil {
				t.Errorf("%d: %d, %v", n, got, err)
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("three questions, one after another, took %s", took)
		}
		d.close()
	})
}

func TestQuestionsThatComeMeanwhileShareOneStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		var numbers []int
		for n := range 100 {
			numbers = append(numbers, n+1)
		}
		answers, errs := d.askAllAtOnce(t, numbers...)
		for i, n := range numbers {
			if answers[i] != 2*n || errs[i] != nil {
				t.Errorf("%d: %d, %v", n, answers[i], errs[i])
			}
		}
		// One alone, then those that waited, in statements of bounded size.
		if len(d.groups) != 3 {
			t.Errorf("%d questions were asked as %v", len(numbers), d.groups)
		}
		for _, g := range d.groups {
			if len(g) > groupSize {
				t.Errorf("%d questions in one statement", len(g))
			}
		}
		d.close()
	})
}

func TestQuestionsOfOneNameAreKeptApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		answers, errs := d.askAllAtOnce(t, 1, 2, 7, 3, 7, 7, 20, 20, 9)
		if !slices.Equal(answers, []int{2, 4, 14, 6, 14, 14, 40, 40, 18}) || errors.Join(errs...) != nil {
			t.Errorf("%v, %v", answers, errs)
		}
		asked := 0
		for _, g := range d.groups {
			asked += len(g)
			sevens := 0
			for _, n := range g {
				if n == 7 {
					sevens++
				}
			}
			if sevens > 1 {
				t.Errorf("one statement has a name twice: %v", g)
			}
		}
		if asked != 9 {
			t.Errorf("9 questions were asked as %v", d.groups)
		}
		d.close()
	})
}

func TestNobodyIsRefusedForSomebodyElsesQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		answers, errs := d.askAllAtOnce(t, 1, 2, 3, -4, 5, -6)
		for i, wantErr := range []bool{false, false, false, true, false, true} {
			var refused *pgconn.PgError
			if errors.As(errs[i], &refused) != wantErr {
				t.Errorf("question %d: %d, %v", i, answers[i], errs[i])
			}
		}
		if answers[2] != 6 || answers[4] != 10 {
			t.Errorf("%v", answers)
		}
		d.close()
	})
}

func TestNobodyWaitsForAStatementThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		const n = 10
		took := make([]time.Duration, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				start := time.Now()
				if _, err := d.ask(t.Context(), i); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(start)
			})
			synctest.Wait()
			time.Sleep(2 * groupPatience)
		}
		wg.Wait()
		for i, took := range took {
			// The first four have statements of their own, the first at once; the others wait
			// for the end of one, and then share the next.
			soon := took == time.Second || i > 0 && took == time.Second+groupPatience
			if soon != (i < groupStatements) || took > 2*time.Second {
				t.Errorf("question %d took %s", i, took)
			}
		}
		if len(d.groups) != groupStatements+1 {
			t.Errorf("asked as %v", d.groups)
		}
		d.close()
	})
}

// Nobody else has to come for that.
func TestPatienceOfThoseWhoWaitEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		start := time.Now()
		if _, errs := d.askAllAtOnce(t, 1, 2, 3); errors.Join(errs...) != nil {
			t.Error(errs)
		}
		if took := time.Since(start); took != time.Second+groupPatience {
			t.Errorf("those who came with the first were answered after %s", took)
		}
		d.close()
	})
}

func TestQuestionsThatAreNotAlikeShareNoStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		d.alike = func(a, b int) bool { return a%2 == b%2 }
		answers, errs := d.askAllAtOnce(t, 1, 2, 3, 4, 5, 6, 7, 8)
		if !slices.Equal(answers, []int{2, 4, 6, 8, 10, 12, 14, 16}) || errors.Join(errs...) != nil {
			t.Errorf("%v, %v", answers, errs)
		}
		if want := [][]int{{1}, {2, 4, 6, 8}, {3, 5, 7}}; !slices.EqualFunc(d.groups, want, slices.Equal) {
			t.Errorf("asked as %v, want %v", d.groups, want)
		}
		d.close()
	})
}

// Where nobody knows whether the statement was carried out, it is not asked again:
// what it spent would count as spent before.
func TestStatementOfUnknownOutcomeIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		_, errs := d.askAllAtOnce(t, 1, 2, 3, -1000, 5)
		for i, want := range []error{nil, errLost, errLost, errLost, errLost} {
			if !errors.Is(errs[i], want) {
				t.Errorf("question %d: %v, want %v", i, errs[i], want)
			}
		}
		if len(d.groups) != 2 {
			t.Errorf("asked %v", d.groups)
		}
		d.close()
	})
}

func TestAskerWhoIsOutOfTimeWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		for n := range groupStatements { // as many as there may be
			go d.ask(t.Context(), n+10)
			time.Sleep(2 * groupPatience)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.ask(ctx, 3); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		d.close()
		for _, g := range d.groups {
			if slices.Contains(g, 3) {
				t.Errorf("asked for nobody: %v", d.groups)
			}
		}
	})
}

func TestClosingAnswersWhatIsUnderWayAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubled(t)
		var got int
		var err error
		go func() { got, err = d.ask(t.Context(), 21) }()
		synctest.Wait()
		d.close()
		synctest.Wait()
		if got != 42 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		if _, err := d.ask(t.Context(), 1); !errors.Is(err, errClosed) {
			t.Errorf("%v", err)
		}
		d.close() // twice is once
	})
}
