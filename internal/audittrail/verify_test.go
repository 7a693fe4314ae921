package audittrail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/audittrail"
)

// newTrail is one of three days that is sealed: 18 seals of 30 events. The last batch is
// of two days.
func newTrail(t *testing.T) *world {
	w := newWorld(t)
	for d := -2; d <= 0; d++ {
		for range 5 {
			w.write(2, w.now.AddDate(0, 0, d))
			w.seal()
		}
	}
	w.write(1, w.now.AddDate(0, 0, -1))
	w.write(1, w.now)
	w.seal()
	return w
}

// A place in the middle of the trail: of the second of two events of the third seal of
// yesterday.
const middle = ` from (select s.upto_id as id, s.day::timestamptz as day, s.number from authz.audit_seals s
	where s.day = (current_timestamp at time zone 'UTC')::date - 1 order by s.number offset 2 limit 1) m `

// tamperings are what the owner of the database can do.
var tamperings = []struct {
	name, sql, want string
	head            bool // only a head that was kept tells
}{
	{name: "an event is changed", want: "one or more were changed",
		sql: `update authz.audit_events e set actor = 'operator:bob'` + middle + `where e.id = m.id`},
	{name: "an event's detail is changed", want: "one or more were changed",
		sql: `update authz.audit_events e set detail = detail || '{"n": 7}'` + middle + `where e.id = m.id`},
	{name: "what recorded an event is changed", want: "one or more were changed",
		sql: `update authz.audit_events e set recorded_by = 'bob'` + middle + `where e.id = m.id`},
	{name: "an event is deleted", want: "1 of its 2 events are missing",
		sql: `delete from authz.audit_events e using (select m.id` + middle + `) m where e.id = m.id`},
	{name: "an event is added among those of a seal", want: "1 events were added to its 2",
		sql: `insert into authz.audit_events (id, at, kind, actor, recorded_in)
			select '00000000-0000-7000-8000-000000000001', e.at, e.kind, e.actor, e.recorded_in` + middle + `join authz.audit_events e on e.id = m.id`},
	{name: "an event is added where the day has no seal", want: "1 events were added where no seal of the day is over",
		sql: `insert into authz.audit_events (id, at, kind, actor, recorded_in)
			select gen_random_uuid(), e.at - interval '1 day', e.kind, e.actor, e.recorded_in` + middle + `join authz.audit_events e on e.id = m.id`},
	{name: "an event is added that has no place", want: "1 events were added without a place",
		sql: `insert into authz.audit_events (id, at, kind, actor, recorded_in)
			select gen_random_uuid(), e.at, e.kind, e.actor, null` + middle + `join authz.audit_events e on e.id = m.id`},
	{name: "an event is added at a place before all others", want: "1 events were added where no seal of the day is over",
		sql: `insert into authz.audit_events (id, at, kind, actor, recorded_in)
			select gen_random_uuid(), e.at, e.kind, e.actor, -5` + middle + `join authz.audit_events e on e.id = m.id`},
	{name: "two events are swapped", want: "one or more were changed",
		sql: `with pair as (select e.id, e.recorded_in, e.at, (lead(e.at) over w) as next, (lag(e.at) over w) as before` + middle + `
			  join authz.audit_seals s on s.number = m.number
			  join authz.audit_events e on e.at >= m.day and e.at < m.day + interval '1 day' and (e.recorded_in, e.id) > (s.from_recorded_in, s.from_id)
			    and (e.recorded_in, e.id) <= (s.upto_recorded_in, s.upto_id) window w as (order by e.recorded_in))
			update authz.audit_events e set at = coalesce(pair.next, pair.before) from pair where e.id = pair.id`},
	{name: "an event is moved to another day", want: "1 of its 2 events are missing",
		sql: `update authz.audit_events e set at = e.at - interval '1 day'` + middle + `where e.id = m.id`},
	{name: "an event is made one from before there were places", want: "1 of its 2 events are missing",
		sql: `update authz.audit_events e set recorded_in = null` + middle + `where e.id = m.id`},
	{name: "a seal is deleted", want: "are gone, and not for their age",
		sql: `delete from authz.audit_seals s using (select m.number` + middle + `) m where s.number = m.number`},
	{name: "a seal is deleted with its events", want: "are gone, and not for their age",
		sql: `with s as (delete from authz.audit_seals s using (select m.number` + middle + `) m where s.number = m.number returning s.*)
			delete from authz.audit_events e using s where (e.recorded_in, e.id) > (s.from_recorded_in, s.from_id)
			  and (e.recorded_in, e.id) <= (s.upto_recorded_in, s.upto_id)`},
	{name: "a seal is made anew", want: "made without the sealing key",
		sql: `update authz.audit_seals s set digest = sha256('x')` + middle + `where s.number = m.number`},
	{name: "a seal is there twice", want: "its number was there before",
		sql: `insert into authz.audit_seals select s.*` + middle + `join authz.audit_seals s on s.number = m.number`},
	{name: "a seal is of another day", want: "events were added where no seal of the day is over",
		sql: `update authz.audit_seals s set day = s.day + 1` + middle + `where s.number = m.number`},
	{name: "a seal's events are deleted and the seal is of a day that has gone", want: "made without the sealing key",
		sql: `with gone as (update authz.audit_retention set dropped_before = '2020-01-02'),
			s as (update authz.audit_seals s set day = '2020-01-01'` + middle + `where s.number = m.number returning s.*)
			delete from authz.audit_events e using s where (e.recorded_in, e.id) > (s.from_recorded_in, s.from_id)
			  and (e.recorded_in, e.id) <= (s.upto_recorded_in, s.upto_id)`},
	{name: "a day's events are deleted", want: "events are missing",
		sql: `delete from authz.audit_events e using (select m.day` + middle + `) m where e.at >= m.day and e.at < m.day + interval '1 day'`},
	{name: "a day is dropped with its seals", want: "are gone, and not for their age",
		sql: dropDay(`-1`) + `; delete from authz.audit_seals where day = (current_timestamp at time zone 'UTC')::date - 1`},
	{name: "a day is dropped", want: "events of the day are gone, and not for their age", sql: dropDay(`-1`)},
	{name: "the first day is dropped with its seals", want: "are gone, and not for their age",
		sql: dropDay(`-2`) + `; delete from authz.audit_seals where day = (current_timestamp at time zone 'UTC')::date - 2`},
	{name: "the last seals are deleted", want: "the last seals are gone",
		sql: `delete from authz.audit_seals where number > 15`},
	{name: "the last seals are deleted with their events", want: "the last seals are gone",
		sql: deleteEnd},
	{name: "the last seals are deleted with their events, and nothing shows that they were there", want: "the last seals are gone", head: true,
		sql: deleteEnd + `; update authz.followers f set recorded_in = s.upto_recorded_in, id = s.upto_id
			from (select * from authz.audit_seals order by number desc limit 1) s where f.name = 'seals'`},
	{name: "all seals are deleted", want: "all seals are gone", sql: `delete from authz.audit_seals`},
	{name: "all is deleted, and the chain begins anew", want: "before the head", head: true,
		sql: `delete from authz.audit_seals; delete from authz.audit_events; update authz.followers set recorded_in = 0, id = '00000000-0000-0000-0000-000000000000'`},
}

