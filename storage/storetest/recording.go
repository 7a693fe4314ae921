package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func recording() []property {
	return []property{
		{"EqualProofsOnTwoInstancesYieldOneToken", equalProofs},
		{"EqualProofsOneAfterTheOtherYieldOneToken", repeatedProof},
		{"SameNameWithinTheWindowIsTheSameProof", withinTheWindow},
		{"SameNameOutsideTheWindowInAnotherHourIsAnotherProof", outsideTheWindow},
		{"DifferentProofsDoNotExcludeEachOther", differentProofs},
		{"BearerTokenSpendsNoProof", bearerToken},
		{"ClientThatIsNotEnabledGetsNoTokenAndSpendsNothing", clientGone},
		{"TokenThatCannotBeRecordedSpendsNothing", impossibleToken},
		{"TokenLeavesExactlyItsEvent", issuedEvent},
		{"CallThatIsGivenUpWritesNothing", cancelled},
	}
}

func equalProofs(t *testing.T, w *world) {
	w.populate(t)
	const n = 64
	issues := make([]authz.Issue, n)
	for i := range issues {
		issues[i] = w.issue()
		issues[i].Proof = issues[0].Proof
	}
	before := len(w.Events(t))
	counts := atOnce(t, n, func(ctx context.Context, i int) error {
		return w.Servers[i%2].RecordToken(ctx, issues[i])
	}, authz.ErrProofSpent)
	same(t, []int{1, n - 1}, counts)

	tokens, err := w.Operator.Tokens(t.Context(), shop, w.now, n)
	must(t, err)
	if len(tokens) != 1 || len(w.Events(t)) != before+1 || w.SpentProofs(t) != 1 {
		t.Errorf("%d tokens, %d events, %d spent proofs; want one each",
			len(tokens), len(w.Events(t))-before, w.SpentProofs(t))
	}
	for _, i := range issues {
		recorded := len(tokens) == 1 && i.Token.JTI == tokens[0].JTI
		if got := w.isActive(t, i.Token); got != recorded {
			t.Errorf("token %s is active: %v, recorded: %v", i.Token.JTI, got, recorded)
		}
	}
}

func repeatedProof(t *testing.T, w *world) {
	w.populate(t)
	first, second := w.issue(), w.issue()
	must(t, w.Servers[0].RecordToken(t.Context(), first))
	second.Proof = first.Proof
	w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[0].RecordToken(t.Context(), second) })
	w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[1].RecordToken(t.Context(), second) })
	// The verdict holds for another client and for the very same call.
	second.Token.ClientID, second.Token.Credential = other, secretOf(other).Name()
	second = w.read(second)
	w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[1].RecordToken(t.Context(), second) })
	w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[0].RecordToken(t.Context(), first) })
}

// moments are the iats of two proofs of one name.
type moments struct {
	name      string
	iat, next time.Time
}

// withinWindow are moments that make the second proof the first one again.
func withinWindow(now time.Time) []moments {
	hour := now.Truncate(time.Hour)
	middle := hour.Add(-30 * time.Minute)
	return []moments{
		{"the same iat", middle, middle},
		{"a second later", middle, middle.Add(time.Second)},
		{"a second earlier", middle, middle.Add(-time.Second)},
		{"a window later", middle, middle.Add(window)},
		{"a window earlier", middle, middle.Add(-window)},
		{"in the next hour", hour.Add(-time.Second), hour},
		{"in the hour before", hour, hour.Add(-time.Second)},
		{"a window later, in the next hour", hour.Add(-time.Second), hour.Add(window - time.Second)},
		{"a window earlier, in the hour before", hour.Add(time.Second), hour.Add(time.Second - window)},
	}
}

