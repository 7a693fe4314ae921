package faulttest

import (
	"net/http"
	"time"
)

// try is a request that may be accepted once, ever: for a token, or of an API.
type try struct {
	client    *Client
	call      bool
	token     string // that the call presents
	of        *held  // the same
	proof     string
	assertion string // empty: the client has a secret
	name      [32]byte
	ended     time.Time // when it was answered, or was not

	since standing // the client's, when it began

	accepted bool
	status   int
}

// held is a token that a client was handed.
type held struct {
	token string
	by    *try
	// What is known of its end. The World's mu guards both: ending is set before
	// whatever ends it is sent, and ended once that was answered.
	ending, ended bool
}

// Token asks an instance for a token, and keeps what comes of it in mind. It
// returns the status.
func (w *World) Token(at Instance, c *Client) int {
	y := &try{client: c}
	y.proof, y.name = w.prove(c.DPoP, "")
	w.mu.Lock()
	y.since = c.standing
	w.mu.Unlock()
	a := w.sendTry(at, y)
	w.keep(y, a)
	return a.status
}

// keep notes what became of a try.
func (w *World) keep(y *try, a answer) {
	y.ended, y.status, y.accepted = time.Now(), a.status, a.status == http.StatusOK
	w.mu.Lock()
	w.tries = append(w.tries, y)
	again := y.accepted && w.accepted[y.name]
	if y.accepted {
		w.accepted[y.name] = true
	}
	stood := y.client.standing.through(y.since)
	switch {
	case y.call:
	case y.accepted:
		w.held = append(w.held, &held{token: a.text("access_token"), by: y, ending: stood != enabled})
	}
	w.mu.Unlock()

	if again {
		w.complain("a proof was accepted twice")
	}
	if y.call {
		return
	}
	switch {
	case y.accepted && a.text("access_token") == "":
		w.complain("a token request is answered with 200 and no token")
	case y.accepted && stood == disabled:
		w.complain("client %s is disabled, and was given a token", y.client.ID)
	case y.accepted, y.status == 0, y.status == http.StatusServiceUnavailable:
	case (y.status == http.StatusUnauthorized || y.status == http.StatusTooManyRequests) && stood != enabled:
	default:
		w.complain("a token request of %s with a new proof is answered with %d %v", y.client.ID, y.status, a.fields)
	}
}

// recent is one of the tokens that were handed out last; nil while there is none.
func (w *World) recent(pick func(n int) int) *held {
	const last = 200
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return nil
	}
	return w.held[len(w.held)-1-pick(min(last, len(w.held)))]
}

// endOf is what is known of a token's end.
func (w *World) endOf(h *held) (ending, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.ending, h.ended
}

// Disabling notes that a client is being disabled by do, and with it all of its
// tokens end.
func (w *World) Disabling(c *Client, do func()) {
	w.mu.Lock()
	c.standing.become(changing)
	var all []*held
	for _, h := range w.held {
		if h.by.client == c {
			h.ending = true
			all = append(all, h)
		}
	}
	w.mu.Unlock()
	do()
	w.mu.Lock()
	defer w.mu.Unlock()
	c.standing.become(disabled)
	for _, h := range all {
		h.ended = true
	}
}

// Enabling notes that a client is being enabled by do.
func (w *World) Enabling(c *Client, do func()) {
	w.mu.Lock()
	c.standing.become(changing)
	w.mu.Unlock()
	do()
	w.mu.Lock()
	defer w.mu.Unlock()
	c.standing.become(enabled)
}

// Secrets are some of the tokens, proofs and assertions that were sent, the latest
// first: what must not be found anywhere.
func (w *World) Secrets() []string {
	const some = 50
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for n := range min(some, len(w.held)) {
		h := w.held[len(w.held)-1-n]
		all = append(all, h.token, h.by.proof)
		if h.by.assertion != "" {
			all = append(all, h.by.assertion)
		}
	}
	return all
}
