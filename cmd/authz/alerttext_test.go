package main

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/watch"
)

// keyring is who has first shown which key.
type keyring map[string]string

func (k keyring) Owner(jkt string) string               { return k[jkt] }
func (k keyring) Own(jkt, clientID string, _ time.Time) { k[jkt] = clientID }

// alertsOfEachKind leads a client through all that raises an alert.
func alertsOfEachKind() (alerts []behaviour.Alert) {
	w := behaviour.New(behaviour.Config{Owners: keyring{"stolen-0123456789": "other"}})
	at := time.Date(2026, 8, 3, 0, 0, 0, 0, time.UTC)
	usual := behaviour.Event{
		Kind: behaviour.TokenIssued, ClientID: "label-service", Authenticated: true, JKT: "usual-0123456789", UserAgent: "labels/1.4",
		Network: netip.MustParsePrefix("192.0.2.0/24"), Credential: "0123456789ab", Resource: "https://labels.test",
		Scopes: []string{"label:create"}, HasOffset: true, ID: "event", RequestID: "request",
	}
	observe := func(wait time.Duration, edit func(*behaviour.Event)) {
		at = at.Add(wait)
		e := usual
		e.At = at
		if edit != nil {
			edit(&e)
		}
		alerts = append(alerts, w.Observe(e)...)
	}
	ordinary := func(days int) {
		for range days * 48 {
			observe(30*time.Minute, nil)
		}
	}
	departures := []func(*behaviour.Event){
		func(e *behaviour.Event) { e.JKT = "new-key-0123456789" },
		func(e *behaviour.Event) { e.Network = netip.MustParsePrefix("203.0.113.0/24") },
		func(e *behaviour.Event) { e.Times = 5000 },
		func(e *behaviour.Event) {
			e.Kind, e.Reason, e.Network = behaviour.TokenRefused, "replay", netip.MustParsePrefix("198.51.100.0/24")
		},
		func(e *behaviour.Event) { e.Kind, e.Credential = behaviour.SecretRetired, "ba9876543210" },
		func(e *behaviour.Event) { e.Kind, e.JKT = behaviour.KeyRefused, "strange-0123456789" },
		func(e *behaviour.Event) { e.Kind, e.Reason, e.Times = behaviour.TokenRefused, "signature", 5000 },
		func(e *behaviour.Event) { e.Scopes = []string{"label:delete"} },
		func(e *behaviour.Event) { e.JKT = "stolen-0123456789" },
	}
	ordinary(40)
	for _, departure := range departures {
		observe(time.Minute, departure)
		ordinary(1)
	}
	for offset := time.Duration(0); offset < 74*time.Second; offset += time.Second {
		for range 4 {
			observe(20*time.Minute, func(e *behaviour.Event) { e.Offset = offset })
		}
	}
	observe(45*24*time.Hour, nil)
	return append(alerts, w.Tick(at.Add(time.Hour))...)
}

// What an alert says to type is typed at three in the morning.
func TestEveryCommandInAnAlertIsOneThatTheProgramKnows(t *testing.T) {
	t.Parallel()
	needs(t, "bash")
	var kinds []behaviour.AlertKind
	for _, alert := range alertsOfEachKind() {
		if slices.Contains(kinds, alert.Kind) {
			continue
		}
		kinds = append(kinds, alert.Kind)
		commands := 0
		for _, line := range watch.Lines(alert.Do) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			commands++
			if err := understood(line); err != "" {
				t.Errorf("%s: %s: %s", alert.Kind, line, err)
			}
		}
		if commands < 2 || alert.Normal == "" || alert.Seen == "" || alert.Why == "" {
			t.Errorf("%s: %+v", alert.Kind, alert)
		}
	}
	for _, kind := range behaviour.AlertKinds() {
		if !slices.Contains(kinds, kind) {
			t.Errorf("no alert %s was raised", kind)
		}
	}
}

// understood tells what the program does not understand of a line of a shell.
func understood(line string) string {
	out, err := exec.Command("bash", "-c", `printf '%s\0' `+line).Output()
	if err != nil {
		return err.Error()
	}
	words := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if words[0] != "authz" {
		return "it is not a command of authz"
	}
	command, rest, err := (&program{}).root().Find(argumentsLast(words[1:]))
	if err != nil {
		return err.Error()
	}
	if err := command.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if command.HasSubCommands() {
		return "it is only the beginning of a command"
	}
	if err := command.ValidateArgs(command.Flags().Args()); err != nil {
		return err.Error()
	}
	if err := command.ValidateRequiredFlags(); err != nil {
		return err.Error()
	}
	if kind := command.Flags().Lookup("kind"); kind != nil && command.Name() == "query" {
		for pattern := range strings.SplitSeq(strings.Trim(kind.Value.String(), "[]"), ",") {
			if pattern != "" && !slices.ContainsFunc(authz.AuditKinds(), func(k authz.AuditKind) bool { return authz.KindFits(pattern, k) }) {
				return "there is no event of kind " + pattern
			}
		}
	}
	return ""
}

func TestACommandThatIsNotKnownIsFound(t *testing.T) {
	t.Parallel()
	needs(t, "bash")
	for _, line := range []string{
		"authz", "authz client", "authz client disabel x", "authz client disable", "authz client disable x --force",
		"authz audit query --kind token.isued", "rm -rf x", "authz client disable 'x",
	} {
		if understood(line) == "" {
			t.Errorf("%s is taken for a command", line)
		}
	}
	for _, line := range []string{"authz client disable x", "authz token revoke --client x --reason 'it'\\''s'", "authz audit query --kind 'token.*' --since 2026-01-01T00:00:00Z"} {
		if err := understood(line); err != "" {
			t.Errorf("%s: %s", line, err)
		}
	}
}
