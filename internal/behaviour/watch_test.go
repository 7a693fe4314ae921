package behaviour_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

var home = netip.MustParsePrefix("198.51.100.0/24")

// issued is a token as the client labels has them.
func issued(at time.Duration, jkt string) behaviour.Event {
	return behaviour.Event{
		Kind: behaviour.TokenIssued, At: start.Add(at), ID: "event", RequestID: "request", ClientID: "labels", Authenticated: true,
		JKT: jkt, Network: home, UserAgent: "shipping-sdk/1.4", Credential: "0a1b2c3d4e5f", Resource: "https://labels.example.com",
		Scopes: []string{"label:create"}, Offset: 120 * time.Millisecond, HasOffset: true,
	}
}

// thumbprint makes one of a number.
func thumbprint(n int) string {
	return fmt.Sprintf("%011dxWd1nOTdVrjdpxXwtOw3sWnGJRYvq5_A", n*7919)[:43]
}

// settledWatch knows the client labels for weeks: a token every twenty minutes, with one
// key that outlived a release.
func settledWatch(t testing.TB, days int) (*behaviour.Watch, time.Duration) {
	t.Helper()
	w := behaviour.New(behaviour.Config{Owners: owners{}})
	at := time.Duration(0)
	for ; at < time.Duration(days)*aDay; at += 20 * time.Minute {
		e := issued(at, thumbprint(1))
		if at > 5*aDay {
			e.UserAgent = "shipping-sdk/1.5"
		}
		if alerts := w.Observe(e); len(alerts) > 0 {
			t.Fatalf("at %v: %+v", at, alerts)
		}
	}
	return w, at
}

func TestABaselineStaysSmallWhateverAThiefShows(t *testing.T) {
	w, at := settledWatch(t, 30)
	largest, alerts := 0, 0
	for i := range 12000 {
		at += time.Duration(i%97) * time.Second
		e := issued(at, thumbprint(i+2))
		a := [16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i)}
		e.Network = netip.PrefixFrom(netip.AddrFrom16(a), 48)
		long := fmt.Sprintf("%d-%s", i, strings.Repeat("é\"\\", 300))
		e.UserAgent, e.Resource, e.Credential = long, "https://"+long, long
		e.Scopes = []string{long, fmt.Sprint(i)}
		e.Offset = time.Duration(math.MaxInt64 >> (i % 60))
		e.Times = int64(i) << (i % 40)
		if i%3 == 0 {
			e.Kind, e.Reason = behaviour.TokenRefused, []string{"replay", "iat", long}[i%9/3]
		}
		alerts += len(w.Observe(e))
		if i%500 == 0 {
			kept, err := json.Marshal(w.Baseline("labels"))
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, len(kept))
			restored(t, w.Baseline("labels"))
		}
	}
	if largest > 9<<10 {
		t.Errorf("a baseline of %d bytes", largest)
	}
	if hours := int((at - 30*aDay) / time.Hour); alerts > 5*len(behaviour.AlertKinds())*(hours+1) {
		t.Errorf("%d alerts in %d hours", alerts, hours)
	}
	if !slices.ContainsFunc(w.Baseline("labels").Keys(), func(s behaviour.Sighting) bool { return s.Name == thumbprint(1) }) {
		t.Error("the flood has driven out the client's own key")
	}
	t.Logf("%d bytes at most, %d alerts", largest, alerts)
}

func kinds(alerts []behaviour.Alert) (all []behaviour.AlertKind) {
	for _, a := range alerts {
		all = append(all, a.Kind)
	}
	return all
}

