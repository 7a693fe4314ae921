// Package allowance counts what may happen to many, each only so often: an allowance
// that is used up comes back with time. It takes the same memory whatever comes, and
// whoever chooses the names cannot choose whom they displace.
package allowance

import (
	"hash/maphash"
	"sync"
	"time"
)

// Table keeps an allowance for each of the names that were seen last. It is made by New
// and safe for concurrent use.
type Table struct {
	seed  maphash.Seed
	begun time.Time

	mu   sync.Mutex
	rows [][ways]entry
}

// ways is how many names share a row; the one that was seen longest ago makes room.
const ways = 8

// entry is of one name. Times are since the table was begun.
type entry struct {
	name  uint64        // a keyed hash; 0: none
	full  time.Duration // when the whole allowance will be back
	seen  time.Duration
	noted time.Duration // when Use last said so
	times int64         // over the allowance since then
}

// New makes a Table for about as many names. What has not been seen for long may be
// forgotten: then it has its whole allowance.
func New(names int) *Table {
	// Nothing is seen at 0, which is of entries that are empty.
	return &Table{seed: maphash.MakeSeed(), begun: time.Now().Add(-time.Second), rows: make([][ways]entry, max(1, names/ways))}
}

// Allowance is how often something may happen: Burst times at once, and once more after
// each Interval.
type Allowance struct {
	Burst    int
	Interval time.Duration
}

// Of is the allowance of this many in a minute, all of them at once.
func Of(aMinute int) Allowance {
	return Allowance{Burst: aMinute, Interval: time.Minute / time.Duration(aMinute)}
}

func (a Allowance) whole() time.Duration { return time.Duration(a.Burst) * a.Interval }

// noteEvery is how often Use says that an allowance is used up.
const noteEvery = time.Minute

// Use takes one off a name's allowance. Over is whether it was used up already; times is
// then, once in a minute, how often that was since it was last said, and 0 otherwise.
func (t *Table) Use(name string, a Allowance) (over bool, times int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, now := t.find(name)
	left := max(e.full, now)
	if left-now+a.Interval <= a.whole() {
		e.full = left + a.Interval
		return false, 0
	}
	e.times++
	if e.noted != 0 && now-e.noted < noteEvery {
		return true, 0
	}
	times, e.times, e.noted = e.times, 0, now
	return true, times
}

// Low tells whether more than half of a name's allowance is used up.
func (t *Table) Low(name string, a Allowance) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	hash := t.hash(name)
	now := time.Since(t.begun)
	for _, e := range t.row(hash) {
		if e.name == hash {
			return e.full-now > a.whole()/2
		}
	}
	return false
}

// Mark has the table know a name.
func (t *Table) Mark(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.find(name)
}

// Knows tells whether it does still.
func (t *Table) Knows(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	hash := t.hash(name)
	for _, e := range t.row(hash) {
		if e.name == hash {
			return true
		}
	}
	return false
}

// find returns a name's entry, which may displace another.
func (t *Table) find(name string) (*entry, time.Duration) {
	hash := t.hash(name)
	now := time.Since(t.begun)
	row := t.row(hash)
	oldest := &row[0]
	for i := range row {
		if e := &row[i]; e.name == hash {
			e.seen = now
			return e, now
		} else if e.seen < oldest.seen {
			oldest = e
		}
	}
	*oldest = entry{name: hash, seen: now}
	return oldest, now
}

func (t *Table) hash(name string) uint64 { return max(1, maphash.String(t.seed, name)) }

func (t *Table) row(hash uint64) *[ways]entry { return &t.rows[hash%uint64(len(t.rows))] }
