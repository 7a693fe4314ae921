package storetest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func dpopKeys() []property {
	return []property{
		{"ClientWithEnrolledKeysGetsTokensForNoOthers", onlyEnrolled},
		{"KeyThatHasEndedOrWasRemovedGetsNoToken", endedKey},
		{"KeyOfOneClientIsNotAnothers", keyOfAnother},
		{"FirstKeyIsEnrolledAndNoOther", firstUse},
		{"OfManyFirstKeysOnTwoInstancesOneIsEnrolled", firstUseRace},
		{"SameFirstKeyManyTimesIsEnrolledOnce", sameFirstKey},
		{"SpentProofEnrolsNoKey", spentFirstUse},
		{"NoOtherKeyBecomesTheFirstOnceThatIsGone", firstUseOnce},
		{"OperatorsChangesLeaveTheirEvents", enrolmentEvents},
		{"KeyThatIsVouchedForIsEnrolledAndTheOldOneEnds", endorsed},
		{"EndorsementThatDoesNotHoldWritesNothing", notEndorsed},
		{"EqualEndorsementsOnTwoInstancesEnrolOnce", endorsedOnce},
		{"KeysOfAClientAreBounded", manyKeys},
		{"NoKeyIsEnrolledByAClockThatIsHoursOff", enrolledByTheClock},
	}
}

// newJKT is the thumbprint of a key that nobody has.
func newJKT() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (w *world) policy(t *testing.T, clientID string, policy authz.DPoPKeyPolicy) {
	t.Helper()
	must(t, w.Operator.SetDPoPKeyPolicy(t.Context(), clientID, policy, w.event(authz.AuditClientUpdated)))
}

// enrol enrols a key for shop.
func (w *world) enrol(t *testing.T, jkt string, ends time.Time) {
	t.Helper()
	key := authz.DPoPKey{JKT: jkt, EnrolledAt: w.now, EnrolledBy: "operator:ada", EndsAt: ends}
	must(t, w.Operator.EnrolKey(t.Context(), shop, key, w.event(authz.AuditDPoPKeyEnrolled)))
}

func (w *world) removeKey(t *testing.T, jkt string) {
	t.Helper()
	must(t, w.Operator.RemoveKey(t.Context(), shop, jkt, w.event(authz.AuditDPoPKeyRemoved)))
}

// issueBound is issueFor with a key of its own.
func (w *world) issueBound(client, jkt string, at time.Time) authz.Issue {
	i := w.issueFor(client, at)
	i.Token.JKT, i.Event.JKT = jkt, jkt
	return i
}

func (w *world) getsToken(t *testing.T, jkt string) {
	t.Helper()
	for _, s := range w.Servers {
		i := w.issueBound(shop, jkt, w.now)
		w.writes(t, func() error { return s.RecordToken(t.Context(), i) }, i.Event)
		if !w.isActive(t, i.Token) {
			t.Error("the token is inactive")
		}
	}
}

func (w *world) getsNoToken(t *testing.T, issues ...authz.Issue) {
	t.Helper()
	for _, i := range issues {
		for _, s := range w.Servers {
			w.refuses(t, authz.ErrKeyNotAdmitted, func() error { return s.RecordToken(t.Context(), i) })
		}
	}
}

func (w *world) keysOf(t *testing.T, clientID string) []authz.DPoPKey {
	t.Helper()
	keys, err := w.Operator.DPoPKeys(t.Context(), clientID)
	must(t, err)
	return keys
}

func onlyEnrolled(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	one, two := newJKT(), newJKT()
	w.getsNoToken(t, w.issueBound(shop, one, w.now), bearer(w.issue()))
	w.enrol(t, one, time.Time{})
	w.getsToken(t, one)
	w.getsNoToken(t, w.issueBound(shop, two, w.now), bearer(w.issue()))
	w.enrol(t, two, w.now.Add(time.Hour))
	w.getsToken(t, one)
	w.getsToken(t, two)
	w.policy(t, shop, authz.AnyKey)
	w.getsToken(t, newJKT())
	c, err := w.Operator.Client(t.Context(), other, w.now)
	must(t, err)
	if c.DPoPKeys != authz.AnyKey {
		t.Errorf("another client's policy is %q", c.DPoPKeys)
	}
}

func endedKey(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	ending, removed := newJKT(), newJKT()
	w.enrol(t, ending, w.now.Add(time.Microsecond))
	w.enrol(t, removed, time.Time{})
	w.getsToken(t, ending)
	w.getsToken(t, removed)
	w.removeKey(t, removed)
	w.getsNoToken(t, w.issueBound(shop, removed, w.now), w.issueBound(shop, ending, w.now.Add(time.Microsecond)))
	for _, jkt := range []string{removed, newJKT(), ""} {
		w.refuses(t, authz.ErrNotFound, func() error {
			return w.Operator.RemoveKey(t.Context(), shop, jkt, w.event(authz.AuditDPoPKeyRemoved))
		})
	}
	// An operator may admit it again.
	w.enrol(t, removed, time.Time{})
	w.getsToken(t, removed)
}

