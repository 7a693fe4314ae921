package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func gateways() []property {
	return []property{
		{"ItTellsExactlyWhatIsRegistered", tableTells},
		{"ItTellsUntilWhenASecretIsInForce", tableTellsEnds},
		{"ClientOfAnotherMethodIsNotProvenByASecret", tableTellsNoSecret},
		{"GenerationIsOfOneRegistration", generations},
		{"ItIsOfOneMoment", tableOfOneMoment},
		{"EachChangeEndsTheTablesOfBefore", changesEndTables},
		{"WhatServersDoEndsNoTable", serversEndNoTable},
	}
}

// table is what both instances say at this moment.
func (w *world) table(t *testing.T) *authz.GatewayTable {
	t.Helper()
	first, err := w.Servers[0].GatewayTable(t.Context())
	must(t, err)
	second, err := w.Servers[1].GatewayTable(t.Context())
	must(t, err)
	same(t, first, second)
	return first
}

// generation is 0 for a resource that is not in the table.
func generation(table *authz.GatewayTable, uri string) int64 {
	for _, r := range table.Resources {
		if r.URI == uri {
			return r.Generation
		}
	}
	return 0
}

// tells checks all of the table but its revision and generations.
func (w *world) tells(t *testing.T, gateways ...authz.Gateway) {
	t.Helper()
	table := w.table(t)
	registered, err := w.Operator.Resources(t.Context())
	must(t, err)
	var fronted []*authz.Resource
	seen := map[int64]bool{}
	for _, r := range table.Resources {
		fronted = append(fronted, r.Resource)
		if r.Generation <= 0 || seen[r.Generation] {
			t.Errorf("%s: generation %d", r.URI, r.Generation)
		}
		seen[r.Generation] = true
	}
	slices.SortFunc(registered, func(a, b *authz.Resource) int { return strings.Compare(a.URI, b.URI) })
	slices.SortFunc(fronted, func(a, b *authz.Resource) int { return strings.Compare(a.URI, b.URI) })
	same(t, registered, fronted)
	for _, g := range table.Gateways {
		slices.Sort(g.Fronts)
		slices.SortFunc(g.Secrets, byDigest)
	}
	slices.SortFunc(table.Gateways, func(a, b authz.Gateway) int { return strings.Compare(a.ID, b.ID) })
	same(t, gateways, table.Gateways)
}

func byDigest(a, b authz.EndingDigest) int { return slices.Compare(a.Digest[:], b.Digest[:]) }

// gatewayOf is how a client that fronts resources is told.
func gatewayOf(c *authz.Client) authz.Gateway {
	g := authz.Gateway{ID: c.ID, TLSName: c.TLSName, Fronts: c.Introspects}
	for _, d := range c.Secrets {
		g.Secrets = append(g.Secrets, authz.EndingDigest{Digest: d})
	}
	slices.SortFunc(g.Secrets, byDigest)
	return g
}

// certified is a gateway that is known by its certificate.
func (w *world) certified(id string, name authz.CertificateName, fronts ...string) *authz.Client {
	c := w.gateway(id, fronts...)
	c.AuthMethod, c.Secrets, c.TLSName = authz.TLSClientAuth, nil, name
	return c
}

