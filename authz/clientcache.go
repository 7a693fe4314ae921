package authz

import (
	"context"
	"errors"
	"sync"
	"time"
)

// clientCache keeps clients that were read for earlier requests, so that a request
// need not read its own: reading it takes as long as all else that it asks of the
// Store. What is kept may be behind, and never counts for itself: whatever is done
// for such a client is done only while the client is of the Revision that was read
// (see Caller), and a refusal is no answer before the client is read anew (see
// again.go). So one that is disabled is refused at once, on every instance.
//
// A client that came with a secret is found by that secret only: whoever has yet to
// prove to be somebody has the Store asked, whomever it names.
type clientCache struct {
	store Store

	mu sync.Mutex
	// What has been asked for since, and what was asked for before that: the latter
	// goes when the former is full.
	recent, earlier map[clientKey]*Client
	weight          int // of recent, in bytes or so
}

// clientKey is what a client is looked for by. The zero Digest is none.
type clientKey struct {
	id     string
	secret Digest
}

// maxCacheWeight bounds each half of what is kept, in bytes or so: some ten thousand
// clients.
const maxCacheWeight = 8 << 20

// client is Store.Client.
func (c *clientCache) client(ctx context.Context, id string, now time.Time) (*Client, error) {
	key := clientKey{id: id}
	if kept := c.kept(ctx, key, now); kept != nil {
		return kept, nil
	}
	found, err := c.store.Client(ctx, id, now)
	c.learn(key, found, err, err == nil)
	return found, err
}

// claimant is Store.Claimant. One that has the secret is kept.
func (c *clientCache) claimant(ctx context.Context, id string, secret Digest, now time.Time) (*Client, error) {
	key := clientKey{id, secret}
	if kept := c.kept(ctx, key, now); kept != nil {
		return kept, nil
	}
	found, err := c.store.Claimant(ctx, id, secret, now)
	c.learn(key, found, err, err == nil && secret.matchesAny(found.Secrets))
	return found, err
}

// kept is a copy of what is kept, if anything, and if the request may have it.
func (c *clientCache) kept(ctx context.Context, key clientKey, now time.Time) *Client {
	use := useOf(ctx)
	if use == nil || use.again {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.recent[key]
	if found == nil {
		if found = c.earlier[key]; found == nil {
			return nil
		}
		c.put(key, found)
	}
	if !found.SecretEndsAt.IsZero() && !now.Before(found.SecretEndsAt) {
		return nil
	}
	use.kept = true
	client := *found
	return &client
}

// learn keeps a copy of what the Store has found, or forgets what was kept where
// that would be refused by now: whoever still asks for it, a thief of a secret that
// was rotated away for one, would have all the work of a token done each time.
func (c *clientCache) learn(key clientKey, found *Client, err error, proven bool) {
	if err != nil && !errors.Is(err, ErrNotFound) { // nothing is known
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !proven || found.Disabled() {
		c.forget(key)
		return
	}
	client := *found
	c.put(key, &client)
}

func (c *clientCache) put(key clientKey, client *Client) {
	c.forget(key)
	weight := weigh(client)
	if c.weight += weight; c.recent == nil || c.weight > maxCacheWeight {
		c.recent, c.earlier, c.weight = make(map[clientKey]*Client), c.recent, weight
	}
	c.recent[key] = client
}

func (c *clientCache) forget(key clientKey) {
	if was := c.recent[key]; was != nil {
		c.weight -= weigh(was)
	}
	delete(c.recent, key)
	delete(c.earlier, key)
}

// weigh is about what a client takes, in bytes.
func weigh(c *Client) int {
	weight := 768 + len(c.JWKS) + 64*(len(c.Secrets)+len(c.KeyNames)+len(c.Introspects))
	for _, g := range c.Grants {
		weight += 128 + len(g.Resource) + 48*len(g.Scopes)
	}
	return weight
}
