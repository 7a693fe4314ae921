package storetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

// What populate registers.
const (
	labels = "https://labels.example.com" // shop has a grant of it, edge fronts it
	rates  = "https://rates.example.com"  // nobody has a grant of it, yard fronts it
	shop   = "shop"
	other  = "other-shop" // has the same grant as shop
	edge   = "edge"
	yard   = "yard"
)

// window is the one that the properties use, where they do not vary it.
const window = 90 * time.Second

// world is the data of one property, and its clock.
type world struct {
	Stores
	now time.Time
}

// populate makes partitions and the registrations above.
func (w *world) populate(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	must(t, w.Servers[0].Maintain(ctx, w.now))
	must(t, w.Operator.CreateResource(ctx, w.resource(labels), w.event(authz.AuditResourceCreated)))
	must(t, w.Operator.CreateResource(ctx, w.resource(rates), w.event(authz.AuditResourceCreated)))
	for _, c := range []*authz.Client{w.client(shop), w.client(other), w.gateway(edge, labels), w.gateway(yard, rates)} {
		must(t, w.Operator.CreateClient(ctx, c, w.event(authz.AuditClientCreated)))
	}
}

func (w *world) resource(uri string) *authz.Resource {
	return &authz.Resource{
		URI: uri, Scopes: []string{"read", "void", "write"}, TokenTTL: 10 * time.Minute, AllowBearer: true,
		CreatedAt: w.now, UpdatedAt: w.now,
	}
}

func (w *world) client(id string) *authz.Client {
	return &authz.Client{
		ID: id, AuthMethod: authz.ClientSecretBasic, TokenFormat: authz.FormatJWT, CreatedAt: w.now,
		DPoPKeys: authz.AnyKey,
		Secrets:  []authz.Digest{secretOf(id)},
		Grants:   []authz.Grant{{Resource: labels, Scopes: []string{"read", "write"}, TokenTTL: 10 * time.Minute, AllowBearer: true}},
	}
}

// secretOf is the digest of the secret that client registers a client with.
func secretOf(id string) authz.Digest { return authz.DigestOf("the secret of " + id) }

func (w *world) gateway(id string, introspects ...string) *authz.Client {
	c := w.client(id)
	c.Grants, c.Introspects = nil, introspects
	return c
}

// caller is a client that authenticates now.
func (w *world) caller(id string) authz.Caller {
	c, err := w.Servers[0].Client(context.Background(), id, w.now)
	if err != nil { // then whatever it asks for is to fail
		return authz.Caller{ClientID: id}
	}
	return c.Caller()
}

// event is an operator's.
func (w *world) event(kind authz.AuditKind) authz.AuditEvent { return w.eventAt(kind, w.now) }

func (w *world) eventAt(kind authz.AuditKind, at time.Time) authz.AuditEvent {
	e := authz.NewAuditEvent(at, kind, authz.ActorOperator("ada"))
	e.RequestID = "r-1"
	return e
}

// issue is a fresh token of shop for labels, with a fresh proof.
func (w *world) issue() authz.Issue { return w.issueFor(shop, w.now) }

func (w *world) issueFor(client string, at time.Time) authz.Issue {
	t := authz.Token{
		JTI: authz.NewJTI(at), Digest: randomDigest(), ClientID: client, Resource: labels, Scope: "read write",
		JKT: rand.Text(), Credential: secretOf(client).Name(), IssuedAt: at, ExpiresAt: at.Truncate(time.Second).Add(10 * time.Minute),
	}
	e := authz.NewAuditEvent(at, authz.AuditTokenIssued, "client:"+client)
	e.ClientID, e.Resource, e.JTI, e.JKT = client, t.Resource, t.JTI, t.JKT
	e.RequestID, e.RemoteAddr, e.Detail = "r-2", "192.0.2.7", map[string]any{"scope": t.Scope}
	return w.read(authz.Issue{
		Token: t, Event: e,
		Proof: &authz.Spending{Digest: randomDigest(), IssuedAt: at.Truncate(time.Second), Window: window},
	})
}

// read is the issue of a client, and by terms, that are read now.
func (w *world) read(i authz.Issue) authz.Issue {
	c, err := w.Servers[0].Client(context.Background(), i.Token.ClientID, w.now)
	if err != nil { // then it is to fail
		return i
	}
	i.Revision = c.Revision
	if r, err := w.Operator.Resource(context.Background(), i.Token.Resource); err == nil {
		i.ResourceRevision = r.Revision
	}
	return i
}

