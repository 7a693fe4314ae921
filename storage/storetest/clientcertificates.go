package storetest

import (
	"slices"
	"testing"

	"github.com/cargokey/authz/authz"
)

func clientCertificates() []property {
	return []property{
		{"CertificateTermsAreChangedFromThoseThatWereRead", certificateTermsChanged},
		{"CertificateNameIsOneClientsAndFreeOnceTakenBack", certificateNameTakenBack},
		{"NoTokenIsRecordedByANameThatWasTakenBack", noTokenByTakenName},
	}
}

// terms are those of a client of this name.
func terms(name authz.CertificateName) authz.CertificateTerms {
	return authz.CertificateTerms{Name: name}
}

func (w *world) changesTerms(t *testing.T, id string, from, to authz.CertificateTerms) func() error {
	return func() error {
		return w.Operator.SetClientCertificate(t.Context(), id, from, to, w.event(authz.AuditClientUpdated))
	}
}

func certificateTermsChanged(t *testing.T, w *world) {
	w.populate(t)
	type name = authz.CertificateName
	c := w.certified("named", name{DNS: "one.example.com"}, labels)
	create(c)(t, w)
	from := c.CertificateTerms()
	for _, to := range []authz.CertificateTerms{
		{Name: name{URI: "spiffe://example.com/two"}}, {Name: name{URI: "spiffe://example.com/two"}, Bound: true},
		{Name: name{IP: "192.0.2.7"}}, {Name: name{Email: "four@example.com"}, Bound: true}, {Name: name{SubjectDN: "CN=five"}},
	} {
		e := w.event(authz.AuditClientUpdated)
		written := e
		written.ClientID = c.ID
		w.writes(t, func() error { return w.Operator.SetClientCertificate(t.Context(), c.ID, from, to, e) }, written)
		got := w.registeredClient(t, c.ID)
		if got.AuthRevision == c.AuthRevision {
			t.Error("the AuthRevision is that of before")
		}
		c.TLSName, c.CertificateBound, c.AuthRevision = to.Name, to.Bound, got.AuthRevision
		same(t, c, got)
		if !slices.ContainsFunc(w.table(t).Gateways, func(g authz.Gateway) bool { return g.ID == c.ID && g.TLSName == to.Name }) {
			t.Errorf("the gateway table has not the name %s", to.Name)
		}
		w.refuses(t, authz.ErrChanged, w.changesTerms(t, c.ID, from, terms(name{DNS: "late.example.com"})))
		from = to
	}
	// The method decides whether there is a name.
	w.refuses(t, nil, w.changesTerms(t, c.ID, from, terms(name{})))
	w.refuses(t, nil, w.changesTerms(t, shop, terms(name{}), terms(name{DNS: "shop.example.com"})))
	must(t, w.changesTerms(t, shop, terms(name{}), authz.CertificateTerms{Bound: true})())
	w.refuses(t, authz.ErrNotFound, w.changesTerms(t, "nobody", terms(name{}), authz.CertificateTerms{Bound: true}))
}

func certificateNameTakenBack(t *testing.T, w *world) {
	w.populate(t)
	one, two := authz.CertificateName{URI: "spiffe://example.com/one"}, authz.CertificateName{URI: "spiffe://example.com/two"}
	create(w.certified("first", one, labels))(t, w)
	create(w.certified("second", two, labels))(t, w)
	w.refuses(t, authz.ErrNameTaken, w.changesTerms(t, "first", terms(one), terms(two)))
	must(t, w.changesTerms(t, "first", terms(one), terms(authz.CertificateName{DNS: "first.example.com"}))())
	must(t, w.changesTerms(t, "second", terms(two), terms(one))())
}

func noTokenByTakenName(t *testing.T, w *world) {
	w.populate(t)
	one, two := authz.CertificateName{DNS: "one.example.com"}, authz.CertificateName{SubjectDN: "CN=two"}
	c := w.certified("named", one)
	c.Introspects, c.Grants = nil, w.client(shop).Grants
	create(c)(t, w)
	issue := func() authz.Issue { // of a client that authenticates now
		i := w.issueFor(c.ID, w.now)
		i.Token.Credential = newJKT()
		return i
	}
	must(t, w.Servers[0].RecordToken(t.Context(), issue()))
	late, endorsement := issue(), w.endorsement(newJKT(), newJKT())
	endorsement.Caller = w.caller(c.ID)
	must(t, w.changesTerms(t, c.ID, terms(one), terms(two))())
	w.recordsNothing(t, authz.ErrClientChanged, late, bearer(late), certified(late))
	w.refuses(t, authz.ErrClientChanged, func() error { return w.endorse(t, endorsement) })
	must(t, w.Servers[1].RecordToken(t.Context(), issue()))
}
