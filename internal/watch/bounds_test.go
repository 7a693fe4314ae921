package watch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/watch"
)

// slow is a Keeper of a database that takes no more than so many alerts in time.
type slow struct {
	watch.Keeper
	most int
}

func (s slow) KeepFindings(ctx context.Context, f watch.Findings) ([]watch.Kept, error) {
	if len(f.Alerts) > s.most {
		return nil, fmt.Errorf("keeping an alert: %w", context.DeadlineExceeded)
	}
	return s.Keeper.KeepFindings(ctx, f)
}

// Whoever has many clients' secrets makes each event of a batch an alert.
func TestWhatTakesTooLongToBeKeptIsKeptInParts(t *testing.T) {
	t.Parallel()
	const clients = 60
	var names []string
	var events []authz.AuditEvent
	w := newWorld(t)
	for i := range clients {
		names = append(names, clientName(i))
		w.register(names[i])
		events = append(events, w.retired(names[i], "old"))
	}
	w.write(events...)
	w.start(func(c *watch.Config) { c.Keeper = slow{c.Keeper, 4} })
	w.await("each has its alert", func() bool { return len(w.alerts()) == clients })
	for _, name := range names {
		if _, refused := w.learnt(name); refused != 1 {
			t.Errorf("%d refusals of %s are learnt", refused, name)
		}
	}
}

// measured is a Keeper that notes how many keys are kept at a time.
type measured struct {
	watch.Keeper
	mu        sync.Mutex
	all, most int
}

func (m *measured) KeepFindings(ctx context.Context, f watch.Findings) ([]watch.Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all, m.most = m.all+len(f.Shown), max(m.most, len(f.Shown))
	if m.most > 4000 {
		return nil, errors.New("too many")
	}
	return m.Keeper.KeepFindings(ctx, f)
}

// After an outage a day of keys comes at once, most of which were shown before.
func TestKeysThatAreShownAgainAreKeptInParts(t *testing.T) {
	t.Parallel()
	const clients, keys = 10, 1000
	w := newWorld(t)
	w.unhurried = true
	for i := range clients {
		w.register(clientName(i))
		var events []authz.AuditEvent
		var jkts []string
		for n := range keys {
			events = append(events, w.issued(clientName(i), fmt.Sprintf("%d of %d", n, i)))
			jkts = append(jkts, events[n].JKT)
		}
		w.exec(`insert into authz.dpop_key_owners
			select jkt, $2, now() - interval '10 days', now() - interval '10 days' from unnest($1::text[]) jkt`, jkts, clientName(i))
		w.write(events...)
	}
	m := &measured{}
	w.start(func(c *watch.Config) { m.Keeper = c.Keeper; c.Keeper = m })
	w.await("most are kept, or too many at a time", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.all >= clients*keys*6/10
	})
	if m.most > 4000 {
		t.Errorf("%d keys are kept at a time", m.most)
	}
}
