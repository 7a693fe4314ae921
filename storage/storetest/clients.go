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

func clients() []property {
	return []property{
		{"ClientIsReadAsItWasCreated", clientRoundTrip},
		{"ClientThatIsNotRegisteredIsNotFound", noClient},
		{"ClaimantIsToldWithWhatItMayDoOnlyBySecret", claimant},
		{"ClientsListsAll", allClients},
		{"NameIsTakenOnce", clientExists},
		{"OfManyEqualRegistrationsOneSucceeds", clientExistsAtOnce},
		{"GrantOfWhatIsNotRegisteredIsRefused", notDefined},
		{"SecretIsInForceUntilItExpires", secretExpires},
		{"DisabledClientIsFoundWithTheMomentOfItsDisabling", disabledIsFound},
		{"ChangesLeaveExactlyTheirEvent", clientEvents},
		{"NameInACertificateIsOneClients", certificateNames},
	}
}

func clientRoundTrip(t *testing.T, w *world) {
	w.populate(t)
	c := &authz.Client{
		ID: "Parcel.desk_9-x", AuthMethod: authz.ClientSecretPost, TokenFormat: authz.FormatOpaque, AllowBearer: true, DPoPKeys: authz.FirstUseKey,
		CreatedAt: w.now, Secrets: []authz.Digest{randomDigest(), randomDigest()},
		Grants: []authz.Grant{
			{Resource: labels, Scopes: []string{"read"}, TokenTTL: 10 * time.Minute, AllowBearer: true},
			{Resource: rates, Scopes: []string{"read", "void", "write"}, TokenTTL: 10 * time.Minute, AllowBearer: true},
		},
		Introspects: []string{labels, rates},
	}
	sortSecrets(c)
	must(t, w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)))
	for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
		got, err := s.Client(t.Context(), c.ID, w.now)
		must(t, err)
		sortSecrets(got)
		same(t, c, got)
	}
	// The terms are the resource's of today.
	r := w.registered(t, rates)
	r.TokenTTL, r.AllowBearer = time.Minute, false
	must(t, w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)))
	c.Grants[1].TokenTTL, c.Grants[1].AllowBearer = time.Minute, false
	got, err := w.Servers[0].Client(t.Context(), c.ID, w.now)
	must(t, err)
	sortSecrets(got)
	same(t, c, got)
}

func sortSecrets(c *authz.Client) {
	slices.SortFunc(c.Secrets, func(a, b authz.Digest) int { return slices.Compare(a[:], b[:]) })
}

