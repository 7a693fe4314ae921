package authz

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cargokey/authz/jwks"
)

// keyProbe is the last answer to whether the key that signs now does, which may be
// a device's. Many who ask cost one signature a second, and a device that hangs
// holds one goroutine.
type keyProbe struct {
	mu       sync.Mutex
	at       time.Time
	err      error
	underWay chan struct{} // closed at the end of the probe under way
}

// canSign fails where no token could be signed now, or not before ctx ends.
func (k *keyring) canSign(ctx context.Context) error {
	p := &k.probe
	now := k.now()
	p.mu.Lock()
	if age := now.Sub(p.at); p.underWay == nil && (age < 0 || age >= listedAge) {
		done := make(chan struct{})
		p.underWay = done
		go func() {
			err := k.current().Probe(now, k.algorithm)
			if errors.Is(err, jwks.ErrNoSigner) {
				err = nil // a request for a token makes one; or lacks tells of it
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.at, p.err, p.underWay = now, err, nil
			close(done)
		}()
	}
	underWay := p.underWay
	p.mu.Unlock()
	if underWay != nil {
		select {
		case <-underWay:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