func bearer(i authz.Issue) authz.Issue {
	i.Proof, i.Token.JKT, i.Event.JKT = nil, "", ""
	return i
}

// certified is bound to a certificate (RFC 8705 §3), and to no key.
func certified(i authz.Issue) authz.Issue {
	i = bearer(i)
	i.Token.X5T = newJKT() // of the same form
	return i
}

// record records a fresh token of shop.
func (w *world) record(t *testing.T) authz.Token {
	t.Helper()
	i := w.issue()
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	return i.Token
}

func randomDigest() (d authz.Digest) {
	rand.Read(d[:]) // never fails (crypto/rand)
	return d
}

// contents are all that the Store lets be seen.
type contents struct {
	Clients     []*authz.Client
	Resources   []*authz.Resource
	Gateways    *authz.GatewayTable
	Tokens      []*authz.Token
	Keys        []jwks.SealedKey
	Events      []authz.AuditEvent
	SpentProofs int
}

func (w *world) contents(t *testing.T) (c contents) {
	t.Helper()
	ctx := t.Context()
	var err error
	c.Clients, err = w.Operator.Clients(ctx, w.now)
	must(t, err)
	c.Resources, err = w.Operator.Resources(ctx)
	must(t, err)
	c.Gateways = w.table(t)
	for _, id := range []string{shop, other, edge, yard} {
		tokens, err := w.Operator.Tokens(ctx, id, w.now, 1000)
		must(t, err)
		c.Tokens = append(c.Tokens, tokens...)
	}
	c.Keys, err = w.Operator.SigningKeys(ctx)
	must(t, err)
	c.Events = w.Events(t)
	slices.SortFunc(c.Events, func(a, b authz.AuditEvent) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	c.SpentProofs = w.SpentProofs(t)
	return c
}

// refuses checks that do fails with want (nil: with any error) and writes nothing.
func (w *world) refuses(t *testing.T, want error, do func() error) {
	t.Helper()
	before := w.contents(t)
	err := do()
	if err == nil {
		t.Error("it succeeded")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("failed with %v, want %v", err, want)
	}
	same(t, before, w.contents(t))
}

// writes checks that do succeeds and leaves exactly the events given.
func (w *world) writes(t *testing.T, do func() error, events ...authz.AuditEvent) {
	t.Helper()
	old := map[authz.JTI]bool{}
	for _, e := range w.Events(t) {
		old[e.ID] = true
	}
	must(t, do())
	var added []authz.AuditEvent
	for _, e := range w.Events(t) {
		if !old[e.ID] {
			added = append(added, e)
		}
	}
	same(t, events, added)
}

// activeFor tells whether gateway finds the token active.
func (w *world) activeFor(t *testing.T, token authz.Token, gateway string, now time.Time) bool {
	t.Helper()
	var verdicts [2]bool
	for i, s := range w.Servers {
		found, err := s.ActiveToken(t.Context(), token.Digest, w.caller(gateway), now)
		switch {
		case err == nil:
			same(t, token, *found)
			verdicts[i] = true
		case errors.Is(err, authz.ErrClientChanged) && w.caller(gateway).Revision == 0: // it is not registered
		case !errors.Is(err, authz.ErrNotFound):
			t.Fatal(err)
		}
	}
	if verdicts[0] != verdicts[1] {
		t.Fatalf("two instances differ: %v", verdicts)
	}
	return verdicts[0]
}

func (w *world) isActive(t *testing.T, token authz.Token) bool {
	t.Helper()
	return w.activeFor(t, token, edge, w.now)
}

// atOnce runs do n times, all at the same moment, and counts the errors by
// which of wants they are; the first place counts successes.
func atOnce(t *testing.T, n int, do func(context.Context, int) error, wants ...error) []int {
	t.Helper()
	ctx := t.Context()
	start := make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(ctx, i)
		})
	}
	close(start)
	wg.Wait()
	counts := make([]int, 1+len(wants))
	for _, err := range errs {
		if err == nil {
			counts[0]++
			continue
		}
		k := slices.IndexFunc(wants, func(want error) bool { return errors.Is(err, want) })
		if k < 0 {
			t.Fatalf("failed with %v, want one of %v", err, wants)
		}
		counts[1+k]++
	}
	return counts
}

// same compares what is of a moment; revisions.go is for what changes with it.
func same(t *testing.T, want, got any) {
	t.Helper()
	revisions := gocmp.Options{cmpopts.IgnoreFields(authz.Client{}, "Revision"), cmpopts.IgnoreFields(authz.Grant{}, "Revision")}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty(), revisions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
