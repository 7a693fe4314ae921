package faulttest

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Load keeps workers busy with all that clients do, each on all instances and with
// a pause after each request, until stop is called, which returns when the last
// request is answered. Equal seeds make equal choices.
func (w *World) Load(workers int, pause time.Duration, seed uint64) (stop func()) {
	var over atomic.Bool
	var all sync.WaitGroup
	for n := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			for !over.Load() {
				w.act(random)
				time.Sleep(pause)
			}
		})
	}
	return func() {
		over.Store(true)
		all.Wait()
	}
}

// act does one thing.
func (w *World) act(random *rand.Rand) {
	at := w.Instances[random.IntN(len(w.Instances))]
	h := w.recent(random.IntN)
	switch n := random.IntN(10); {
	case h == nil || n < 5:
		w.Token(at, w.Services[random.IntN(len(w.Services))])
	case n < 7:
		w.Introspect(at, h)
	case n < 9:
		w.Verify(at, h)
	default:
		w.Revoke(at, h)
	}
}

// Introspect asks as the gateway, and knows what must be answered.
func (w *World) Introspect(at Instance, h *held) int {
	_, ended := w.endOf(h)
	header, form := http.Header{}, url.Values{"token": {h.token}}
	w.authenticate(w.Gateway, header, form)
	a := w.send(at.Public, pathIntrospect, header, form)
	ending, _ := w.endOf(h)
	active, _ := a.fields["active"].(bool)
	switch {
	case a.status == 0 || a.status == http.StatusServiceUnavailable:
	case a.status != http.StatusOK:
		w.complain("an introspection is answered with %d %v", a.status, a.fields)
	case active && ended:
		w.complain("a token of %s that has ended is active", h.by.client.ID)
	case !active && !ending:
		w.complain("a token of %s that was handed out, and that nobody has ended, is inactive", h.by.client.ID)
	}
	return a.status
}

// IntrospectLatest introspects one of the tokens that were handed out last.
func (w *World) IntrospectLatest(at Instance) int {
	return w.Introspect(at, w.recent(func(int) int { return 0 }))
}

// Verify asks as the gateway about a call with the token and a new proof.
func (w *World) Verify(at Instance, h *held) int {
	y := &try{client: h.by.client, call: true, token: h.token, of: h} // how its client stands, endOf tells
	y.proof, y.name = w.prove(y.client.DPoP, h.token)
	_, ended := w.endOf(h)
	w.spending()
	a := w.sendTry(at, y)
	w.spent(a.status)
	ending, _ := w.endOf(h)
	w.keep(y, a)
	switch {
	case a.status == 0 || a.status == http.StatusServiceUnavailable:
	case a.status == http.StatusOK && ended:
		w.complain("a call passes with a token of %s that has ended", y.client.ID)
	case a.status == http.StatusOK, a.status == http.StatusUnauthorized && ending:
	default:
		w.complain("a good call of %s is answered with %d", y.client.ID, a.status)
	}
	return a.status
}

// Revoke revokes a token as its client. What was answered with 200 has ended.
func (w *World) Revoke(at Instance, h *held) int {
	c := h.by.client
	w.mu.Lock()
	h.ending = true
	since := c.standing
	w.mu.Unlock()
	header, form := http.Header{}, url.Values{"token": {h.token}}
	w.authenticate(c, header, form)
	if c.Own != nil { // its assertion
		w.spending()
	}
	a := w.send(at.Public, pathRevoke, header, form)
	if c.Own != nil {
		w.spent(a.status)
	}
	w.mu.Lock()
	h.ended = h.ended || a.status == http.StatusOK
	stood := c.standing.through(since)
	w.mu.Unlock()
	if a.status != 0 && a.status != http.StatusOK && a.status != http.StatusServiceUnavailable &&
		(!refused(a.status) || stood == enabled) {
		w.complain("a revocation by %s is answered with %d %v", c.ID, a.status, a.fields)
	}
	return a.status
}
