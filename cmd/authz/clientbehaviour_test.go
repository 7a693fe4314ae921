package main

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/internal/behaviour"
)

// drawn is a client of three weeks: office hours, a job at night, and a last day on
// which somebody came from elsewhere.
func drawn(t *testing.T) behaviourView {
	t.Helper()
	w := behaviour.New(behaviour.Config{})
	e := behaviour.Event{
		Kind: behaviour.TokenIssued, ClientID: "label-service", Authenticated: true, JKT: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		Network: netip.MustParsePrefix("192.0.2.0/24"), UserAgent: "labels/1.4.2", Credential: "secret:5f70bf18",
		Resource: "https://labels.example.com", Scopes: []string{"label:create", "label:read"},
		Offset: 420 * time.Millisecond, HasOffset: true,
	}
	begin := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) // a Monday
	for at := begin; at.Before(begin.AddDate(0, 0, 21)); at = at.Add(10 * time.Minute) {
		switch hour, day := at.Hour(), at.Weekday(); {
		case hour == 3, day != time.Saturday && day != time.Sunday && hour >= 8 && hour < 18:
			e.At, e.Times = at, int64(1+hour%5)
			w.Observe(e)
		}
	}
	e.At, e.Times, e.Network, e.JKT, e.UserAgent = begin.AddDate(0, 0, 20).Add(20*time.Hour), 1, netip.MustParsePrefix("203.0.113.0/24"), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "curl/8.5.0"
	w.Observe(e)
	e.At, e.Kind, e.Reason, e.Times = e.At.Add(time.Minute), behaviour.TokenRefused, "replay", 25
	w.Observe(e)
	b := w.Baseline("label-service")
	v := viewBehaviour(b, e.At)
	v.Alerts = []alertView{{ID: "7k2m9xq4tz3n", Kind: "new_network", Subject: "203.0.113.0/24", LastAt: e.At}}
	return v
}

var update = flag.Bool("update", false, "rewrite golden files")

func TestAClientsBehaviourIsDrawnWithin80Columns(t *testing.T) {
	v := drawn(t)
	for name, p := range map[string]pen{"blocks": blockPen(), "ascii": asciiPen()} {
		var b bytes.Buffer
		p.draw(&b, v)
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
		if name == "ascii" && strings.ContainsFunc(b.String(), func(r rune) bool { return r > 126 }) {
			t.Errorf("it is not ASCII:\n%s", &b)
		}
		golden := filepath.Join("testdata", "behaviour", name+".txt")
		if *update {
			if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", golden, diff)
		}
	}
}

// Whatever is known, nothing of it breaks the drawing.
func TestAnyBehaviourIsDrawn(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	long := sightingView{Name: strings.Repeat("é\x1b", 200), Share: 1, Unusual: true, Enrolled: true}
	for name, v := range map[string]behaviourView{
		"nothing":       {ClientID: "x"},
		"a first event": {ClientID: "x", Since: &at, Last: &at},
		"silence":       {ClientID: "x", Since: &at, Last: &at, UsualHours: make([]float64, 168), LastWeek: make([]hourView, 168)},
		"much": {
			ClientID: "x", Since: &at, Last: &at, BusiestHour: 2097151, BusiestFiveMinutes: 2097151, LongestPause: 1 << 30,
			LastWeek: []hourView{{At: at, Issued: 2097151 * 2, Refused: 2097151 * 2}}, Keys: []sightingView{long}, MoreKeys: 64,
			ClockOffset: &offsetView{-1 << 40, -1 << 40, 1 << 40}, Alerts: make([]alertView, 100),
		},
	} {
		var b bytes.Buffer
		blockPen().draw(&b, v)
		if strings.Contains(b.String(), "\x1b") || !strings.HasSuffix(b.String(), "\n") {
			t.Errorf("%s: %q", name, &b)
		}
	}
}

func TestTheLocaleSaysWhatATerminalShows(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		utf8 bool
	}{
		{nil, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": ""}, true},
		{map[string]string{"LC_CTYPE": "UTF-8", "TERM": "dumb"}, false},
		{map[string]string{"LC_CTYPE": "UTF-8", "LANG": "C"}, true},
	} {
		if got := hasUTF8(func(name string) string { return c.env[name] }); got != c.utf8 {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}
