package storetest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func admitting() []property {
	properties := []property{
		{"GoodCallIsAdmittedOnce", goodCall},
		{"OfManyEqualCallsOnTwoInstancesOneIsAdmitted", equalCalls},
		{"CallThatIsNotGoodSpendsNothingAndIsToldWhy", badCalls},
		{"SameNameWithinTheWindowIsTheSameProof", callsWithinTheWindow},
		{"SameNameOutsideTheWindowInAnotherHourIsAnotherProof", callsOutsideTheWindow},
		{"ProofThatGotATokenAdmitsNoCallAndTheOtherWayRound", oneNamespace},
		{"CallWithoutAProofIsToldItsTokenAndSpendsNothing", bearerCall},
		{"CallIsToldWhetherItsCertificateIsTheTokensAndSpendsNothing", certifiedCall},
		{"CallersClockDecides", callersClock},
		{"CallThatCannotBeCheckedSpendsNothing", impossibleCall},
	}
	for _, e := range endings() {
		properties = append(properties, property{"NothingIsSpentAfter" + e.name, e.check})
	}
	return properties
}

// call is a good one with the token, by today's table, with a fresh proof.
func (w *world) call(t *testing.T, token authz.Token) authz.Call {
	t.Helper()
	table := w.table(t)
	return authz.Call{
		Revision: table.Revision, Resource: token.Resource, Generation: generation(table, token.Resource),
		Token: token.Digest, Scopes: []string{"read"}, JKT: token.JKT,
		Proof: &authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Truncate(time.Second), Window: window},
	}
}

// told checks what every instance says of a call that spends nothing.
func (w *world) told(t *testing.T, about string, want authz.Verdict, call authz.Call) {
	t.Helper()
	before, want := w.SpentProofs(t), ofCall(want)
	for _, s := range w.Servers {
		got, err := s.AdmitCall(t.Context(), call, w.now)
		must(t, err)
		if t.Log(about); got.Spent {
			t.Error("it is admitted")
		}
		same(t, want, got)
	}
	if n := w.SpentProofs(t) - before; n != 0 {
		t.Errorf("%s: %d proofs were spent", about, n)
	}
}

// ofCall leaves out what a gateway check is not told of a token, and puts in that
// one which is bound to no certificate needs none.
func ofCall(v authz.Verdict) authz.Verdict {
	if v.Token != nil {
		token := *v.Token
		token.Credential = ""
		v.Token = &token
		v.Certified = v.Certified || token.X5T == ""
	}
	return v
}

// admits checks that a call is admitted, and admitted no more.
func (w *world) admits(t *testing.T, call authz.Call, token authz.Token) {
	t.Helper()
	want := ofCall(authz.Verdict{Revision: call.Revision, Token: &token, Spent: true})
	before := w.contents(t)
	got, err := w.Servers[1].AdmitCall(t.Context(), call, w.now)
	must(t, err)
	same(t, want, got)
	before.SpentProofs++
	same(t, before, w.contents(t))
	want.Spent = false
	w.told(t, "once more", want, call)
}

func goodCall(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for _, scopes := range [][]string{nil, {}, {"read"}, {"write"}, {"write", "read"}} {
		call := w.call(t, token)
		call.Scopes = scopes
		w.admits(t, call, token)
		call.Proof = w.call(t, token).Proof // one token, many calls
		w.admits(t, call, token)
	}
}

func equalCalls(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	const n = 200
	for range 3 {
		call := w.call(t, token)
		before := w.SpentProofs(t)
		var admitted atomic.Int64
		same(t, []int{n}, atOnce(t, n, func(ctx context.Context, i int) error {
			v, err := w.Servers[i%2].AdmitCall(ctx, call, w.now)
			if v.Spent {
				admitted.Add(1)
			}
			return err
		}))
		if spent := w.SpentProofs(t) - before; admitted.Load() != 1 || spent != 1 {
			t.Errorf("%d admitted, %d spent; want one each", admitted.Load(), spent)
		}
	}
}

