package authz_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/cargokey/authz/authz"
)

// losing is a Store that carries out what it is asked, and whose next answer is lost.
type losing struct {
	authz.Store
	loses atomic.Bool
	asked atomic.Int64
}

func (l *losing) RecordToken(ctx context.Context, issue authz.Issue) error {
	l.asked.Add(1)
	return l.lost(l.Store.RecordToken(ctx, issue))
}

func (l *losing) SpendAssertion(ctx context.Context, assertion authz.Spending) error {
	l.asked.Add(1)
	return l.lost(l.Store.SpendAssertion(ctx, assertion))
}

func (l *losing) lost(err error) error {
	if l.loses.Swap(false) {
		return errors.New("the connection is lost")
	}
	return err
}

// Nobody knows whether it was done: to do it again would find the request's own proof or
// assertion spent, or make a second token, and ask a database twice that is in trouble.
func TestRequestWhoseOutcomeIsUnknownIsNotAnsweredAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &losing{}
	i, key := w.instance(func(c *authz.Config) { store.Store, c.Store = c.Store, store }), newKey(t)
	secret := w.client(authz.Client{})
	signed := w.asserting(authz.Client{ID: "signing-service", Introspects: []string{labels}, Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}})
	known(t, secret, key, i)
	if a := i.assertedToken(signed, key); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.asserted.Add(1) // by the introspection
	for what, request := range map[string]*http.Request{
		"by a secret":     i.tokenRequest(secret, key, clientCredentials),
		"by an assertion": i.tokenRequest(registered{}, key, i.asserted(clientCredentials, i.draft(signed))),
		"introspection":   i.post("/oauth/introspect", registered{}, i.asserted(map[string][]string{"token": {"x"}}, i.draft(signed))),
	} {
		store.loses.Store(true)
		before := store.asked.Load()
		a := i.do(request)
		if a.status != http.StatusServiceUnavailable || a.string("error") != "temporarily_unavailable" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
		if n := store.asked.Load() - before; n != 1 {
			t.Errorf("%s: the Store was asked %d times", what, n)
		}
	}
}