func tableTells(t *testing.T, w *world) {
	w.tells(t)
	if w.table(t).Revision == 0 {
		t.Error("no revision, which is that of no table")
	}
	must(t, w.Servers[0].Maintain(t.Context(), w.now))
	of := func(uri string, baseURLs []string, routes ...authz.Route) step {
		return func(t *testing.T, w *world) {
			r := w.resourceAt(uri, baseURLs...)
			r.Routes, r.RequireNonce = routes, len(routes) > 0
			must(t, w.Operator.CreateResource(t.Context(), r, w.event(authz.AuditResourceCreated)))
		}
	}
	of(labels, []string{"https://api.example.com", "https://api.example.com/v1"},
		authz.Route{Method: "POST", Path: "/labels", Scopes: []string{"read", "write"}}, authz.Route{Path: "/{$}"})(t, w)
	of(rates, nil)(t, w)
	w.tells(t)

	two := w.gateway("a-two", labels, rates)
	two.Secrets = append(two.Secrets, randomDigest(), randomDigest())
	both := w.gateway("b-both", rates) // a client and a gateway
	both.Grants = w.client(shop).Grants
	dns := w.certified("c-dns", authz.CertificateName{DNS: "gw.example.com"}, labels)
	uri := w.certified("d-uri", authz.CertificateName{URI: "spiffe://example.com/gw"}, rates)
	socket := w.gateway("e-socket", labels)
	socket.Secrets = nil
	for _, c := range []*authz.Client{two, both, dns, uri, socket, w.client(shop),
		w.certified("certified-shop", authz.CertificateName{DNS: "shop.example.com"})} {
		create(c)(t, w)
	}
	want := []authz.Gateway{gatewayOf(two), gatewayOf(both), gatewayOf(dns), gatewayOf(uri), gatewayOf(socket)}
	w.tells(t, want...)
	all(disable(two.ID, true), disable(dns.ID, true))(t, w)
	want[0].Disabled, want[2].Disabled = true, true
	w.tells(t, want...)
	all(disable(two.ID, false), remove(uri.ID), remove(both.ID))(t, w)
	want[0].Disabled = false
	w.tells(t, want[0], want[2], want[4])
	all(remove(two.ID), remove(dns.ID), remove(socket.ID), removeResource(rates))(t, w)
	w.tells(t)
}

func tableTellsEnds(t *testing.T, w *world) {
	w.populate(t)
	c := w.gateway("aging", labels)
	c.Secrets = append(c.Secrets, randomDigest())
	create(c)(t, w)
	for _, at := range []time.Duration{-time.Hour, 0, time.Microsecond, time.Hour} { // what is over is told too
		w.ExpireSecret(t, c.ID, c.Secrets[0], w.now.Add(at))
		for _, g := range w.table(t).Gateways {
			if g.ID != c.ID {
				continue
			}
			want := gatewayOf(c)
			for i := range want.Secrets {
				if want.Secrets[i].Digest == c.Secrets[0] {
					want.Secrets[i].EndsAt = w.now.Add(at)
				}
			}
			slices.SortFunc(g.Secrets, byDigest)
			same(t, want, g)
		}
	}
}

// A client has one method.
func tableTellsNoSecret(t *testing.T, w *world) {
	w.populate(t)
	byName := w.certified("by-dns", authz.CertificateName{DNS: "gw.example.com"}, labels)
	for _, c := range []*authz.Client{byName, w.keyedGateway("by-key", authz.PrivateKeyJWT), w.keyedGateway("by-own-certificate", authz.SelfSignedTLSClientAuth)} {
		c.Secrets = []authz.Digest{randomDigest()}
		create(c)(t, w)
		for _, g := range w.table(t).Gateways {
			if g.ID == c.ID && len(g.Secrets) != 0 {
				t.Errorf("%+v", g)
			}
		}
	}
}

// keyedGateway is a gateway with keys of its own.
func (w *world) keyedGateway(id string, method authz.AuthMethod) *authz.Client {
	c := w.gateway(id, labels)
	c.AuthMethod, c.JWKS, c.KeyNames = method, []byte(`{"keys": []}`), []string{newJKT()}
	return c
}

