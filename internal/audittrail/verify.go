package audittrail

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cargokey/authz/authz"
)

// Reader is what Verify reads.
type Reader interface {
	// TrailRecord is what the database knows of the trail.
	TrailRecord(ctx context.Context) (authz.TrailRecord, error)
	// TrailDays are the days (2006-01-02) that there may be events of.
	TrailDays(ctx context.Context) ([]string, error)
	// EachSeal reads the seals of a day ("": all) in the order of their numbers.
	EachSeal(ctx context.Context, day string, do func(authz.TrailSeal) error) error
	// EachEventOf reads the events of a day in the order of their places, those without one
	// first.
	EachEventOf(ctx context.Context, day string, do func(authz.TrailEvent) error) error
}

// Choice says what Verify is to look at.
type Choice struct {
	// Days tells whether the events of a day (2006-01-02) are read; nil: of all. The chain
	// is looked at as a whole.
	Days func(day string) bool
	Head *Head // that must be in the chain; nil: none
}

// clocks is how far the clocks of instances may be apart: further, and the database
// takes nothing of theirs (migration 0007, hold_to_clock).
const clocks = 2 * time.Hour

// Verify makes the seals anew from the events that there are and compares. It may run
// while events are written, sealed and dropped for their age: it looks at what was sealed
// when it began. A day's seals are in memory while it is looked at, and of its events one.
func Verify(ctx context.Context, r Reader, keys Keys, c Choice) (*Report, error) {
	for {
		v := verification{reader: r, keys: keys, days: map[string]*Day{}, report: &Report{Days: []Day{}, LostKeys: map[string]int{}}}
		if err := v.verify(ctx, c); err != nil || !v.report.Broken() {
			return v.report, err
		}
		now, err := r.TrailRecord(ctx)
		if err != nil || now.DroppedSeal == v.record.DroppedSeal && now.DroppedBefore.Equal(v.record.DroppedBefore) {
			return v.report, err
		}
		// What is missing may have gone for its age meanwhile.
	}
}

func (v *verification) verify(ctx context.Context, c Choice) (err error) {
	// Before the seals: the follower has not come further than they have.
	if v.record, err = v.reader.TrailRecord(ctx); err != nil {
		return err
	}
	stored, err := v.reader.TrailDays(ctx)
	if err != nil {
		return err
	}
	if err := v.reader.EachSeal(ctx, "", func(s authz.TrailSeal) error { v.link(s, c.Head); return nil }); err != nil {
		return err
	}
	v.ends(c.Head)
	for _, day := range stored {
		v.dayOf(day)
	}
	for _, day := range slices.Sorted(maps.Keys(v.days)) {
		d := v.days[day]
		switch {
		case !slices.Contains(stored, day):
			v.gone(d)
		case c.Days != nil && !c.Days(day):
			d.State = Unchecked
		default:
			if err := v.day(ctx, d); err != nil {
				return err
			}
		}
		v.report.Days = append(v.report.Days, *d)
	}
	return nil
}

type verification struct {
	reader Reader
	keys   Keys
	record authz.TrailRecord
	report *Report
	days   map[string]*Day

	first, last authz.TrailSeal // of the chain; number 0: there is none
	newest      string          // day of the seals so far
	headFound   bool
}

func (v *verification) dayOf(day string) *Day {
	if v.days[day] == nil {
		v.days[day] = &Day{Day: day}
	}
	return v.days[day]
}

func (v *verification) breaks(format string, args ...any) {
	v.report.Breaks = append(v.report.Breaks, Break{Reason: fmt.Sprintf(format, args...)})
}

