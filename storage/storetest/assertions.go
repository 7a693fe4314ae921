package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func assertions() []property {
	return []property{
		{"AssertionIsSpentWithTheToken", assertionSpent},
		{"AssertionIsSpentOnceWithoutAToken", assertionSpentAlone},
		{"WhatFailsSpendsNeitherProofNorAssertion", neitherIsSpent},
		{"NameUsedAgainInTheSameHourIsSpentAndNoFailure", usedAgainInTheHour},
		{"OfEqualAssertionsWithDifferentProofsOneGetsAToken", equalAssertions},
		{"OfEqualProofsWithDifferentAssertionsOneGetsAToken", equalProofsOfAssertions},
	}
}

// assertion ends in four minutes, which may be in another partition.
func (w *world) assertion() *authz.Spending {
	return &authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Add(4 * time.Minute).Truncate(time.Second), Window: 6 * time.Minute}
}

// asserted is an issue of shop's with a fresh assertion.
func (w *world) asserted() authz.Issue {
	i := w.issue()
	i.Assertion = w.assertion()
	return i
}

func (w *world) recordsNothing(t *testing.T, want error, issues ...authz.Issue) {
	t.Helper()
	for _, i := range issues {
		for _, s := range w.Servers {
			w.refuses(t, want, func() error { return s.RecordToken(t.Context(), i) })
		}
	}
}

func assertionSpent(t *testing.T, w *world) {
	w.populate(t)
	for _, form := range []func(authz.Issue) authz.Issue{bearer, func(i authz.Issue) authz.Issue { return i }} {
		first := form(w.asserted())
		w.writes(t, func() error { return w.Servers[0].RecordToken(t.Context(), first) }, first.Event)
		w.isActive(t, first.Token)
		again := form(w.asserted())
		again.Assertion = first.Assertion
		later := form(w.asserted())
		later.Assertion = new(*first.Assertion)
		later.Assertion.IssuedAt = later.Assertion.IssuedAt.Add(-5 * time.Minute) // the same name with another end
		w.recordsNothing(t, authz.ErrAssertionSpent, again, later)
		w.refuses(t, authz.ErrAssertionSpent, func() error { return w.Servers[1].SpendAssertion(t.Context(), *first.Assertion) })
	}
}

func assertionSpentAlone(t *testing.T, w *world) {
	w.populate(t)
	a := w.assertion()
	counts := atOnce(t, 16, func(ctx context.Context, i int) error { return w.Servers[i%2].SpendAssertion(ctx, *a) }, authz.ErrAssertionSpent)
	same(t, []int{1, 15}, counts)
	i := w.asserted()
	i.Assertion = a
	w.recordsNothing(t, authz.ErrAssertionSpent, i, bearer(i))
}

func neitherIsSpent(t *testing.T, w *world) {
	w.populate(t)
	spent := w.asserted()
	must(t, w.Servers[0].RecordToken(t.Context(), spent))

	replayed, unadmitted, gone := w.asserted(), w.asserted(), w.asserted()
	replayed.Proof, unadmitted.Token.JKT = spent.Proof, newJKT()
	must(t, w.Operator.RevokeDPoPKey(t.Context(), unadmitted.Token.JKT, w.event(authz.AuditDPoPKeyRevoked)))
	gone.Revision++
	w.recordsNothing(t, authz.ErrProofSpent, replayed)
	w.recordsNothing(t, authz.ErrKeyNotAdmitted, unadmitted)
	w.recordsNothing(t, authz.ErrClientChanged, gone, bearer(gone))
	for _, failed := range []authz.Issue{replayed, unadmitted, gone} {
		good := w.asserted()
		good.Assertion = failed.Assertion
		must(t, w.Servers[0].RecordToken(t.Context(), good))
	}
	unspent := w.asserted()
	unspent.Assertion = spent.Assertion
	w.recordsNothing(t, authz.ErrAssertionSpent, unspent)
	unspent.Assertion = w.assertion()
	must(t, w.Servers[0].RecordToken(t.Context(), unspent))
}

// A Store may take a name for the same one beyond its window, and then says so.
func usedAgainInTheHour(t *testing.T, w *world) {
	w.populate(t)
	hour := w.now.Truncate(time.Hour)
	early, late := hour.Add(time.Minute), hour.Add(58*time.Minute)
	for _, times := range [][2]time.Time{{early, late}, {late, early}} {
		for _, name := range []string{"proof", "assertion"} {
			first := w.asserted()
			first.Proof.IssuedAt, first.Assertion.IssuedAt = times[0], times[0]
			must(t, w.Servers[0].RecordToken(t.Context(), first))
			again, want := w.asserted(), authz.ErrProofSpent
			if name == "proof" {
				again.Proof = new(*first.Proof)
				again.Proof.IssuedAt = times[1]
			} else {
				again.Assertion, want = new(*first.Assertion), authz.ErrAssertionSpent
				again.Assertion.IssuedAt = times[1]
			}
			if err := w.Servers[1].RecordToken(t.Context(), again); err != nil && !errors.Is(err, want) {
				t.Errorf("the %s's name again, %s from it: %v", name, times[1].Sub(times[0]), err)
			}
		}
	}
}

func equalAssertions(t *testing.T, w *world) {
	w.populate(t)
	shared := w.assertion()
	counts := atOnce(t, 16, func(ctx context.Context, i int) error {
		issue := w.issue()
		issue.Assertion = shared
		return w.Servers[i%2].RecordToken(ctx, issue)
	}, authz.ErrAssertionSpent)
	same(t, []int{1, 15}, counts)
	same(t, 2, w.SpentProofs(t)) // its own and the proof beside it
}

func equalProofsOfAssertions(t *testing.T, w *world) {
	w.populate(t)
	shared := w.issue().Proof
	counts := atOnce(t, 16, func(ctx context.Context, i int) error {
		issue := w.asserted()
		issue.Proof = shared
		return w.Servers[i%2].RecordToken(ctx, issue)
	}, authz.ErrProofSpent)
	same(t, []int{1, 15}, counts)
	same(t, 2, w.SpentProofs(t))
}
