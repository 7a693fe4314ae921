package jwksuri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// waitFor is how long a request waits for a fetch, which may have begun before it.
const waitFor = fetchTimeout + 200*time.Millisecond

// cache keeps what was fetched, and sees that one fetch of a source is under way at
// a time, and Interval apart. It keeps maxURIs, those that were asked for last.
type cache struct {
	fetch func(uri string) ([]strictjose.SetKey, error)
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	entries map[registration]*entry
}

// registration is a URI as it was registered once. What was read under another
// revision is not looked at: registering a URI anew ends the trust in it at once.
type registration struct {
	uri      string
	revision int64
}

// entry is what is known of one registration. The cache's mu guards it.
type entry struct {
	keys    []strictjose.SetKey // not changed, but replaced
	held    bool                // keys were fetched once
	fetched time.Time           // when they were asked for
	fresh   time.Duration
	ends    time.Time     // they count until then, if nothing newer is had
	flight  chan struct{} // closed when the fetch under way has ended
	waiting int           // requests, for that
	tried   time.Time     // when the last fetch began
	failure error         // of the last fetch
	used    time.Time
}

var errBusy = fmt.Errorf("%d other jwks_uri were asked for a moment ago, and more are not kept", maxURIs)

// Keys returns the keys of a URI, fetched if need be. The error says why there are
// none. A URI that is not Validate's is never connected to. The revision is that of
// the URI's registration: keys of one are never returned for another.
func (f *Fetcher) Keys(ctx context.Context, uri string, revision int64) ([]strictjose.SetKey, error) {
	return f.cache.keys(ctx, registration{uri, revision})
}

// Again returns the keys of now, for one that was not among those of Keys: it
// fetches them, unless the last fetch began less than Interval ago.
func (f *Fetcher) Again(ctx context.Context, uri string, revision int64) ([]strictjose.SetKey, error) {
	return f.cache.again(ctx, registration{uri, revision})
}

func (c *cache) again(ctx context.Context, r registration) ([]strictjose.SetKey, error) {
	c.mu.Lock()
	e := c.entry(r)
	if e == nil {
		c.mu.Unlock()
		return nil, errBusy
	}
	flight := c.begin(r, e)
	c.mu.Unlock()
	return c.await(ctx, e, flight)
}

func (c *cache) keys(ctx context.Context, r registration) ([]strictjose.SetKey, error) {
	c.mu.Lock()
	e := c.entry(r)
	if e == nil {
		c.mu.Unlock()
		return nil, errBusy
	}
	now := c.now()
	age := now.Sub(e.fetched)
	if age < 0 { // the clock was set back: nothing is known of the age
		age = e.fresh
	}
	switch {
	case e.held && age < e.fresh*4/5:
		defer c.mu.Unlock()
		return e.keys, nil
	case e.held && (age < e.fresh || e.failure != nil && now.Before(e.ends)):
		// Still fresh, or the host is known to be out: nobody waits.
		defer c.mu.Unlock()
		c.begin(r, e)
		return e.keys, nil
	}
	// None yet, or none any more, or nobody has asked for long.
	flight := c.begin(r, e)
	c.mu.Unlock()
	return c.await(ctx, e, flight)
}

// await waits for a fetch, if there is one, and returns what there is then. Where many
// wait for it already it does not: nobody who waits has proven to be the client.
func (c *cache) await(ctx context.Context, e *entry, flight <-chan struct{}) ([]strictjose.SetKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flight != nil && e.waiting < maxWaiting {
		e.waiting++
		c.mu.Unlock()
		wait(ctx, flight)
		c.mu.Lock()
		e.waiting--
	}
	if e.held && c.now().Before(e.ends) {
		return e.keys, nil
	}
	if e.failure != nil {
		return nil, e.failure
	}
	return nil, errors.New("there was no answer in time")
}

func wait(ctx context.Context, flight <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, waitFor)
	defer cancel()
	select {
	case <-flight:
	case <-ctx.Done():
	}
}

// entry returns what is known of a registration, and forgets another where there
// are too many; nil where none may be forgotten. c.mu is held.
func (c *cache) entry(r registration) *entry {
	e := c.entries[r]
	if e == nil {
		if len(c.entries) >= maxURIs && !c.forget() {
			return nil
		}
		e = &entry{}
		c.entries[r] = e
	}
	e.used = c.now()
	return e
}

// forget drops the entry that was not asked for the longest, and says whether it
// found one. It looks at all of them: that happens only where there are more than
// are kept. One whose host was asked less than Interval ago stays: it is what keeps
// the host from being asked again.
func (c *cache) forget() bool {
	now, found := c.now(), false
	var oldest registration
	for r, e := range c.entries {
		if e.flight == nil && !e.justTried(now) && (!found || e.used.Before(c.entries[oldest].used)) {
			oldest, found = r, true
		}
	}
	delete(c.entries, oldest)
	return found
}

// justTried says whether it is too early for the next fetch. A clock that was set
// back holds up none.
func (e *entry) justTried(now time.Time) bool {
	since := now.Sub(e.tried)
	return !e.tried.IsZero() && since >= 0 && since < Interval
}

// begin begins a fetch, unless one is under way or it is too early for the next.
// It returns what is closed at its end, nil for none. c.mu is held.
func (c *cache) begin(r registration, e *entry) <-chan struct{} {
	if e.flight != nil {
		return e.flight
	}
	now := c.now()
	if e.justTried(now) {
		return nil
	}
	flight := make(chan struct{})
	e.tried, e.flight = now, flight
	go func() {
		keys, err := c.recovered(r.uri) // in no request's context: others wait for it too
		c.end(r, e, keys, now, err)
		close(flight)
	}()
	return flight
}

// recovered is fetch, of which nobody else would recover: the process would end by
// what some client's host has answered.
func (c *cache) recovered(uri string) (keys []strictjose.SetKey, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			keys, err = nil, errors.New("reading the answer has failed")
		}
	}()
	return c.fetch(uri)
}

func (c *cache) end(r registration, e *entry, keys []strictjose.SetKey, asked time.Time, err error) {
	c.mu.Lock()
	e.flight, e.failure = nil, err
	var out outage
	switch {
	case err == nil:
		e.keys, e.held, e.fetched = keys, true, asked
		e.fresh = Fresh - rand.N(Fresh/5)
		e.ends = asked.Add(Kept)
	case !errors.As(err, &out):
		// The host is there, and says that the keys are not, or nothing that can be
		// read: a later outage does not bring them back.
		if end := e.fetched.Add(e.fresh); end.Before(e.ends) {
			e.ends = end
		}
	}
	c.mu.Unlock()
	if err != nil { // not under the lock: no request waits for a log
		const limit = 512
		where, _, _ := strings.Cut(r.uri, "?") // a query may be what opens the door there
		c.log.Warn("fetching a client's keys failed",
			slog.String("jwks_uri", where), slog.String("cause", strictjose.Printable(err.Error(), limit)))
	}
}
