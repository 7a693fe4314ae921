package audittrail

import (
	"fmt"
	"time"

	"github.com/cargokey/authz/authz"
)

// dayCheck makes the digests of a day's seals anew, of its events one by one.
type dayCheck struct {
	*verification
	day      *Day
	digester *digester
	breaks   []Break

	seals        []authz.TrailSeal // those that are left, the one at hand first
	found        int               // events of the seal at hand
	since, until time.Time         // of those

	stray, placeless span // events that no seal is over, and that one should be
}

// span is of events that are where they should not be.
type span struct {
	n            int
	after, upto  authz.TrailPosition
	since, until time.Time
}

func (s *span) add(e authz.TrailEvent) {
	if s.n == 0 {
		s.after, s.since, s.until = e.Position, e.At, e.At
	}
	s.n++
	s.upto = e.Position
	s.since, s.until = earlier(s.since, e.At), later(s.until, e.At)
}

// begin begins with the next seal.
func (c *dayCheck) begin() {
	c.found, c.since, c.until = 0, time.Time{}, time.Time{}
	if len(c.seals) > 0 {
		c.digester.begin(c.seals[0])
	}
}

func (c *dayCheck) event(e authz.TrailEvent) {
	if e.Position == (authz.TrailPosition{}) {
		c.withoutPlace(e)
		return
	}
	for len(c.seals) > 0 && e.Position.Compare(c.seals[0].Upto) > 0 {
		c.next()
	}
	switch {
	case len(c.seals) > 0 && e.Position.Compare(c.seals[0].From) > 0:
		if c.found == 0 {
			c.since, c.until = e.At, e.At
		}
		c.found++
		c.since, c.until = earlier(c.since, e.At), later(c.until, e.At)
		c.digester.event(e)
	case c.last.Number > 0 && e.Position.Compare(c.last.Upto) <= 0, e.Position.Compare(c.record.SealedUpto) <= 0:
		c.stray.add(e)
	default:
		c.day.Open++
	}
}

// withoutPlace takes an event from before events had places, if it is from then: later,
// the database gives each one.
func (c *dayCheck) withoutPlace(e authz.TrailEvent) {
	if c.record.DroppedSeal > 0 || e.At.After(c.record.PlacesSince.Add(clocks)) || c.first.Number > 0 && c.day.Day > c.first.Day {
		c.placeless.add(e)
		return
	}
	c.day.Before++
}

// next compares the seal at hand with the events that were found.
func (c *dayCheck) next() {
	s := c.seals[0]
	if c.digester.sum() != s.Digest {
		b := Break{Seal: s.Number, After: s.From.String(), Upto: s.Upto.String(), Reason: c.difference(s)}
		if c.found > 0 {
			b.Since, b.Until = moment(c.since), moment(c.until)
		}
		c.breaks = append(c.breaks, b)
	}
	c.seals = c.seals[1:]
	c.begin()
}

func (c *dayCheck) difference(s authz.TrailSeal) string {
	switch {
	case c.found < s.Events:
		return fmt.Sprintf("%d of its %d events are missing", s.Events-c.found, s.Events)
	case c.found > s.Events:
		return fmt.Sprintf("%d events were added to its %d", c.found-s.Events, s.Events)
	default:
		return fmt.Sprintf("of its %d events one or more were changed, or the seal was", s.Events)
	}
}

func (c *dayCheck) end() {
	for len(c.seals) > 0 {
		c.next()
	}
	for reason, s := range map[string]span{
		"%d events were added where no seal of the day is over":     c.stray,
		"%d events were added without a place, as none is any more": c.placeless,
	} {
		if s.n > 0 {
			b := Break{Reason: fmt.Sprintf(reason, s.n), Since: moment(s.since), Until: moment(s.until)}
			if s.upto != (authz.TrailPosition{}) {
				b.After, b.Upto = s.after.String(), s.upto.String()
			}
			c.breaks = append(c.breaks, b)
		}
	}
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
