package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cargokey/authz/authz"
)

func together() []property {
	return []property{{"OperatorsOfDifferentThingsDoNotHinderEachOther", operatorsAtOnce}}
}

// operatorsAtOnce lets several change what is their own and refers to what is
// everybody's, while others change that. None of it fails but for a reason that
// the contract names.
func operatorsAtOnce(t *testing.T, w *world) {
	w.populate(t)
	const operators, rounds = 8, 6
	same(t, []int{operators}, atOnce(t, operators, func(ctx context.Context, i int) error {
		for n := range rounds {
			if err := w.operate(ctx, fmt.Sprintf("%d-%d", i, n), i%2 == 0); err != nil {
				return err
			}
		}
		return nil
	}))
}

const contested = "https://contested.example.com"

// operate does some of everything, half of the operators the other way round.
func (w *world) operate(ctx context.Context, name string, forth bool) error {
	gateway, shop := w.gateway("gw-"+name, labels, rates), w.client("shop-"+name)
	if !forth {
		gateway.Introspects = []string{rates, labels}
	}
	rival := w.gateway("rival-"+name, contested, labels)
	rival.Grants = []authz.Grant{{Resource: contested, Scopes: []string{"read"}}, shop.Grants[0]}
	own := w.resourceAt("urn:"+name, "https://"+name+".example.com")
	update := func(uri string, change func(*authz.Resource)) func() error {
		return func() error {
			r, err := w.Operator.Resource(ctx, uri)
			if err != nil {
				return err
			}
			change(r)
			return w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated))
		}
	}
	create := func(c *authz.Client) func() error {
		return func() error { return w.Operator.CreateClient(ctx, c, w.event(authz.AuditClientCreated)) }
	}
	remove := func(id string) func() error {
		return func() error { return w.Operator.DeleteClient(ctx, id, w.event(authz.AuditClientDeleted)) }
	}
	disable := func(id string, disabled bool) func() error {
		return func() error {
			return w.Operator.SetClientDisabled(ctx, id, disabled, w.event(authz.AuditClientDisabled))
		}
	}
	createResource := func(r *authz.Resource) func() error {
		return func() error { return w.Operator.CreateResource(ctx, r, w.event(authz.AuditResourceCreated)) }
	}
	removeResource := func(uri string) func() error {
		return func() error { return w.Operator.DeleteResource(ctx, uri, w.event(authz.AuditResourceDeleted)) }
	}
	for _, s := range []struct {
		do     func() error
		unless []error
	}{
		{createResource(w.resource(contested)), []error{authz.ErrExists}},
		{create(gateway), nil},
		{createResource(own), nil},
		{create(rival), []error{authz.ErrNotDefined}},
		{update(labels, func(r *authz.Resource) { r.Scopes = []string{"read", "write", "z-" + name} }), []error{authz.ErrChanged}},
		{removeResource(contested), []error{authz.ErrNotFound, authz.ErrInUse}},
		{create(shop), nil},
		{update(own.URI, func(r *authz.Resource) { r.Scopes, r.BaseURLs = []string{"all"}, nil }), nil},
		{update(contested, func(r *authz.Resource) { r.Scopes = []string{"write"} }), []error{authz.ErrChanged, authz.ErrNotFound, authz.ErrInUse}},
		{disable(gateway.ID, true), nil},
		{removeResource(own.URI), nil},
		{remove(rival.ID), []error{authz.ErrNotFound}},
		{disable(shop.ID, true), nil},
		{removeResource(contested), []error{authz.ErrNotFound, authz.ErrInUse}},
		{disable(shop.ID, false), nil},
		{remove(gateway.ID), nil},
		{remove(shop.ID), nil},
	} {
		if err := s.do(); err != nil && !isOneOf(err, s.unless) {
			return err
		}
	}
	return nil
}

func isOneOf(err error, wants []error) bool {
	for _, want := range wants {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
