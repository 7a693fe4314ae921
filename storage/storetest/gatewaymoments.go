package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// How long registrations change while they are read, at least, and how many tables
// have to be seen.
const (
	changing   = time.Second
	manyTables = 10
)

// tableOfOneMoment reads tables while what is in them changes, in several of its
// parts at a time.
func tableOfOneMoment(t *testing.T, w *world) {
	w.populate(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	begun := time.Now()
	var (
		mu     sync.Mutex
		tables = map[int64]*authz.GatewayTable{}
		many   sync.WaitGroup
	)
	for i := range 4 {
		many.Go(func() {
			for ctx.Err() == nil {
				table, err := w.Servers[i%2].GatewayTable(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if len(tables) >= manyTables && time.Since(begun) > changing {
					stop()
				}
				if seen := tables[table.Revision]; seen == nil {
					tables[table.Revision] = table
				} else {
					same(t, seen, table)
				}
				mu.Unlock()
			}
		})
	}
	many.Go(func() {
		for n := 0; ctx.Err() == nil && !t.Failed(); n++ {
			changeAtOnce(t, w, n)
		}
	})
	many.Wait()
	if len(tables) < manyTables {
		t.Errorf("%d tables were seen: too few to tell", len(tables))
	}
	for _, table := range tables {
		isWhole(t, table)
	}
}

// changeAtOnce makes changes that isWhole knows the halves of.
func changeAtOnce(t *testing.T, w *world, n int) {
	r := w.registered(t, labels)
	r.BaseURLs = []string{fmt.Sprintf("https://api.example.com/%d", n), fmt.Sprintf("https://b.example.com/%d", n)}
	r.Routes = []authz.Route{{Path: fmt.Sprintf("/%d", n)}}
	r.TokenTTL = time.Duration(1+n%3600) * time.Second
	if err := w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)); err != nil {
		t.Error(err)
	}
	c := w.gateway("coming-and-going", labels, rates)
	c.Secrets = append(c.Secrets, randomDigest())
	if err := w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)); err != nil {
		t.Error(err)
	}
	if err := w.Operator.DeleteClient(t.Context(), c.ID, w.event(authz.AuditClientDeleted)); err != nil {
		t.Error(err)
	}
}

func isWhole(t *testing.T, table *authz.GatewayTable) {
	for _, r := range table.Resources {
		if len(r.BaseURLs) == 0 {
			continue // before all changes
		}
		var n int
		_, err := fmt.Sscanf(r.BaseURLs[0], "https://api.example.com/%d", &n)
		if err != nil || len(r.BaseURLs) != 2 || r.BaseURLs[1] != fmt.Sprintf("https://b.example.com/%d", n) || len(r.Routes) != 1 ||
			r.Routes[0].Path != fmt.Sprintf("/%d", n) || r.TokenTTL != time.Duration(1+n%3600)*time.Second {
			t.Errorf("of several moments: %+v", r.Resource)
		}
	}
	for _, g := range table.Gateways {
		if g.ID == "coming-and-going" && (len(g.Secrets) != 2 || len(g.Fronts) != 2) {
			t.Errorf("of several moments: %+v", g)
		}
	}
}
