package storetest

import (
	"testing"

	"github.com/cargokey/authz/authz"
)

// step is something that an operator does.
type step func(*testing.T, *world)

func all(steps ...step) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		for _, s := range steps {
			s(t, w)
		}
	}
}

// register registers a client as populate does.
func register(id string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		c := w.client(id)
		switch id {
		case edge:
			c = w.gateway(id, labels)
		case yard:
			c = w.gateway(id, rates)
		}
		create(c)(t, w)
	}
}

func create(c *authz.Client) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)))
	}
}

func remove(id string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.DeleteClient(t.Context(), id, w.event(authz.AuditClientDeleted)))
	}
}

func disable(id string, disabled bool) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.SetClientDisabled(t.Context(), id, disabled, w.event(authz.AuditClientDisabled)))
	}
}

func registerResource(uri string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.CreateResource(t.Context(), w.resource(uri), w.event(authz.AuditResourceCreated)))
	}
}

func updateResource(uri string, change func(*authz.Resource)) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		r := w.registered(t, uri)
		change(r)
		must(t, w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)))
	}
}

func removeResource(uri string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.DeleteResource(t.Context(), uri, w.event(authz.AuditResourceDeleted)))
	}
}
