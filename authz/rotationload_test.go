package authz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// rotatingWorld is a world in which everything changes hands while requests go on.
type rotatingWorld struct {
	*world
	t     *testing.T
	clock *fastClock
	ctx   context.Context // of the load; ends with the first failure
	fail  context.CancelCauseFunc
	nodes [2]*node
	pace  chan struct{} // a request takes one

	operator sync.Mutex // who does one thing at a time
	config   settings   // what the operator's commands, and the next restart, have

	services []*service
	bySecret []*service
	enrolled []*service // those whose DPoP keys are
	others   others
	gateway  *service
	readers  [2]*jwksReader

	newest                                   atomic.Pointer[liveToken]
	served, challenged, issued, goodToTheEnd atomic.Int64
}

// settings are what instances are configured with that changes hands.
type settings struct{ sealing, nonces [][]byte }

// service is a client, and what it has at the moment.
type service struct {
	resource string // what it has tokens for
	url      string // and calls with them

	mu     sync.Mutex
	client registered
	prove  proof // what it authenticates by instead of a secret; nil: that
	key    *dpopbind.Key
}

// proof is how a client authenticates: what it adds to a request.
type proof func(form url.Values, h http.Header)

func (s *service) now() (registered, *dpopbind.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client, s.key
}

func (s *service) use(next proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prove = next
}

// node is where an instance runs, one after the other.
type node struct {
	offset time.Duration // of its clock
	inUse  sync.RWMutex  // read-locked for a request: a balancer's count of connections
	at     *instance
}

// use calls f with instance n or, while that is restarted, the other one.
func (r *rotatingWorld) use(n int, f func(*instance)) {
	on := r.nodes[n]
	if !on.inUse.TryRLock() {
		on = r.nodes[1-n]
		on.inUse.RLock()
	}
	defer on.inUse.RUnlock()
	f(on.at)
}

// may waits for its turn of the rate, for so many requests, and is false where the
// load is over.
func (r *rotatingWorld) may(requests int) bool {
	for range requests {
		select {
		case <-r.pace:
		case <-r.ctx.Done():
			return false
		}
	}
	return true
}

// send makes a request and sends it once: there is no second attempt. It is false
// where there was no answer.
func (r *rotatingWorld) send(n int, request func(*instance) *http.Request) (a answer, ok bool) {
	defer r.clock.begin()()
	r.use(n, func(i *instance) {
		var err error
		if a, err = i.try(request(i)); err != nil {
			r.fail(fmt.Errorf("at %s: %w", r.clock.Now(), err))
			return
		}
		ok = true
		r.served.Add(1)
	})
	return a, ok
}

// succeed is send for what has to succeed.
func (r *rotatingWorld) succeed(n int, what string, request func(*instance) *http.Request) (answer, bool) {
	a, ok := r.send(n, request)
	if ok && a.status != http.StatusOK {
		r.fail(fmt.Errorf("at %s: %s: %d %s", r.clock.Now(), what, a.status, a.body))
		return a, false
	}
	return a, ok
}

func (r *rotatingWorld) proof(key *dpopbind.Key, method, url string, o dpopbind.ProofOptions) string {
	proof, err := key.Proof(method, url, r.clock.Now(), o)
	if err != nil {
		r.fail(err)
	}
	r.secret(proof)
	return proof
}

// tokenRequest is a request by what a service has now.
func (r *rotatingWorld) tokenRequest(s *service, nonce string) (func(*instance) *http.Request, *dpopbind.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, prove, key := s.client, s.prove, s.key
	return func(i *instance) *http.Request {
		form, header := with(clientCredentials, "resource", s.resource), http.Header{}
		if prove != nil {
			c.secret = ""
			prove(form, header)
		}
		q := i.post("/oauth/token", c, form)
		maps.Copy(q.Header, header)
		q.Header.Set("DPoP", r.proof(key, http.MethodPost, tokenEndpoint, dpopbind.ProofOptions{Nonce: nonce}))
		return q
	}, key
}

// liveToken is one that has been answered.
type liveToken struct {
	text    string
	key     *dpopbind.Key
	expires time.Time
	url     string
}

// live gets a token, uses it, and looks at it again when it is about to expire. The
// answer to each request has to be a good one.
func (r *rotatingWorld) live(n int, s *service) {
	if !r.may(1) {
		return
	}
	requested := r.clock.Now()
	request, key := r.tokenRequest(s, "")
	a, ok := r.succeed(n%2, "token", request)
	if !ok {
		return
	}
	seconds, _ := a.json["expires_in"].(float64)
	t := liveToken{a.string("access_token"), key, requested.Add(time.Duration(seconds)*time.Second - time.Minute), s.url}
	r.newest.Store(&t)
	r.issued.Add(1)
	r.verified(1-n%2, t)
	if !r.may(1) {
		return
	}
	r.called(1-n%2, t)
	if !r.clock.waitUntil(r.ctx, t.expires.Add(-3*clockStep)) {
		return
	}
	defer r.clock.begin()() // so that its end does not come before its last check
	for at := range r.nodes {
		r.verified(at, t)
		r.introspected(at, t)
	}
	if r.clock.Now().Before(t.expires) {
		r.goodToTheEnd.Add(1)
	}
}

// verified holds that a token is good for who knows the keys that an instance published.
func (r *rotatingWorld) verified(at int, t liveToken) {
	if kid, err := r.readers[at].verify(r, at, t.text); err != nil {
		r.fail(fmt.Errorf("at %s: verified by the JWKS that instance %d published: key %s: %w", r.clock.Now(), at, kid, err))
	}
}

