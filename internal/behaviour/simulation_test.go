package behaviour_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// owners is a KeyOwners in memory.
type owners map[string]string

func (o owners) Owner(jkt string) string { return o[jkt] }
func (o owners) Own(jkt, clientID string, _ time.Time) {
	if o[jkt] == "" {
		o[jkt] = clientID
	}
}

// raised is an alert as it would be kept: alike ones of seven days are one.
type raised struct {
	behaviour.Alert
	first time.Duration
	last  time.Duration
	times int
	play  *play
}

type outcome struct {
	events  int
	alerts  []*raised
	plays   []*play
	took    time.Duration
	largest int
	mean    float64
	clients []*client
}

// watched runs a world for all its days.
func (w *world) watched(t testing.TB) outcome {
	var out outcome
	watch := behaviour.New(behaviour.Config{Owners: owners{}})
	open := map[string]*raised{}
	byClient := map[string]*play{}
	for _, p := range w.plays {
		byClient[p.c.id] = p
		if p.other != nil {
			byClient[p.other.id] = p
		}
	}
	take := func(at time.Duration, alerts []behaviour.Alert) {
		for _, a := range alerts {
			key := a.ClientID + " " + string(a.Kind) + " " + a.Subject
			r := open[key]
			if r == nil || at-r.last > 7*aDay {
				r = &raised{Alert: a, first: at}
				open[key], out.alerts = r, append(out.alerts, r)
			}
			r.last, r.times = at, r.times+1
			p := byClient[a.ClientID]
			if p == nil || a.At.Sub(start) < p.from-time.Minute || at > p.until+2*time.Hour {
				continue
			}
			r.play = p
			if a.Kind == p.kind && p.found == 0 {
				p.found = at
			}
		}
	}
	for d := range w.days {
		events := w.day(d)
		began := time.Now()
		for _, i := range w.order {
			take(events[i].at, watch.Observe(events[i].event))
		}
		end := time.Duration(d+1) * aDay
		take(end, watch.Tick(start.Add(end)))
		watch.Changed()
		out.took += time.Since(began)
		out.events += len(events)
	}
	var all int
	for _, c := range w.clients {
		if b := watch.Baseline(c.id); b != nil {
			kept, err := json.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			all += len(kept)
			out.largest = max(out.largest, len(kept))
		}
	}
	out.mean = float64(all) / float64(len(w.clients))
	out.plays, out.clients = w.plays, w.clients
	return out
}

// verdict is what the goals are about.
type verdict struct {
	found, late int
	falseAlerts []*raised
}

func (o outcome) verdict() (v verdict) {
	for _, p := range o.plays {
		if p.found != 0 && p.found <= p.sign+5*time.Minute {
			v.found++
		} else if p.found != 0 {
			v.late++
		}
	}
	for _, a := range o.alerts {
		if a.play == nil {
			v.falseAlerts = append(v.falseAlerts, a)
		}
	}
	return v
}

// figures are printed for whoever wants to judge.
func (o outcome) figures() string {
	var b strings.Builder
	v := o.verdict()
	fmt.Fprintf(&b, "%d events, %d ns each; a baseline has %d bytes at most, %.0f in the middle\n", o.events, o.took.Nanoseconds()/int64(max(o.events, 1)), o.largest, o.mean)
	fmt.Fprintf(&b, "found %d of %d in time, %d late; %d false alerts\n", v.found, len(o.plays), v.late, len(v.falseAlerts))
	fmt.Fprintf(&b, "%-18s %8s %12s %12s %6s\n", "kind", "found", "mean delay", "longest", "false")
	for _, kind := range behaviour.AlertKinds() {
		var planted, found, wrong int
		var sum, most time.Duration
		for _, p := range o.plays {
			if p.kind != kind {
				continue
			}
			planted++
			if p.found != 0 && p.found <= p.sign+5*time.Minute {
				found++
				late := max(p.found-p.sign, 0)
				sum, most = sum+late, max(most, late)
			}
		}
		for _, a := range v.falseAlerts {
			if a.Kind == kind {
				wrong++
			}
		}
		fmt.Fprintf(&b, "%-18s %4d/%-3d %12v %12v %6d\n", kind, found, planted, (sum / time.Duration(max(found, 1))).Round(time.Second), most.Round(time.Second), wrong)
	}
	return b.String()
}

