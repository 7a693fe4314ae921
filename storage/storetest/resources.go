package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func resources() []property {
	return []property{
		{"ResourceIsReadAsItWasCreated", resourceRoundTrip},
		{"ResourceThatIsNotRegisteredIsNotFound", noResource},
		{"NameIsTakenOnce", resourceExists},
		{"UpdateReplacesAllButNameAndCreation", updateReplaces},
		{"UpdateOfWhatHasChangedSinceIsRefused", changedSince},
		{"OfManyUpdatesOfOneRevisionOneIsMade", updatesAtOnce},
		{"RevisionIsNeverUsedAgain", revisions},
		{"BaseURLIsOneResources", baseURLTaken},
		{"OfManyThatWantABaseURLOneGetsIt", baseURLAtOnce},
		{"GrantedScopeAndResourceCannotBeRemoved", resourceInUse},
		{"DeletingAResourceAndGrantingItExcludeEachOther", deleteOrGrant},
	}
}

// registered is a resource as it is now.
func (w *world) registered(t *testing.T, uri string) *authz.Resource {
	t.Helper()
	r, err := w.Servers[0].Resource(t.Context(), uri)
	must(t, err)
	return r
}

func resourceRoundTrip(t *testing.T, w *world) {
	all, err := w.Operator.Resources(t.Context())
	must(t, err)
	same(t, []*authz.Resource{}, all)
	w.populate(t)
	r := &authz.Resource{
		URI: "urn:example:pickups", Scopes: []string{"A", "Z", "a", "z"}, TokenTTL: time.Hour, RequireNonce: true,
		BaseURLs: []string{"https://api.example.com/A", "https://api.example.com/a", "https://b.example.com"},
		Routes: []authz.Route{
			{Path: "/", Scopes: []string{"A", "Z", "a"}},
			{Method: "GET", Path: "/Labels/{id}", Scopes: []string{"z"}},
			{Path: "/labels/"},
			{Method: "GET", Path: "/labels/{path...}", Scopes: []string{}},
			{Method: "POST", Path: "/labels/{path...}", Scopes: []string{"a", "z"}},
			{Method: "PUT", Path: `/odd"'\\{$}`, Scopes: []string{"a"}},
		},
		CreatedAt: w.now, UpdatedAt: w.now,
	}
	given := w.event(authz.AuditResourceCreated)
	written := given
	written.Resource = r.URI
	w.writes(t, func() error { return w.Operator.CreateResource(t.Context(), r, given) }, written)
	if r.Revision == 0 {
		t.Error("it has no revision")
	}
	for _, s := range []authz.Store{w.Operator, w.Servers[0]} {
		got, err := s.Resource(t.Context(), r.URI)
		must(t, err)
		same(t, r, got)
	}
	all, err = w.Servers[0].Resources(t.Context())
	must(t, err)
	slices.SortFunc(all, func(a, b *authz.Resource) int { return strings.Compare(a.URI, b.URI) })
	same(t, []*authz.Resource{w.registered(t, labels), w.registered(t, rates), r}, all)
}

func noResource(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	for _, uri := range []string{"", "https://nowhere.example.com", labels + "/", strings.ToUpper(labels)} {
		if r, err := w.Servers[0].Resource(ctx, uri); !errors.Is(err, authz.ErrNotFound) {
			t.Errorf("%q: %v, %v", uri, r, err)
		}
		w.refuses(t, authz.ErrNotFound, func() error {
			return w.Operator.UpdateResource(ctx, w.resource(uri), w.event(authz.AuditResourceUpdated))
		})
		w.refuses(t, authz.ErrNotFound, func() error {
			return w.Operator.DeleteResource(ctx, uri, w.event(authz.AuditResourceDeleted))
		})
	}
}

func resourceExists(t *testing.T, w *world) {
	w.populate(t)
	r := w.resource(labels)
	r.Scopes, r.TokenTTL = []string{"all"}, time.Second
	w.refuses(t, authz.ErrExists, func() error {
		return w.Operator.CreateResource(t.Context(), r, w.event(authz.AuditResourceCreated))
	})
}

