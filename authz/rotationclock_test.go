package authz_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// clockStep is by how much a fastClock goes on at a time: less than the JWKS may be
// kept for, so that who verifies does so by one that is old.
const clockStep = 290 * time.Second

// fastClock is the time of a whole world: of its clients, its operators, its servers
// and its database. It goes on in steps, while requests are under way, and as fast as
// they allow: none sees more than one step pass, since a proof would be too old
// after a few, however slow the machine is.
type fastClock struct {
	conn *pgx.Conn

	mu       sync.Mutex
	changed  *sync.Cond
	now      time.Time
	step     int
	underWay map[int]int // how many requests that began in a step have not ended
	held     int         // by whom no time may pass for
	stepping bool
}

// newFastClock makes the world's time its own. The functions of the schema that
// look at the database's clock look at this one from then on.
func newFastClock(w *world) *fastClock {
	w.t.Helper()
	c := &fastClock{now: time.Now().Truncate(time.Second), underWay: map[int]int{}}
	c.changed = sync.NewCond(&c.mu)
	ctx := context.WithoutCancel(w.t.Context())
	var err error
	if c.conn, err = pgx.Connect(ctx, w.database.OwnerURL); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.conn.Close(ctx) })
	_, err = c.conn.Exec(ctx, `
		create schema test_clock;
		create table test_clock.clock (now timestamptz not null);
		insert into test_clock.clock values (now());
		create function test_clock.now() returns timestamptz language sql volatile security definer
			as 'select now from test_clock.clock';
		grant usage on schema test_clock to authz_server;
		do $$
		declare f record;
		begin
			for f in select oid from pg_proc where pronamespace = 'authz'::regnamespace and prosrc like '%clock_timestamp()%' loop
				execute replace(pg_get_functiondef(f.oid), 'clock_timestamp()', 'test_clock.now()');
			end loop;
		end $$`)
	if err != nil {
		w.t.Fatal(err)
	}
	w.time, w.forgets = c.Now, true
	c.tellDatabase(w.t)
	return c
}

func (c *fastClock) tellDatabase(t testing.TB) {
	t.Helper()
	if _, err := c.conn.Exec(context.WithoutCancel(t.Context()), `update test_clock.clock set now = $1`, c.Now()); err != nil {
		t.Error(err)
	}
}

// Now is the time.
func (c *fastClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// begin is called before a request's proof is made, and what it returns after its
// answer.
func (c *fastClock) begin() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	step := c.step
	c.underWay[step]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.underWay[step]--
		c.changed.Broadcast()
	}
}

// hold has the time stand still, for what lives shorter than a step.
func (c *fastClock) hold() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.stepping {
		c.changed.Wait()
	}
	c.held++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held--
		c.changed.Broadcast()
	}
}

// advance goes one step on, once no request is left that saw the last one.
func (c *fastClock) advance(t testing.TB) {
	t.Helper()
	c.advanceBy(t, clockStep)
}

func (c *fastClock) advanceBy(t testing.TB, d time.Duration) {
	t.Helper()
	c.mu.Lock()
	c.stepping = true
	for c.held > 0 || c.underWay[c.step-1] > 0 {
		c.changed.Wait()
	}
	delete(c.underWay, c.step-1)
	c.step++
	c.now = c.now.Add(d)
	c.stepping = false
	c.changed.Broadcast()
	c.mu.Unlock()
	c.tellDatabase(t)
}

// waitUntil returns false where ctx ends first.
func (c *fastClock) waitUntil(ctx context.Context, at time.Time) bool {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.now.Before(at) {
		if ctx.Err() != nil {
			return false
		}
		c.changed.Wait()
	}
	return ctx.Err() == nil
}

// wait is waitUntil for a while.
func (c *fastClock) wait(ctx context.Context, d time.Duration) bool {
	return c.waitUntil(ctx, c.Now().Add(d))
}
