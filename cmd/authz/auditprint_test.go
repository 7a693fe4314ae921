package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// What a client sends is in the trail: its user agent for one.
func TestNoEventSaysAnythingToATerminal(t *testing.T) {
	for _, hostile := range []string{"\x1b[2J\x1b]0;owned\x07", "a\nb", "a\rb", "\u009b2J", "\u202etxt", "\xff\xfe", "a b=c"} {
		detail, err := json.Marshal(map[string]any{hostile: "x", "user_agent": hostile, "list": []string{hostile}})
		if err != nil {
			t.Fatal(err)
		}
		e := authz.TrailEvent{
			AuditEvent: authz.AuditEvent{Kind: authz.AuditTokenRefused, Actor: "client:" + hostile, ClientID: hostile, Resource: hostile,
				JKT: hostile, RequestID: hostile, RemoteAddr: hostile},
			RawDetail: detail,
		}
		var out bytes.Buffer
		p := (&program{out: &out}).trailPrinter()
		if err := p.print(e); err != nil {
			t.Fatal(err)
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "\n") != 2 || strings.ContainsAny(out.String(), "\x1b\x07\r\u009b\u202e") {
			t.Errorf("%q is printed as %q", hostile, &out)
		}
	}
}

func TestColumnsOfEventsAreAligned(t *testing.T) {
	var out bytes.Buffer
	p := (&program{out: &out}).trailPrinter()
	for _, kind := range authz.AuditKinds() {
		e := authz.TrailEvent{AuditEvent: authz.NewAuditEvent(time.Now(), kind, "operator:grace")}
		e.Resource = "https://labels.test"
		if err := p.print(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := lines[len(lines)-1]
	if column := strings.Index(last, "resource="); strings.Index(lines[1], "resource=") > column || len(lines) != len(authz.AuditKinds())+1 {
		t.Errorf("not aligned:\n%s", &out)
	}
}

func TestMomentsAreReadAsTheyAreThoughtOf(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "24h": at.Add(-24 * time.Hour), "7d": at.AddDate(0, 0, -7), "90m": at.Add(-90 * time.Minute),
		"2026-11-20": time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), "2026-11-23T03:00:00+01:00": time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC),
	} {
		if got, err := readMoment("--since", text, at); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "0d", "-1d", "-5m", "1w", "d", "1.5d", "99999999d", "yesterday", "2026-13-01", "12:00"} {
		if _, err := readMoment("--since", text, at); err == nil || !strings.Contains(err.Error(), "24h or 7d") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What it is and what was seen fit in a terminal; the page is in authz alerts show, and all
// of it in --json.
func TestAnAlertInTheTrailIsALineForPeopleAndWholeForMachines(t *testing.T) {
	e := authz.TrailEvent{
		AuditEvent: authz.AuditEvent{Kind: authz.AuditAlertRaised, Actor: authz.ActorServer, ClientID: "label-service"},
		RawDetail: []byte(`{"alert":"7k2m9xq4tz3n","alert_kind":"new_key","subject":"key","seen":"a key",` +
			`"normal":"page","why":"page","do":"page","event":"page","raised_at":"page"}`),
	}
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		p := (&program{out: &out, json: asJSON}).trailPrinter()
		if err := p.print(e); err != nil {
			t.Fatal(err)
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"7k2m9xq4tz3n", "new_key", "a key"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("--json %t lacks %s:\n%s", asJSON, want, &out)
			}
		}
		if strings.Contains(out.String(), "page") != asJSON {
			t.Errorf("--json %t is\n%s", asJSON, &out)
		}
	}
}