// outsideWindow are moments that make it another one. Within one hour a Store
// may refuse a name for longer than the window.
func outsideWindow(now time.Time) []moments {
	hour := now.Truncate(time.Hour)
	return []moments{
		{"later", hour.Add(-time.Second), hour.Add(window - time.Second + time.Microsecond)},
		{"earlier", hour.Add(time.Second), hour.Add(time.Second - window - time.Microsecond)},
		{"hours later", hour.Add(-time.Minute), hour.Add(2 * time.Hour)},
	}
}

func withinTheWindow(t *testing.T, w *world) {
	w.populate(t)
	for _, pair := range withinWindow(w.now) {
		first, second := w.issue(), w.issue()
		first.Proof.IssuedAt = pair.iat
		second.Proof.Digest, second.Proof.IssuedAt = first.Proof.Digest, pair.next
		must(t, w.Servers[0].RecordToken(t.Context(), first))
		t.Log(pair.name)
		w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[1].RecordToken(t.Context(), second) })
	}
}

func outsideTheWindow(t *testing.T, w *world) {
	w.populate(t)
	for _, pair := range outsideWindow(w.now) {
		first, second := w.issue(), w.issue()
		first.Proof.IssuedAt = pair.iat
		second.Proof.Digest, second.Proof.IssuedAt = first.Proof.Digest, pair.next
		must(t, w.Servers[0].RecordToken(t.Context(), first))
		must(t, w.Servers[1].RecordToken(t.Context(), second))
	}
}

func differentProofs(t *testing.T, w *world) {
	w.populate(t)
	const n = 32
	counts := atOnce(t, n, func(ctx context.Context, i int) error {
		return w.Servers[i%2].RecordToken(ctx, w.issue())
	})
	same(t, []int{n}, counts)
	if got := w.SpentProofs(t); got != n {
		t.Errorf("%d spent proofs, want %d", got, n)
	}
}

func bearerToken(t *testing.T, w *world) {
	w.populate(t)
	i := bearer(w.issue())
	w.writes(t, func() error { return w.Servers[0].RecordToken(t.Context(), i) }, i.Event)
	if got := w.SpentProofs(t); got != 0 {
		t.Errorf("%d spent proofs", got)
	}
	if !w.isActive(t, i.Token) {
		t.Error("the token is not active")
	}
}

func clientGone(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	must(t, w.Operator.SetClientDisabled(ctx, shop, true, w.event(authz.AuditClientDisabled)))
	must(t, w.Operator.DeleteClient(ctx, other, w.event(authz.AuditClientDeleted)))
	for _, id := range []string{shop, other, "never-registered"} {
		i := w.issueFor(id, w.now)
		for _, s := range w.Servers {
			w.refuses(t, authz.ErrClientChanged, func() error { return s.RecordToken(ctx, i) })
			w.refuses(t, authz.ErrClientChanged, func() error { return s.RecordToken(ctx, bearer(i)) })
		}
	}
	// The refused proof was not spent.
	must(t, w.Operator.SetClientDisabled(ctx, shop, false, w.event(authz.AuditClientEnabled)))
	must(t, w.Servers[0].RecordToken(ctx, w.issue()))
}

func impossibleToken(t *testing.T, w *world) {
	w.populate(t)
	far := w.now.AddDate(1, 0, 0)
	for _, spoil := range []func(*authz.Issue){
		func(i *authz.Issue) { i.Token.ExpiresAt = i.Token.IssuedAt },
		func(i *authz.Issue) { i.Token.ExpiresAt = i.Token.IssuedAt.Add(authz.MaxTokenTTL + time.Second) },
		func(i *authz.Issue) { i.Token.JTI = authz.NewJTI(far) },
		func(i *authz.Issue) { i.Proof.IssuedAt = far },
		func(i *authz.Issue) { i.Event.At = far },
		func(i *authz.Issue) { i.Event.Kind = "" },
	} {
		i := w.issue()
		proof := *i.Proof
		spoil(&i)
		w.refuses(t, nil, func() error { return w.Servers[0].RecordToken(t.Context(), i) })
		next := w.issue()
		next.Proof = &proof
		must(t, w.Servers[0].RecordToken(t.Context(), next))
	}
	// A name that is taken.
	first, second := w.issue(), w.issue()
	must(t, w.Servers[0].RecordToken(t.Context(), first))
	second.Token.JTI = first.Token.JTI
	w.refuses(t, nil, func() error { return w.Servers[0].RecordToken(t.Context(), second) })
}

