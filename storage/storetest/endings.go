package storetest

import (
	"testing"

	"github.com/cargokey/authz/authz"
)

// ending is what happens between a token's issue and a call with it.
type ending struct {
	name string
	end  func(*testing.T, *world, authz.Token)
	// mend has to let a call with a new token be good again.
	mend func(*testing.T, *world)
}

// check tries the call by the table of before, and by today's. Neither of them
// is told a token.
func (e ending) check(t *testing.T, w *world) {
	w.populate(t)
	old := w.record(t)
	call := w.call(t, old)
	e.end(t, w, old)
	want := authz.Verdict{Revision: w.table(t).Revision}
	w.told(t, e.name, want, call)
	call.Revision = want.Revision // of what was read before, all the rest
	w.told(t, e.name+", by its old generation", want, call)
	today := w.call(t, old)
	today.Proof = call.Proof
	w.told(t, e.name+", by today's table", want, today)
	if e.mend != nil {
		e.mend(t, w)
	}
	token := w.record(t)
	again := w.call(t, token)
	again.Proof = call.Proof
	w.admits(t, again, token)
}

func endings() []ending {
	removeLabels := all(remove(shop), remove(other), remove(edge), removeResource(labels))
	registerLabels := all(registerResource(labels), register(shop), register(other), register(edge))
	only := func(step step) func(*testing.T, *world, authz.Token) {
		return func(t *testing.T, w *world, _ authz.Token) { step(t, w) }
	}
	return []ending{
		{"TheTokenIsRevoked", func(t *testing.T, w *world, token authz.Token) {
			_, err := w.Servers[0].RevokeToken(t.Context(), token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked))
			must(t, err)
		}, nil},
		{"TheClientIsDisabled", only(disable(shop, true)), disable(shop, false)},
		{"TheClientIsDisabledAndEnabled", only(all(disable(shop, true), disable(shop, false))), nil},
		{"TheClientIsDeleted", only(remove(shop)), register(shop)},
		{"TheClientIsRegisteredAnew", only(all(remove(shop), register(shop))), nil},
		{"TheResourceIsDeleted", only(removeLabels), registerLabels},
		{"TheResourceIsRegisteredAnew", only(all(removeLabels, registerLabels)), nil},
	}
}