func updateReplaces(t *testing.T, w *world) {
	w.populate(t)
	untouched := w.registered(t, rates)
	later := w.now.Add(time.Minute)
	given := w.eventAt(authz.AuditResourceUpdated, later)
	written := given
	written.Resource = labels
	// Void, which nobody was granted, goes; zones comes.
	old := w.registered(t, labels)
	update := &authz.Resource{
		URI: labels, Scopes: []string{"read", "write", "zones"}, TokenTTL: time.Minute, RequireNonce: true, CreatedAt: later,
		BaseURLs: []string{"https://api.example.com"}, Routes: []authz.Route{{Path: "/", Scopes: []string{"zones"}}}, Revision: old.Revision,
	}
	w.writes(t, func() error { return w.Operator.UpdateResource(t.Context(), update, given) }, written)
	want := *update
	want.CreatedAt, want.UpdatedAt = w.now, later
	got, err := w.Servers[0].Resource(t.Context(), labels)
	must(t, err)
	same(t, &want, got)
	if got.Revision == old.Revision {
		t.Error("it has the revision of before")
	}
	same(t, untouched, w.registered(t, rates))

	// And back.
	got.Scopes, got.RequireNonce, got.BaseURLs, got.Routes = old.Scopes, false, nil, nil
	must(t, w.Operator.UpdateResource(t.Context(), got, w.eventAt(authz.AuditResourceUpdated, later)))
	same(t, got, w.registered(t, labels))
}

func resourceInUse(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	r := w.registered(t, labels)
	r.Scopes, r.TokenTTL = []string{"read", "zones"}, time.Minute
	w.refuses(t, authz.ErrInUse, func() error {
		return w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated))
	})
	for _, uri := range []string{labels, rates} { // granted; introspected
		w.refuses(t, authz.ErrInUse, func() error {
			return w.Operator.DeleteResource(ctx, uri, w.event(authz.AuditResourceDeleted))
		})
	}
	must(t, w.Operator.DeleteClient(ctx, yard, w.event(authz.AuditClientDeleted)))
	given := w.event(authz.AuditResourceDeleted)
	written := given
	written.Resource = rates
	w.writes(t, func() error { return w.Operator.DeleteResource(ctx, rates, given) }, written)
	if _, err := w.Operator.Resource(ctx, rates); !errors.Is(err, authz.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func deleteOrGrant(t *testing.T, w *world) {
	w.populate(t)
	const uri = "https://contested.example.com"
	for range 8 {
		must(t, w.Operator.CreateResource(t.Context(), w.resource(uri), w.event(authz.AuditResourceCreated)))
		c := w.client("newcomer")
		c.Grants[0].Resource = uri
		counts := atOnce(t, 2, func(ctx context.Context, i int) error {
			if i == 0 {
				return w.Operator.DeleteResource(ctx, uri, w.event(authz.AuditResourceDeleted))
			}
			return w.Operator.CreateClient(ctx, c, w.event(authz.AuditClientCreated))
		}, authz.ErrInUse, authz.ErrNotDefined)
		if counts[0] != 1 {
			t.Fatalf("successes, ErrInUse, ErrNotDefined: %v", counts)
		}
		if counts[1] == 1 { // the client was there first
			must(t, w.Operator.DeleteClient(t.Context(), c.ID, w.event(authz.AuditClientDeleted)))
			must(t, w.Operator.DeleteResource(t.Context(), uri, w.event(authz.AuditResourceDeleted)))
		}
	}
}

func changedSince(t *testing.T, w *world) {
	w.populate(t)
	update := func(r *authz.Resource) func() error {
		return func() error {
			return w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated))
		}
	}
	mine, theirs := w.registered(t, labels), w.registered(t, labels)
	theirs.TokenTTL = time.Minute
	must(t, update(theirs)())
	mine.AllowBearer = false
	before := mine.Revision
	w.refuses(t, authz.ErrChanged, update(mine))
	if mine.Revision != before {
		t.Error("a refused update has set the revision")
	}
	for _, revision := range []int64{0, -1, theirs.Revision + 1, w.registered(t, rates).Revision} {
		mine.Revision = revision
		w.refuses(t, authz.ErrChanged, update(mine))
	}
	must(t, update(theirs)()) // once more, of its own revision
	// That it is gone is said of one that is.
	must(t, w.Operator.DeleteClient(t.Context(), yard, w.event(authz.AuditClientDeleted)))
	gone := w.registered(t, rates)
	must(t, w.Operator.DeleteResource(t.Context(), rates, w.event(authz.AuditResourceDeleted)))
	w.refuses(t, authz.ErrNotFound, update(gone))
	must(t, w.Operator.CreateResource(t.Context(), w.resource(rates), w.event(authz.AuditResourceCreated)))
	w.refuses(t, authz.ErrChanged, update(gone))
}