func generations(t *testing.T, w *world) {
	w.populate(t)
	seen := map[int64]bool{generation(w.table(t), labels): true, generation(w.table(t), rates): true}
	const uri = "urn:example:coming-and-going"
	for range 3 {
		registerResource(uri)(t, w)
		now := generation(w.table(t), uri)
		if now <= 0 || seen[now] {
			t.Errorf("generation %d was there before", now)
		}
		seen[now] = true
		updateResource(uri, func(*authz.Resource) {})(t, w)
		if after := generation(w.table(t), uri); after != now {
			t.Errorf("an update made generation %d of %d", after, now)
		}
		removeResource(uri)(t, w)
		if after := generation(w.table(t), uri); after != 0 {
			t.Errorf("deleted, and of generation %d", after)
		}
	}
}

// changes are an operator's, one after the other, each of something in the table.
func changes() []struct {
	name string
	step step
} {
	const uri = "urn:example:changing"
	mesh := authz.CertificateName{DNS: "mesh.example.com"}
	return []struct {
		name string
		step step
	}{
		{"a resource is registered", registerResource(uri)},
		{"a resource's base URLs", updateResource(uri, func(r *authz.Resource) { r.BaseURLs = []string{"https://a.example.com"} })},
		{"a resource's routes", updateResource(uri, func(r *authz.Resource) { r.Routes = []authz.Route{{Path: "/", Scopes: []string{"read"}}} })},
		{"a resource's need of a nonce", updateResource(uri, func(r *authz.Resource) { r.RequireNonce = true })},
		{"a resource's bearer tokens", updateResource(uri, func(r *authz.Resource) { r.AllowBearer = false })},
		{"a resource's scopes", updateResource(uri, func(r *authz.Resource) { r.Scopes = []string{"read"} })},
		{"a resource's base URLs go", updateResource(uri, func(r *authz.Resource) { r.BaseURLs = nil })},
		{"a resource's routes go", updateResource(uri, func(r *authz.Resource) { r.Routes = nil })},
		{"a resource is deleted", removeResource(uri)},
		{"a gateway is disabled", disable(edge, true)},
		{"a gateway is enabled", disable(edge, false)},
		{"a gateway is deleted", remove(edge)},
		{"a gateway is registered", register(edge)},
		{"a gateway is registered anew", all(remove(edge), register(edge))},
		{"a gateway's secret ends", func(t *testing.T, w *world) {
			c, err := w.Operator.Client(t.Context(), edge, w.now)
			must(t, err)
			w.ExpireSecret(t, edge, c.Secrets[0], w.now)
		}},
		{"a gateway with a certificate is registered", func(t *testing.T, w *world) { create(w.certified("mesh", mesh, labels))(t, w) }},
		{"a gateway has another certificate", func(t *testing.T, w *world) {
			must(t, w.changesTerms(t, "mesh", terms(mesh), terms(authz.CertificateName{DNS: "mesh-2.example.com"}))())
		}},
		{"a gateway of another resource is disabled", disable(yard, true)},
	}
}

func changesEndTables(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	before := map[int64]bool{}
	for _, change := range changes() {
		old := w.table(t)
		before[old.Revision] = true
		call := w.call(t, token)
		change.step(t, w)
		now := w.table(t)
		if before[now.Revision] {
			t.Errorf("%s: revision %d was there before", change.name, now.Revision)
		}
		w.told(t, change.name, authz.Verdict{Revision: now.Revision, Token: &token}, call)
		call.Revision = now.Revision
		w.admits(t, call, token)
	}
}

func serversEndNoTable(t *testing.T, w *world) {
	w.populate(t)
	before := w.table(t)
	token := w.record(t)
	call := w.call(t, token)
	w.admits(t, call, token)
	_, err := w.Servers[0].RevokeToken(t.Context(), token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked))
	must(t, err)
	must(t, w.Servers[1].Maintain(t.Context(), w.now.Add(3*time.Hour)))
	must(t, w.Servers[1].AddFirstSigningKey(t.Context(), w.sealedKey("a"), w.event(authz.AuditKeyCreated)))
	must(t, w.Servers[1].RecordEvents(t.Context(), []authz.AuditEvent{w.event(authz.AuditTokenIssued)}))
	same(t, before, w.table(t))
}