func keyOfAnother(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	w.policy(t, other, authz.EnrolledKey)
	jkt := newJKT()
	w.enrol(t, jkt, time.Time{})
	w.getsNoToken(t, w.issueBound(other, jkt, w.now))
	w.getsToken(t, jkt)
	// A client that is registered anew has none of the keys of before.
	must(t, w.Operator.DeleteClient(t.Context(), shop, w.event(authz.AuditClientDeleted)))
	again := w.client(shop)
	again.DPoPKeys = authz.EnrolledKey
	create(again)(t, w)
	w.getsNoToken(t, w.issueBound(shop, jkt, w.now))
}

// enrolmentOf is the event of a first use that i is.
func enrolmentOf(i authz.Issue) authz.AuditEvent {
	e := i.Event
	e.Kind, e.Resource, e.JTI, e.Detail = authz.AuditDPoPKeyEnrolled, "", authz.JTI{}, map[string]any{"by": "first-use"}
	return e
}

func firstUse(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.FirstUseKey)
	w.getsNoToken(t, bearer(w.issue()))
	first, second := newJKT(), newJKT()
	i := w.issueBound(shop, first, w.now)
	before := len(w.Events(t))
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	events := w.Events(t)[before:]
	at := slices.IndexFunc(events, func(e authz.AuditEvent) bool { return e.Kind == authz.AuditDPoPKeyEnrolled })
	if len(events) != 2 || at < 0 {
		t.Fatalf("events: %v", events)
	}
	want := enrolmentOf(i)
	want.ID = events[at].ID
	same(t, want, events[at])
	same(t, []authz.DPoPKey{{JKT: first, EnrolledAt: w.now, EnrolledBy: "first-use"}}, w.keysOf(t, shop))
	w.getsToken(t, first)
	w.getsNoToken(t, w.issueBound(shop, second, w.now))
	w.enrol(t, second, time.Time{})
	w.getsToken(t, second)
	w.getsToken(t, first)
}

func firstUseRace(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.FirstUseKey)
	const n = 32
	issues := make([]authz.Issue, n)
	for i := range issues {
		issues[i] = w.issueBound(shop, newJKT(), w.now)
	}
	counts := atOnce(t, n, func(ctx context.Context, i int) error {
		return w.Servers[i%2].RecordToken(ctx, issues[i])
	}, authz.ErrKeyNotAdmitted)
	same(t, []int{1, n - 1}, counts)
	keys := w.keysOf(t, shop)
	if len(keys) != 1 || w.SpentProofs(t) != 1 {
		t.Fatalf("%d keys are enrolled, %d proofs spent", len(keys), w.SpentProofs(t))
	}
	for _, i := range issues {
		if got, want := w.isActive(t, i.Token), i.Token.JKT == keys[0].JKT; got != want {
			t.Errorf("the token for %s is active: %v, its key is the enrolled one: %v", i.Token.JKT, got, want)
		}
	}
	enrolments := 0
	for _, e := range w.Events(t) {
		if e.Kind == authz.AuditDPoPKeyEnrolled {
			enrolments++
		}
	}
	if enrolments != 1 {
		t.Errorf("%d events of an enrolment", enrolments)
	}
}

func sameFirstKey(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.FirstUseKey)
	jkt := newJKT()
	const n = 16
	counts := atOnce(t, n, func(ctx context.Context, i int) error {
		return w.Servers[i%2].RecordToken(ctx, w.issueBound(shop, jkt, w.now))
	})
	same(t, []int{n}, counts)
	if keys := w.keysOf(t, shop); len(keys) != 1 {
		t.Errorf("%d keys are enrolled", len(keys))
	}
}

func spentFirstUse(t *testing.T, w *world) {
	w.populate(t)
	i := w.issueBound(shop, newJKT(), w.now)
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	w.policy(t, shop, authz.FirstUseKey)
	i = w.read(i)
	for _, s := range w.Servers {
		w.refuses(t, authz.ErrProofSpent, func() error { return s.RecordToken(t.Context(), i) })
	}
	same(t, 0, len(w.keysOf(t, shop)))
}

func firstUseOnce(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.FirstUseKey)
	first := newJKT()
	must(t, w.Servers[0].RecordToken(t.Context(), w.issueBound(shop, first, w.now)))
	w.removeKey(t, first)
	w.getsNoToken(t, w.issueBound(shop, newJKT(), w.now), w.issueBound(shop, first, w.now))
}