// badCalls changes the call only; endings change what is registered.
func badCalls(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	careful := w.client("careful")
	careful.RequireNonce = true
	must(t, w.Operator.CreateClient(ctx, careful, w.event(authz.AuditClientCreated)))
	issued := func(change func(*authz.Issue)) authz.Token {
		i := w.issue()
		change(&i)
		i = w.read(i)
		must(t, w.Servers[0].RecordToken(ctx, i))
		return i.Token
	}
	token := w.record(t)
	table := w.table(t)
	ratesGeneration := generation(table, rates)
	expired := issued(func(i *authz.Issue) {
		i.Token.IssuedAt, i.Token.ExpiresAt = w.now.Add(-time.Minute), w.now
	})
	unbound := issued(func(i *authz.Issue) { *i = bearer(*i) })
	carefuls := issued(func(i *authz.Issue) { *i = w.issueFor("careful", w.now) })
	forRates := issued(func(i *authz.Issue) { i.Token.Resource = rates })

	noToken := authz.Verdict{Revision: table.Revision}
	good := authz.Verdict{Revision: table.Revision, Token: &token}
	of := func(token authz.Token) authz.Verdict {
		v := good
		v.Token = &token
		return v
	}
	nonce := of(carefuls)
	nonce.ClientNonce = true
	for _, bad := range []struct {
		name  string
		spoil func(*authz.Call)
		want  authz.Verdict
	}{
		{"a later revision", func(c *authz.Call) { c.Revision++ }, good},
		{"an earlier revision", func(c *authz.Call) { c.Revision-- }, good},
		{"no revision", func(c *authz.Call) { c.Revision = 0 }, good},
		{"a later generation", func(c *authz.Call) { c.Generation++ }, noToken},
		{"an earlier generation", func(c *authz.Call) { c.Generation-- }, noToken},
		{"no generation", func(c *authz.Call) { c.Generation = 0 }, noToken},
		{"another resource's generation", func(c *authz.Call) { c.Generation = ratesGeneration }, noToken},
		{"a resource that is not registered", func(c *authz.Call) { c.Resource = "https://nowhere.example.com" }, noToken},
		{"no resource", func(c *authz.Call) { c.Resource = "" }, noToken},
		{"a token for another resource", func(c *authz.Call) { c.Resource, c.Generation = rates, ratesGeneration }, noToken},
		{"a token for another resource, of the same generation", func(c *authz.Call) { c.Resource = rates }, noToken},
		{"another resource's token", func(c *authz.Call) { c.Token, c.JKT = forRates.Digest, forRates.JKT }, noToken},
		{"an unknown token", func(c *authz.Call) { c.Token = randomDigest() }, noToken},
		{"no token", func(c *authz.Call) { c.Token = authz.Digest{} }, noToken},
		{"an altered token", func(c *authz.Call) { c.Token[31] ^= 1 }, noToken},
		{"an expired token", func(c *authz.Call) { c.Token, c.JKT = expired.Digest, expired.JKT }, noToken},
		{"another key", func(c *authz.Call) { c.JKT = "another" }, good},
		{"no key", func(c *authz.Call) { c.JKT = "" }, good},
		{"a token that is bound to no key", func(c *authz.Call) { c.Token = unbound.Digest }, of(unbound)},
		{"a token that is bound to no key, and no key", func(c *authz.Call) { c.Token, c.JKT = unbound.Digest, "" }, of(unbound)},
		{"a missing scope", func(c *authz.Call) { c.Scopes = []string{"void"} }, good},
		{"one missing scope of two", func(c *authz.Call) { c.Scopes = []string{"read", "void"} }, good},
		{"a part of a scope", func(c *authz.Call) { c.Scopes = []string{"rea"} }, good},
		{"a scope in another case", func(c *authz.Call) { c.Scopes = []string{"READ"} }, good},
		{"two scopes in one", func(c *authz.Call) { c.Scopes = []string{"read write"} }, good},
		{"an empty scope", func(c *authz.Call) { c.Scopes = []string{""} }, good},
		{"no nonce of a client that needs one", func(c *authz.Call) { c.Token, c.JKT = carefuls.Digest, carefuls.JKT }, nonce},
	} {
		call := w.call(t, token)
		bad.spoil(&call)
		w.told(t, bad.name, bad.want, call)
		again := w.call(t, token)
		again.Proof = call.Proof
		w.admits(t, again, token)
	}

	call := w.call(t, carefuls)
	call.NonceFresh = true
	nonce.Spent = true
	got, err := w.Servers[0].AdmitCall(ctx, call, w.now)
	must(t, err)
	same(t, ofCall(nonce), got)
}

func callsWithinTheWindow(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for _, pair := range withinWindow(w.now) {
		first := w.call(t, token)
		first.Proof.IssuedAt = pair.iat
		w.admits(t, first, token)
		second := w.call(t, token)
		second.Proof.Digest, second.Proof.IssuedAt = first.Proof.Digest, pair.next
		w.told(t, pair.name, authz.Verdict{Revision: first.Revision, Token: &token}, second)
	}
}

func callsOutsideTheWindow(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for _, pair := range outsideWindow(w.now) {
		first, second := w.call(t, token), w.call(t, token)
		first.Proof.IssuedAt = pair.iat
		second.Proof.Digest, second.Proof.IssuedAt = first.Proof.Digest, pair.next
		w.admits(t, first, token)
		w.admits(t, second, token)
	}
}

func oneNamespace(t *testing.T, w *world) {
	w.populate(t)
	i := w.issue()
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	call := w.call(t, i.Token)
	call.Proof = i.Proof
	w.told(t, "the proof that got the token", authz.Verdict{Revision: call.Revision, Token: &i.Token}, call)

	call = w.call(t, i.Token)
	w.admits(t, call, i.Token)
	next := w.issue()
	next.Proof = call.Proof
	w.refuses(t, authz.ErrProofSpent, func() error { return w.Servers[0].RecordToken(t.Context(), next) })
}

