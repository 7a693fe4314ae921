package faulttest

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// Bound is how long a request may take to be answered: the server's own limit of
// five seconds, and what a busy machine makes of it.
const Bound = 15 * time.Second

// patience is how long a World waits for what must happen.
const patience = 60 * time.Second

// Client is a registered client, or a gateway.
type Client struct {
	ID     string
	Secret string        // empty: it authenticates by Own (private_key_jwt)
	Own    *dpopbind.Key // of its assertions
	DPoP   *dpopbind.Key // its tokens are bound to it

	standing standing // the World's mu guards it
}

// standing is whether a client is disabled. Two that are equal are of one stretch
// of time in which nobody began or ended to disable or to enable it.
type standing struct {
	changes int
	is      state
}

type state int

const (
	enabled  state = iota
	changing       // it is being disabled, or enabled: it may be either
	disabled
)

// become begins another stretch.
func (s *standing) become(is state) { s.changes, s.is = s.changes+1, is }

// through is how a client stood all through a request, given how it stood at the
// beginning.
func (s standing) through(since standing) state {
	if s != since {
		return changing
	}
	return s.is
}

// Instance is where a server listens, as host:port.
type Instance struct{ Public, Internal string }

// Config is what a World is made of.
type Config struct {
	OwnerURL  string // of the database
	Issuer    string
	Resource  string // that all Services are granted
	CallURL   string // a URL of the resource's API
	Services  []*Client
	Gateway   *Client // fronts the resource
	Instances []Instance
	// CutOff says that servers are killed: a request may find nobody, or be left
	// without an answer.
	CutOff bool
}

// World is a server of one or more instances, and what its clients know.
type World struct {
	Config
	t       testing.TB
	http    *http.Client
	checker *dpopbind.Checker
	toToken dpopbind.Target
	toCall  dpopbind.Target

	mu       sync.Mutex
	tries    []*try  // since the last Replay
	old      []*try  // accepted ones from before
	held     []*held // tokens that clients were handed
	accepted map[[32]byte]bool
	// What was spent for anything else than a token: proofs of calls, assertions of
	// revocations. Of those that are unsure nobody was told, or not yet of those that
	// are under way.
	spentElse, unsure, underWay int
	answers                     map[int]int
	slowest                     time.Duration
	broken                      int // complaints so far
}

// New makes a World. What its clients find wrong is an error of t at once.
func New(t testing.TB, c Config) *World {
	t.Helper()
	w := &World{Config: c, t: t, accepted: map[[32]byte]bool{}, answers: map[int]int{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	w.http = &http.Client{Transport: transport, Timeout: Bound}
	var err error
	// Of proofs of its own making it wants the names alone.
	if w.checker, err = dpopbind.NewChecker(dpopbind.CheckerConfig{Lifetime: 10 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	if w.toToken, err = dpopbind.NewTarget(http.MethodPost, c.Issuer+pathToken); err != nil {
		t.Fatal(err)
	}
	if w.toCall, err = dpopbind.NewTarget(callMethod, c.CallURL); err != nil {
		t.Fatal(err)
	}
	return w
}

// maxComplaints keeps a server that is broken throughout from filling the output.
const maxComplaints = 20

// spending notes that something else than a token is asked for, which spends
// something; spent, how that was answered.
func (w *World) spending() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.underWay++
}

func (w *World) spent(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.underWay--
	switch {
	case status == http.StatusOK:
		w.spentElse++
	case !refused(status):
		w.unsure++
	}
}

// refused tells whether an answer says that nothing was done: to who fails often a
// server may say so by 429.
func refused(status int) bool { return status >= 400 && status < 500 }

// CloseIdle closes the clients' connections that no request is on.
func (w *World) CloseIdle() { w.http.CloseIdleConnections() }

// complain reports what must not be.
func (w *World) complain(format string, args ...any) {
	w.mu.Lock()
	w.broken++
	n := w.broken
	w.mu.Unlock()
	if n <= maxComplaints {
		w.t.Errorf(format, args...)
	}
}

// Issued is how many tokens clients were handed so far.
func (w *World) Issued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.held)
}

// Answers is how many requests were answered by each status; 0 is no answer.
func (w *World) Answers() map[int]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[int]int{}
	for status, n := range w.answers {
		all[status] = n
	}
	return all
}

// Await returns when it is so, and fails the test where it does not become so.
func (w *World) Await(what string, so func() bool) {
	w.t.Helper()
	if err := w.await(so); err != nil {
		w.t.Fatalf("waiting for %s: %v", what, err)
	}
}

func (w *World) await(so func() bool) error {
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not come within %s", patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// Slowest is how long the slowest request took to be answered.
func (w *World) Slowest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slowest
}
