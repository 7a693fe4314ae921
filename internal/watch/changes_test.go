package watch_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

// settle has a client be known for forty days, in which it did what issued says.
func (w *world) settle(client, key string) {
	w.t.Helper()
	known := behaviour.New(behaviour.Config{})
	for at := now().Add(-40 * 24 * time.Hour); at.Before(now()); at = at.Add(4 * time.Hour) {
		if alerts := known.Observe(behaviour.Event{
			Kind: behaviour.TokenIssued, At: at, ID: "event", RequestID: "request", ClientID: client, Authenticated: true,
			JKT: jktOf(key), Network: netip.MustParsePrefix("192.0.2.0/24"), UserAgent: "labels/1.0", Credential: "secret",
			Resource: "https://labels.test", Scopes: []string{"read", "write"}, Offset: 12 * time.Millisecond, HasOffset: true,
		}); len(alerts) > 0 {
			w.t.Fatalf("%+v", alerts)
		}
	}
	summary, err := json.Marshal(known.Baseline(client))
	must(w.t, err)
	w.exec(`insert into authz.client_baselines (client_id, summary, updated_at) values ($1, $2, now())
		on conflict (client_id) do update set summary = excluded.summary`, client, string(summary))
}

// An operator who gives a client another secret, or stops it for a while, expects nothing
// new of it: least of all after an incident.
func TestAChangeOfCredentialsExplainsNoNewScope(t *testing.T) {
	t.Parallel()
	changes := map[string]struct {
		kind     authz.AuditKind
		detail   map[string]any
		explains bool
	}{
		"secret":   {authz.AuditSecretRotated, map[string]any{"until": "2026-01-01T00:00:00Z"}, false},
		"disabled": {authz.AuditClientDisabled, nil, false},
		"enabled":  {authz.AuditClientEnabled, nil, false},
		"policy":   {authz.AuditClientUpdated, map[string]any{"dpop_keys": "enrolled"}, true},
	}
	var clients []string
	for name := range changes {
		clients = append(clients, name)
	}
	w := newWorld(t, clients...)
	w.exec(`delete from authz.audit_events`) // that they were created, which explains anything
	for name, change := range changes {
		w.settle(name, name)
		event := w.event(change.kind, name)
		event.Detail = change.detail
		token := w.issued(name, name)
		token.Detail["scope"] = "read refund"
		w.write(event) // by itself: what is written at once has no order
		w.write(token)
	}
	w.start(nil)
	w.await("all is learnt", func() bool {
		for name := range changes {
			if b := w.baseline(name); b == nil || len(b.Scopes()) != 3 {
				return false
			}
		}
		return true
	})
	told := map[string]bool{}
	for _, a := range w.alerts() {
		told[a.ClientID] = a.Kind == behaviour.NewScope && a.Subject == "refund"
	}
	for name, change := range changes {
		if told[name] == change.explains {
			t.Errorf("%s: a new scope is told: %v", name, told[name])
		}
	}
}