func enrolmentEvents(t *testing.T, w *world) {
	w.populate(t)
	ctx, jkt := t.Context(), newJKT()
	of := func(kind authz.AuditKind, jkt string) (passed, recorded authz.AuditEvent) {
		e := w.event(kind)
		recorded = e
		recorded.ClientID, recorded.JKT = shop, jkt
		return e, recorded
	}
	e, want := of(authz.AuditClientUpdated, "")
	w.writes(t, func() error { return w.Operator.SetDPoPKeyPolicy(ctx, shop, authz.EnrolledKey, e) }, want)
	key := authz.DPoPKey{JKT: jkt, EnrolledAt: w.now, EnrolledBy: "operator:ada", EndsAt: w.now.Add(time.Hour)}
	e, want = of(authz.AuditDPoPKeyEnrolled, jkt)
	w.writes(t, func() error { return w.Operator.EnrolKey(ctx, shop, key, e) }, want)
	same(t, []authz.DPoPKey{key}, w.keysOf(t, shop))
	e, want = of(authz.AuditDPoPKeyRemoved, jkt)
	w.writes(t, func() error { return w.Operator.RemoveKey(ctx, shop, jkt, e) }, want)
	key.EndsAt = w.now
	same(t, []authz.DPoPKey{key}, w.keysOf(t, shop))

	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.SetDPoPKeyPolicy(ctx, "nobody", authz.EnrolledKey, w.event(authz.AuditClientUpdated))
	})
	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.EnrolKey(ctx, "nobody", key, w.event(authz.AuditDPoPKeyEnrolled))
	})
	w.refuses(t, nil, func() error { // a name that no key has
		return w.Operator.EnrolKey(ctx, shop, authz.DPoPKey{JKT: "short", EnrolledAt: w.now}, w.event(authz.AuditDPoPKeyEnrolled))
	})
	must(t, w.Operator.RevokeDPoPKey(ctx, jkt, w.event(authz.AuditDPoPKeyRevoked)))
	w.refuses(t, authz.ErrKeyRevoked, func() error {
		return w.Operator.EnrolKey(ctx, shop, key, w.event(authz.AuditDPoPKeyEnrolled))
	})
	key.Revoked = true
	same(t, []authz.DPoPKey{key}, w.keysOf(t, shop))
}

// endorsement is of a new key by another, with fresh proofs of both.
func (w *world) endorsement(by, jkt string) authz.Endorsement {
	proof := func() authz.Spending {
		return authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Truncate(time.Second), Window: window}
	}
	return authz.Endorsement{Caller: w.caller(shop), JKT: jkt, By: by, Spent: []authz.Spending{proof(), proof()}}
}

func (w *world) endorse(t *testing.T, e authz.Endorsement) error {
	return w.Servers[0].EndorseKey(t.Context(), e, w.event(authz.AuditDPoPKeyEnrolled))
}

func endorsed(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	first, second, third := newJKT(), newJKT(), newJKT()
	w.enrol(t, first, time.Time{})
	event := w.event(authz.AuditDPoPKeyEnrolled)
	want := event
	want.ClientID, want.JKT = shop, second
	e := w.endorsement(first, second)
	w.writes(t, func() error { return w.Servers[0].EndorseKey(t.Context(), e, event) }, want)
	w.getsToken(t, first) // both for as long as the old one lives
	w.getsToken(t, second)

	e = w.endorsement(second, third)
	e.ByEndsAt = w.now.Add(time.Minute)
	must(t, w.endorse(t, e))
	w.getsToken(t, second)
	w.getsToken(t, third)
	w.getsNoToken(t, w.issueBound(shop, second, w.now.Add(time.Minute)))
	// A lost answer: the new key is enrolled already, and the end comes no later.
	e = w.endorsement(second, third)
	e.ByEndsAt = w.now.Add(time.Hour)
	must(t, w.endorse(t, e))
	w.getsNoToken(t, w.issueBound(shop, second, w.now.Add(time.Minute)))
	e = w.endorsement(second, third)
	e.ByEndsAt = w.now.Add(-time.Hour)
	must(t, w.endorse(t, e))
	w.getsNoToken(t, w.issueBound(shop, second, w.now))
	ends := map[string]time.Time{}
	for _, k := range w.keysOf(t, shop) {
		ends[k.JKT] = k.EndsAt
	}
	same(t, map[string]time.Time{first: {}, second: w.now, third: {}}, ends)
}

