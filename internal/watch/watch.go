// Package watch feeds package behaviour from the audit trail, keeps what it learns and
// finds, and sends alerts to a webhook.
//
// Of all instances one at a time does it: whoever holds the lease. What it finds is
// kept in one transaction with how far it has read, so that a crash, a second instance
// or a lease that was taken over loses nothing and doubles nothing: what is not kept is
// read again. It uses one connection at a time, and for moments; its memory is bounded,
// whatever is in the trail; and no request waits for it or knows of it.
//
// It trusts the database. What is in an event it takes for what the server has written
// there, and where that does not read it goes on without it.
package watch

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

// stepTimeout bounds one step, so that a database that hangs does not hold the lease's
// holder for good.
const stepTimeout = time.Minute

// leastHold is the shortest lease there is.
const leastHold = time.Second

// Config is what a Watcher needs.
type Config struct {
	Keeper  Keeper
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
	// Webhook sends alerts; nil: there is none, and alerts are only kept.
	Webhook Sender
	// Issuer names the server to who receives an alert.
	Issuer string
	// ProofLifetime and ClockSkew are the server's: beyond them a client's clock fails.
	ProofLifetime, ClockSkew time.Duration
}

// Watcher is one instance's part of the analysis.
type Watcher struct {
	c      Config
	pace   pace
	m      *metrics
	holder string

	analysis *analysis // nil: another instance is at it
	renewAt  time.Time
	oneByOne int // events that are taken one at a time, since together they cannot be kept
	atOnce   int // events that are kept at a time, since more could not be; 0: as many as there are
	forgetAt time.Time
	forgotTo string
	failing  bool // the last step has failed

	deliverer *deliverer
	upTo      atomic.Int64 // Unix nanoseconds: all before it is observed; 0: not at it
}

// New makes a Watcher, and registers its metrics.
func New(c Config) (*Watcher, error) {
	if c.Keeper == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("a watcher needs a keeper, a log, metrics and a clock")
	}
	w := &Watcher{c: c, pace: usualPace(), holder: "watch-" + rand.Text()}
	w.m = newMetrics(c.Metrics, w.lag)
	w.deliverer = newDeliverer(c, w.m, &w.pace)
	return w, nil
}

func newWatch(c Config, o *owners) *behaviour.Watch {
	return behaviour.New(behaviour.Config{Owners: o, Now: c.Now, ProofLifetime: c.ProofLifetime, ClockSkew: c.ClockSkew})
}

// lag is how far behind the trail the analysis is, in seconds.
func (w *Watcher) lag() float64 {
	upTo := w.upTo.Load()
	if upTo == 0 {
		return 0
	}
	return max(w.c.Now().Sub(time.Unix(0, upTo)).Seconds(), 0)
}

// Run analyses until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	defer w.deliverer.end()
	defer w.release(ctx)
	for ctx.Err() == nil {
		began := time.Now()
		var more bool
		err := w.bounded(ctx, func(ctx context.Context) (err error) {
			more, err = w.step(ctx)
			return err
		})
		beside := w.bounded(ctx, w.beside)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.failed(err)
		}
		w.complain(err, beside)
		wait := w.pace.poll
		if more {
			wait = min(time.Since(began), w.pace.rest)
		}
		w.rest(ctx, wait)
	}
}

// release lets another instance take over at once. What is not kept it reads again.
func (w *Watcher) release(ctx context.Context) {
	if w.analysis == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, _, err := w.c.Keeper.Follow(ctx, Follower, w.holder, leastHold); err != nil {
		w.c.Log.Debug("the lease of the analysis of behaviour is left to end", "cause", err)
	}
}

// bounded bounds a step's time. A mistake in it is no reason for a server to end.
func (w *Watcher) bounded(ctx context.Context, step func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	defer func() {
		if mistake := recover(); mistake != nil {
			err = fmt.Errorf("a mistake of this program: %v", mistake)
		}
	}()
	return step(ctx)
}

// failed throws away what is not kept: whether it is, may not be known, and the trail
// has it.
func (w *Watcher) failed(err error) {
	if errors.Is(err, ErrNotHeld) {
		w.c.Log.Info("another instance analyses behaviour")
	}
	w.analysis, w.renewAt = nil, time.Time{}
}

// complain says once what keeps the analysis from its work.
func (w *Watcher) complain(errs ...error) {
	err := errors.Join(errs...)
	if err != nil && !w.failing && !errors.Is(err, ErrNotHeld) {
		w.c.Log.Error("the analysis of behaviour waits", "cause", err)
	}
	w.failing = err != nil
}

// rest waits, and hears meanwhile how deliveries have ended.
func (w *Watcher) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case ended := <-w.deliverer.ended:
		w.deliverer.hear(ended)
	}
}

// step is one turn. It tells whether there is more to read.
func (w *Watcher) step(ctx context.Context) (more bool, err error) {
	if held, err := w.follow(ctx); err != nil || !held {
		return false, err
	}
	return w.advance(ctx)
}

// beside is what is done beside the analysis, which does not wait for it to succeed.
func (w *Watcher) beside(ctx context.Context) error {
	// Whoever has the lease by now, how attempts have ended is true.
	err := w.deliverer.settle(ctx)
	if w.analysis == nil {
		return err
	}
	return errors.Join(err, w.deliverer.step(ctx), w.forget(ctx))
}

