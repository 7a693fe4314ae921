package behaviour

import (
	"net/netip"
	"strings"
)

// A table is what a client has shown of one thing: its keys, its networks. Whoever has
// the client's credentials may show any number: it is bounded, and what raised an alert
// is what goes first.
type table struct {
	entries []entry
	cap     int
	// fresh is on how many days something new was shown, in thousandths, and falls by
	// half in some weeks: where it is high, the next new one is nothing strange. A new
	// client's first day counts, so that falling is its time of learning too.
	fresh int64
	keep  int64 // what is left of fresh after a day, of 1024
	day   int64 // the last that was counted in fresh
}

// A day's share of a half-life, of 1024.
const (
	halvesIn14Days = 975
	halvesIn21Days = 991
	halvesIn30Days = 1001
)

// entry is one that was shown. Times are Unix seconds.
type entry struct {
	name        string
	first, last int64
	// weight is how often, in sixteenths, less a 32nd a day.
	weight int64
	// marked is until when it is not normal, since it raised an alert; 0: it is normal.
	marked int64

	// Of a key alone:
	net      netip.Prefix // it was used from at last
	hops     int64        // how often it changed between networks, weighed as weight is
	enrolled bool         // an operator or an enrolled key has vouched for it
	outlived bool         // a new version of the client's program goes on using it
	agent    int64        // a hash of the program that it was used by first; 0: none
}

const oneUse = 16

// markedFor is how long what raised an alert is not taken for normal.
const markedFor = 7 * day

// find is the entry of a name; nil: there is none.
func (t *table) find(name string) *entry {
	for i := range t.entries {
		if t.entries[i].name == name {
			return &t.entries[i]
		}
	}
	return nil
}

// use notes that e was shown again.
func (t *table) use(e *entry, at, times int64) {
	e.last = max(e.last, at)
	e.weight = min(e.weight+oneUse*times, 1<<40)
	if e.marked != 0 && at >= e.marked {
		e.marked = 0
		t.novel(at)
	}
}

// add makes an entry, in the place of another where there are too many; the returned
// pointer holds until the next add. What went is dropped.
func (t *table) add(name string, at, times int64) (e *entry, dropped entry) {
	made := entry{name: name, first: at, last: at, weight: oneUse * times}
	if len(t.entries) < t.cap {
		t.entries = append(t.entries, made)
		return &t.entries[len(t.entries)-1], entry{}
	}
	at0 := 0
	for i := range t.entries {
		if t.entries[i].before(&t.entries[at0]) {
			at0 = i
		}
	}
	dropped, t.entries[at0] = t.entries[at0], made
	return &t.entries[at0], dropped
}

// before tells which of two leaves first: one that raised an alert, so that a flood of
// them drives out no other; then the one that was not used for longer.
func (e *entry) before(f *entry) bool {
	if (e.marked != 0) != (f.marked != 0) {
		return e.marked != 0
	}
	return e.last < f.last
}

// novel counts today as a day that brought something new.
func (t *table) novel(at int64) {
	if today := at / day; t.day != today {
		t.day = today
		t.fresh = min(t.fresh+1000, 20_000)
	}
}

// known tells whether a name is normal.
func (t *table) known(name string) bool {
	e := t.find(name)
	return e != nil && e.marked == 0
}

// age lets days pass.
func (t *table) age(days int64) {
	for range days {
		t.fresh = t.fresh * t.keep / 1024
		for i := range t.entries {
			t.entries[i].weight -= t.entries[i].weight / 32
			t.entries[i].hops -= t.entries[i].hops / 32
		}
	}
}

// forget drops what was not shown for a long time.
func (t *table) forget(before int64) {
	kept := t.entries[:0]
	for _, e := range t.entries {
		if e.last >= before {
			kept = append(kept, e)
		}
	}
	clear(t.entries[len(kept):])
	t.entries = kept
}

// normal counts the entries that are.
func (t *table) normal() (n int) {
	for i := range t.entries {
		if t.entries[i].marked == 0 {
			n++
		}
	}
	return n
}

// firstMarked is the first of those that raised alerts; nil: there is none.
func (t *table) firstMarked() (first *entry) {
	for i := range t.entries {
		if e := &t.entries[i]; e.marked != 0 && (first == nil || e.first < first.first) {
			first = e
		}
	}
	return first
}

// unmark takes for normal what raised an alert long enough ago, seen again or not.
func (t *table) unmark(at int64) {
	for i := range t.entries {
		if e := &t.entries[i]; e.marked != 0 && at >= e.marked {
			e.marked = 0
			t.novel(at)
		}
	}
}

// newest is when the last normal entry came.
func (t *table) newest() (at int64) {
	for i := range t.entries {
		if t.entries[i].marked == 0 {
			at = max(at, t.entries[i].first)
		}
	}
	return at
}

// Names of keys that were in a table and had to leave it: enough of each that nobody
// finds another key that begins so.
const (
	prefixLen  = 11 // of base64url: 66 bits of SHA-256
	oldKeysMax = 64
)

type oldKey struct {
	prefix string
	last   int64
}

// oldKeys are bounded too, and the one that was not shown for longest leaves.
type oldKeys []oldKey

func (o oldKeys) find(jkt string) *oldKey {
	for i := range o {
		if strings.HasPrefix(jkt, o[i].prefix) {
			return &o[i]
		}
	}
	return nil
}

func (o *oldKeys) add(jkt string, last int64) {
	if len(jkt) < prefixLen {
		return
	}
	made := oldKey{jkt[:prefixLen], last}
	if len(*o) < oldKeysMax {
		*o = append(*o, made)
		return
	}
	oldest := 0
	for i := range *o {
		if (*o)[i].last < (*o)[oldest].last {
			oldest = i
		}
	}
	(*o)[oldest] = made
}

func (o *oldKeys) drop(k *oldKey) {
	for i := range *o {
		if &(*o)[i] == k {
			*o = append((*o)[:i], (*o)[i+1:]...)
			return
		}
	}
}