func issuedEvent(t *testing.T, w *world) {
	w.populate(t)
	full := w.issue()
	bare := w.issue()
	bare.Event.JKT, bare.Event.RequestID, bare.Event.RemoteAddr, bare.Event.Detail = "", "", "", nil
	for _, i := range []authz.Issue{full, bare} {
		w.writes(t, func() error { return w.Servers[0].RecordToken(t.Context(), i) }, i.Event)
	}
	// As the server writes it: recorded among others, and by a statement of its own.
	for _, asserted := range []bool{false, true} {
		encoded := w.issue()
		if asserted {
			encoded.Assertion = &authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Truncate(time.Second), Window: window}
		}
		found := encoded.Event
		encoded.Event.DetailJSON, encoded.Event.Detail = `{"scope": "read write"}`, nil
		w.writes(t, func() error { return w.Servers[0].RecordToken(t.Context(), encoded) }, found)
	}
}

func cancelled(t *testing.T, w *world) {
	w.populate(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i := w.issue()
	w.refuses(t, context.Canceled, func() error { return w.Servers[0].RecordToken(ctx, i) })
	w.refuses(t, context.Canceled, func() error {
		return w.Operator.DeleteClient(ctx, other, w.event(authz.AuditClientDeleted))
	})
	must(t, w.Servers[0].RecordToken(t.Context(), i))
}

func listing() []property {
	return []property{
		{"LatestFirstUpToTheLimit", latestFirst},
		{"OnlyTheClientsOwnThatHaveNotExpired", onlyLiveTokens},
	}
}

func latestFirst(t *testing.T, w *world) {
	w.populate(t)
	var want []*authz.Token
	for n := range 5 {
		i := w.issueFor(shop, w.now.Add(-time.Duration(n)*time.Minute))
		must(t, w.Servers[n%2].RecordToken(t.Context(), i))
		want = append(want, &i.Token)
	}
	for _, limit := range []int{0, 1, 3, 5, 100} {
		got, err := w.Operator.Tokens(t.Context(), shop, w.now, limit)
		must(t, err)
		same(t, want[:min(limit, len(want))], got)
	}
}

func onlyLiveTokens(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	live, revoked, expired := w.issue(), w.issueFor(shop, w.now.Add(-time.Minute)), w.issueFor(shop, w.now.Add(-20*time.Minute))
	last := w.issueFor(shop, w.now.Add(-time.Hour)) // the longest life there is, and the last moment of it
	last.Token.ExpiresAt = w.now.Add(time.Microsecond).Truncate(time.Microsecond)
	last.Token.IssuedAt = last.Token.ExpiresAt.Add(-authz.MaxTokenTTL)
	for _, i := range []authz.Issue{live, revoked, expired, last, w.issueFor(other, w.now)} {
		must(t, w.Servers[0].RecordToken(ctx, i))
	}
	if _, err := w.Servers[0].RevokeToken(ctx, revoked.Token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked)); err != nil {
		t.Fatal(err)
	}
	revoked.Token.RevokedAt = w.now
	want := []*authz.Token{&live.Token, &revoked.Token, &last.Token}
	got, err := w.Operator.Tokens(ctx, shop, w.now, 100)
	must(t, err)
	same(t, want, got)
	got, err = w.Operator.Tokens(ctx, shop, w.now.Add(time.Microsecond), 100)
	must(t, err)
	same(t, slices.Clone(want[:2]), got)
	got, err = w.Operator.Tokens(ctx, "never-registered", w.now, 100)
	must(t, err)
	same(t, []*authz.Token{}, got)
}
