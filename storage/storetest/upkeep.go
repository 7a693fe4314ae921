package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func upkeep() []property {
	return []property{
		{"NotReadyUntilTokensOfNowCanBeRecorded", readiness},
		{"MaintainingAgainAndAtOnceChangesNothing", maintainAgain},
		{"TokensOfTheNextHoursCanBeRecorded", nextHours},
	}
}

func readiness(t *testing.T, w *world) {
	for _, s := range w.Servers {
		if err := s.Ready(t.Context(), w.now); err == nil {
			t.Error("ready before there is room for a token")
		}
	}
	must(t, w.Servers[0].Maintain(t.Context(), w.now))
	for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
		must(t, s.Ready(t.Context(), w.now))
		must(t, s.Ready(t.Context(), w.now.Add(-time.Hour)))
		for _, far := range []time.Duration{365 * 24 * time.Hour, -24 * time.Hour} {
			if err := s.Ready(t.Context(), w.now.Add(far)); err == nil {
				t.Errorf("ready %s from now", far)
			}
		}
	}
}

func maintainAgain(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	before := w.contents(t)
	for range 3 {
		must(t, w.Servers[0].Maintain(t.Context(), w.now))
	}
	same(t, []int{8}, atOnce(t, 8, func(ctx context.Context, i int) error {
		return w.Servers[i%2].Maintain(ctx, w.now.Add(time.Duration(i)*time.Hour))
	}))
	same(t, before, w.contents(t))
	if !w.isActive(t, token) {
		t.Error("the token is not active")
	}
}

func nextHours(t *testing.T, w *world) {
	w.populate(t)
	for h := range 6 {
		at := w.now.Add(time.Duration(h) * time.Hour)
		must(t, w.Servers[0].Ready(t.Context(), at))
		i := w.issueFor(shop, at)
		must(t, w.Servers[0].RecordToken(t.Context(), i))
		if !w.activeFor(t, i.Token, edge, at) {
			t.Errorf("%d hours on: not active", h)
		}
	}
}