func TestAThiefIsNotLearnedAsNormalWithinDays(t *testing.T) {
	w, at := settledWatch(t, 30)
	foreign := netip.MustParsePrefix("45.9.8.0/24")
	steal := func(at time.Duration, key int) []behaviour.AlertKind {
		e := issued(at, thumbprint(key))
		e.Network = foreign
		return kinds(w.Observe(e))
	}
	if got := steal(at, 50); !slices.Contains(got, behaviour.NewKey) || !slices.Contains(got, behaviour.NewNetwork) {
		t.Fatalf("the first: %v", got)
	}
	for range 100 { // for four days, beside the client
		at += time.Hour
		steal(at, 50)
		w.Observe(issued(at+time.Minute, thumbprint(1)))
	}
	if got := steal(at+2*time.Minute, 51); !slices.Contains(got, behaviour.NewKey) {
		t.Errorf("another key from there, after four days: %v", got)
	}
}

func TestAClockThatJumpsBreaksNothing(t *testing.T) {
	w, at := settledWatch(t, 30)
	for _, jump := range []time.Time{start.Add(at + 400*aDay), time.Unix(math.MaxInt64, 0), time.Time{}, time.Unix(-1<<62, 0), start.AddDate(-20, 0, 0)} {
		e := issued(0, thumbprint(1))
		e.At = jump
		w.Observe(e)
		var alerts []behaviour.Alert
		for range 3 * 24 * 10 {
			at += 20 * time.Minute
			alerts = append(alerts, w.Observe(issued(at, thumbprint(1)))...)
		}
		if len(alerts) > 0 {
			t.Errorf("after %v: %v", jump, kinds(alerts))
		}
		if last := w.Baseline("labels").Last; last.Sub(start.Add(at)).Abs() > time.Hour {
			t.Errorf("after %v: the last event is taken to be of %v, and is of %v", jump, last, start.Add(at))
		}
		restored(t, w.Baseline("labels"))
		e = issued(at, thumbprint(60))
		e.Network = netip.MustParsePrefix("45.9.8.0/24")
	}
	e := issued(at, thumbprint(60))
	e.Network = netip.MustParsePrefix("45.9.8.0/24")
	if got := kinds(w.Observe(e)); !slices.Contains(got, behaviour.NewNetwork) {
		t.Errorf("a thief afterwards: %v", got)
	}
}

func TestAnEventOfAClockAheadCountsAsOfNow(t *testing.T) {
	at := time.Duration(0)
	w := behaviour.New(behaviour.Config{Owners: owners{}, Now: func() time.Time { return start.Add(at) }})
	for ; at < 30*aDay; at += time.Hour {
		e := issued(at, thumbprint(1))
		if int(at/time.Hour)%50 == 49 {
			e.At = e.At.AddDate(0, 2, 0)
		}
		if alerts := w.Observe(e); len(alerts) > 0 {
			t.Fatalf("at %v: %v", at, kinds(alerts))
		}
	}
}

func TestADeletedClientIsForgotten(t *testing.T) {
	w, at := settledWatch(t, 10)
	w.Changed()
	w.Observe(behaviour.Event{Kind: behaviour.ClientDeleted, At: start.Add(at), ClientID: "labels"})
	if changed := w.Changed(); len(changed) != 1 || changed[0] != "labels" || w.Knows("labels") {
		t.Errorf("changed: %v, known: %v", changed, w.Knows("labels"))
	}
	// One of the same name is itself: the key is still its own.
	if alerts := w.Observe(issued(at+time.Minute, thumbprint(1))); len(alerts) > 0 {
		t.Errorf("made anew: %v", kinds(alerts))
	}
}

func TestAnEventOfNobodyChangesNothing(t *testing.T) {
	w, at := settledWatch(t, 10)
	w.Changed()
	e := issued(at, thumbprint(9))
	e.ClientID = ""
	if alerts := w.Observe(e); len(alerts) > 0 || len(w.Changed()) > 0 || w.Knows("") {
		t.Errorf("%v", kinds(alerts))
	}
}

