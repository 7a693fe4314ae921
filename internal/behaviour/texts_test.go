package behaviour_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/internal/behaviour"
)

var update = flag.Bool("update", false, "rewrite golden files")

// departures are one of each kind, after weeks of the usual: what is done to a client at
// a moment.
var departures = map[behaviour.AlertKind]func(w *behaviour.Watch, at time.Duration) []behaviour.Alert{
	behaviour.NewKey: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		return append(w.Observe(issued(at, thumbprint(2))), w.Tick(start.Add(at+5*time.Minute))...)
	},
	behaviour.NewNetwork: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		e := issued(at, thumbprint(2))
		e.Network, e.UserAgent = netip.MustParsePrefix("45.9.8.0/24"), "curl/8.5.0"
		return w.Observe(e)
	},
	behaviour.Burst: func(w *behaviour.Watch, at time.Duration) (alerts []behaviour.Alert) {
		for i := range 400 {
			alerts = append(alerts, w.Observe(issued(at+time.Duration(i)*time.Second, thumbprint(1)))...)
		}
		return alerts
	},
	behaviour.ReplayedProof: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		e := issued(at, thumbprint(1))
		e.Kind, e.Reason, e.Network = behaviour.TokenRefused, "replay", netip.MustParsePrefix("45.9.8.0/24")
		return w.Observe(e)
	},
	behaviour.RetiredSecret: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		e := issued(at, "")
		e.Kind, e.Credential, e.Authenticated, e.Network = behaviour.SecretRetired, "f0e1d2c3b4a5", false, netip.MustParsePrefix("2a01:4f8::/48")
		return w.Observe(e)
	},
	behaviour.KeyNotEnrolled: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		w.Observe(behaviour.Event{Kind: behaviour.KeyEnrolled, At: start.Add(at), ClientID: "labels", JKT: thumbprint(1)})
		e := issued(at, thumbprint(3))
		e.Kind, e.Network = behaviour.KeyRefused, netip.MustParsePrefix("45.9.8.0/24")
		return w.Observe(e)
	},
	behaviour.BadProofs: func(w *behaviour.Watch, at time.Duration) (alerts []behaviour.Alert) {
		for i := range 30 {
			e := issued(at+time.Duration(i)*5*time.Second, "")
			e.Kind, e.Reason = behaviour.TokenRefused, []string{"signature", "htu", "signature"}[i%3]
			alerts = append(alerts, w.Observe(e)...)
		}
		return append(alerts, w.Tick(start.Add(at+10*time.Minute))...)
	},
	behaviour.NewScope: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		e := issued(at, thumbprint(1))
		e.Scopes = []string{"label:create", "label:delete-all"}
		return w.Observe(e)
	},
	behaviour.SharedKey: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		e := issued(at, thumbprint(1))
		e.ClientID, e.Credential = "rates", "a9b8c7d6e5f4"
		return w.Observe(e)
	},
	behaviour.AwokenClient: func(w *behaviour.Watch, at time.Duration) []behaviour.Alert {
		return w.Observe(issued(at+40*aDay, thumbprint(1)))
	},
	behaviour.ClockDrift: func(w *behaviour.Watch, at time.Duration) (alerts []behaviour.Alert) {
		for i := range 500 {
			e := issued(at+time.Duration(i)*20*time.Minute, thumbprint(1))
			e.Offset = 120*time.Millisecond - time.Duration(i)*60*time.Millisecond
			alerts = append(alerts, w.Observe(e)...)
		}
		return alerts
	},
}

func ofKind(t *testing.T, kind behaviour.AlertKind) behaviour.Alert {
	t.Helper()
	w, at := settledWatch(t, 40)
	alerts := departures[kind](w, at)
	i := slices.IndexFunc(alerts, func(a behaviour.Alert) bool { return a.Kind == kind })
	if i < 0 {
		t.Fatalf("no alert of its kind: %v", kinds(alerts))
	}
	return alerts[i]
}

func TestAnAlertsTextIsTheGoldenOne(t *testing.T) {
	if len(departures) != len(behaviour.AlertKinds()) {
		t.Fatalf("%d departures for %d kinds", len(departures), len(behaviour.AlertKinds()))
	}
	for _, kind := range behaviour.AlertKinds() {
		t.Run(string(kind), func(t *testing.T) {
			a := ofKind(t, kind)
			got := fmt.Sprintf("%s of %s at %s, subject %q, other %q, event %q, request %q\n\nNORMAL\n%s\n\nSEEN\n%s\n\nWHY\n%s\n\nDO\n%s\n",
				a.Kind, a.ClientID, a.At.Format(time.RFC3339), a.Subject, a.Other, a.EventID, a.RequestID, a.Normal, a.Seen, a.Why, a.Do)
			file := filepath.Join("testdata", "texts", string(kind)+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Somebody pastes it into a shell: what a stranger named is one word of it, or not there.
func TestWhatToTypeIsCommandsAndCommentsWhateverNamesThereAre(t *testing.T) {
	nasty := "'; rm -rf / #\n$(id)`id`"
	w := behaviour.New(behaviour.Config{Owners: owners{thumbprint(9): nasty}})
	e := issued(0, thumbprint(9))
	e.Credential, e.UserAgent = nasty, nasty
	alerts := w.Observe(e)
	if len(alerts) != 1 {
		t.Fatalf("%v", kinds(alerts))
	}
	var all []behaviour.Alert
	for _, kind := range behaviour.AlertKinds() {
		all = append(all, ofKind(t, kind))
	}
	for _, a := range all {
		for line := range strings.Lines(a.Do) {
			if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "authz ") && !strings.HasPrefix(line, "# ") {
				t.Errorf("%s: what is %q?", a.Kind, line)
			}
		}
	}
	if quoted := `''\''; rm -rf / #` + "\n" + `$(id)` + "`id`'"; !strings.Contains(alerts[0].Do, "authz client disable "+quoted+"\n") {
		t.Errorf("not quoted: %s", alerts[0].Do)
	}
}