func notEndorsed(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	w.policy(t, shop, authz.EnrolledKey)
	w.policy(t, other, authz.EnrolledKey)
	good, ended, revoked, others := newJKT(), newJKT(), newJKT(), newJKT()
	w.enrol(t, good, time.Time{})
	w.enrol(t, ended, w.now)
	w.enrol(t, revoked, time.Time{})
	must(t, w.Operator.RevokeDPoPKey(ctx, revoked, w.event(authz.AuditDPoPKeyRevoked)))
	must(t, w.Operator.EnrolKey(ctx, other, authz.DPoPKey{JKT: others, EnrolledAt: w.now, EnrolledBy: "operator:ada"}, w.event(authz.AuditDPoPKeyEnrolled)))
	for _, c := range []struct {
		name    string
		by, jkt string
		want    error
	}{
		{"by a key that is not enrolled", newJKT(), newJKT(), authz.ErrNotEndorsed},
		{"by another client's key", others, newJKT(), authz.ErrNotEndorsed},
		{"by a key that has ended", ended, newJKT(), authz.ErrNotEndorsed},
		{"by a revoked key", revoked, newJKT(), authz.ErrNotEndorsed},
		{"of itself", good, good, authz.ErrNotEndorsed},
		{"of a new key by itself", others, others, authz.ErrNotEndorsed},
		{"of a revoked key", good, revoked, authz.ErrKeyNotAdmitted},
		{"of a key that has ended", good, ended, authz.ErrKeyNotAdmitted},
	} {
		t.Log(c.name)
		e := w.endorsement(c.by, c.jkt)
		e.ByEndsAt = w.now
		w.refuses(t, c.want, func() error { return w.endorse(t, e) })
	}
	w.policy(t, shop, authz.AnyKey)
	e := w.endorsement(good, newJKT())
	w.refuses(t, authz.ErrNotEndorsed, func() error { return w.endorse(t, e) })
	w.policy(t, shop, authz.EnrolledKey)
	disable(shop, true)(t, w)
	w.refuses(t, authz.ErrClientChanged, func() error { return w.endorse(t, e) })
	disable(shop, false)(t, w)
	e.Caller = w.caller(shop)
	must(t, w.endorse(t, e)) // none of the refusals has spent it
}

// Whoever has a server's rights does not bring back a key that has ended by
// telling another time.
func enrolledByTheClock(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	w.policy(t, other, authz.FirstUseKey)
	old := newJKT()
	w.enrol(t, old, w.now.Add(-time.Minute))
	for _, off := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		at := w.now.Add(off)
		w.refuses(t, nil, func() error {
			return w.Servers[0].EndorseKey(t.Context(), w.endorsement(old, newJKT()), w.eventAt(authz.AuditDPoPKeyEnrolled, at))
		})
		w.refuses(t, nil, func() error {
			return w.Servers[0].RecordToken(t.Context(), w.issueBound(other, newJKT(), at))
		})
	}
}

func endorsedOnce(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.FirstUseKey)
	old := newJKT()
	w.enrol(t, old, time.Time{})
	const n = 16
	shared := w.endorsement(old, newJKT())
	counts := atOnce(t, n, func(ctx context.Context, i int) error {
		e := shared
		if i%4 < 2 { // the same endorsement, with another proof of the new key
			e.Spent = []authz.Spending{w.endorsement(old, old).Spent[0], shared.Spent[1]}
		}
		return w.Servers[i%2].EndorseKey(ctx, e, w.event(authz.AuditDPoPKeyEnrolled))
	}, authz.ErrProofSpent)
	same(t, []int{1, n - 1}, counts)
	if keys := w.keysOf(t, shop); len(keys) != 2 {
		t.Errorf("%d keys are enrolled", len(keys))
	}
}

func manyKeys(t *testing.T, w *world) {
	w.populate(t)
	w.policy(t, shop, authz.EnrolledKey)
	first := newJKT()
	w.enrol(t, first, time.Time{})
	for n := 1; n < 100; n++ {
		if n%2 == 0 {
			w.enrol(t, newJKT(), w.now)
			continue
		}
		must(t, w.endorse(t, w.endorsement(first, newJKT())))
	}
	w.refuses(t, authz.ErrTooManyKeys, func() error { return w.endorse(t, w.endorsement(first, newJKT())) })
	// An operator is kept out by the keys in force only: half of those are over.
	for range 49 {
		w.enrol(t, newJKT(), time.Time{})
	}
	w.refuses(t, authz.ErrTooManyKeys, func() error {
		return w.Operator.EnrolKey(t.Context(), shop, authz.DPoPKey{JKT: newJKT(), EnrolledAt: w.now, EnrolledBy: "operator:ada"}, w.event(authz.AuditDPoPKeyEnrolled))
	})
	w.enrol(t, first, time.Time{}) // it is one of them
}
