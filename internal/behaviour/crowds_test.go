package behaviour_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// settledFleet knows n clients for forty days, each with a key of its own.
func settledFleet(t *testing.T, n int) (*behaviour.Watch, time.Duration) {
	t.Helper()
	w := behaviour.New(behaviour.Config{Owners: owners{}})
	at := time.Duration(0)
	for ; at < 40*aDay; at += time.Hour {
		for i := range n {
			if alerts := w.Observe(ofClient(i, at)); len(alerts) > 0 {
				t.Fatalf("at %v: %v", at, kinds(alerts))
			}
		}
	}
	return w, at
}

func ofClient(i int, at time.Duration) behaviour.Event {
	e := issued(at+time.Duration(i)*time.Second, thumbprint(100+i))
	e.ClientID = fmt.Sprint("service-", i)
	if at > 20*aDay {
		e.UserAgent = "shipping-sdk/2.0"
	}
	return e
}

func TestAllClientsAtOnceAfterAnOutageRaiseNoAlert(t *testing.T) {
	w, at := settledFleet(t, 50)
	at += 2 * time.Hour
	var alerts []behaviour.Alert
	for round := range 40 { // each is started anew in forty copies
		for i := range 50 {
			e := ofClient(i, at+time.Duration(round)*3*time.Second)
			alerts = append(alerts, w.Observe(e)...)
			e.Kind, e.Reason = behaviour.TokenRefused, "replay"
			alerts = append(alerts, w.Observe(e)...)
		}
	}
	alerts = append(alerts, w.Tick(start.Add(at+time.Hour))...)
	if len(alerts) > 0 {
		t.Errorf("%v", kinds(alerts))
	}
}

func TestOneClientThatBurstsAmongManyIsTold(t *testing.T) {
	w, at := settledFleet(t, 50)
	var alerts []behaviour.Alert
	for i := range 300 {
		alerts = append(alerts, w.Observe(ofClient(7, at+time.Duration(i)*time.Second))...)
	}
	if len(alerts) != 1 || alerts[0].Kind != behaviour.Burst || alerts[0].ClientID != "service-7" {
		t.Errorf("%v", kinds(alerts))
	}
}

func TestAPlatformWhoseAddressChangesIsToldOnce(t *testing.T) {
	w, at := settledFleet(t, 50)
	var alerts []behaviour.Alert
	for i := range 50 {
		e := ofClient(i, at+time.Duration(i)*10*time.Second)
		e.Network = netip.MustParsePrefix("192.0.2.0/24")
		alerts = append(alerts, w.Observe(e)...)
	}
	alerts = append(alerts, w.Tick(start.Add(at+time.Hour))...)
	if len(alerts) != 1 || alerts[0].Kind != behaviour.NewNetwork || alerts[0].Other == "" {
		t.Errorf("%v", kinds(alerts))
	}
}

func TestAServerThatSeesOtherAddressesThanBeforeTellsItOnce(t *testing.T) {
	w, at := settledFleet(t, 50)
	var alerts []behaviour.Alert
	for i := range 50 {
		e := ofClient(i, at+time.Duration(i)*10*time.Second)
		e.Network = netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", i, i))
		alerts = append(alerts, w.Observe(e)...)
	}
	alerts = append(alerts, w.Tick(start.Add(at+time.Hour))...)
	if len(alerts) != 1 || alerts[0].Kind != behaviour.NewNetwork || alerts[0].Other == "" {
		t.Errorf("%v", kinds(alerts))
	}
}

// A thief who has emptied a store of secrets has the keys of none.
func TestAThiefOfManyClientsIsToldOfForEachUpToEight(t *testing.T) {
	w, at := settledFleet(t, 50)
	told := map[behaviour.AlertKind]int{}
	for i := range 50 {
		e := ofClient(i, at+time.Duration(i)*10*time.Second)
		e.Network, e.JKT = netip.MustParsePrefix("45.9.8.0/24"), thumbprint(5000+i)
		for _, a := range w.Observe(e) {
			told[a.Kind]++
		}
	}
	if told[behaviour.NewNetwork] != 8 || told[behaviour.NewKey] != 50 {
		t.Errorf("%v", told)
	}
}

func TestARetryIsNoTheft(t *testing.T) {
	w, at := settledWatch(t, 40)
	for i := range 3 {
		e := issued(at+time.Duration(i)*2*time.Second, thumbprint(1))
		e.Kind, e.Reason = behaviour.TokenRefused, "replay"
		if alerts := w.Observe(e); len(alerts) > 0 {
			t.Errorf("%v", kinds(alerts))
		}
	}
}

func TestANewClientIsLearnedAndItsThievesAreToldOf(t *testing.T) {
	w := behaviour.New(behaviour.Config{Owners: owners{thumbprint(3): "rates"}})
	at := time.Duration(0)
	for i := range 20 { // from its first minute: networks, keys, scopes, programs
		at += time.Minute
		e := issued(at, thumbprint(10+i))
		e.Network = netip.MustParsePrefix(fmt.Sprintf("192.0.%d.0/24", i))
		e.Scopes, e.UserAgent = []string{fmt.Sprint("scope:", i)}, fmt.Sprint("program-", i)
		if alerts := w.Observe(e); len(alerts) > 0 {
			t.Errorf("%v", kinds(alerts))
		}
	}
	var alerts []behaviour.Alert
	alerts = append(alerts, w.Observe(issued(at, thumbprint(3)))...)
	for _, kind := range []behaviour.Kind{behaviour.SecretRetired, behaviour.KeyRefused} {
		e := issued(at, thumbprint(4))
		e.Kind = kind
		alerts = append(alerts, w.Observe(e)...)
	}
	for i := range 70 {
		e := issued(at+time.Duration(i)*time.Second, "")
		e.Kind, e.Reason = behaviour.TokenRefused, "signature"
		alerts = append(alerts, w.Observe(e)...)
		e.Reason = "replay"
		alerts = append(alerts, w.Observe(e)...)
	}
	alerts = append(alerts, w.Tick(start.Add(at+time.Hour))...)
	for _, kind := range []behaviour.AlertKind{behaviour.SharedKey, behaviour.RetiredSecret, behaviour.KeyNotEnrolled, behaviour.BadProofs, behaviour.ReplayedProof} {
		if !slices.Contains(kinds(alerts), kind) {
			t.Errorf("no %s: %v", kind, kinds(alerts))
		}
	}
}

func TestACrowdOfStrangersHidesNoClientsOwnBadProofs(t *testing.T) {
	w, at := behaviour.New(behaviour.Config{}), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	var found []behaviour.Alert
	see := func(e behaviour.Event) { e.At = at; found = append(found, w.Observe(e)...) }
	for range 15 * 24 { // so that each has a baseline
		for c := range 12 {
			see(behaviour.Event{Kind: behaviour.TokenIssued, Authenticated: true, ClientID: fmt.Sprint("client-", c), JKT: fmt.Sprint("key-", c)})
		}
		at = at.Add(time.Hour)
	}
	found = nil
	for range 60 {
		for c := range 12 {
			see(behaviour.Event{Kind: behaviour.TokenRefused, Authenticated: c == 0, ClientID: fmt.Sprint("client-", c), Reason: "signature"})
		}
		at = at.Add(2 * time.Second)
	}
	found = append(found, w.Tick(at.Add(5*time.Minute))...)
	if len(found) != 1 || found[0].Kind != behaviour.BadProofs || found[0].ClientID != "client-0" {
		t.Errorf("%+v", found)
	}
}
