package behaviour

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// version is of what a baseline and a fleet are kept as. Another one is not read: what
// is kept then is learned anew.
const version = 1

// errNotKept is of what is not as MarshalJSON writes it.
var errNotKept = errors.New("behaviour: not a baseline as it is kept")

// kept is a Baseline as JSON. Numbers of which there are many are in base 36, or bytes.
type kept struct {
	Version int               `json:"version"`
	Since   int64             `json:"since"` // Unix seconds
	Last    int64             `json:"last"`
	State   string            `json:"state"`
	Tables  map[string]string `json:"tables,omitempty"`
	Keys    string            `json:"old_keys,omitempty"`
	Usual   []byte            `json:"usual_hours,omitempty"`
	Week    []byte            `json:"last_week,omitempty"`
	Counts  string            `json:"counts,omitempty"`
	Clock   string            `json:"clock,omitempty"`
	Raised  string            `json:"raised,omitempty"`
}

var tableNames = [...]string{"keys", "networks", "areas", "scopes", "resources", "credentials", "user_agents"}

// MarshalJSON writes all of b but ClientID: 9 kB at most, 3 kB as a rule.
func (b *Baseline) MarshalJSON() ([]byte, error) {
	k := kept{Version: version, Since: b.Since.Unix(), Last: b.now, Tables: map[string]string{}}
	var w writer
	w.put(b.late, b.issuedAt, b.activeDays, b.longest, b.changedAt, b.owned)
	k.State = w.take()
	for i, t := range b.tables() {
		if text := t.encode(); text != "" {
			k.Tables[tableNames[i]] = text
		}
	}
	for _, o := range b.oldKeys {
		w.put(o.last)
		w.text(o.prefix)
	}
	k.Keys = w.take()
	k.Usual, k.Week = b.hours.encode()
	b.eachCount(&w)
	k.Counts = w.take()
	b.clock.each(&w)
	k.Clock = w.take()
	for i := range b.raised {
		for j := range b.raised[i].recent {
			w.putIn(&b.raised[i].recent[j].at)
			if b.raised[i].recent[j].at != 0 {
				subject := int64(b.raised[i].recent[j].subject)
				w.putIn(&subject)
			}
		}
	}
	k.Raised = w.take()
	return json.Marshal(k)
}

// UnmarshalJSON reads what MarshalJSON has written, and refuses what it never writes.
func (b *Baseline) UnmarshalJSON(text []byte) error {
	var k kept
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	if k.Version != version || k.Last < 0 || k.Last > maxMoment || k.Since < 0 || k.Since > maxMoment {
		return errNotKept
	}
	made := Baseline{ClientID: b.ClientID, Since: unix(k.Since)}
	made.touch(k.Last)
	made.limits()
	r := reader{left: k.State}
	r.get(&made.late, &made.issuedAt, &made.activeDays, &made.longest, &made.changedAt, &made.owned)
	r.end()
	for i, t := range made.tables() {
		t.decode(k.Tables[tableNames[i]], &r)
		delete(k.Tables, tableNames[i])
	}
	for r.left = k.Keys; r.left != "" && !r.bad; {
		var o oldKey
		r.get(&o.last)
		o.prefix = r.text()
		r.bad = r.bad || len(o.prefix) != prefixLen || len(made.oldKeys) == oldKeysMax
		made.oldKeys = append(made.oldKeys, o)
	}
	made.hours.at = k.Last / hour
	r.bad = !made.hours.decode(k.Usual, k.Week) || r.bad
	r.left = k.Counts
	made.eachCount(&r)
	r.end()
	r.left = k.Clock
	made.clock.each(&r)
	r.end()
	r.left = k.Raised
	for i := range made.raised {
		for j := range made.raised[i].recent {
			of := &made.raised[i].recent[j]
			r.putIn(&of.at)
			if of.at != 0 {
				var subject int64
				r.anyInt(&subject)
				of.subject = uint64(subject)
			}
		}
	}
	r.end()
	if r.bad || len(k.Tables) != 0 {
		return errNotKept
	}
	*b = made
	return nil
}

// maxMoment is the year 9999.
const maxMoment = 253402300799

// field writes or reads a number in its place.
type field interface {
	putIn(*int64)
}

// writer writes numbers in base 36, and texts, with spaces between; what ends in zeros
// ends before them.
type writer struct{ b []byte }

func (w *writer) put(numbers ...int64) {
	for i := range numbers {
		w.putIn(&numbers[i])
	}
}

func (w *writer) putIn(n *int64) { w.b = append(strconv.AppendInt(w.b, *n, 36), ' ') }

func (w *writer) text(s string) { w.b = append(append(w.b, s...), ' ') }

func (w *writer) take() string {
	s := strings.TrimSuffix(string(w.b), " ")
	w.b = w.b[:0]
	for strings.HasSuffix(s, " 0") {
		s = s[:len(s)-2]
	}
	return s
}

func base36(n int64) string { return strconv.FormatInt(n, 36) }

// reader reads what a writer wrote. No number that is kept is below zero but offsets.
type reader struct {
	left string
	bad  bool
}

func (r *reader) word() (string, bool) {
	if r.left == "" {
		return "", false
	}
	word, rest, _ := strings.Cut(r.left, " ")
	r.left = rest
	return word, true
}