func claimant(t *testing.T, w *world) {
	w.populate(t)
	c := w.client("claimed")
	c.Secrets, c.Introspects = []authz.Digest{randomDigest(), randomDigest()}, []string{rates}
	sortSecrets(c)
	must(t, w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)))
	whole, err := w.Servers[0].Client(t.Context(), c.ID, w.now)
	must(t, err)
	for _, secret := range c.Secrets {
		got, err := w.Servers[0].Claimant(t.Context(), c.ID, secret, w.now)
		must(t, err)
		sortSecrets(whole)
		sortSecrets(got)
		same(t, whole, got)
	}
	wrong, err := w.Servers[0].Claimant(t.Context(), c.ID, randomDigest(), w.now)
	must(t, err)
	if len(wrong.Grants) != 0 || len(wrong.Introspects) != 0 || len(wrong.Secrets) != 2 {
		t.Errorf("by a wrong secret: %+v", wrong)
	}
	for _, id := range []string{"nobody", ""} {
		if _, err := w.Servers[0].Claimant(t.Context(), id, c.Secrets[0], w.now); !errors.Is(err, authz.ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func noClient(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	for _, id := range []string{"never-registered", "", "SHOP", "shop "} {
		if c, err := w.Servers[0].Client(ctx, id, w.now); !errors.Is(err, authz.ErrNotFound) {
			t.Errorf("%q: %v, %v", id, c, err)
		}
		for _, disabled := range []bool{true, false} {
			w.refuses(t, authz.ErrNotFound, func() error {
				return w.Operator.SetClientDisabled(ctx, id, disabled, w.event(authz.AuditClientDisabled))
			})
		}
		w.refuses(t, authz.ErrNotFound, func() error {
			return w.Operator.DeleteClient(ctx, id, w.event(authz.AuditClientDeleted))
		})
	}
	must(t, w.Operator.DeleteClient(ctx, shop, w.event(authz.AuditClientDeleted)))
	if _, err := w.Servers[0].Client(ctx, shop, w.now); !errors.Is(err, authz.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func allClients(t *testing.T, w *world) {
	got, err := w.Operator.Clients(t.Context(), w.now)
	must(t, err)
	same(t, []*authz.Client{}, got)
	w.populate(t)
	got, err = w.Operator.Clients(t.Context(), w.now)
	must(t, err)
	slices.SortFunc(got, func(a, b *authz.Client) int { return strings.Compare(a.ID, b.ID) })
	var want []*authz.Client
	for _, id := range []string{edge, other, shop, yard} {
		c, err := w.Operator.Client(t.Context(), id, w.now)
		must(t, err)
		want = append(want, c)
	}
	same(t, want, got)
}

func clientExists(t *testing.T, w *world) {
	w.populate(t)
	w.refuses(t, authz.ErrExists, func() error {
		return w.Operator.CreateClient(t.Context(), w.gateway(shop, rates), w.event(authz.AuditClientCreated))
	})
}

func clientExistsAtOnce(t *testing.T, w *world) {
	w.populate(t)
	before := len(w.Events(t))
	counts := atOnce(t, 8, func(ctx context.Context, _ int) error {
		return w.Operator.CreateClient(ctx, w.client("newcomer"), w.event(authz.AuditClientCreated))
	}, authz.ErrExists)
	same(t, []int{1, 7}, counts)
	if n := len(w.Events(t)) - before; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	c, err := w.Servers[0].Client(t.Context(), "newcomer", w.now)
	must(t, err)
	if len(c.Secrets) != 1 {
		t.Errorf("%d secrets, want those of one registration", len(c.Secrets))
	}
}

func notDefined(t *testing.T, w *world) {
	w.populate(t)
	for _, spoil := range []func(*authz.Client){
		func(c *authz.Client) { c.Grants[0].Resource = "https://nowhere.example.com" },
		func(c *authz.Client) { c.Grants[0].Scopes = []string{"read", "unheard-of"} },
		func(c *authz.Client) { c.Introspects = []string{labels, "https://nowhere.example.com"} },
	} {
		c := w.client("newcomer")
		spoil(c)
		w.refuses(t, authz.ErrNotDefined, func() error {
			return w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated))
		})
	}
}

func secretExpires(t *testing.T, w *world) {
	w.populate(t)
	c := w.client("rotating")
	c.Secrets = []authz.Digest{randomDigest(), randomDigest()}
	must(t, w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)))
	end := w.now.Add(time.Hour)
	w.ExpireSecret(t, c.ID, c.Secrets[0], end)
	for at, want := range map[time.Duration]int{-time.Hour: 2, -time.Microsecond: 2, 0: 1, time.Hour: 1} {
		got, err := w.Servers[0].Client(t.Context(), c.ID, end.Add(at))
		must(t, err)
		if len(got.Secrets) != want || !slices.Contains(got.Secrets, c.Secrets[1]) {
			t.Errorf("%s from the end: %d secrets, want %d", at, len(got.Secrets), want)
		}
		all, err := w.Operator.Clients(t.Context(), end.Add(at))
		must(t, err)
		i := slices.IndexFunc(all, func(c *authz.Client) bool { return c.ID == "rotating" })
		if i < 0 || len(all[i].Secrets) != want {
			t.Errorf("%s from the end: listed otherwise", at)
		}
	}
}