func bearerCall(t *testing.T, w *world) {
	w.populate(t)
	i := bearer(w.issue())
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	// What is bound is told too: the caller refuses it without a proof.
	for _, token := range []authz.Token{i.Token, w.record(t)} {
		call := w.call(t, token)
		call.Proof, call.JKT = nil, ""
		want := authz.Verdict{Revision: call.Revision, Token: &token}
		w.told(t, "without a proof", want, call)
		call.JKT = token.JKT
		w.told(t, "without a proof, with a key", want, call)
	}
}

// certifiedCall is RFC 8705 §3: a certificate is shown and not spent.
func certifiedCall(t *testing.T, w *world) {
	w.populate(t)
	i := certified(w.issue())
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	table := w.table(t)
	token := authz.Verdict{Revision: table.Revision, Token: &i.Token}
	theirs := token
	theirs.Certified = true
	unknown := authz.Verdict{Revision: table.Revision}
	for _, row := range []struct {
		name  string
		spoil func(*authz.Call)
		want  authz.Verdict
	}{
		{"its certificate", func(*authz.Call) {}, theirs},
		{"its certificate, again", func(*authz.Call) {}, theirs},
		{"its certificate, and a missing scope", func(c *authz.Call) { c.Scopes = []string{"void"} }, theirs},
		{"no certificate", func(c *authz.Call) { c.X5T = "" }, token},
		{"another certificate", func(c *authz.Call) { c.X5T = newJKT() }, token},
		{"another case", func(c *authz.Call) { c.X5T = strings.ToUpper(c.X5T) }, token},
		{"its certificate for a key", func(c *authz.Call) { c.JKT, c.X5T = c.X5T, "" }, token},
		{"its certificate, and a proof", func(c *authz.Call) {
			c.JKT, c.Proof = c.X5T, &authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Truncate(time.Second), Window: window}
		}, theirs},
		{"its certificate, and a proof by no key", func(c *authz.Call) {
			c.Proof = &authz.Spending{Digest: randomDigest(), IssuedAt: w.now.Truncate(time.Second), Window: window}
		}, theirs},
		{"its certificate, another token", func(c *authz.Call) { c.Token = randomDigest() }, unknown},
	} {
		call := w.call(t, i.Token)
		call.Proof, call.JKT, call.X5T = nil, "", i.Token.X5T
		row.spoil(&call)
		w.told(t, row.name, row.want, call)
	}
	// A certificate is nothing to a token that is bound to a key, or to nothing.
	bound := w.record(t)
	call := w.call(t, bound)
	call.X5T = i.Token.X5T
	w.admits(t, call, bound)
	unbound := bearer(w.issue())
	must(t, w.Servers[0].RecordToken(t.Context(), unbound))
	call = w.call(t, unbound.Token)
	call.Proof, call.X5T = nil, i.Token.X5T
	w.told(t, "a bearer token with a certificate", authz.Verdict{Revision: call.Revision, Token: &unbound.Token}, call)
	// It ends as every token does.
	must(t, w.Operator.SetClientDisabled(t.Context(), shop, true, w.event(authz.AuditClientDisabled)))
	call = w.call(t, i.Token)
	call.Proof, call.JKT, call.X5T = nil, "", i.Token.X5T
	w.told(t, "its client is disabled", authz.Verdict{Revision: call.Revision}, call)
}

func callersClock(t *testing.T, w *world) {
	w.populate(t)
	i := w.issue()
	i.Token.ExpiresAt = i.Token.IssuedAt.Add(10 * time.Minute)
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	for at, want := range map[time.Duration]bool{
		-time.Minute:                    true, // another instance's clock
		0:                               true,
		10*time.Minute - 1:              true,
		10*time.Minute - time.Second:    true,
		10 * time.Minute:                false,
		10*time.Minute + 24*time.Hour:   false,
		10*time.Minute + 10*time.Second: false,
	} {
		got, err := w.Servers[0].AdmitCall(t.Context(), w.call(t, i.Token), w.now.Add(at))
		must(t, err)
		if (got.Token != nil) != want || got.Spent != want {
			t.Errorf("%s from now: %+v", at, got)
		}
	}
}

func impossibleCall(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	admit := func(ctx context.Context, call authz.Call) func() error {
		return func() error {
			v, err := w.Servers[0].AdmitCall(ctx, call, w.now)
			if err != nil {
				same(t, authz.Verdict{}, v)
			}
			return err
		}
	}
	far := w.call(t, token)
	far.Proof.IssuedAt = w.now.AddDate(1, 0, 0) // no Store has room for it
	w.refuses(t, nil, admit(t.Context(), far))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	call := w.call(t, token)
	w.refuses(t, context.Canceled, admit(ctx, call))
	w.admits(t, call, token)
}
