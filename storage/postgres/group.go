package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// group joins what many requests ask at the same time into one statement: while
// one is under way, the next ones gather. Nobody waits for company; a request
// that comes alone goes alone, and at once. It is for statements whose cost lies
// in their beginning and their commit rather than in their rows.
type group[Q, A any] struct {
	// do answers all questions or, where it fails, none.
	do func(context.Context, []Q) ([]A, error)
	// apart names what two questions of one statement must not share; ok is
	// false where there is no such thing.
	apart func(Q) (name [32]byte, ok bool)

	queue   chan *question[Q, A]
	closing chan struct{}
	closed  sync.Once
	workers sync.WaitGroup
}

// question is what one request asks, and where its answer goes.
type question[Q, A any] struct {
	ask    Q
	answer A
	err    error
	done   chan struct{}
}

const (
	// groupSize bounds a statement, so that none keeps others waiting long.
	groupSize = 64
	// groupWorkers is how many statements are under way at a time. With more,
	// groups would be smaller and the database's work greater.
	groupWorkers = 2
	// groupTimeout ends a statement whose askers have all gone.
	groupTimeout = 5 * time.Second
)

var errClosed = errors.New("the store is closed")

func newGroup[Q, A any](do func(context.Context, []Q) ([]A, error), apart func(Q) ([32]byte, bool)) *group[Q, A] {
	g := &group[Q, A]{do: do, apart: apart, queue: make(chan *question[Q, A]), closing: make(chan struct{})}
	for range groupWorkers {
		g.workers.Go(g.work)
	}
	return g
}

// ask returns the answer. Where it fails it may be that the statement was carried
// out.
func (g *group[Q, A]) ask(ctx context.Context, ask Q) (A, error) {
	q := &question[Q, A]{ask: ask, done: make(chan struct{})}
	var none A
	if err := ctx.Err(); err != nil { // which select would see at random
		return none, err
	}
	select {
	case g.queue <- q:
	case <-g.closing:
		return none, errClosed
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// close waits for what is under way.
func (g *group[Q, A]) close() {
	g.closed.Do(func() { close(g.closing) })
	g.workers.Wait()
}

func (g *group[Q, A]) work() {
	var held *question[Q, A] // came last, and had to be kept apart from those before
	for {
		var batch []*question[Q, A]
		if batch, held = g.gather(held); batch == nil {
			return
		}
		g.answer(batch)
	}
}

// gather waits for a first question, unless one was held, and takes those that
// wait with it, up to one that has to be kept apart, which is held. Nil is the
// end.
func (g *group[Q, A]) gather(first *question[Q, A]) (batch []*question[Q, A], held *question[Q, A]) {
	if first == nil {
		select {
		case first = <-g.queue:
		case <-g.closing:
			return nil, nil
		}
	}
	batch = append(batch, first)
	names := make(map[[32]byte]bool, groupSize)
	if name, ok := g.apart(first.ask); ok {
		names[name] = true
	}
	for len(batch) < groupSize {
		select {
		case q := <-g.queue:
			name, ok := g.apart(q.ask)
			if ok && names[name] {
				return batch, q
			}
			if ok {
				names[name] = true
			}
			batch = append(batch, q)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// answer asks for all at once. What the database refuses as a whole it is asked
// one by one, so that nobody is refused for somebody else's question.
func (g *group[Q, A]) answer(batch []*question[Q, A]) {
	err := g.askAll(batch)
	var refused *pgconn.PgError
	if err != nil && len(batch) > 1 && errors.As(err, &refused) {
		for i := range batch {
			g.finish(batch[i:i+1], g.askAll(batch[i:i+1]))
		}
		return
	}
	g.finish(batch, err)
}

func (g *group[Q, A]) askAll(batch []*question[Q, A]) (err error) {
	defer func() {
		if p := recover(); p != nil { // here nobody else would, and the process would end
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
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
		q.err = err
		close(q.done)
	}
}