// follow renews the lease where it is time to, and begins where the trail was left.
func (w *Watcher) follow(ctx context.Context) (held bool, err error) {
	now := time.Now()
	if now.Before(w.renewAt) {
		return w.analysis != nil, nil
	}
	at, held, err := w.c.Keeper.Follow(ctx, Follower, w.holder, w.pace.hold)
	if err != nil {
		return false, err
	}
	w.renewAt = now.Add(w.pace.renew)
	switch {
	case !held:
		w.analysis = nil
		w.upTo.Store(0)
		w.m.active.Set(0)
		w.m.undelivered.Set(0)
		return false, nil
	case w.analysis == nil || w.analysis.from != at:
		if w.analysis, err = newAnalysis(ctx, w.c, w.m, &w.pace, at); err != nil {
			return false, err
		}
	}
	w.m.active.Set(1)
	if w.upTo.Load() == 0 {
		w.upTo.Store(w.c.Now().UnixNano())
	}
	return true, nil
}

// advance reads a batch, and keeps what was found when it is time to.
func (w *Watcher) advance(ctx context.Context) (more bool, err error) {
	a, now, limit := w.analysis, w.c.Now(), w.pace.batch
	few := w.oneByOne > 0 || w.atOnce > 0
	switch {
	case w.oneByOne > 0:
		limit = 1
	case few:
		limit = min(limit, w.atOnce)
	}
	batch, err := w.c.Keeper.Trail(ctx, a.to, limit)
	if err != nil {
		return false, err
	}
	more = len(batch) == limit
	if err := a.observe(ctx, batch, now); err != nil {
		return false, err
	}
	if !more {
		a.tick(now)
	}
	if few && a.to != a.from || a.due(now) {
		if err := w.keep(ctx, len(batch)); err != nil {
			return false, err
		}
	}
	return more, w.observedUpTo(ctx, batch, more, now)
}

// observedUpTo notes how far the analysis has come. That there is nothing to read is not
// the end of the trail: while a transaction is left open, nothing becomes final.
func (w *Watcher) observedUpTo(ctx context.Context, batch []authz.TrailEvent, more bool, now time.Time) error {
	var next time.Time
	if more {
		next = batch[len(batch)-1].At
	} else {
		var err error
		if next, err = w.c.Keeper.OldestAfter(ctx, w.analysis.to); err != nil {
			return err
		}
	}
	if next.IsZero() || next.After(now) {
		next = now
	}
	w.upTo.Store(next.UnixNano())
	return nil
}

// keep writes what was found. Where the database will never take it, the events are
// observed anew one by one, and the one that it does not take is left out.
func (w *Watcher) keep(ctx context.Context, read int) error {
	a := w.analysis
	f := Findings{Holder: w.holder, At: w.c.Now(), Deliver: w.c.Webhook != nil}
	kept, err := a.keep(ctx, f)
	switch {
	case errors.Is(err, ErrUnkeepable) && (w.oneByOne > 0 || a.observed == 0):
		return w.leaveOut(ctx, f, read, err)
	case errors.Is(err, ErrUnkeepable):
		w.oneByOne = a.observed
		return fmt.Errorf("keeping what %d events lead to: %w", a.observed, err)
	case err != nil:
		w.atOnce = w.fewer(a.observed, err)
		return err
	}
	if w.oneByOne > 0 {
		w.oneByOne--
	}
	if w.atOnce *= 2; w.atOnce >= w.pace.batch {
		w.atOnce = 0
	}
	for _, alert := range kept {
		w.m.alerts.WithLabelValues(string(alert.Kind)).Inc()
		w.c.Log.Warn("alert", "alert", alert.ID, "kind", string(alert.Kind), "client_id", alert.ClientID, "subject", alert.Subject,
			"seen", alert.Seen, "request_id", alert.RequestID)
	}
	return nil
}

// fewer is how many events to try with next: what takes too long to be kept would
// take as long the next time.
func (w *Watcher) fewer(observed int, err error) int {
	if errors.Is(err, ErrNotHeld) {
		return w.atOnce
	}
	return max(min(observed/2, w.pace.batch), 1)
}

// leaveOut goes on without what an event leads to, or an alert that was held back.
func (w *Watcher) leaveOut(ctx context.Context, f Findings, read int, cause error) (err error) {
	a := w.analysis
	w.c.Log.Error("what an event of the audit trail leads to cannot be kept, and is left out", "position", a.to.String(), "cause", cause)
	w.m.events.WithLabelValues("skipped").Add(float64(read))
	f.Number, f.From, f.To = a.number, a.from, a.to
	if a.observed == 0 {
		if f.Fleet, err = json.Marshal(a.watch.Fleet()); err != nil {
			return err
		}
	}
	if _, err := w.c.Keeper.KeepFindings(ctx, f); err != nil {
		return err
	}
	w.oneByOne = max(w.oneByOne-1, 0)
	w.analysis, err = newAnalysis(ctx, w.c, w.m, &w.pace, a.to)
	return err
}

// forget has what is too old go, a little at a time.
func (w *Watcher) forget(ctx context.Context) error {
	now := w.c.Now()
	if now.Before(w.forgetAt) {
		return nil
	}
	next, err := w.c.Keeper.ForgetBehaviour(ctx, now, w.forgotTo, w.pace.forgetKeys)
	if err != nil {
		return err
	}
	w.forgotTo, w.forgetAt = next, now.Add(w.pace.forget)
	return nil
}
