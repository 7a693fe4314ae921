// Package admission decides which requests a server takes on when it is offered more
// than it can do: it works at few at a time, has few others wait, and refuses the rest
// at once, so that those that it takes on are answered as fast as ever.
//
// While there is room for every request nobody waits for long. Once there is none, the
// newest is served first and the one that has waited longest is refused: in a flood a
// request is then either served at once or refused soon, where a queue would serve each
// of them late. Clients that wait for their answers before they ask again never fill a
// Gate that has room for as many as there are of them.
package admission

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Why Enter refuses.
var (
	// ErrFull is for one that newer ones have pushed out of the line.
	ErrFull = errors.New("more requests wait than there is room for")
	// ErrWaited is for one that has waited for Config.Wait.
	ErrWaited = errors.New("the request has waited too long for its turn")
)

// overloadLasts is how long after a request has last been pushed out newer ones are
// served first, and fewer at a time. It is shorter than anybody waits: those who came
// first have their turn after it.
const overloadLasts = 500 * time.Millisecond

// lateAfter is how long somebody waits who came before or in an overload: more would be
// an answer late.
const lateAfter = 100 * time.Millisecond

// Config is what NewGate needs; all of it, but for Kinds.
type Config struct {
	// Most is how many requests are in work at a time.
	Most int
	// Least is how far that goes down in an overload; Most at most.
	Least int
	// Line is how many wait when Most are in work; as many more as fewer are.
	Line int
	// Wait is how long one waits.
	Wait time.Duration
	// Kinds is how many kinds of requests are told apart, each of which may take
	// another time.
	Kinds int
	// Refused is told of each that is refused with ErrFull or ErrWaited. It must not
	// block. Nil: nobody is told.
	Refused func()
}

// Gate is made by NewGate, and safe for concurrent use.
type Gate struct {
	config Config

	mu         sync.Mutex
	inWork     int
	line       *list.List // of *waiter, the oldest first
	overloaded time.Time  // until then
	pace       pace
}

type waiter struct {
	place *list.Element
	came  time.Time
	turn  chan error // takes one value without a reader
}

// NewGate makes a Gate that nobody has entered.
func NewGate(c Config) *Gate {
	return &Gate{config: c, line: list.New(), pace: newPace(c)}
}

// Enter returns nil when the request may go on; Leave must follow. It fails with
// ErrFull, ErrWaited or ctx's error.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	now := time.Now()
	if g.line.Len() == 0 && g.inWork < g.limit(now) {
		g.inWork++
		g.mu.Unlock()
		return nil
	}
	w := &waiter{came: now, turn: make(chan error, 1)}
	w.place = g.line.PushBack(w)
	// There is as much room in all where fewer are in work.
	if g.inWork+g.line.Len() > g.config.Most+g.config.Line {
		g.overloaded = now.Add(overloadLasts)
		g.pop(g.line.Front()).turn <- ErrFull
	}
	// What was let in before the overload may have left room since.
	g.letIn(now)
	g.mu.Unlock()
	err := g.await(ctx, w)
	if g.config.Refused != nil && (errors.Is(err, ErrFull) || errors.Is(err, ErrWaited)) {
		g.config.Refused()
	}
	return err
}

func (g *Gate) await(ctx context.Context, w *waiter) error {
	timer := time.NewTimer(g.config.Wait)
	defer timer.Stop()
	select {
	case err := <-w.turn:
		return err
	case <-timer.C:
		return g.giveUp(w, ErrWaited)
	case <-ctx.Done():
		return g.giveUp(w, ctx.Err())
	}
}

// giveUp takes a waiter out of the line. Its turn may have come just then: then that
// counts.
func (g *Gate) giveUp(w *waiter, why error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.place == nil {
		return <-w.turn
	}
	g.pop(w.place)
	return why
}

// Reenter takes on a request that has been in work and has left for a while, though
// there may be no room: what has begun is finished.
func (g *Gate) Reenter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inWork++
}

// Leave ends what Enter or Reenter began, and tells nothing of how long it took.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave(time.Now())
}

// LeaveAfter is Leave for a request of this kind, 0 to Config.Kinds less one, that was
// done whole and took so long.
func (g *Gate) LeaveAfter(kind int, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.pace.took(kind, took)
	g.pace.adjust(now, now.Before(g.overloaded))
	g.leave(now)
}

func (g *Gate) leave(now time.Time) {
	g.inWork--
	g.letIn(now)
}

// letIn lets in who waits, while there is room.
func (g *Gate) letIn(now time.Time) {
	for g.line.Len() > 0 && g.inWork < g.limit(now) {
		next := g.line.Front()
		if now.Before(g.overloaded) {
			next = g.line.Back()
		}
		w := g.pop(next)
		if w.came.Before(g.overloaded) && now.Sub(w.came) > lateAfter {
			w.turn <- ErrWaited
			continue
		}
		g.inWork++
		w.turn <- nil
	}
}

func (g *Gate) limit(now time.Time) int {
	if now.Before(g.overloaded) {
		return g.pace.limit
	}
	return g.config.Most
}

func (g *Gate) pop(e *list.Element) *waiter {
	w := g.line.Remove(e).(*waiter)
	w.place = nil
	return w
}
