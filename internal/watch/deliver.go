package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cargokey/authz/internal/webhook"
)

// Sender makes single attempts to deliver a message: *webhook.Endpoint.
type Sender interface {
	Send(ctx context.Context, id string, at time.Time, body []byte) error
}

const (
	// underWay bounds how many attempts are made at a time.
	underWay = 8
	// remindEvery is how often the log says that there is no webhook for what is to come.
	remindEvery = time.Hour
)

// deliverer sends alerts on. An alert is sent until it is taken: of each client one
// after another, in the order that they were raised in.
type deliverer struct {
	c     Config
	m     *metrics
	pace  *pace
	ended chan attempt
	wait  sync.WaitGroup
	stop  context.CancelFunc
	run   context.Context

	pending  []attempt // that have ended, which is not noted yet
	under    int
	surveyAt time.Time
	remindAt time.Time
}

// attempt is one that has ended.
type attempt struct {
	Delivery
	err error
}

func newDeliverer(c Config, m *metrics, p *pace) *deliverer {
	d := &deliverer{c: c, m: m, pace: p, ended: make(chan attempt, underWay)}
	d.run, d.stop = context.WithCancel(context.Background())
	return d
}

// end gives attempts up that are under way; they are made again.
func (d *deliverer) end() {
	d.stop()
	d.wait.Wait()
}

// hear takes the end of an attempt.
func (d *deliverer) hear(a attempt) {
	d.under--
	outcome := outcomeFailed
	switch {
	case errors.Is(a.err, context.Canceled):
		return // as it began: nobody else makes it for a while
	case a.err == nil:
		outcome = outcomeDelivered
	case errors.Is(a.err, webhook.ErrAnswered):
		outcome = outcomeRefused
	}
	d.m.deliveries.WithLabelValues(outcome).Inc()
	d.pending = append(d.pending, a)
}

// settle notes how attempts have ended.
func (d *deliverer) settle(ctx context.Context) error {
	for heard := false; !heard; {
		select {
		case a := <-d.ended:
			d.hear(a)
		default:
			heard = true
		}
	}
	for len(d.pending) > 0 {
		if err := d.note(ctx, d.pending[0]); err != nil {
			return err
		}
		d.pending = d.pending[1:]
	}
	return nil
}

// step begins what is due.
func (d *deliverer) step(ctx context.Context) error {
	if err := d.survey(ctx); err != nil || d.c.Webhook == nil || d.under == underWay {
		return err
	}
	due, err := d.c.Keeper.DueDeliveries(ctx, underWay-d.under)
	if err != nil {
		return err
	}
	for _, one := range due {
		mine, err := d.c.Keeper.BeginDelivery(ctx, one, d.pace.alone)
		if err != nil {
			return err
		}
		if mine {
			d.begin(one)
		}
	}
	return nil
}

func (d *deliverer) begin(one Delivery) {
	one.Attempts++
	d.under++
	d.wait.Go(func() {
		text, err := body(one.Kept, d.c.Issuer)
		if err == nil {
			ctx, cancel := context.WithTimeout(d.run, d.pace.attempt)
			err = d.c.Webhook.Send(ctx, one.ID, d.c.Now(), text)
			cancel()
		}
		d.ended <- attempt{one, err}
	})
}

// note writes down how an attempt has ended.
func (d *deliverer) note(ctx context.Context, a attempt) error {
	if a.err == nil {
		d.surveyAt = time.Time{}
		return d.c.Keeper.EndDelivery(ctx, a.Delivery, d.c.Now())
	}
	wait := d.pace.backOff(a.Attempts)
	if err := d.c.Keeper.PostponeDelivery(ctx, a.Delivery, wait); err != nil {
		return err
	}
	d.c.Log.Warn("an alert is not delivered, and is sent again", "alert", a.ID, "client_id", a.ClientID,
		"attempts", a.Attempts, "wait", wait.String(), "cause", a.err)
	return nil
}

// backOff is how long to wait after so many attempts.
func (p *pace) backOff(attempts int) time.Duration {
	wait := p.longest
	if attempts < 12 {
		wait = min(p.first<<max(attempts-1, 0), p.longest)
	}
	return wait/2 + rand.N(wait/2+1)
}

// survey counts what is to come.
func (d *deliverer) survey(ctx context.Context) error {
	now := time.Now()
	if now.Before(d.surveyAt) {
		return nil
	}
	n, since, err := d.c.Keeper.UndeliveredAlerts(ctx)
	if err != nil {
		return err
	}
	d.surveyAt = now.Add(d.pace.survey)
	d.m.undelivered.Set(float64(n))
	if n > 0 && d.c.Webhook == nil && !now.Before(d.remindAt) {
		d.remindAt = now.Add(remindEvery)
		d.c.Log.Warn("alerts wait for a webhook, and this instance has none", "alerts", n, "since", since.UTC().Format(time.RFC3339))
	}
	return nil
}
