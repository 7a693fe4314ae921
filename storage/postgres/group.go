package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/internal/span"
)

// group joins what many requests ask at the same time into one statement: while one
// is under way, the next ones gather. Nobody waits for company: a request that comes
// alone goes alone, at once, and by itself. It is for statements whose cost lies in
// their beginning and their commit rather than in their rows.
//
// Where a statement takes long, since its disk is slow or its connection dead, others
// do not wait for its end.
type group[Q, A any] struct {
	// do answers all questions or, where it fails, none.
	do func(context.Context, []Q) ([]A, error)
	// apart names what two questions of one statement must not share; ok is
	// false where there is no such thing.
	apart func(Q) (name [32]byte, ok bool)
	// alike tells whether two questions may share a statement.
	alike func(a, b Q) bool
	// traced is what its statements are in traces; "": they are in none.
	traced string

	mu       sync.Mutex
	waiting  []*question[Q, A]
	patience *time.Timer // of those who wait
	underWay int         // statements
	closed   bool
	idle     sync.WaitGroup // of statements
}

// question is what one request asks, and where its answer goes.
type question[Q, A any] struct {
	ask    Q
	answer A
	err    error
	done   chan struct{}
	// asker is the request's span, and waits one of its own until a statement begins.
	asker, waits span.Span
}

const (
	// groupSize bounds a statement, so that none keeps others waiting long.
	groupSize = 64
	// groupPatience is how long they wait for the end of one before the next begins
	// beside it, and groupStatements how many may be under way. With more, groups would
	// be smaller and the database's work greater.
	groupPatience   = 10 * time.Millisecond
	groupStatements = 4
	// groupTimeout ends a statement whose askers have all gone.
	groupTimeout = 5 * time.Second
)

var errClosed = errors.New("the store is closed")

// newGroup makes one of questions that may all share a statement, as far as apart
// says nothing else; apart may be nil.
func newGroup[Q, A any](do func(context.Context, []Q) ([]A, error), apart func(Q) ([32]byte, bool)) *group[Q, A] {
	if apart == nil {
		apart = func(Q) (none [32]byte, ok bool) { return none, false }
	}
	g := &group[Q, A]{do: do, apart: apart, alike: func(Q, Q) bool { return true }}
	g.patience = time.AfterFunc(groupPatience, g.hurry)
	return g
}

// ask returns the answer. Where it fails it may be that the statement was carried
// out.
func (g *group[Q, A]) ask(ctx context.Context, ask Q) (A, error) {
	q := &question[Q, A]{ask: ask}
	var none A
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if g.traced != "" {
		q.asker = span.Of(ctx)
	}
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
		return none, errClosed
	case g.underWay == 0:
		g.begins()
		g.mu.Unlock()
		q.err = g.answer(ctx, []*question[Q, A]{q})
		g.ends()
		return q.answer, q.err
	}
	q.done, q.waits = make(chan struct{}), q.asker.Begin("wait")
	defer q.waits.End()
	if len(g.waiting) == 0 {
		g.patience.Reset(groupPatience)
	}
	g.waiting = append(g.waiting, q)
	g.mu.Unlock()
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		g.leave(q)
		return none, ctx.Err()
	}
}

// leave takes a question back that no statement has been begun for.
func (g *group[Q, A]) leave(q *question[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, q); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// hurry begins a statement for those whose patience is at its end.
func (g *group[Q, A]) hurry() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underWay == groupStatements || len(g.waiting) == 0 { // the next that ends takes them
		return
	}
	g.begins()
	g.together(g.gather())
	if len(g.waiting) > 0 {
		g.patience.Reset(groupPatience)
	}
}

func (g *group[Q, A]) begins() {
	g.underWay++
	g.idle.Add(1)
}

// ends is called at the end of a statement: those who wait have theirs begun.
func (g *group[Q, A]) ends() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay--
	// The last of several leaves none who wait without a statement to wait for.
	if batch := g.gather(); len(batch) > 0 {
		g.begins()
		g.together(batch)
	}
	if len(g.waiting) > 0 {
		g.patience.Reset(groupPatience)
	}
	g.idle.Done()
}

// together has a statement made for those who wait.
func (g *group[Q, A]) together(batch []*question[Q, A]) {
	go func() {
		defer g.ends()
		g.finish(batch, g.answer(context.Background(), batch))
	}()
}

// gather takes those that wait and may share a statement with the first, up to
// groupSize; of those that have to be kept apart, the first.
func (g *group[Q, A]) gather() (batch []*question[Q, A]) {
	var names map[[32]byte]bool
	left := g.waiting[:0]
	for _, q := range g.waiting {
		name, ok := g.apart(q.ask)
		if len(batch) == groupSize || ok && names[name] || len(batch) > 0 && !g.alike(batch[0].ask, q.ask) {
			left = append(left, q)
			continue
		}
		if ok && names == nil {
			names = make(map[[32]byte]bool, len(g.waiting))
		}
		if ok {
			names[name] = true
		}
		batch = append(batch, q)
	}
	clear(g.waiting[len(left):])
	g.waiting = left
	return batch
}

// close waits for what is under way, refuses what waits, and what comes after.
func (g *group[Q, A]) close() {
	g.mu.Lock()
	g.closed = true
	waiting := g.waiting
	g.waiting = nil
	g.patience.Stop()
	g.mu.Unlock()
	g.finish(waiting, errClosed)
	g.idle.Wait()
}

// answer asks for all at once. What the database refuses as a whole it is asked
// one by one, so that nobody is refused for somebody else's question; then each
// question has its error.
func (g *group[Q, A]) answer(ctx context.Context, batch []*question[Q, A]) error {
	err := g.askAll(ctx, batch)
	var refused *pgconn.PgError
	if err == nil || len(batch) == 1 || !errors.As(err, &refused) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout) // for all of them: by then nobody waits
	defer cancel()
	for i := range batch {
		batch[i].err = g.askAll(ctx, batch[i:i+1])
	}
	return nil
}

func (g *group[Q, A]) askAll(ctx context.Context, batch []*question[Q, A]) (err error) {
	ctx, spans := g.spans(ctx, batch)
	defer func() {
		for _, s := range spans {
			endSpan(s, err)
		}
	}()
	defer func() {
		if p := recover(); p != nil { // here nobody else would, and the process would end
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if _, bounded := ctx.Deadline(); !bounded { // a request's own is no later
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, groupTimeout)
		defer cancel()
	}
	all := make([]Q, len(batch))
	for i, q := range batch {
		all[i] = q.ask
	}
	answers, err := g.do(ctx, all)
	if err != nil {
		return err
	}
	for i, q := range batch {
		q.answer = answers[i]
	}
	return nil
}

func (g *group[Q, A]) finish(batch []*question[Q, A], err error) {
	for _, q := range batch {
		if err != nil {
			q.err = err
		}
		close(q.done)
	}
}
