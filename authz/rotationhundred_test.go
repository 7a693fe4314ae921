package authz_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// What is registered here: resources whose tokens are signed by keys that rotate by
// schedule, by keys that rotate by hand, and by the one and the other in turn.
const (
	scheduled = "https://tracking.carrier.test"
	handmade  = "https://pickups.carrier.test"
	changing  = "https://customs.carrier.test"
)

func newRotatingWorld(t *testing.T) *rotatingWorld {
	t.Helper()
	w := newWorld(t)
	r := &rotatingWorld{world: w, t: t, clock: newFastClock(w), pace: make(chan struct{}, 20),
		config: settings{sealing: [][]byte{randomSealingKey()}, nonces: [][]byte{randomSealingKey()}}}
	r.ctx, r.fail = context.WithCancelCause(t.Context())
	t.Cleanup(func() { r.fail(nil) })
	resources := []string{scheduled, handmade, changing}
	for n, uri := range resources {
		resource := &authz.Resource{URI: uri, Scopes: []string{"read"}, TokenTTL: time.Hour, BaseURLs: []string{uri + "/v1"}}
		if uri == handmade {
			resource.SigningAlg = byHand
		}
		w.resource(resource)
		r.register(authz.Client{ID: "service-" + string(rune('a'+n)), DPoPKeys: authz.FirstUseKey}, uri)
		r.register(authz.Client{ID: "another-" + string(rune('a'+n))}, uri)
	}
	r.register(authz.Client{ID: "with-nonces", RequireNonce: true}, scheduled)
	r.bySecret = slices.Clone(r.services)
	r.registerOthers()
	r.gateway = &service{client: w.client(authz.Client{ID: "edge-gateway", Introspects: resources})}
	for n, offset := range []time.Duration{-10 * time.Second, 10 * time.Second} {
		r.nodes[n], r.readers[n] = &node{offset: offset}, &jwksReader{}
		r.restart(n)
	}
	return r
}

func (r *rotatingWorld) register(c authz.Client, resource string) *service {
	r.t.Helper()
	c.Grants = []authz.Grant{{Resource: resource, Scopes: []string{"read"}}}
	s := &service{resource: resource, url: resource + "/v1/x", client: r.client(c), key: newKey(r.t)}
	if r.services = append(r.services, s); c.DPoPKeys != "" {
		r.enrolled = append(r.enrolled, s)
	}
	return s
}

// Every kind of key and secret changes hands, a hundred times together, while both
// instances serve 200 requests a second. Each of these is sent once, and each is
// answered as it should be; each token is good until it expires, also for who
// verifies it by a JWKS that is as old as it may be.
func TestHundredRotationsUnderLoadFailNoRequest(t *testing.T) {
	t.Parallel()
	const perStep = 5 // requests
	span := 80 * time.Hour
	if testing.Short() {
		span = 30 * time.Hour
	}
	r := newRotatingWorld(t)
	began, end := time.Now(), r.clock.Now().Add(span)
	idle := r.load(200)

	var rotations sync.WaitGroup
	done := make([]int, len(rotationKinds()))
	for n, kind := range rotationKinds() {
		if kind.once != nil {
			rotations.Go(func() { done[n] = r.turn(kind, end) })
		}
	}
	ended := make(chan struct{})
	go func() { rotations.Wait(); close(ended) }()
	// The clock goes by the load: a step is as much of it on any machine.
	for steps := int64(1); r.ctx.Err() == nil && (r.clock.Now().Before(end) || !isClosed(ended)); steps++ {
		for r.served.Load() < steps*perStep && r.ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		r.clock.advance(t)
		r.upkeep()
	}
	r.fail(errOver)
	idle()
	<-ended
	if err := context.Cause(r.ctx); !errors.Is(err, errOver) {
		t.Fatal(err)
	}
	r.report(done, time.Since(began))
}

var errOver = errors.New("the test is over")

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// upkeep is what Run does at its times, on both instances.
func (r *rotatingWorld) upkeep() {
	for n := range r.nodes {
		r.use(n, func(i *instance) {
			if err := errors.Join(i.server.LookAfterKeys(r.ctx), i.store.Maintain(r.ctx, i.now())); err != nil && r.ctx.Err() == nil {
				r.fail(err)
			}
		})
	}
}

func (r *rotatingWorld) report(done []int, took time.Duration) {
	r.t.Helper()
	total := 0
	for n, kind := range rotationKinds() {
		if kind.once == nil {
			done[n] = r.tookOver()
		}
		r.t.Logf("%3d × %s", done[n], kind.name)
		if total += done[n]; done[n] == 0 || done[n] < 3 && !testing.Short() {
			r.t.Errorf("%s: %d rotations", kind.name, done[n])
		}
	}
	r.t.Logf("%d rotations, %d requests, %.0f a second; %d of %d tokens were good to their end, %d challenges",
		total, r.served.Load(), float64(r.served.Load())/took.Seconds(), r.goodToTheEnd.Load(), r.issued.Load(), r.challenged.Load())
	if total < 100 && !testing.Short() {
		r.t.Errorf("%d rotations", total)
	}
	if 2*r.goodToTheEnd.Load() < r.issued.Load() || r.challenged.Load() == 0 {
		r.t.Error("too few tokens were looked at when they were about to expire, or no client was challenged")
	}
}