// faults are what went wrong, one a line.
func (o outcome) faults() string {
	var b strings.Builder
	for _, p := range o.plays {
		if p.found == 0 || p.found > p.sign+5*time.Minute {
			fmt.Fprintf(&b, "MISSED %s at %s (habit %d, keys %d, %d of them) on %s, sign %v, found %v: %s %s\n",
				p.kind, p.c.id, p.c.habit, p.c.keys, p.c.count, start.Add(p.from).Format(time.DateTime), p.sign, p.found, p.how, p.hidden)
		}
	}
	for _, a := range o.verdict().falseAlerts {
		var c *client
		for _, other := range o.clients {
			if other.id == a.ClientID {
				c = other
			}
		}
		fmt.Fprintf(&b, "FALSE %s of %s (habit %d, keys %d, %d of them), %d times: %s | %s | %s\n", a.Kind, a.ClientID, c.habit, c.keys, c.count, a.times, a.Subject, a.Normal, a.Seen)
	}
	return b.String()
}

func simulate(t testing.TB, seed uint64, clients, incidents int) outcome {
	w := newWorld(seed, clients, 60)
	w.plant(incidents)
	return w.watched(t)
}

func hold(t *testing.T, seed uint64, o outcome, most int) {
	t.Helper()
	t.Logf("seed %d: %s", seed, o.figures())
	v := o.verdict()
	if v.found != len(o.plays) || len(v.falseAlerts) > most {
		t.Errorf("seed %d: found %d of %d in time, %d false alerts:\n%s", seed, v.found, len(o.plays), len(v.falseAlerts), o.faults())
	}
}

// These are what the figures were tuned on.
func TestEveryIncidentOfTheTunedSeedsIsFoundInTimeWithFewFalseAlerts(t *testing.T) {
	if os.Getenv("AUTHZ_TEST_LONG") == "" {
		t.Skip("AUTHZ_TEST_LONG is not set")
	}
	for _, seed := range []uint64{1, 2, 3, 4, 5, 1795417120170014538, 1795417150832113903, 1795417205600109601} {
		hold(t, seed, simulate(t, seed, 500, 40), 10)
	}
}

// Of a seed that nobody has seen before the figures hold nearly always, and not by
// necessity: where those of one do not, two further ones decide. With AUTHZ_TEST_LONG
// there are five, and all must.
func TestEveryIncidentOfAFreshSeedIsFoundInTimeWithFewFalseAlerts(t *testing.T) {
	const most = 10
	if raceEnabled {
		t.Skip("it takes ten times as long with the race detector, which has nothing to find in one goroutine")
	}
	if os.Getenv("AUTHZ_TEST_LONG") != "" {
		for range 5 {
			seed := freshSeed(t)
			hold(t, seed, simulate(t, seed, 500, 40), most)
		}
		return
	}
	seed := freshSeed(t)
	o := simulate(t, seed, 500, 40)
	if v := o.verdict(); v.found == len(o.plays) && len(v.falseAlerts) <= most || os.Getenv("AUTHZ_TEST_SEED") != "" {
		hold(t, seed, o, most)
		return
	}
	t.Logf("seed %d: %s\n%s", seed, o.figures(), o.faults())
	for range 2 {
		seed := freshSeed(t)
		hold(t, seed, simulate(t, seed, 500, 40), most)
	}
}

// freshSeed is one that nobody has seen before, or AUTHZ_TEST_SEED.
func freshSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("AUTHZ_TEST_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}
