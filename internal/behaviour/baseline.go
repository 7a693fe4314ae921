package behaviour

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Baseline is what is normal for one client, and what its last week was: a few
// kilobytes, however long it has been watched and whatever was shown. It is kept as
// JSON, of which a restored one goes on exactly as the one that was kept.
type Baseline struct {
	ClientID string
	Since    time.Time // of its first event
	Last     time.Time // of its last

	now  int64 // Unix seconds: Last
	late int64 // events in a row that were far behind it

	issuedAt   int64 // the last token; 0: none
	activeDays int64
	longest    int64 // pause between two tokens, of those that raised no alert
	changedAt  int64 // an operator's last change

	keys      table
	oldKeys   oldKeys
	networks  table
	areas     table // wider prefixes, for clients with many networks
	scopes    table
	resources table
	secrets   table // and keys that it authenticates with
	agents    table

	hours   hours
	minutes minutes // tokens
	bad     minutes // proofs that do not hold, two each where the sender had authenticated
	replays minutes
	reasons [len(badReasons)]uint32 // of the run of bad proofs that goes on

	perMinutes, perHour, badPeaks, replayPeaks peaks

	clock  clock
	raised [len(alertKinds)]raise
	owned  int64 // keys that were given to it today
}

// Most of what a table holds.
const (
	keysMax      = 16
	networksMax  = 16
	areasMax     = 8
	scopesMax    = 20
	resourcesMax = 8
	secretsMax   = 6
	agentsMax    = 6
)

// forgottenAfter is how long what a client has not shown again is remembered.
const forgottenAfter = 90 * day

func newBaseline(clientID string, at int64) *Baseline {
	b := &Baseline{ClientID: clientID, Since: unix(at)}
	b.limits()
	b.touch(at)
	b.hours.at = at / hour
	return b
}

// limits sets what is the same in all baselines.
func (b *Baseline) limits() {
	for _, l := range []struct {
		t    *table
		cap  int
		keep int64
	}{
		{&b.keys, keysMax, halvesIn21Days}, {&b.networks, networksMax, halvesIn14Days}, {&b.areas, areasMax, halvesIn14Days},
		{&b.scopes, scopesMax, halvesIn30Days}, {&b.resources, resourcesMax, halvesIn30Days},
		{&b.secrets, secretsMax, halvesIn21Days}, {&b.agents, agentsMax, halvesIn14Days},
	} {
		l.t.cap, l.t.keep = l.cap, l.keep
	}
}

func (b *Baseline) tables() [7]*table {
	return [...]*table{&b.keys, &b.networks, &b.areas, &b.scopes, &b.resources, &b.secrets, &b.agents}
}

func (b *Baseline) touch(at int64) { b.now, b.Last = at, unix(at) }

func unix(at int64) time.Time { return time.Unix(at, 0).UTC() }

// How far behind the last event one may be: instances write in batches, and their
// clocks differ. One that is further behind is taken for one of now, unless several
// in a row say so: then it was the one before them that was wrong.
const (
	mayBeLate  = 15 * minute
	lateEnough = 4
)

// moment is when an event counts as, and makes it so that the baseline has reached it.
func (b *Baseline) moment(at int64) int64 {
	if at < b.now-mayBeLate {
		if b.late++; b.late < lateEnough {
			return b.now
		}
		b.turnBack(at)
	}
	b.late = 0
	if at > b.now {
		if days := at/day - b.now/day; days > 0 {
			b.passDays(days)
		}
		if at/hour != b.hours.at {
			b.perHour.note(int64(b.hours.issued[b.hours.at%hoursOfWeek]))
			b.hours.advance(at / hour)
		}
		b.touch(at)
	}
	return at
}

// turnBack undoes what a clock far ahead has done to the counts.
func (b *Baseline) turnBack(at int64) {
	b.touch(at)
	b.hours.at, b.hours.issued, b.hours.refused = at/hour, [hoursOfWeek]uint32{}, [hoursOfWeek]uint32{}
	b.minutes, b.bad, b.replays = minutes{}, minutes{}, minutes{}
	b.issuedAt = min(b.issuedAt, at)
	for _, t := range b.tables() {
		t.day = min(t.day, at/day)
		for i := range t.entries {
			e := &t.entries[i]
			e.first, e.last = min(e.first, at), min(e.last, at)
			if e.marked != 0 {
				e.marked = min(e.marked, at+markedFor)
			}
		}
	}
}

