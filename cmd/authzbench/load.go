package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// turn is a stretch of load on one server.
type turn struct {
	address     string
	connections int
	requests    [][]byte
	again       bool // each request may be sent any number of times
	until       time.Duration
	check       func(answer) error
	keep        func(answer) string // what of each answer is wanted later; nil: nothing

	serverPID, postgresPID int
}

// outcome is what a turn came to.
type outcome struct {
	latencies              []time.Duration
	took                   time.Duration
	server, postgres, load time.Duration // CPU
	wal                    int64         // bytes that Postgres logged, of whatever else it did too
	kept                   []string
}

func (o outcome) perSecond() float64 { return float64(len(o.latencies)) / o.took.Seconds() }

// run sends requests over all connections, each the next one as soon as its last
// is answered, until time or requests run out. Any answer that is not the one
// expected ends it: a benchmark of errors is worth nothing.
func (t turn) run(ctx context.Context) (outcome, error) {
	conns := make([]*connection, t.connections)
	for i := range conns {
		c, err := connect(t.address)
		if err != nil {
			return outcome{}, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(t.until + 20*time.Second))
		conns[i] = c
	}
	defer restrain()()
	before := t.used()
	var next atomic.Int64
	var over atomic.Bool
	// Each connection sends one, however short the time and busy the machine.
	take := func(first bool) []byte {
		if over.Load() && !first {
			return nil
		}
		n := int(next.Add(1)) - 1
		if !t.again && n >= len(t.requests) {
			return nil
		}
		return t.requests[n%len(t.requests)]
	}
	start := time.Now()
	if t.until > 0 {
		timer := time.AfterFunc(t.until, func() { over.Store(true) })
		defer timer.Stop()
	}
	defer context.AfterFunc(ctx, func() { over.Store(true) })()

	parts, failed := make([]outcome, len(conns)), make([]error, len(conns))
	var workers sync.WaitGroup
	for i, c := range conns {
		workers.Go(func() {
			if failed[i] = t.work(c, take, &parts[i]); failed[i] != nil {
				over.Store(true)
			}
		})
	}
	workers.Wait()
	all := outcome{took: time.Since(start)}
	after := t.used()
	all.server, all.postgres, all.load = after.server-before.server, after.postgres-before.postgres, after.load-before.load
	for _, p := range parts {
		all.latencies, all.kept = append(all.latencies, p.latencies...), append(all.kept, p.kept...)
	}
	if err := errors.Join(ctx.Err(), errors.Join(failed...)); err != nil {
		return outcome{}, err
	}
	if len(all.latencies) == 0 {
		return outcome{}, errors.New("no request was sent")
	}
	return all, nil
}

func (t turn) work(c *connection, take func(first bool) []byte, part *outcome) error {
	for request := take(true); request != nil; request = take(false) {
		begun := time.Now()
		a, err := c.ask(request)
		part.latencies = append(part.latencies, time.Since(begun))
		if err != nil {
			return err
		}
		if err := t.check(a); err != nil {
			return fmt.Errorf("%w: %s", err, a.head[:len(statusOK)])
		}
		if t.keep != nil {
			part.kept = append(part.kept, t.keep(a))
		}
	}
	return nil
}

func (t turn) used() outcome {
	return outcome{server: cpuOf(t.serverPID), postgres: cpuOfFamily(t.postgresPID), load: cpuOf(os.Getpid())}
}

// restrain makes the load cheap while it sends: it collects no garbage, and spins
// on no core that the measured need. It returns what ends that.
func restrain() (end func()) {
	runtime.GC()
	percent := debug.SetGCPercent(-1)
	procs := runtime.GOMAXPROCS(max(1, runtime.NumCPU()/4))
	return func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
	}
}
