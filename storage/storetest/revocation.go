package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func revocation() []property {
	return []property{
		{"ARevokedClientsTokensAreInactiveAndNoOthers", revokedClientTokens},
		{"ARevokedResourcesTokensAreInactiveAndNoOthers", revokedResourceTokens},
		{"ARevokedKeysTokensAreInactiveAndNoOthers", revokedDPoPKey},
		{"NothingIsRevokedTwiceOrBroughtBack", revokedForGood},
		{"TokenRecordedWhileItIsRevokedIsInactive", revokedMeanwhile},
	}
}

// everywhere tells of a token at introspection, at the gateway check and in the
// list, on both instances.
func (w *world) everywhere(t *testing.T, token authz.Token) bool {
	t.Helper()
	active := w.isActive(t, token)
	for _, s := range w.Servers {
		v, err := s.AdmitCall(t.Context(), w.call(t, token), w.now)
		must(t, err)
		if (v.Token != nil) != active || v.Spent != active {
			t.Errorf("introspection says %v, the gateway check %+v", active, v)
		}
	}
	tokens, err := w.Operator.Tokens(t.Context(), token.ClientID, w.now, 1000)
	must(t, err)
	for _, listed := range tokens {
		if listed.JTI == token.JTI && listed.Ended == active {
			t.Errorf("introspection says %v, the list says that it has ended: %v", active, listed.Ended)
		}
	}
	return active
}

func (w *world) recordBound(t *testing.T, client, jkt string) authz.Token {
	t.Helper()
	i := w.issueBound(client, jkt, w.now)
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	return i.Token
}

// ends checks that do ends the tokens of gone and none of kept.
func (w *world) ends(t *testing.T, do func() error, event authz.AuditEvent, gone, kept []authz.Token) {
	t.Helper()
	for _, token := range append(append([]authz.Token{}, gone...), kept...) {
		if !w.everywhere(t, token) {
			t.Fatal("a token is inactive before")
		}
	}
	w.writes(t, do, event)
	for _, token := range gone {
		if w.everywhere(t, token) {
			t.Error("a token is active still")
		}
	}
	for _, token := range kept {
		if !w.everywhere(t, token) {
			t.Error("another token is inactive")
		}
	}
}

func revokedClientTokens(t *testing.T, w *world) {
	w.populate(t)
	key := newJKT()
	gone := []authz.Token{w.recordBound(t, shop, key), w.recordBound(t, shop, newJKT())}
	kept := []authz.Token{w.recordBound(t, other, key)}
	e := w.event(authz.AuditClientRevoked)
	e.Detail = map[string]any{"reason": "a test"}
	want := e
	want.ClientID = shop
	w.ends(t, func() error { return w.Operator.RevokeClientTokens(t.Context(), shop, e) }, want, gone, kept)
	if !w.everywhere(t, w.recordBound(t, shop, key)) { // it stays enabled
		t.Error("a new token is inactive")
	}
}

func revokedResourceTokens(t *testing.T, w *world) {
	w.populate(t)
	both := w.gateway("both", labels, rates)
	both.Grants = []authz.Grant{{Resource: rates, Scopes: []string{"read"}}}
	create(both)(t, w)
	gone := []authz.Token{w.recordBound(t, shop, newJKT()), w.recordBound(t, other, newJKT())}
	i := w.issueFor(both.ID, w.now)
	i.Token.Resource, i.Event.Resource = rates, rates
	i = w.read(i)
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	e := w.event(authz.AuditResourceRevoked)
	want := e
	want.Resource = labels
	w.ends(t, func() error { return w.Operator.RevokeResourceTokens(t.Context(), labels, e) }, want, gone, nil)
	if !w.activeFor(t, i.Token, yard, w.now) {
		t.Error("a token for another resource is inactive")
	}
	if !w.everywhere(t, w.recordBound(t, shop, newJKT())) {
		t.Error("a new token is inactive")
	}
}

func revokedDPoPKey(t *testing.T, w *world) {
	w.populate(t)
	stolen := newJKT()
	gone := []authz.Token{w.recordBound(t, shop, stolen), w.recordBound(t, other, stolen)}
	kept := []authz.Token{w.recordBound(t, shop, newJKT()), w.recordBound(t, other, newJKT())}
	e := w.event(authz.AuditDPoPKeyRevoked)
	want := e
	want.JKT = stolen
	w.ends(t, func() error { return w.Operator.RevokeDPoPKey(t.Context(), stolen, e) }, want, gone, kept)
	w.getsNoToken(t, w.issueBound(shop, stolen, w.now), w.issueBound(other, stolen, w.now))
	w.policy(t, other, authz.FirstUseKey)
	w.getsNoToken(t, w.issueBound(other, stolen, w.now))
	same(t, 0, len(w.keysOf(t, other)))
	w.getsToken(t, kept[0].JKT)
}

func revokedForGood(t *testing.T, w *world) {
	w.populate(t)
	ctx, key := t.Context(), newJKT()
	token := w.recordBound(t, shop, key)
	w.refuses(t, authz.ErrNotFound, func() error { return w.Operator.RevokeClientTokens(ctx, "nobody", w.event(authz.AuditClientRevoked)) })
	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.RevokeResourceTokens(ctx, "urn:none", w.event(authz.AuditResourceRevoked))
	})
	w.refuses(t, nil, func() error { return w.Operator.RevokeDPoPKey(ctx, "short", w.event(authz.AuditDPoPKeyRevoked)) })
	for range 2 {
		must(t, w.Operator.RevokeDPoPKey(ctx, key, w.event(authz.AuditDPoPKeyRevoked)))
		must(t, w.Operator.RevokeClientTokens(ctx, shop, w.event(authz.AuditClientRevoked)))
		must(t, w.Operator.RevokeResourceTokens(ctx, labels, w.event(authz.AuditResourceRevoked)))
	}
	for name, s := range map[string]step{
		"enabling":      all(disable(shop, true), disable(shop, false)),
		"an update":     updateResource(labels, func(r *authz.Resource) { r.TokenTTL = time.Minute }),
		"another key":   func(t *testing.T, w *world) { w.enrol(t, newJKT(), time.Time{}) },
		"another token": func(t *testing.T, w *world) { w.recordBound(t, shop, newJKT()) },
	} {
		s(t, w)
		if w.everywhere(t, token) {
			t.Errorf("%s brings it back", name)
		}
	}
}

func revokedMeanwhile(t *testing.T, w *world) {
	w.populate(t)
	const n = 24
	key := newJKT()
	issues := make([]authz.Issue, n)
	for i := range issues {
		issues[i] = w.issueBound([]string{shop, other}[i%2], key, w.now)
	}
	atOnce(t, n+1, func(ctx context.Context, i int) error {
		if i == n {
			return w.Operator.RevokeDPoPKey(ctx, key, w.event(authz.AuditDPoPKeyRevoked))
		}
		return w.Servers[i%2].RecordToken(ctx, issues[i])
	}, authz.ErrKeyNotAdmitted)
	for _, i := range issues {
		if w.isActive(t, i.Token) {
			t.Error("a token is active")
		}
	}
}
