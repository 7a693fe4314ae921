package behaviour_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/internal/behaviour"
)

// reloaded keeps all that a watch has, and goes on with it in another.
func reloaded(t testing.TB, w *behaviour.Watch, known owners, clients []*client) *behaviour.Watch {
	t.Helper()
	next := behaviour.New(behaviour.Config{Owners: known})
	var fleet behaviour.Fleet
	again(t, w.Fleet(), &fleet)
	next.LoadFleet(&fleet)
	for _, c := range clients {
		if b := w.Baseline(c.id); b != nil {
			next.Load(restored(t, b))
		}
	}
	return next
}

func again(t testing.TB, from, to any) {
	t.Helper()
	kept, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(kept, to); err != nil {
		t.Fatalf("%v: %s", err, kept)
	}
	twice, err := json.Marshal(to)
	if err != nil || !bytes.Equal(kept, twice) {
		t.Fatalf("kept as\n%s\nand then as\n%s\n%v", kept, twice, err)
	}
}

func restored(t testing.TB, b *behaviour.Baseline) *behaviour.Baseline {
	t.Helper()
	r := &behaviour.Baseline{ClientID: b.ClientID}
	again(t, b, r)
	return r
}

func TestARestartBetweenAnyTwoEventsChangesNoAlert(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	one, two := newWorld(seed, 24, 60), newWorld(seed, 24, 60)
	one.plant(11)
	two.plant(11)
	knownOne, knownTwo := owners{}, owners{}
	whole, restarted := behaviour.New(behaviour.Config{Owners: knownOne}), behaviour.New(behaviour.Config{Owners: knownTwo})
	r := rand.New(rand.NewPCG(seed, 1))
	var alerts int
	for d := range one.days {
		events := one.day(d)
		two.day(d)
		for _, i := range one.order {
			if r.IntN(500) == 0 { // of the client at hand alone, which is what an event touches
				id := events[i].event.ClientID
				if b := restarted.Baseline(id); b != nil {
					restarted.Load(restored(t, b))
				}
				var fleet behaviour.Fleet
				again(t, restarted.Fleet(), &fleet)
				restarted.LoadFleet(&fleet)
			}
			want := whole.Observe(events[i].event)
			got := restarted.Observe(two.events[i].event)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, event %+v: %s", seed, events[i].event, diff)
			}
			alerts += len(want)
		}
		if d%10 == 9 {
			restarted = reloaded(t, restarted, knownTwo, two.clients)
		}
	}
	if alerts < 5 {
		t.Errorf("seed %d: %d alerts tell nothing", seed, alerts)
	}
}

// hostile is what nobody has kept.
func hostile(t testing.TB) map[string]string {
	w := behaviour.New(behaviour.Config{Owners: owners{}})
	for i := range 50 {
		w.Observe(issued(time.Duration(i)*time.Hour, fmt.Sprint("key-number-of-many-", i%3)))
	}
	kept, err := json.Marshal(w.Baseline("labels"))
	if err != nil {
		t.Fatal(err)
	}
	good := string(kept)
	if err := json.Unmarshal(kept, new(behaviour.Baseline)); err != nil {
		t.Fatal(err)
	}
	edit := func(old, made string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, made, 1)
	}
	row := "\\n0 0 0 0 0 0 0 - x"
	return map[string]string{
		"empty":                  "",
		"null":                   "null",
		"no object":              "[]",
		"no version":             `{}`,
		"another version":        edit(`"version":1`, `"version":2`),
		"an unknown member":      edit(`{"version"`, `{"more":1,"version"`),
		"a moment too late":      edit(`"last":`, `"last":999`),
		"a moment below 0":       edit(`"since":`, `"since":-`),
		"a word for a number":    edit(`"state":"`, `"state":"! `),
		"too many numbers":       edit(`"state":"`, `"state":"0 0 0 0 0 0 0 `),
		"an unknown table":       edit(`"keys":`, `"kings":`),
		"a huge number":          edit(`"counts":"`, `"counts":"zzzzzzzzzzzz `),
		"a network that is none": edit(` - label`, ` 1.2.3.4 label`),
		"a key twice":            edit(`"keys":"`, `"keys":"0 0`+row+row+`","x":"`),
		"too many keys":          edit(`"keys":"`, `"keys":"0 0`+strings.Repeat(row, 30)+`","x":"`),
		"usual hours cut":        edit(`"usual_hours":"`, `"usual_hours":"AAAA","x":"`),
	}
}

func TestWhatNobodyHasKeptIsRefused(t *testing.T) {
	for name, text := range hostile(t) {
		b := behaviour.Baseline{ClientID: "labels"}
		if err := json.Unmarshal([]byte(text), &b); err == nil {
			t.Errorf("%s: it is taken: %s", name, text)
		}
		if b.Keys() != nil || b.ClientID != "labels" {
			t.Errorf("%s: something of it stays", name)
		}
	}
	for _, text := range []string{``, `[]`, `{}`, `{"version":1,"now":-1,"near":{"day":0}}`, `{"version":1,"now":1,"near":{"day":0,"networks":[{"name":"x","clients":1}]}}`} {
		if err := json.Unmarshal([]byte(text), new(behaviour.Fleet)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}

// What is read goes on without a panic, whoever has written it, and is kept again.
func FuzzBaseline(f *testing.F) {
	for _, text := range hostile(f) {
		f.Add([]byte(text))
	}
	w := behaviour.New(behaviour.Config{Owners: owners{}})
	for i := range 500 {
		w.Observe(issued(time.Duration(i)*time.Hour, fmt.Sprint("key-number-of-many-", i%30)))
	}
	kept, err := json.Marshal(w.Baseline("labels"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept)
	f.Fuzz(func(t *testing.T, text []byte) {
		b := &behaviour.Baseline{ClientID: "labels"}
		if json.Unmarshal(text, b) != nil {
			return
		}
		restored(t, b)
		w := behaviour.New(behaviour.Config{Owners: owners{}})
		w.Load(b)
		for i := range 10 {
			w.Observe(issued(time.Duration(i)*7*time.Hour, fmt.Sprint("another-key-of-it-", i)))
		}
		restored(t, b)
		b.LastWeek(start)
		b.Offset()
		b.UsualHours()
		b.Networks()
	})
}