const deleteEnd = `delete from authz.audit_events e using authz.audit_seals s where s.number > 15
	and (e.recorded_in, e.id) > (s.from_recorded_in, s.from_id); delete from authz.audit_seals where number > 15`

func dropDay(days string) string {
	return `do $$ begin execute format('drop table authz.%I', 'audit_events_' || to_char(current_timestamp at time zone 'UTC' + interval '` + days + ` days', 'YYYYMMDD"_00"')); end $$`
}

func TestEveryChangeOfTheTrailShows(t *testing.T) {
	t.Parallel()
	// One trail for all: each change is taken back.
	w := newTrail(t)
	head := w.isWhole("at first", 32, 0).Head
	if head == nil || head.Number != 17 {
		t.Fatalf("the head is %v", head)
	}
	w.exec(`set timezone = 'UTC'`)
	w.exec(`create temporary table events as select * from authz.audit_events; create temporary table seals as select * from authz.audit_seals;
		create temporary table followers as select * from authz.followers`)
	for _, c := range tamperings {
		t.Run(c.name, func(t *testing.T) {
			defer w.restore()
			w.exec(c.sql)
			report := w.verify(w.keys, audittrail.Choice{})
			if c.head {
				if report.Broken() {
					t.Fatalf("it shows without a head: %s", describe(report))
				}
				report = w.verify(w.keys, audittrail.Choice{Head: head})
			}
			if found := describe(report); !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
	w.isWhole("in the end", 32, 0)
}

// restore takes back what was done to the trail.
func (w *world) restore() {
	w.exec(`select count(authz.ensure_partition('audit_events', d, d + interval '1 day'))
		from generate_series(date_trunc('day', now()) - interval '3 days', now(), interval '1 day') d`)
	w.exec(`truncate authz.audit_events, authz.audit_seals, authz.followers;
		insert into authz.audit_events select * from events; insert into authz.audit_seals select * from seals;
		insert into authz.followers select * from followers; update authz.audit_retention set dropped_before = null`)
}

// Whoever has the database and not the sealing key makes the chain anew, from the
// encoding as it is documented.
func TestChainThatIsMadeAnewWithoutTheKeyShows(t *testing.T) {
	t.Parallel()
	w := newTrail(t)
	head := w.isWhole("at first", 32, 0).Head
	w.exec(`delete from authz.audit_events where id = (select upto_id from authz.audit_seals where number = 5)`)
	w.exec(`delete from authz.audit_seals; update authz.followers set recorded_in = 0, id = '00000000-0000-0000-0000-000000000000', held_until = clock_timestamp()`)
	mine := w.keys
	w.keys = keysOf(t, "another")
	w.seal()
	w.keys = mine
	if report := w.verify(w.keys, audittrail.Choice{}); len(report.LostKeys) != 1 {
		t.Errorf("under a key that is not known: %+v", report)
	}
	if report := w.verify(w.keys, audittrail.Choice{Head: head}); !report.Broken() {
		t.Error("the head tells nothing")
	}
	w.exec(`update authz.audit_seals set mac_key = $1`, w.keys.String()[len("audit keys "):])
	if report := w.verify(w.keys, audittrail.Choice{}); !strings.Contains(describe(report), "without the sealing key") {
		t.Errorf("under the name of a key that is: %s", describe(report))
	}
}

func TestSealsOfASealingKeyThatIsReplacedStayGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(2, w.now)
	w.seal()
	old := w.keys
	w.keys = keysOf(t, "second", "first")
	w.write(2, w.now)
	w.seal()
	w.isWhole("by both", 4, 0)
	for name, keys := range map[string]audittrail.Keys{"the old key": old, "the new key": keysOf(t, "second")} {
		report := w.verify(keys, audittrail.Choice{})
		if report.Broken() || fmt.Sprint(len(report.LostKeys)) != "1" {
			t.Errorf("by %s alone: %+v", name, report)
		}
	}
}

func TestOnlyTheDaysThatAreAskedForAreRead(t *testing.T) {
	t.Parallel()
	w := newTrail(t)
	w.exec(`delete from authz.audit_events where at < $1`, w.now.Truncate(24*time.Hour).AddDate(0, 0, -1))
	today := func(day string) bool { return day == w.now.Format(time.DateOnly) }
	if report := w.verify(w.keys, audittrail.Choice{Days: today}); report.Broken() {
		t.Errorf("of another day: %s", describe(report))
	}
	if report := w.verify(w.keys, audittrail.Choice{}); !report.Broken() {
		t.Error("all days: nothing")
	}
}

// Whoever has the servers' login can read the trail, add to it and add to its seals.
func TestWhatTheServersRoleMakesUpShows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"a seal after the last": {`insert into authz.audit_seals (number, day, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous, digest, mac, mac_key)
			select l.number + 1, current_date, 0, gen_random_uuid(), 1 << 30, gen_random_uuid(), 1, l.digest, sha256('x'), sha256('x'), $1 from authz.last_seal() l`,
			"made without the sealing key"},
		"a seal far on": {`insert into authz.audit_seals (number, day, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous, digest, mac, mac_key)
			select l.number + 1000, current_date, 0, gen_random_uuid(), 1, gen_random_uuid(), 1, l.digest, sha256('x'), sha256('x'), $1 from authz.last_seal() l`,
			"are gone, and not for their age"},
		"that all is sealed": {`select authz.advance_follower('seals', 'thief', f.at_recorded_in, f.at_id,
			(select max(recorded_in) from authz.read_audit(0, '00000000-0000-0000-0000-000000000000', 10000)), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
			from authz.follow('seals', 'thief', '1 minute') f where $1 <> ''`, "the last seals are gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write(2, w.now)
			w.seal()
			w.write(2, w.now)
			w.awaitFinal()
			w.exec(`update authz.followers set held_until = clock_timestamp() where holder is not null`)
			w.exec(`set role authz_server`)
			w.exec(c.sql, w.keys.String()[len("audit keys "):])
			w.exec(`reset role`)
			for _, when := range []string{"at once", "when more is sealed"} {
				if found := describe(w.verify(w.keys, audittrail.Choice{})); !strings.Contains(found, c.want) && when == "at once" || found == "" {
					t.Errorf("%s it shows %q, want %q", when, found, c.want)
				}
				w.write(1, w.now)
				w.seal()
			}
		})
	}
}