// passDays closes the day of the last event. Of a pause only three days count: who comes
// once a week is learned in weeks, not at its third visit.
func (b *Baseline) passDays(days int64) {
	b.activeDays++
	b.owned = 0
	b.perHour.note(int64(b.hours.issued[b.hours.at%hoursOfWeek]))
	b.perMinutes.close(burstFloor)
	b.perHour.close(burstFloor)
	b.badPeaks.close(badFloor)
	b.replayPeaks.close(replayFloor)
	b.clock.passDay()
	// A client that makes keys shows each of them for some days only.
	b.keys.unmark(b.now)
	for _, t := range b.tables() {
		t.age(min(days, 3))
		t.forget(b.now - forgottenAfter)
	}
}

// Sighting is something that a client has shown.
type Sighting struct {
	Name        string
	First, Last time.Time
	Share       float64 // of what was shown of its sort in the last weeks, 0 to 1
	Unusual     bool    // it raised an alert in the last seven days
	Enrolled    bool    // of a key: it is enrolled
}

func (t *table) sightings() []Sighting {
	var all int64
	for i := range t.entries {
		all += t.entries[i].weight
	}
	var list []Sighting
	for i := range t.entries {
		e := &t.entries[i]
		s := Sighting{Name: e.name, First: unix(e.first), Last: unix(e.last), Unusual: e.marked != 0, Enrolled: e.enrolled}
		if all > 0 {
			s.Share = float64(e.weight) / float64(all)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y Sighting) int {
		return cmp.Or(cmp.Compare(y.Share, x.Share), y.Last.Compare(x.Last), strings.Compare(x.Name, y.Name))
	})
	return list
}

// Keys are the DPoP keys of late, by their thumbprints, the most used first: 16 at most.
func (b *Baseline) Keys() []Sighting { return b.keys.sightings() }

// MoreKeys is how many keys are remembered besides Keys, 64 at most.
func (b *Baseline) MoreKeys() int { return len(b.oldKeys) }

// Networks are the prefixes that it came from, 16 at most.
func (b *Baseline) Networks() []Sighting { return b.networks.sightings() }

// Scopes are those that it was given, 20 at most. A name of more than 40 bytes is cut.
func (b *Baseline) Scopes() []Sighting { return b.scopes.sightings() }

// Resources are those that it had tokens for, 8 at most. A name of more than 80 bytes is
// cut.
func (b *Baseline) Resources() []Sighting { return b.resources.sightings() }

// Credentials are what it authenticated with, 6 at most.
func (b *Baseline) Credentials() []Sighting { return b.secrets.sightings() }

// UserAgents are the names of the programs that it said it was, 6 at most.
func (b *Baseline) UserAgents() []Sighting { return b.agents.sightings() }

// UsualHours is how many tokens it has in each hour of the week, as learned, from Monday
// 00:00 UTC on; known is false until a week has gone by.
func (b *Baseline) UsualHours() (tokens [168]float64, known bool) {
	for i, q := range b.hours.usual {
		tokens[i] = unquantised(q)
	}
	return tokens, b.hours.closed >= hoursOfWeek
}

// Hour is what was in one hour.
type Hour struct {
	At              time.Time // its beginning, UTC
	Issued, Refused int64     // two millions at most
}

// LastWeek are the 168 hours up to the one that now is in.
func (b *Baseline) LastWeek(now time.Time) []Hour {
	until := max(now.Unix()/hour, 0)
	week := make([]Hour, 0, hoursOfWeek)
	for h := until - hoursOfWeek + 1; h <= until; h++ {
		hour := Hour{At: unix(h * hour)}
		if h >= 0 && h <= b.hours.at && b.hours.at-h < hoursOfWeek {
			hour.Issued, hour.Refused = int64(b.hours.issued[h%hoursOfWeek]), int64(b.hours.refused[h%hoursOfWeek])
		}
		week = append(week, hour)
	}
	return week
}

// Offset is how far the server's clock is past the iat of its proofs: the median as it is
// learned, and the highest and lowest of the last two days; known is false where it has
// shown none.
func (b *Baseline) Offset() (median, lowest, highest time.Duration, known bool) {
	c := &b.clock
	return ms(c.median), ms(min(c.low[0], c.low[1])), ms(max(c.high[0], c.high[1])), c.seen
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// LongestPause is the longest time between two of its tokens that was normal.
func (b *Baseline) LongestPause() time.Duration { return time.Duration(b.longest) * time.Second }

// BusiestFiveMinutes and BusiestHour are the most tokens of the last 14 days on which
// there were any, without today.
func (b *Baseline) BusiestFiveMinutes() int64 { return b.perMinutes.highest() }

// BusiestHour is what BusiestFiveMinutes is, of an hour.
func (b *Baseline) BusiestHour() int64 { return b.perHour.highest() }