// introspected holds that an instance finds a token active, if it has not expired.
func (r *rotatingWorld) introspected(at int, t liveToken) {
	a, ok := r.send(at, func(i *instance) *http.Request {
		gateway, _ := r.gateway.now()
		return i.post("/oauth/introspect", gateway, url.Values{"token": {t.text}})
	})
	if ok && r.clock.Now().Before(t.expires) && (a.status != http.StatusOK || a.json["active"] != true) {
		r.fail(fmt.Errorf("at %s: introspection at instance %d: %d %s", r.clock.Now(), at, a.status, a.body))
	}
}

// called holds that an instance lets a call with the token through.
func (r *rotatingWorld) called(at int, t liveToken) {
	a, ok := r.send(at, func(i *instance) *http.Request {
		gateway, _ := r.gateway.now()
		return i.checkRequest(call{gateway: gateway, method: http.MethodGet, url: t.url, token: t.text,
			proofs: []string{r.proof(t.key, http.MethodGet, t.url, dpopbind.ProofOptions{AccessToken: t.text})}})
	})
	if ok && r.clock.Now().Before(t.expires) && a.status != http.StatusOK {
		r.fail(fmt.Errorf("at %s: check of a call at instance %d: %d %s", r.clock.Now(), at, a.status, a.body))
	}
}

// challenge gets a token of a client whose proofs need a nonce. The nonce of one
// instance has to be good at the other, whichever secrets the two have.
func (r *rotatingWorld) challenge(n int, s *service) {
	if !r.may(2) {
		return
	}
	defer r.clock.hold()()
	nonce := r.freshNonce(n, s)
	if nonce == "" {
		return
	}
	request, _ := r.tokenRequest(s, nonce)
	if _, ok := r.succeed((n+1)%2, "token with a nonce", request); ok {
		r.challenged.Add(1)
	}
}

// freshNonce is what an instance answers a request without one.
func (r *rotatingWorld) freshNonce(n int, s *service) string {
	request, _ := r.tokenRequest(s, "")
	a, ok := r.send(n%2, request)
	if ok && (a.status != http.StatusBadRequest || a.string("error") != "use_dpop_nonce") {
		r.fail(fmt.Errorf("at %s: without a nonce: %d %s", r.clock.Now(), a.status, a.body))
	}
	return a.header.Get("DPoP-Nonce")
}

// jwksReader verifies tokens by their signatures alone. It keeps the JWKS for as long
// as it may, and no shorter: not even a key that it does not know has it look again.
type jwksReader struct {
	mu  sync.Mutex
	set jose.JSONWebKeySet
	end time.Time // until when the set may be kept
}

var maxAge = regexp.MustCompile(`max-age=([0-9]+)`)

func (v *jwksReader) verify(r *rotatingWorld, at int, token string) (kid string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := r.clock.Now(); !now.Before(v.end) {
		a, ok := r.succeed(at, "JWKS", func(i *instance) *http.Request {
			q, err := http.NewRequestWithContext(r.ctx, http.MethodGet, i.url+"/.well-known/jwks.json", nil)
			if err != nil {
				r.fail(err)
			}
			return q
		})
		if !ok {
			return "", nil
		}
		seconds, err := strconv.Atoi(maxAge.FindStringSubmatch(a.header.Get("Cache-Control"))[1])
		if err != nil {
			return "", err
		}
		v.set, v.end = jose.JSONWebKeySet{}, now.Add(time.Duration(seconds)*time.Second)
		if err := json.Unmarshal([]byte(a.body), &v.set); err != nil {
			return "", err
		}
	}
	return verifies(token, v.set)
}

// load keeps n requests a second going until ctx ends.
func (r *rotatingWorld) load(perSecond int) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for r.ctx.Err() == nil {
			<-tick.C
			select {
			case r.pace <- struct{}{}:
			default:
			}
		}
	})
	for n, s := range r.services {
		if s.client.RequireNonce {
			wg.Go(func() {
				for n := 0; r.ctx.Err() == nil; n++ {
					r.challenge(n, s)
					r.clock.wait(r.ctx, 4*clockStep)
				}
			})
			continue
		}
		wg.Go(func() {
			for n := n; r.ctx.Err() == nil; n++ {
				r.live(n, s)
			}
		})
	}
	for n, use := range []func(int, liveToken){r.called, r.introspected} { // what is left of the rate
		wg.Go(func() {
			for at := n; r.may(1); at = 1 - at {
				if t := r.newest.Load(); t != nil {
					use(at, *t)
				}
			}
		})
	}
	return wg.Wait
}

// restart replaces an instance by one with the operator's settings, while the other
// one serves.
func (r *rotatingWorld) restart(n int) {
	on := r.nodes[n]
	on.inUse.Lock() // requests under way have ended, new ones go to the other
	defer on.inUse.Unlock()
	if on.at != nil {
		on.at.server.Drain()
		on.at.flush()
		on.at.close()
	}
	on.at = r.instance(func(c *authz.Config) {
		c.KeyRotation, c.KeyPublishAhead = authz.MinKeyRotation, authz.MinKeyPublishAhead
		c.ProofLifetime = 10 * time.Minute // more than a step
		c.Sealer, c.NonceSecrets = newSealer(r.t, r.config.sealing...), r.config.nonces
		r.others.known(c)
	})
	on.at.offset.Store(int64(on.offset))
}
