package behaviour

import (
	"math"
	"time"
)

// clock is how a client's clock stands against the server's, by the offset of its
// proofs: how far the server's clock is past their iat, in milliseconds. A proof is
// refused below -ClockSkew and above ProofLifetime + ClockSkew; what lies between 0 and
// either is the room that a clock has, in sixteenths.
//
// Where several processes share a client, one of them may drift and the others not: so
// it is not the middle that is watched but both edges. An edge has reached a sixteenth
// when three proofs, a quarter of an hour apart each, were beyond it and not too many
// others lay between them: a single late request is no drift. A clock that drifts
// reaches one sixteenth after another; one that stands wrong, or was set, has none to
// come.
type clock struct {
	seen      bool
	median    int64    // moves by a small step towards each sample
	low, high [2]int64 // of today and of the day before
	edges     [2]edge  // behind the server's clock, and ahead of it
}

const sixteenths = 16

type edge struct {
	reached [sixteenths]reach
	raised  int64 // the highest sixteenth that an alert told of
}

type reach struct {
	first, last int64 // Unix seconds of the touches; 0: none
	touches     int64
	others      int64 // samples since, that did not touch it
}

// How far apart touches are to count, how many it takes, and what ends a row of them.
const (
	touchApart   = 15 * minute
	touchesTake  = 3
	touchOthers  = 30
	touchForgets = 4 * hour
)

func (r *reach) confirmed() bool { return r.touches >= touchesTake }

func (r *reach) touch(at int64) {
	r.others = 0
	switch {
	case r.touches == 0:
		r.first, r.last, r.touches = at, at, 1
	case at-r.last >= touchApart:
		r.last, r.touches = at, min(r.touches+1, 1000)
	}
}

func (r *reach) miss(at int64) {
	if r.touches == 0 {
		return
	}
	if r.others++; r.others > touchOthers && at-r.last > touchForgets {
		*r = reach{}
	}
}

// sample learns an offset.
func (c *clock) sample(at int64, offset time.Duration, room [2]time.Duration) {
	off := max(min(offset, time.Hour), -time.Hour).Milliseconds()
	if !c.seen {
		c.seen, c.median = true, off
		c.low, c.high = [2]int64{off, off}, [2]int64{off, off}
	}
	step := max((off-c.median)/64, -500)
	switch {
	case off > c.median:
		c.median += max(min(step, 500), 1)
	case off < c.median:
		c.median += min(step, -1)
	}
	c.low[0], c.high[0] = min(c.low[0], off), max(c.high[0], off)
	for side, width := range room {
		beyond := off
		if side == 1 {
			beyond = -off
		}
		c.edges[side].sample(at, beyond*sixteenths, max(width.Milliseconds(), 1))
	}
}

func (e *edge) sample(at, beyond, width int64) {
	if beyond < width && e.reached[0].touches == 0 { // by far the most
		return
	}
	for q := range int64(sixteenths) {
		if beyond >= (q+1)*width {
			e.reached[q].touch(at)
		} else {
			e.reached[q].miss(at)
		}
	}
	if level := e.level(); level < e.raised-2 {
		e.raised = 0
	}
}

// level is how many sixteenths of its room an edge has used.
func (e *edge) level() (n int64) {
	for n < sixteenths && e.reached[n].confirmed() {
		n++
	}
	return n
}

// passDay begins another day.
func (c *clock) passDay() {
	c.low, c.high = [2]int64{c.median, c.low[0]}, [2]int64{c.median, c.high[0]}
}

// drift is what an edge says: the level that it has reached, and how long it is at the
// same pace until proofs are refused.
type drift struct {
	level int64
	from  int64 // the sixteenth that it was within before
	since int64 // Unix seconds: of the first sixteenth that counts
	left  time.Duration
	pace  float64 // sixteenths an hour
}

// Below driftFrom sixteenths there is time; what is further off than driftWithin is told
// of later.
const (
	driftFrom   = 5
	driftUrgent = 12
	driftWithin = 14 * 24 * time.Hour
)

// drifting tells whether an edge moves on towards the end of its room.
func (e *edge) drifting() (d drift, ok bool) {
	d.level = e.level()
	if d.level < driftFrom {
		return d, false
	}
	// From the sixteenth below which the clock stood all the time, on.
	from, distinct := d.level-1, 1
	for q := d.level - 2; q >= 0; q-- {
		if apart := e.reached[q+1].first - e.reached[q].first; apart >= 5*minute {
			from, distinct = q, distinct+1
		} else if apart < 0 {
			break
		}
	}
	if distinct < 3 {
		return d, false
	}
	d.from, d.since = from, e.reached[from].first
	hours := float64(e.reached[d.level-1].first-d.since) / hour
	if hours < 0.5 {
		return d, false
	}
	d.pace = float64(d.level-1-from) / hours
	d.left = time.Duration(min(float64(sixteenths-d.level)/d.pace*float64(time.Hour), math.MaxInt64/2))
	return d, d.left <= driftWithin
}
