package dpopbind

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// How long the issuer's keys are used.
const (
	// KeysFresh is how long they are used without asking again, where the answer
	// has no Cache-Control max-age. One that it has counts from KeysFreshMin to
	// KeysFreshMax. They are asked for anew, in the background, when four fifths
	// of it have passed.
	KeysFresh    = 5 * time.Minute
	KeysFreshMin = time.Minute
	KeysFreshMax = time.Hour
	// KeysKept is how much longer they are used while the issuer cannot be
	// reached. It is the longest that a withdrawn key can live on in an outage.
	KeysKept = time.Hour
	// KeysInterval is the least time between two fetches, whatever the tokens
	// name: an unknown key within it is refused without one.
	KeysInterval = 10 * time.Second

	keysTimeout = 5 * time.Second
)

// keySet is the issuer's keys, fetched when they are needed and kept. It is safe
// for concurrent use, and makes one fetch at a time.
type keySet struct {
	source func(context.Context) (map[keyName]*publicKey, time.Duration, error)
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	keys    map[keyName]*publicKey // not changed, but replaced; nil before the first
	fetched time.Time              // when keys were asked for
	fresh   time.Duration
	flight  chan struct{} // closed when the fetch under way has ended
	tried   time.Time     // when the last fetch began
	failure error         // of the last fetch
}

// find returns the key of a name. Its error is errUnknownKey where there is none,
// and a *keysUnavailableError where that could not be told.
//
// Without a kid, the set must have one key by the algorithm.
func (s *keySet) find(ctx context.Context, kid string, alg Algorithm) (*publicKey, error) {
	keys, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if key := pick(keys, kid, alg); key != nil {
		return key, nil
	}
	// The issuer may have begun to sign with a key that it has just published.
	if keys, err = s.again(ctx); err != nil {
		return nil, err
	}
	if key := pick(keys, kid, alg); key != nil {
		return key, nil
	}
	return nil, errUnknownKey
}

func pick(keys map[keyName]*publicKey, kid string, alg Algorithm) *publicKey {
	wanted := nameKey(kid, alg)
	if kid != "" {
		return keys[wanted]
	}
	var only *publicKey
	for name, key := range keys {
		if name.alg != wanted.alg {
			continue
		}
		if only != nil {
			return nil
		}
		only = key
	}
	return only
}

// current returns keys that may be used now, and sees to it that they are
// fetched before they are no longer.
func (s *keySet) current(ctx context.Context) (map[keyName]*publicKey, error) {
	s.mu.Lock()
	age := s.now().Sub(s.fetched)
	if age < 0 { // the clock was set back: nothing is known of the age
		age = s.fresh
	}
	switch {
	case s.keys != nil && age < s.fresh*4/5:
		defer s.mu.Unlock()
		return s.keys, nil
	case s.keys != nil && (age < s.fresh || s.failure != nil && age < s.fresh+KeysKept):
		// Still fresh, or the issuer is known to be out: nobody waits.
		defer s.mu.Unlock()
		s.begin()
		return s.keys, nil
	}
	// None yet, or nobody has asked for long.
	flight := s.begin()
	s.mu.Unlock()
	if err := wait(ctx, flight); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil || s.now().Sub(s.fetched) >= s.fresh+KeysKept {
		cause := s.failure
		if cause == nil {
			cause = errors.New("the last fetch was too short a time ago")
		}
		return nil, &keysUnavailableError{cause: cause}
	}
	return s.keys, nil
}

// again returns keys of now, unless the last fetch was less than KeysInterval
// ago; then it returns those that there are.
func (s *keySet) again(ctx context.Context) (map[keyName]*publicKey, error) {
	s.mu.Lock()
	flight := s.begin()
	s.mu.Unlock()
	if err := wait(ctx, flight); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, nil
}

// begin begins a fetch, unless one is under way or it is too early for the next.
// It returns what is closed at its end, nil for none. s.mu is held.
func (s *keySet) begin() <-chan struct{} {
	if s.flight != nil {
		return s.flight
	}
	now := s.now()
	if since := now.Sub(s.tried); !s.tried.IsZero() && since >= 0 && since < KeysInterval {
		return nil
	}
	s.tried = now
	flight := make(chan struct{})
	s.flight = flight
	go func() {
		// Not a request's context: others wait for the same fetch.
		ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
		defer cancel()
		keys, fresh, err := s.source(ctx)
		s.end(keys, fresh, now, err)
		close(flight)
	}()
	return flight
}

func (s *keySet) end(keys map[keyName]*publicKey, fresh time.Duration, asked time.Time, err error) {
	s.mu.Lock()
	s.flight, s.failure = nil, err
	if err == nil {
		s.keys, s.fetched = keys, asked
		s.fresh = min(max(fresh, KeysFreshMin), KeysFreshMax)
	}
	s.mu.Unlock()
	if err != nil { // not under the lock: no request waits for a log
		s.log.Error("fetching the issuer's keys failed", slog.String("error", err.Error()))
	}
}

func wait(ctx context.Context, flight <-chan struct{}) error {
	if flight == nil {
		return nil
	}
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return &keysUnavailableError{cause: ctx.Err()}
	}
}