func TestAKeyThatIsEnrolledMinutesLaterRaisesNoAlert(t *testing.T) {
	w, at := settledWatch(t, 30)
	refused := issued(at, thumbprint(2))
	refused.Kind = behaviour.KeyRefused
	if alerts := w.Observe(refused); len(alerts) > 0 {
		t.Fatalf("at once: %v", kinds(alerts))
	}
	w.Observe(behaviour.Event{Kind: behaviour.KeyEnrolled, At: start.Add(at + time.Minute), ClientID: "labels", JKT: thumbprint(2)})
	for i := range 30 {
		if alerts := w.Observe(issued(at+time.Duration(i+2)*time.Minute, thumbprint(2))); len(alerts) > 0 {
			t.Errorf("afterwards: %v", kinds(alerts))
		}
	}
	if alerts := w.Tick(start.Add(at + time.Hour)); len(alerts) > 0 {
		t.Errorf("at last: %v", kinds(alerts))
	}
}

func TestWhatIsHeldBackComesWithATick(t *testing.T) {
	w, at := settledWatch(t, 30)
	if alerts := w.Observe(issued(at, thumbprint(2))); len(alerts) > 0 {
		t.Fatalf("at once: %v", kinds(alerts))
	}
	if !w.FleetChanged() || w.FleetChanged() {
		t.Error("the fleet has changed once")
	}
	if alerts := w.Tick(start.Add(at + 2*time.Minute)); len(alerts) > 0 {
		t.Errorf("too soon: %v", kinds(alerts))
	}
	if alerts := w.Tick(start.Add(at + 5*time.Minute)); len(alerts) != 1 || alerts[0].Kind != behaviour.NewKey {
		t.Errorf("after five minutes: %v", kinds(alerts))
	}
}

func TestWhatABaselineDrawsIsWhatWasSeen(t *testing.T) {
	w, at := settledWatch(t, 30)
	refused := issued(at-time.Hour, "")
	refused.Kind, refused.Reason, refused.Times = behaviour.TokenRefused, "invalid_scope", 4
	w.Observe(refused)
	b := w.Baseline("labels")
	week := b.LastWeek(start.Add(at - time.Second))
	if len(week) != 168 || week[167].Issued != 3 || week[0].Issued != 3 || week[167].Refused != 4 || !week[167].At.Equal(start.Add(at-time.Hour)) {
		t.Errorf("last week: %+v", week)
	}
	usual, known := b.UsualHours()
	if !known || math.Abs(usual[17]-3) > 0.3 {
		t.Errorf("usual hours: %v", usual)
	}
	for name, list := range map[string][]behaviour.Sighting{
		thumbprint(1): b.Keys(), home.String(): b.Networks(), "label:create": b.Scopes(), "https://labels.example.com": b.Resources(),
		"0a1b2c3d4e5f": b.Credentials(), "shipping-sdk": b.UserAgents(),
	} {
		if len(list) != 1 || list[0].Name != name || list[0].Share != 1 || !list[0].First.Equal(start) {
			t.Errorf("%s: %+v", name, list)
		}
	}
	if median, lowest, highest, known := b.Offset(); !known || median != 120*time.Millisecond || lowest != median || highest != median {
		t.Errorf("offset: %v %v %v %v", median, lowest, highest, known)
	}
	if b.BusiestHour() != 3 || b.LongestPause() != 20*time.Minute {
		t.Errorf("busiest hour %d, longest pause %v", b.BusiestHour(), b.LongestPause())
	}
}

func TestAnUsualEventAllocatesNothing(t *testing.T) {
	w, at := settledWatch(t, 30)
	if n := testing.AllocsPerRun(2000, func() {
		at += 20 * time.Minute / 10000
		w.Observe(usual(at))
	}); n > 0 {
		t.Errorf("%v allocations an event", n)
	}
}

var usualEvent = issued(0, thumbprint(1))

func usual(at time.Duration) behaviour.Event {
	e := usualEvent
	e.At = start.Add(at)
	return e
}

func BenchmarkObserve(b *testing.B) {
	w, at := settledWatch(b, 30)
	e := usual(at)
	b.ReportAllocs()
	for b.Loop() {
		e.At = e.At.Add(100 * time.Second)
		w.Observe(e)
	}
}
