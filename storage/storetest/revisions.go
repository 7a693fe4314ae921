package storetest

import (
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func clientRevisions() []property {
	return []property{
		{"ClientIsOfAnotherRevisionAfterEachChange", revisedClient},
		{"ResourceIsOfAnotherRevisionInTheGrantsForIt", revisedGrant},
		{"NothingIsDoneForAClientOfAnotherRevision", nothingForRevisedClient},
		{"NoTokenIsRecordedByTermsOfBefore", nothingByRevisedTerms},
	}
}

// changesOf are all changes of a client that anything can be told of, by what each
// leaves it able to do.
func changesOf(id string) map[string]step {
	return map[string]step{
		"disabled": disable(id, true),
		"enabled":  disable(id, false),
		"its tokens revoked": func(t *testing.T, w *world) {
			t.Helper()
			must(t, w.Operator.RevokeClientTokens(t.Context(), id, w.event(authz.AuditClientRevoked)))
		},
		"another secret beside": func(t *testing.T, w *world) {
			t.Helper()
			must(t, w.Operator.RotateSecret(t.Context(), id, randomDigest(), w.now.Add(time.Hour), w.event(authz.AuditSecretRotated)))
		},
		"another secret alone": func(t *testing.T, w *world) {
			t.Helper()
			must(t, w.Operator.RotateSecret(t.Context(), id, randomDigest(), time.Time{}, w.event(authz.AuditSecretRotated)))
		},
		"its DPoP keys": func(t *testing.T, w *world) {
			t.Helper()
			must(t, w.Operator.SetDPoPKeyPolicy(t.Context(), id, authz.EnrolledKey, w.event(authz.AuditClientUpdated)))
		},
		"its certificate": func(t *testing.T, w *world) {
			t.Helper()
			must(t, w.changesTerms(t, id, terms(authz.CertificateName{}), authz.CertificateTerms{Bound: true})())
		},
	}
}

func revisedClient(t *testing.T, w *world) {
	w.populate(t)
	for change, do := range changesOf("revised") {
		c := w.client("revised")
		create(c)(t, w)
		seen := map[int64]bool{c.Revision: true}
		if got := w.registeredClient(t, c.ID).Revision; got != c.Revision {
			t.Errorf("%s: the client is of revision %d, and was registered as %d", change, got, c.Revision)
		}
		others := w.registeredClient(t, shop).Revision
		for range 2 {
			do(t, w)
			if change == "its certificate" {
				must(t, w.changesTerms(t, c.ID, authz.CertificateTerms{Bound: true}, terms(authz.CertificateName{}))())
			}
			got := w.registeredClient(t, c.ID).Revision
			if seen[got] {
				t.Errorf("%s: the revision is one of before", change)
			}
			seen[got] = true
		}
		if w.registeredClient(t, shop).Revision != others {
			t.Errorf("%s: another client has another revision", change)
		}
		remove(c.ID)(t, w)
		create(c)(t, w)
		if seen[c.Revision] {
			t.Errorf("%s: registered anew, it is of a revision of before", change)
		}
		remove(c.ID)(t, w)
	}
}

func revisedGrant(t *testing.T, w *world) {
	w.populate(t)
	of := func() map[string]int64 {
		all := map[string]int64{}
		for _, g := range w.registeredClient(t, shop).Grants {
			all[g.Resource] = g.Revision
		}
		return all
	}
	before := of()
	w.revises(t, labels)
	after := of()
	if before[labels] == after[labels] || after[labels] == 0 {
		t.Errorf("%s was %d and is %d", labels, before[labels], after[labels])
	}
	for resource, revision := range before {
		if resource != labels && after[resource] != revision {
			t.Errorf("%s is of another revision", resource)
		}
	}
}

// revises changes the terms of a resource.
func (w *world) revises(t *testing.T, uri string) {
	t.Helper()
	r, err := w.Operator.Resource(t.Context(), uri)
	must(t, err)
	r.AllowBearer = !r.AllowBearer
	must(t, w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)))
}

func nothingForRevisedClient(t *testing.T, w *world) {
	w.populate(t)
	for by, a := range authenticatedBy() {
		changes := map[string]step{"nothing": all(), "enabled": disable("caller", false), "its tokens revoked": revokeTokens}
		if by == "a secret" {
			changes["another secret beside"] = changesOf("caller")["another secret beside"]
		}
		for change, do := range changes {
			caller, theirs, own := w.authenticates(t, a)
			do(t, w)
			for what, ask := range w.asks(t, a, caller, theirs, own) {
				if change != "nothing" {
					t.Logf("by %s; %s; %s", by, change, what)
					w.refuses(t, authz.ErrClientChanged, ask)
				} else if err := ask(); err != nil && (what != "revocation" || own.ClientID == caller.ClientID) {
					t.Errorf("by %s; %s: %v", by, what, err)
				}
			}
			remove("caller")(t, w)
		}
	}
}

func nothingByRevisedTerms(t *testing.T, w *world) {
	w.populate(t)
	asserted := w.issue()
	asserted.Assertion = w.assertion()
	must(t, w.Servers[0].RecordToken(t.Context(), w.issue()))
	late := w.issue()
	w.revises(t, labels)
	w.recordsNothing(t, authz.ErrClientChanged, late, bearer(late), asserted)
	must(t, w.Servers[1].RecordToken(t.Context(), w.issue()))
}
