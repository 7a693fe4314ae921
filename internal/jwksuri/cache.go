package jwksuri

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// waitFor is how long a request waits for a fetch, which may have begun before it.
const waitFor = fetchTimeout + 200*time.Millisecond

// cache keeps what was fetched, and sees that one fetch of a URI is under way at a
// time, and Interval apart. It keeps maxURIs, those that were asked for last.
type cache struct {
	fetch func(uri string) ([]strictjose.SetKey, error)
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is what is known of one URI. The cache's mu guards it.
type entry struct {
	keys    []strictjose.SetKey // not changed, but replaced
	held    bool                // keys were fetched once
	fetched time.Time           // when they were asked for
	fresh   time.Duration
	flight  chan struct{} // closed when the fetch under way has ended
	tried   time.Time     // when the last fetch began
	failure error         // of the last fetch
	used    time.Time
}

// Keys returns the keys of a URI, fetched if need be. The error says why there are
// none. A URI that is not Validate's is never connected to.
func (f *Fetcher) Keys(ctx context.Context, uri string) ([]strictjose.SetKey, error) {
	return f.cache.keys(ctx, uri)
}

// Again returns the keys of now, for one that was not among those of Keys: it
// fetches them, unless the last fetch began less than Interval ago.
func (f *Fetcher) Again(ctx context.Context, uri string) ([]strictjose.SetKey, error) {
	c := &f.cache
	c.mu.Lock()
	e := c.entry(uri)
	flight := c.begin(uri, e)
	c.mu.Unlock()
	return c.await(ctx, e, flight)
}

func (c *cache) keys(ctx context.Context, uri string) ([]strictjose.SetKey, error) {
	c.mu.Lock()
	e := c.entry(uri)
	age := c.now().Sub(e.fetched)
	if age < 0 { // the clock was set back: nothing is known of the age
		age = e.fresh
	}
	switch {
	case e.held && age < e.fresh*4/5:
		defer c.mu.Unlock()
		return e.keys, nil
	case e.held && (age < e.fresh || e.failure != nil && age < Kept):
		// Still fresh, or the host is known to be out: nobody waits.
		defer c.mu.Unlock()
		c.begin(uri, e)
		return e.keys, nil
	}
	// None yet, or nobody has asked for long.
	flight := c.begin(uri, e)
	c.mu.Unlock()
	return c.await(ctx, e, flight)
}

// await waits for a fetch, if there is one, and returns what there is then.
func (c *cache) await(ctx context.Context, e *entry, flight <-chan struct{}) ([]strictjose.SetKey, error) {
	if flight != nil {
		ctx, cancel := context.WithTimeout(ctx, waitFor)
		defer cancel()
		select {
		case <-flight:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.held && c.now().Sub(e.fetched) < Kept {
		return e.keys, nil
	}
	if e.failure != nil {
		return nil, e.failure
	}
	return nil, errors.New("there was no answer in time")
}

// entry returns what is known of a URI, and forgets another where there are too
// many. c.mu is held.
func (c *cache) entry(uri string) *entry {
	e := c.entries[uri]
	if e == nil {
		if len(c.entries) >= maxURIs {
			c.forget()
		}
		e = &entry{}
		c.entries[uri] = e
	}
	e.used = c.now()
	return e
}

// forget drops the entry that was not asked for the longest. It looks at all of
// them: that happens only where there are more URIs than are kept.
func (c *cache) forget() {
	oldest := ""
	for uri, e := range c.entries {
		if e.flight == nil && (oldest == "" || e.used.Before(c.entries[oldest].used)) {
			oldest = uri
		}
	}
	delete(c.entries, oldest)
}

// begin begins a fetch, unless one is under way or it is too early for the next.
// It returns what is closed at its end, nil for none. c.mu is held.
func (c *cache) begin(uri string, e *entry) <-chan struct{} {
	if e.flight != nil {
		return e.flight
	}
	now := c.now()
	if since := now.Sub(e.tried); !e.tried.IsZero() && since >= 0 && since < Interval {
		return nil
	}
	flight := make(chan struct{})
	e.tried, e.flight = now, flight
	go func() {
		keys, err := c.fetch(uri) // in no request's context: others wait for it too
		c.end(uri, e, keys, now, err)
		close(flight)
	}()
	return flight
}

func (c *cache) end(uri string, e *entry, keys []strictjose.SetKey, asked time.Time, err error) {
	c.mu.Lock()
	e.flight, e.failure = nil, err
	if err == nil {
		e.keys, e.held, e.fetched = keys, true, asked
		e.fresh = Fresh - rand.N(Fresh/5)
	}
	c.mu.Unlock()
	if err != nil { // not under the lock: no request waits for a log
		const limit = 512
		c.log.Warn("fetching a client's keys failed",
			slog.String("jwks_uri", uri), slog.String("cause", strictjose.Printable(err.Error(), limit)))
	}
}