func (r *reader) anyInt(n *int64) {
	word, ok := r.word()
	if !ok {
		*n = 0
		return
	}
	v, err := strconv.ParseInt(word, 36, 64)
	if err != nil {
		r.bad = true
	}
	*n = v
}

func (r *reader) putIn(n *int64) {
	r.anyInt(n)
	if *n < -(1<<42) || *n > 1<<42 {
		r.bad, *n = true, 0
	}
}

func (r *reader) get(numbers ...*int64) {
	for _, n := range numbers {
		r.putIn(n)
		r.bad = r.bad || *n < 0
	}
}

func (r *reader) text() string {
	word, _ := r.word()
	return word
}

func (r *reader) end() { r.bad = r.bad || r.left != "" }

// encode is "fresh day" and a line for each entry: numbers, and last the name.
func (t *table) encode() string {
	var w writer
	w.put(t.fresh, t.day)
	for i := range t.entries {
		e := &t.entries[i]
		w.b = append(w.b[:len(w.b)-1], '\n')
		flags := int64(0)
		if e.enrolled {
			flags |= 1
		}
		if e.outlived {
			flags |= 2
		}
		w.put(e.last, e.last-e.first, e.weight, e.marked, flags, e.hops, e.agent)
		if e.net.IsValid() {
			w.text(e.net.String())
		} else {
			w.text("-")
		}
		w.text(e.name)
	}
	s := string(w.b[:len(w.b)-1])
	if s == "0 0" {
		return ""
	}
	return s
}

func (t *table) decode(text string, r *reader) {
	if text == "" {
		return
	}
	rows := strings.Split(text, "\n")
	r.left = rows[0]
	r.get(&t.fresh, &t.day)
	r.end()
	if len(rows)-1 > t.cap {
		r.bad = true
		return
	}
	for _, row := range rows[1:] {
		var e entry
		var age, flags int64
		r.left = row
		r.get(&e.last, &age, &e.weight, &e.marked, &flags, &e.hops, &e.agent)
		e.first, e.enrolled, e.outlived = e.last-age, flags&1 != 0, flags&2 != 0
		if net := r.text(); net != "-" {
			p, err := netip.ParsePrefix(net)
			r.bad = r.bad || err != nil || p.String() != net
			e.net = p
		}
		e.name, r.left = r.left, ""
		r.bad = r.bad || e.name == "" || flags > 3 || e.first < 0 || e.last > maxMoment || t.find(e.name) != nil || !utf8.ValidString(e.name)
		t.entries = append(t.entries, e)
	}
}

func (h *hours) encode() (usual, week []byte) {
	week = binary.AppendUvarint(nil, uint64(h.closed))
	if h.closed > 0 {
		usual = h.usual[:]
	}
	for i := range int64(hoursOfWeek) {
		at := max(h.at-i, 0) % hoursOfWeek
		week = binary.AppendUvarint(week, uint64(h.issued[at]))
		week = binary.AppendUvarint(week, uint64(h.refused[at]))
	}
	return usual, bytes.TrimRight(week, "\x00")
}

func (h *hours) decode(usual, week []byte) bool {
	next := func(most uint64) uint64 {
		n, size := binary.Uvarint(week)
		if len(week) == 0 {
			return 0
		}
		if size <= 0 || n > most {
			week = []byte{0x80} // never right
			return 0
		}
		week = week[size:]
		return n
	}
	h.closed = int64(next(1 << 30))
	for i := range int64(hoursOfWeek) {
		at := max(h.at-i, 0) % hoursOfWeek
		h.issued[at], h.refused[at] = uint32(next(maxHourly)), uint32(next(maxHourly))
	}
	copy(h.usual[:], usual)
	return len(week) == 0 && (len(usual) == hoursOfWeek && h.closed > 0 || len(usual) == 0 && h.closed == 0)
}

// eachCount visits the counts of minutes and days.
func (b *Baseline) eachCount(f field) {
	for _, p := range []*peaks{&b.perMinutes, &b.perHour, &b.badPeaks, &b.replayPeaks} {
		each32(f, &p.today)
		n := int64(len(p.days))
		f.putIn(&n)
		n = max(min(n, peakDays), 0)
		p.days = append(p.days, make([]uint32, int(n)-min(len(p.days), int(n)))...)
		for i := range p.days {
			each32(f, &p.days[i])
		}
	}
	for i := range b.reasons {
		each32(f, &b.reasons[i])
	}
	for _, m := range []*minutes{&b.minutes, &b.bad, &b.replays} {
		f.putIn(&m.at)
		for i := range m.n {
			each32(f, &m.n[i])
		}
	}
}

func each32(f field, n *uint32) {
	wide := int64(*n)
	f.putIn(&wide)
	*n = uint32(max(min(wide, 1<<32-1), 0))
}

// each visits the fields of a clock.
func (c *clock) each(f field) {
	seen := int64(0)
	if c.seen {
		seen = 1
	}
	for _, n := range []*int64{&seen, &c.median, &c.low[0], &c.low[1], &c.high[0], &c.high[1]} {
		f.putIn(n)
	}
	c.seen = seen == 1
	for side := range c.edges {
		e := &c.edges[side]
		f.putIn(&e.raised)
		for i := range e.reached {
			r := &e.reached[i]
			// None above one that was not touched was: what is left out is nothing.
			f.putIn(&r.touches)
			if r.touches == 0 {
				break
			}
			for _, n := range []*int64{&r.first, &r.last, &r.others} {
				f.putIn(n)
			}
		}
	}
}
