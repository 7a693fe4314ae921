package authz

import (
	"context"
	"time"
)

// lookups is a Store whose clients are looked up in turn, a few at a time, where it is
// likely that nobody there can prove to be one: a flood of bad credentials costs the
// database that and no more. A request whose client is known already asks for none.
type lookups struct {
	Store
	failures *failures
}

// Client is Store's.
func (l lookups) Client(ctx context.Context, id string, now time.Time) (*Client, error) {
	return l.inTurn(ctx, id, func() (*Client, error) { return l.Store.Client(ctx, id, now) })
}

// Claimant is Store's.
func (l lookups) Claimant(ctx context.Context, id string, secret Digest, now time.Time) (*Client, error) {
	return l.inTurn(ctx, id, func() (*Client, error) { return l.Store.Claimant(ctx, id, secret, now) })
}

func (l lookups) inTurn(ctx context.Context, id string, look func() (*Client, error)) (found *Client, err error) {
	a := attemptOf(ctx)
	if a == nil { // it is no request's
		return look()
	}
	a.clientID = id
	defer func() { a.registered = err == nil && found.ID != "" }()
	lane := l.failures.lane(a, id)
	if lane == nil {
		return look()
	}
	a.outside(func() {
		if err = lane.Enter(ctx); err != nil {
			return
		}
		defer lane.Leave()
		found, err = look()
	})
	return found, err
}

// outside has a request wait, for others that fail or for its client's own host, without
// a place among those in work, which would be nobody else's meanwhile: see door.
func (a *attempt) outside(wait func()) {
	if a == nil {
		wait()
		return
	}
	a.door.gate.Leave()
	defer a.door.gate.Reenter()
	wait()
}