// link compares a seal with the one before it.
func (v *verification) link(s authz.TrailSeal, head *Head) {
	d := v.dayOf(s.Day)
	broken := func(reason string, args ...any) {
		d.Breaks = append(d.Breaks, Break{Seal: s.Number, After: s.From.String(), Upto: s.Upto.String(), Reason: fmt.Sprintf(reason, args...)})
	}
	number, digest, upto := v.last.Number, v.last.Digest, v.last.Upto
	if v.first.Number == 0 {
		v.first = s
		number, digest, upto = v.record.DroppedSeal, v.record.DroppedDigest, s.From
	}
	switch {
	case s.Number <= number:
		broken("its number was there before")
	case s.Number != number+1:
		broken("the seals %d to %d before it are gone, and not for their age", number+1, s.Number-1)
	case s.Previous != digest:
		broken("it does not follow the seal before it: one of the two was changed")
	case s.From == upto:
	case s.From == v.last.From && s.Upto == v.last.Upto && s.Day > v.last.Day: // of the same events' other day
	default:
		broken("it does not begin where the seal before it ends")
	}
	switch v.keys.check(s) {
	case forged:
		broken("its MAC is wrong: it was made without the sealing key")
	case unknownKey:
		v.report.LostKeys[s.MACKey]++
	}
	if v.newest != "" && daysBetween(s.Day, v.newest) >= 2 {
		d.Late += s.Events
	}
	d.Seals++
	d.Events += int64(s.Events)
	v.newest = max(v.newest, s.Day)
	v.headFound = v.headFound || head != nil && s.Number == head.Number && s.Digest == head.Digest
	v.last = s
}

// ends looks at where the chain begins and ends.
func (v *verification) ends(head *Head) {
	if v.last.Number > 0 {
		v.report.Head = &Head{v.last.Number, v.last.Digest}
	}
	switch {
	case v.last.Number == 0 && v.record.DroppedSeal == 0 && v.record.SealedUpto != (authz.TrailPosition{}):
		v.breaks("all seals are gone: the trail was sealed up to the place %s", v.record.SealedUpto)
	case v.last.Number > 0 && v.last.Upto.Compare(v.record.SealedUpto) < 0:
		v.breaks("the last seals are gone: the trail was sealed up to the place %s, and they end at %s", v.record.SealedUpto, v.last.Upto)
	}
	switch {
	case head == nil || v.headFound:
	case head.Number <= v.record.DroppedSeal:
		v.breaks("the head %s is of a seal that has gone for its age: compare a later one", head)
	case head.Number > v.last.Number:
		v.breaks("the last seals are gone: the chain ends with seal %d, before the head %s", v.last.Number, head)
	default:
		v.breaks("seal %d is another than the head %s: the chain was made anew", head.Number, head)
	}
}

// gone is for a day that there are seals of and no partition.
func (v *verification) gone(d *Day) {
	end, err := time.Parse(time.DateOnly, d.Day)
	if err == nil && !end.AddDate(0, 0, 1).After(v.record.DroppedBefore) {
		d.State = Dropped
		return
	}
	d.State = Broken
	d.Breaks = append(d.Breaks, Break{Reason: fmt.Sprintf("all %d events of the day are gone, and not for their age", d.Events)})
}

// day compares the events of a day with its seals.
func (v *verification) day(ctx context.Context, d *Day) error {
	check := dayCheck{verification: v, day: d, digester: newDigester()}
	err := v.reader.EachSeal(ctx, d.Day, func(s authz.TrailSeal) error {
		if s.Number <= v.last.Number {
			s.MAC = [32]byte{}
			check.seals = append(check.seals, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	check.begin()
	err = v.reader.EachEventOf(ctx, d.Day, func(e authz.TrailEvent) error { check.event(e); return nil })
	if err != nil {
		return err
	}
	check.end()
	d.Breaks = append(d.Breaks, check.breaks...)
	switch {
	case len(d.Breaks) > 0:
		d.State = Broken
	case d.Seals > 0:
		d.State = Whole
	case d.Open > 0:
		d.State = Unsealed
	case d.Before > 0:
		d.State = Before
	default:
		d.State = Empty
	}
	return nil
}

func daysBetween(from, to string) int {
	a, errA := time.Parse(time.DateOnly, from)
	b, errB := time.Parse(time.DateOnly, to)
	if errA != nil || errB != nil {
		return 0
	}
	return int(b.Sub(a) / (24 * time.Hour))
}