func disabledIsFound(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	for _, step := range []struct {
		disable bool
		at      time.Duration
		want    time.Time
	}{
		{true, time.Second, w.now.Add(time.Second)},
		{true, time.Minute, w.now.Add(time.Second)},
		{false, time.Hour, time.Time{}},
		{true, 2 * time.Hour, w.now.Add(2 * time.Hour)},
	} {
		must(t, w.Operator.SetClientDisabled(ctx, shop, step.disable, w.eventAt(authz.AuditClientDisabled, w.now.Add(step.at))))
		c, err := w.Servers[0].Client(ctx, shop, w.now)
		must(t, err)
		if !c.DisabledAt.Equal(step.want) || c.Disabled() != step.disable || len(c.Secrets) != 1 {
			t.Errorf("after %s: %+v", step.at, c)
		}
	}
}

func clientEvents(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	c := w.client("newcomer")
	for kind, do := range map[authz.AuditKind]func(authz.AuditEvent) error{
		authz.AuditClientCreated:  func(e authz.AuditEvent) error { return w.Operator.CreateClient(ctx, c, e) },
		authz.AuditClientDisabled: func(e authz.AuditEvent) error { return w.Operator.SetClientDisabled(ctx, shop, true, e) },
		authz.AuditClientEnabled:  func(e authz.AuditEvent) error { return w.Operator.SetClientDisabled(ctx, other, false, e) },
		authz.AuditClientDeleted:  func(e authz.AuditEvent) error { return w.Operator.DeleteClient(ctx, edge, e) },
	} {
		given := w.event(kind)
		given.Detail = map[string]any{"secrets": "1"}
		written := given
		written.ClientID = map[authz.AuditKind]string{
			authz.AuditClientCreated: c.ID, authz.AuditClientDisabled: shop,
			authz.AuditClientEnabled: other, authz.AuditClientDeleted: edge,
		}[kind]
		w.writes(t, func() error { return do(given) }, written)
	}
}

func certificateNames(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	type name = authz.CertificateName
	create := func(c *authz.Client) func() error {
		return func() error { return w.Operator.CreateClient(ctx, c, w.event(authz.AuditClientCreated)) }
	}
	for id, n := range map[string]name{
		"by-dns": {DNS: "gw.example.com"}, "by-uri": {URI: "spiffe://example.com/gw"}, "by-ip": {IP: "192.0.2.7"},
		"by-email": {Email: "gw@example.com"}, "by-subject": {SubjectDN: "CN=gw,O=Example"},
	} {
		c := w.certified(id, n, labels, rates)
		must(t, create(c)())
		if !slices.ContainsFunc(w.table(t).Gateways, func(g authz.Gateway) bool { return g.ID == id && g.TLSName == n }) {
			t.Errorf("%s: the gateway table does not have its name", id)
		}
		for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
			got, err := s.Client(ctx, c.ID, w.now)
			must(t, err)
			same(t, c, got)
		}
		w.refuses(t, authz.ErrNameTaken, create(w.certified("second", c.TLSName, rates)))
		w.refuses(t, authz.ErrExists, create(w.certified(c.ID, name{DNS: "another.example.com"}, rates)))
		w.refuses(t, nil, create(w.certified("second", name{}, rates)))
		w.refuses(t, nil, create(w.certified("second", name{DNS: "a.example.com", URI: "spiffe://example.com/a"}, rates)))
		plain := w.gateway("second", rates)
		plain.TLSName = name{DNS: "a.example.com"}
		w.refuses(t, nil, create(plain))

		must(t, w.Operator.SetClientDisabled(ctx, c.ID, true, w.event(authz.AuditClientDisabled)))
		w.refuses(t, authz.ErrNameTaken, create(w.certified("second", c.TLSName, rates)))
		must(t, w.Operator.DeleteClient(ctx, c.ID, w.event(authz.AuditClientDeleted)))
		must(t, create(w.certified(c.ID+"-2", c.TLSName, rates))())
	}
}
