package authz

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gatewayTables keeps the last GatewayTable that was read. It may be behind: no
// call is let through by a table that is not the Store's own at that moment.
type gatewayTables struct {
	store   Store
	log     *slog.Logger
	profile Profile

	loaded atomic.Pointer[gatewayTable]

	loading sync.Mutex
	looked  time.Time // when refresh did last
	failure error     // what it found then
}

// gatewayTable is a GatewayTable made ready for look-ups. It is not changed.
type gatewayTable struct {
	revision  int64
	byBaseURL map[string]*api
	gateways  map[string]*Gateway
	// resources and scopes are all that are registered, by themselves: what is found in
	// them is no client's memory.
	resources, scopes map[string]string
	byName            map[CertificateName]*Gateway
	at                time.Time // of the process's clock, which only goes forward
}

// api is a resource as the gateway check needs it.
type api struct {
	*Resource
	generation int64
	routes     *routeTable // nil: the resource has none
	broken     error       // its routes are not understood here: no call is let through
}

// gatewayTableAge is how old a table must be for a call that it refuses to have
// it read anew: a flood of such calls is not one on the database.
const gatewayTableAge = 100 * time.Millisecond

// gatewayTableWait bounds how long a refused call waits for that.
const gatewayTableWait = time.Second

func (t *gatewayTables) load(ctx context.Context) error {
	at := time.Now()
	read, err := t.store.GatewayTable(ctx)
	if err != nil {
		return fmt.Errorf("reading the gateway table: %w", err)
	}
	next := &gatewayTable{
		revision: read.Revision, at: at,
		byBaseURL: make(map[string]*api), gateways: make(map[string]*Gateway),
		byName:    make(map[CertificateName]*Gateway),
		resources: make(map[string]string), scopes: make(map[string]string),
	}
	for _, r := range read.Resources {
		r.AllowBearer = r.AllowBearer && t.profile.admitsBearer()
		a := &api{Resource: r.Resource, generation: r.Generation}
		if a.routes, a.broken = newRouteTable(r.Routes); a.broken != nil {
			t.log.Error("the routes of a resource are not understood; no gateway call to it is let through",
				"resource", r.URI, "cause", a.broken)
		}
		next.resources[r.URI] = r.URI
		for _, scope := range r.Scopes {
			next.scopes[scope] = scope
		}
		for _, base := range r.BaseURLs {
			next.byBaseURL[base] = a
		}
	}
	for i := range read.Gateways {
		g := &read.Gateways[i]
		next.gateways[g.ID] = g
		if g.TLSName != (CertificateName{}) {
			next.byName[g.TLSName] = g
		}
	}
	t.loaded.Store(next)
	return nil
}

// reload reads the table anew unless somebody has since old was read.
func (t *gatewayTables) reload(ctx context.Context, old *gatewayTable) error {
	t.loading.Lock()
	defer t.loading.Unlock()
	if t.loaded.Load() != old {
		return nil
	}
	return t.load(ctx)
}

// refresh is reload for a table that is older than gatewayTableAge, and tells
// whether there is a newer one. It fails where there may be one and it cannot be
// read soon.
func (t *gatewayTables) refresh(ctx context.Context, old *gatewayTable) (newer bool, err error) {
	if time.Since(old.at) <= gatewayTableAge {
		return false, nil
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	switch {
	case t.loaded.Load() != old:
		return true, nil
	case time.Since(t.looked) <= gatewayTableAge: // whoever waited shares what was found
		return false, t.failure
	}
	ctx, cancel := context.WithTimeout(ctx, gatewayTableWait)
	defer cancel()
	newer, t.failure = t.readChanged(ctx, old)
	t.looked = time.Now()
	return newer, t.failure
}

// readChanged reads the table only where its revision is another one: a stranger
// can have it looked for as often as gatewayTableAge allows.
func (t *gatewayTables) readChanged(ctx context.Context, old *gatewayTable) (newer bool, err error) {
	revision, err := t.store.GatewayRevision(ctx)
	if err != nil || revision == old.revision {
		return false, err
	}
	return true, t.load(ctx)
}

// current is the table as the Store has it now.
func (t *gatewayTables) current(ctx context.Context) (*gatewayTable, error) {
	old := t.loaded.Load()
	revision, err := t.store.GatewayRevision(ctx)
	if err != nil || revision == old.revision {
		return old, err
	}
	err = t.reload(ctx, old)
	return t.loaded.Load(), err
}

// find returns the resource with the longest base URL that a normalised URL lies
// under, and the path below it. A nil api is none.
func (t *gatewayTable) find(url string) (found *api, path string) {
	_, rest, _ := strings.Cut(url, "://")
	least := len(url) - len(rest) + strings.IndexByte(rest, '/') // the path's first slash
	for end := len(url); end >= least; end = strings.LastIndexByte(url[:end], '/') {
		if a := t.byBaseURL[url[:end]]; a != nil {
			if path = url[end:]; path == "" {
				path = "/"
			}
			return a, path
		}
	}
	return nil, ""
}

// identify returns the gateway that is who it claims, and the name of the secret
// that it claims it by. The error says who it is not, and wraps a retiredSecret
// where that is why.
func (t *gatewayTable) identify(claim GatewayClaim, now time.Time) (g *Gateway, credential string, err error) {
	g = t.claimed(claim)
	if claim.Secret != nil {
		var known []EndingDigest
		if g != nil {
			known = g.Secrets
		}
		switch secret, ok := claim.Secret.among(known); {
		case !ok:
			return nil, "", t.whyNot(claim)
		case !secret.InForce(now):
			return nil, "", &retiredSecret{clientID: g.ID, name: secret.Digest.Name(), endedAt: secret.EndsAt}
		default:
			credential = secret.Digest.Name()
		}
	}
	if g == nil || g.Disabled {
		return nil, "", t.whyNot(claim)
	}
	return g, credential, nil
}

func (t *gatewayTable) claimed(claim GatewayClaim) *Gateway {
	if claim.ClientID != "" {
		return t.gateways[claim.ClientID]
	}
	// A certificate whose names are two clients' is nobody's, also while one of
	// them is disabled: its key may be why.
	var found *Gateway
	for _, name := range claim.Names {
		g := t.byName[name]
		if g != nil && found != nil && g != found {
			return nil
		}
		if g != nil {
			found = g
		}
	}
	return found
}

// whyNot is for the log: a name is in it only where it is registered, since any
// other may be a secret in the wrong place.
func (t *gatewayTable) whyNot(claim GatewayClaim) error {
	if g := t.claimed(claim); g != nil {
		return fmt.Errorf("wrong secret for gateway %s, or it is disabled", g.ID)
	}
	return errNotThisGateway
}

// baseURLsOf are those of all that a gateway fronts.
func (t *gatewayTable) baseURLsOf(g *Gateway) []string {
	var all []string
	for base, a := range t.byBaseURL {
		if g.fronts(a.URI) {
			all = append(all, base)
		}
	}
	slices.Sort(all)
	return all
}

func (g *Gateway) fronts(resource string) bool { return slices.Contains(g.Fronts, resource) }
