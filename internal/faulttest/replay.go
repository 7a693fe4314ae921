package faulttest

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// How many of those that were replayed before are replayed once more, and how many
// assertions: a failed authentication is something that a server may count.
const (
	oldOnes    = 20
	assertions = 3
)

// young is how old what is sent again may be for the server to judge it by whether
// it is spent: proofs and assertions live a minute.
const young = 40 * time.Second

// Replay sends all that was accepted since the last Replay once more, to any
// instance: it is refused. What was not answered for is sent again: it is accepted,
// or was spent. No load may be under way, and the servers must be well.
func (w *World) Replay(seed uint64) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	w.mu.Lock()
	tries, old := w.tries, w.old
	w.tries = nil
	w.mu.Unlock()
	var sendings []func(*rand.Rand)
	for range min(oldOnes, len(old)) {
		y := old[random.IntN(len(old))]
		sendings = append(sendings, func(random *rand.Rand) { w.replayAccepted(random, y) })
	}
	asserted := 0
	for _, y := range tries {
		switch {
		case y.accepted:
			sendings = append(sendings, func(random *rand.Rand) { w.replayAccepted(random, y) })
			if y.assertion != "" && asserted < assertions {
				asserted++
				sendings = append(sendings, func(random *rand.Rand) { w.replayAssertion(random, y) })
			}
			old = append(old, y)
		case y.status == 0 || y.status == http.StatusServiceUnavailable:
			sendings = append(sendings, func(random *rand.Rand) { w.retry(random, y) })
		}
	}
	var all sync.WaitGroup
	for n := range senders {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			for i := n; i < len(sendings); i += senders {
				sendings[i](random)
			}
		})
	}
	all.Wait()
	w.mu.Lock()
	w.old = old
	w.mu.Unlock()
}

// senders is how many replay at a time.
const senders = 4

// insist sends until it is answered by something else than a 503, as a client would.
func (w *World) insist(random *rand.Rand, y *try) answer {
	var a answer
	err := w.await(func() bool {
		a = w.sendTry(w.Instances[random.IntN(len(w.Instances))], y)
		return a.status != 0 && a.status != http.StatusServiceUnavailable
	})
	if err != nil {
		w.complain("sending again: %v", err)
	}
	return a
}

func (w *World) replayAccepted(random *rand.Rand, y *try) {
	again := *y
	again.assertion = "" // a new one: it is the proof that is replayed
	if a := w.insist(random, &again); a.status < 400 || a.status >= 500 {
		w.complain("a proof that was accepted before is answered with %d", a.status)
	}
}

func (w *World) replayAssertion(random *rand.Rand, y *try) {
	again := *y
	again.proof, again.name = w.prove(y.client.DPoP, "")
	if a := w.insist(random, &again); a.status < 400 || a.status >= 500 {
		w.complain("an assertion that was accepted before is answered with %d", a.status)
	}
}

// retry sends what may have been carried out or not. insist may get there only the
// second time, and then finds it spent by its own first: that is as well.
func (w *World) retry(random *rand.Rand, y *try) {
	again := *y
	w.mu.Lock()
	again.since = y.client.standing
	w.mu.Unlock()
	if a := w.insist(random, &again); a.status == http.StatusOK {
		// A call was counted as one that may have spent its proof.
		w.keep(&again, a)
		return
	}
	ending := false
	if y.call {
		ending, _ = w.endOf(y.of)
	}
	if time.Since(y.ended) < young && !ending && again.since.through(y.since) == enabled {
		w.mustBeSpent(y)
	}
}
