package dpopbind

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Replay spends proofs, so that each is accepted once (RFC 9449 §11.1).
//
// Spend records the name of a proof (Proof.SpendKey) and reports whether it was
// the first to do so: of any number of calls with one key, on all instances that
// share the Replay, exactly one gets true until the moment until has passed.
// After it the key may be forgotten, since the proof is not accepted any more.
// issuedAt is the proof's iat and helps a store that is divided by time; equal
// proofs have equal ones.
//
// An error means that it could not be told, because the store is unreachable or
// full. The caller refuses then: a replay that is not looked for is one that is
// let through.
type Replay interface {
	Spend(ctx context.Context, key [32]byte, issuedAt, until time.Time) (first bool, err error)
}

// Spend spends the proof in r. Its error is a *ProofError with CheckReplay for a
// proof that was spent before, and wraps r's error where that could not tell.
func (p *Proof) Spend(ctx context.Context, r Replay) error {
	first, err := r.Spend(ctx, p.SpendKey(), p.IssuedAt(), p.AcceptedUntil())
	if err != nil {
		return &ReplayUnknownError{cause: err}
	}
	if !first {
		return refuse(CheckReplay, "jti: this proof was used before; make a new proof, with a new jti, for each request")
	}
	return nil
}

// ReplayUnknownError says that a Replay could not tell whether a proof was
// spent before. The request is refused, as a failure of the server's (503).
type ReplayUnknownError struct{ cause error }

func (e *ReplayUnknownError) Error() string {
	return "dpopbind: spending the proof: " + e.cause.Error()
}

// Unwrap is the Replay's error.
func (e *ReplayUnknownError) Unwrap() error { return e.cause }

// ErrReplayFull is returned by a MemoryReplay that holds as many live keys as it
// may: forgetting one of them would let its proof be replayed.
var ErrReplayFull = errors.New("dpopbind: the replay memory is full")

// DefaultReplaySize is how many keys a MemoryReplay holds: some 100 MB of them.
const DefaultReplaySize = 1 << 20

// spendGrace is how long a MemoryReplay remembers a key beyond until: a proof
// that was checked in time may be spent a while later.
const spendGrace = time.Minute

// MemoryReplay is a Replay in the memory of one process, for a resource server
// that runs alone: a second instance does not know what the first has spent.
// Nor does it know what a process before it has spent: within their lifetime,
// proofs can be replayed once after a restart, unless nonces with a secret of the
// process's own keep them out. It is safe for concurrent use.
type MemoryReplay struct {
	now   func() time.Time
	start time.Time
	size  int

	mu sync.Mutex
	// Keys lie in the bucket of the second, since start, by which all of it may
	// be forgotten, so that forgetting is dropping a bucket. Seconds are counted
	// by the monotonic clock, where now has one: a wall clock that jumps ahead
	// and back must not make a spent proof acceptable again.
	spent   map[[32]byte]int64
	buckets map[int64][][32]byte
	swept   int64 // all buckets before this second are gone
}

// NewMemoryReplay makes one that holds size keys at most; 0 means
// DefaultReplaySize. now is the clock of the Checker; nil means time.Now.
func NewMemoryReplay(size int, now func() time.Time) *MemoryReplay {
	if size <= 0 {
		size = DefaultReplaySize
	}
	if now == nil {
		now = time.Now
	}
	return &MemoryReplay{now: now, start: now(), size: size, spent: map[[32]byte]int64{}, buckets: map[int64][][32]byte{}}
}

// Spend is Replay's. It fails with ErrReplayFull.
func (m *MemoryReplay) Spend(_ context.Context, key [32]byte, _, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	elapsed := now.Sub(m.start)
	m.sweep(int64(elapsed / time.Second))
	// A bucket ends when the last of its proofs has.
	end := int64((elapsed+until.Sub(now)+spendGrace)/time.Second) + 1
	if kept, ok := m.spent[key]; ok {
		// The same name in a later proof: sweep moves it to the later bucket.
		m.spent[key] = max(kept, end)
		return false, nil
	}
	if len(m.spent) >= m.size {
		return false, ErrReplayFull
	}
	m.spent[key] = end
	m.buckets[end] = append(m.buckets[end], key)
	return true, nil
}

// sweep forgets the buckets that have ended. A clock that is set back makes
// them last longer, never shorter.
func (m *MemoryReplay) sweep(now int64) {
	if now <= m.swept {
		return
	}
	m.swept = now
	for end, keys := range m.buckets {
		if end >= now {
			continue
		}
		for _, key := range keys {
			if kept := m.spent[key]; kept >= now {
				m.buckets[kept] = append(m.buckets[kept], key)
			} else {
				delete(m.spent, key)
			}
		}
		delete(m.buckets, end)
	}
}