func updatesAtOnce(t *testing.T, w *world) {
	w.populate(t)
	read := w.registered(t, labels)
	before := len(w.Events(t))
	same(t, []int{1, 7}, atOnce(t, 8, func(ctx context.Context, i int) error {
		r := *read
		r.TokenTTL = time.Duration(i+1) * time.Second
		return w.Operator.UpdateResource(ctx, &r, w.event(authz.AuditResourceUpdated))
	}, authz.ErrChanged))
	if n := len(w.Events(t)) - before; n != 1 {
		t.Errorf("%d events", n)
	}
}

func revisions(t *testing.T, w *world) {
	w.populate(t)
	seen := map[int64]bool{}
	see := func(r *authz.Resource) {
		t.Helper()
		if r.Revision == 0 || seen[r.Revision] {
			t.Errorf("revision %d was there before", r.Revision)
		}
		seen[r.Revision] = true
		if now := w.registered(t, r.URI).Revision; now != r.Revision {
			t.Errorf("told revision %d, and it is %d", r.Revision, now)
		}
	}
	see(w.registered(t, labels))
	see(w.registered(t, rates))
	const uri = "urn:example:coming-and-going"
	for range 3 {
		r := w.resource(uri)
		must(t, w.Operator.CreateResource(t.Context(), r, w.event(authz.AuditResourceCreated)))
		see(r)
		must(t, w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)))
		see(r)
		must(t, w.Operator.DeleteResource(t.Context(), uri, w.event(authz.AuditResourceDeleted)))
	}
}

func (w *world) resourceAt(uri string, baseURLs ...string) *authz.Resource {
	r := w.resource(uri)
	r.BaseURLs = baseURLs
	return r
}

func baseURLTaken(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	const a, b, c = "https://a.example.com", "https://b.example.com", "https://c.example.com"
	create := func(r *authz.Resource) func() error {
		return func() error { return w.Operator.CreateResource(ctx, r, w.event(authz.AuditResourceCreated)) }
	}
	update := func(r *authz.Resource) func() error {
		return func() error { return w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated)) }
	}
	first := w.resourceAt("urn:first", a, b)
	must(t, create(first)())
	w.refuses(t, authz.ErrURLTaken, create(w.resourceAt("urn:second", a)))
	w.refuses(t, authz.ErrURLTaken, create(w.resourceAt("urn:second", c, b)))
	second := w.resourceAt("urn:second", c, a+"/below", "https://A.example.com")
	must(t, create(second)())
	stolen := *second
	stolen.BaseURLs = []string{b, c}
	w.refuses(t, authz.ErrURLTaken, update(&stolen))
	if stolen.Revision != second.Revision {
		t.Error("a refused update has set the revision")
	}

	// Its own are its own, and what it leaves is free.
	must(t, update(first)())
	first.BaseURLs = []string{b, "https://d.example.com"}
	must(t, update(first)())
	second.BaseURLs = []string{a, c}
	must(t, update(second)())
	same(t, first.BaseURLs, w.registered(t, first.URI).BaseURLs)
	same(t, second.BaseURLs, w.registered(t, second.URI).BaseURLs)
	must(t, w.Operator.DeleteResource(ctx, first.URI, w.event(authz.AuditResourceDeleted)))
	must(t, create(w.resourceAt("urn:third", b, "https://d.example.com"))())
}

func baseURLAtOnce(t *testing.T, w *world) {
	w.populate(t)
	const n = 8
	same(t, []int{1, n - 1}, atOnce(t, n, func(ctx context.Context, i int) error {
		r := w.resourceAt("urn:contender:"+string(rune('a'+i)), "https://a.example.com", "https://b.example.com")
		return w.Operator.CreateResource(ctx, r, w.event(authz.AuditResourceCreated))
	}, authz.ErrURLTaken))
}
