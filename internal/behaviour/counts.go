package behaviour

import "math"

// Seconds.
const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// minutes counts what happened in each of the last sixteen minutes.
type minutes struct {
	at int64 // the latest minute
	n  [16]uint32
}

// add counts n at a moment; what is too late to matter is not counted.
func (m *minutes) add(at, n int64) {
	m.advance(at / minute)
	if behind := m.at - at/minute; behind < int64(len(m.n)) {
		i := (at / minute) & 15
		m.n[i] = sum32(m.n[i], n)
	}
}

func (m *minutes) advance(to int64) {
	if to-m.at >= int64(len(m.n)) {
		m.n = [16]uint32{}
		m.at = to
	}
	for m.at < to {
		m.at++
		m.n[m.at&15] = 0
	}
}

// last is how many there were in the last minutes, the one that runs included.
func (m *minutes) last(minutes int64) (n int64) {
	for i := range minutes {
		n += int64(m.n[(m.at-i)&15])
	}
	return n
}

// sum32 does not overflow.
func sum32(a uint32, n int64) uint32 {
	return uint32(min(int64(a)+n, math.MaxUint32))
}

const hoursOfWeek = 168

// hourOfWeek is 0 for Monday from 00:00 to 01:00 UTC.
func hourOfWeek(h int64) int { return int((h + 3*24) % hoursOfWeek) } // 1970 began on a Thursday

// hours is what each hour of the week is usually like, and what the last ones were.
type hours struct {
	at      int64               // the hour that runs, since 1970
	closed  int64               // how many hours have been learned from
	usual   [hoursOfWeek]uint8  // tokens, as quantised: see quantum
	issued  [hoursOfWeek]uint32 // by hour modulo 168
	refused [hoursOfWeek]uint32
}

// maxHourly is what an hour's count is kept as at most.
const maxHourly = 1<<21 - 1

// add counts at an hour, unless that is more than a week ago.
func (h *hours) add(at int64, issued, refused int64) {
	if which := at / hour; which <= h.at && h.at-which < hoursOfWeek {
		i := which % hoursOfWeek
		h.issued[i] = min(sum32(h.issued[i], issued), maxHourly)
		h.refused[i] = min(sum32(h.refused[i], refused), maxHourly)
	}
}

// advance closes the hours before to, and learns from them.
func (h *hours) advance(to int64) {
	// After two weeks of silence each cell has been told of it.
	h.at = max(h.at, to-2*hoursOfWeek)
	for ; h.at < to; h.at++ {
		h.learn(hourOfWeek(h.at), float64(h.issued[h.at%hoursOfWeek]))
		next := (h.at + 1) % hoursOfWeek
		h.issued[next], h.refused[next] = 0, 0
	}
}

func (h *hours) learn(cell int, n float64) {
	h.closed = min(h.closed+1, 1<<30)
	share := 0.3
	if h.closed <= hoursOfWeek {
		share = 1
	} else if h.closed <= 2*hoursOfWeek {
		share = 0.5
	}
	was := unquantised(h.usual[cell])
	h.usual[cell] = quantised(was + share*(n-was))
}

// usually is what an hour has, or the one before or after it: clocks are put forward,
// and jobs begin a little late.
func (h *hours) usually(which int64) float64 {
	most := uint8(0)
	for d := int64(-1); d <= 1; d++ {
		most = max(most, h.usual[hourOfWeek(which+d)])
	}
	return unquantised(most)
}

// A number is kept as twelve steps for each doubling, from 0 to two millions.
const stepsADoubling = 12

func quantised(n float64) uint8 {
	return uint8(min(math.Round(stepsADoubling*math.Log2(1+max(n, 0))), 255))
}

func unquantised(q uint8) float64 { return math.Exp2(float64(q)/stepsADoubling) - 1 }

// peaks are the highest counts of each of the last days on which there were any. A day
// counts once it is over, and raises what was by half at most: who has the credentials
// for an hour teaches nothing, and who has them for a week does it in steps that are
// alerts themselves.
type peaks struct {
	days  []uint32 // the latest last
	today uint32
}

const peakDays = 14

func (p *peaks) note(n int64) { p.today = max(p.today, sum32(0, n)) }

func (p *peaks) highest() (n int64) {
	for _, d := range p.days {
		n = max(n, int64(d))
	}
	return n
}

// learned is how many days it has to go by before it lets nobody raise it at will.
const learned = 5

func (p *peaks) close(floor int64) {
	n := p.today
	if len(p.days) >= learned {
		n = uint32(min(int64(n), max(floor, p.highest()*3/2)))
	}
	if len(p.days) == peakDays {
		copy(p.days, p.days[1:])
		p.days = p.days[:peakDays-1]
	}
	p.days = append(p.days, n)
	p.today = 0
}
