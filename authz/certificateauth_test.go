package authz_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
	"github.com/cargokey/authz/internal/jwksuri"
)

func TestClientIsKnownByTheNameOrTheKeyInItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	uri := &url.URL{Scheme: "spiffe", Host: "carrier.test", Path: "/labels"}
	between := s.authority.Intermediate(t, "between")
	own, former := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	for _, row := range []struct {
		client      authz.Client
		certificate certtest.Certificate
	}{
		{named("dns", authz.CertificateName{DNS: "labels.carrier.test"}), s.authority.Issue(t, dnsNamed("x.test", "Labels.carrier.test"))},
		{named("uri", authz.CertificateName{URI: uri.String()}), s.authority.Issue(t, x509.Certificate{URIs: []*url.URL{uri}})},
		{named("ip", authz.CertificateName{IP: "2001:DB8::7"}), s.authority.Issue(t, x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::7")}})},
		{named("email", authz.CertificateName{Email: "Labels@Carrier.test"}), s.authority.Issue(t, x509.Certificate{EmailAddresses: []string{"Labels@carrier.TEST"}})},
		{named("dn", authz.CertificateName{SubjectDN: "cn = labels, o = Carrier"}), s.authority.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "labels", Organization: []string{"Carrier"}}})},
		{named("chain", authz.CertificateName{DNS: "chain.carrier.test"}), between.Issue(t, dnsNamed("chain.carrier.test"))},
		{selfSignedClient(t, "self-signed", former, own), own},
		{selfSignedClient(t, "self-signed-by-an-authority", between.Issue(t, x509.Certificate{}), former), former},
	} {
		row.client.Grants = []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}
		if row.client.AuthMethod == authz.SelfSignedTLSClientAuth {
			row.client.Introspects = []string{labels}
		}
		c, key, by := w.client(row.client), newKey(t), s.with(row.certificate)
		request := s.tls(s.tokenRequest(registered{}, nil, asClient(c.ID, clientCredentials)))
		request.Header.Set("DPoP", s.proofAt(key, mtlsURL+"/oauth/token")) // the alias (RFC 8705 §5)
		a := s.by(by, request)
		token := a.string("access_token")
		if a.status != http.StatusOK || a.string("token_type") != "DPoP" {
			t.Errorf("%s: token: %d %s", c.ID, a.status, a.body)
			continue
		}
		post := func(path string, pairs ...string) answer {
			return s.by(by, s.tls(s.post(path, registered{}, asClient(c.ID, nil, pairs...))))
		}
		sees := row.client.Introspects != nil
		if a := post("/oauth/introspect", "token", token); a.status != http.StatusOK || a.json["active"] != sees {
			t.Errorf("%s: introspection: %d %s", c.ID, a.status, a.body)
		}
		if a := post("/oauth/revoke", "token", token); a.status != http.StatusOK {
			t.Errorf("%s: revocation: %d %s", c.ID, a.status, a.body)
		}
		if a := post("/oauth/introspect", "token", token); a.body != `{"active":false}` {
			t.Errorf("%s: introspection once revoked: %d %s", c.ID, a.status, a.body)
		}
		credential := clientcert.Thumbprint(row.certificate.Leaf)
		if row.client.AuthMethod == authz.SelfSignedTLSClientAuth {
			name, err := (&jose.JSONWebKey{Key: row.certificate.Leaf.PublicKey}).Thumbprint(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			credential = base64.RawURLEncoding.EncodeToString(name)
		}
		if n := w.count("select count(*) from authz.tokens where client_id = '" + c.ID + "' and credential = '" + credential + "'"); n != 1 {
			t.Errorf("%s: %d tokens by %s", c.ID, n, credential)
		}
	}
}

func TestClientOfACertificateEnrolsItsNextDPoPKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	client := named("", authz.CertificateName{DNS: "labels.carrier.test"})
	client.DPoPKeys = authz.FirstUseKey
	c, old, next := w.client(client), newKey(t), newKey(t)
	by := s.with(s.authority.Issue(t, dnsNamed("labels.carrier.test")))
	if a := s.by(by, s.tls(s.tokenRequest(registered{}, old, asClient(c.ID, clientCredentials)))); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	request := s.enrolRequest(c, next, s.endorsement(c, old, next), "client_id", c.ID)
	request.Header.Del("Authorization")
	if a := s.by(by, s.tls(request)); a.status != http.StatusOK || a.string("jkt") != next.JKT() {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// What does not prove the client gets one and the same answer.
func TestCertificateThatProvesNothingGetsOneAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	const name = "labels.carrier.test"
	stranger, namesake := certtest.NewAuthority(t, "strangers"), certtest.NewAuthority(t, "clients")
	between := s.authority.Intermediate(t, "between")
	w.client(named("tls", authz.CertificateName{DNS: name}))
	w.client(named("dn", authz.CertificateName{SubjectDN: "CN=labels,O=Carrier"}))
	own := certtest.SelfSigned(t, x509.Certificate{})
	renewed := certtest.SelfSigned(t, x509.Certificate{PublicKey: own.Key})
	old := certtest.SelfSigned(t, x509.Certificate{NotAfter: time.Now().Add(-time.Minute)})
	w.client(selfSignedClient(t, "self-signed", own, old))
	byURL := authz.Client{ID: "by-url", AuthMethod: authz.SelfSignedTLSClientAuth, JWKSURI: "https://labels.carrier.test/jwks.json"}
	w.client(byURL)
	w.client(authz.Client{ID: "by-secret"})
	post := w.client(authz.Client{ID: "by-post", AuthMethod: authz.ClientSecretPost})
	disabled := w.client(named("disabled", authz.CertificateName{DNS: "disabled.carrier.test"}))
	if err := w.owner.SetClientDisabled(t.Context(), disabled.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	missing := between.Issue(t, dnsNamed(name))
	missing.Chain = nil
	template := func(change func(*x509.Certificate)) x509.Certificate {
		c := dnsNamed(name)
		change(&c)
		return c
	}
	good := s.authority.Issue(t, dnsNamed(name))
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := certtest.SelfSigned(t, x509.Certificate{PublicKey: short})
	w.client(authz.Client{ID: "gateway", AuthMethod: authz.TLSClientAuth, TLSName: authz.CertificateName{DNS: "gw.carrier.test"}, Introspects: []string{labels}})
	var same string
	for _, row := range []struct {
		name, client string
		by           []certtest.Certificate
	}{
		{"no certificate", "tls", nil},
		{"another client's certificate", "dn", []certtest.Certificate{good}},
		{"another name", "tls", []certtest.Certificate{s.authority.Issue(t, dnsNamed("other.carrier.test"))}},
		{"a wildcard", "tls", []certtest.Certificate{s.authority.Issue(t, dnsNamed("*.carrier.test"))}},
		{"a name below", "tls", []certtest.Certificate{s.authority.Issue(t, dnsNamed("a."+name))}},
		{"the name as common name", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: name}})}},
		{"the name as another kind", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{URIs: []*url.URL{{Scheme: "https", Host: name}}})}},
		{"no name", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{})}},
		{"a part of the subject", "dn", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "labels"}})}},
		{"the subject in another case", "dn", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "Labels", Organization: []string{"Carrier"}}})}},
		{"the subject as one value", "dn", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "labels,O=Carrier"}})}},
		{"self-signed", "tls", []certtest.Certificate{certtest.SelfSigned(t, dnsNamed(name))}},
		{"another authority's", "tls", []certtest.Certificate{stranger.Issue(t, dnsNamed(name))}},
		{"another authority's of the same name", "tls", []certtest.Certificate{namesake.Issue(t, dnsNamed(name))}},
		{"without the certificate between", "tls", []certtest.Certificate{missing}},
		{"expired", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))}},
		{"not valid yet", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }))}},
		{"for servers", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))}},
		{"for nothing that it says", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{} }))}},
		{"a short key", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.PublicKey = short }))}},
		{"self-signed, with a short key", "self-signed", []certtest.Certificate{weak}},
		{"a gateway's name", "gateway", []certtest.Certificate{s.authority.Issue(t, dnsNamed("gw.carrier.test"))}},
		{"self-signed, another's", "self-signed", []certtest.Certificate{certtest.SelfSigned(t, x509.Certificate{})}},
		{"self-signed, expired", "self-signed", []certtest.Certificate{old}},
		{"self-signed, its key in another certificate", "self-signed", []certtest.Certificate{renewed}},
		{"self-signed, an authority's", "self-signed", []certtest.Certificate{good}},
		{"keys at a URL", "by-url", []certtest.Certificate{own}},
		{"a client of a secret", "by-secret", []certtest.Certificate{good}},
		{"an unknown client", "nobody", []certtest.Certificate{good}},
		{"no client_id", "", []certtest.Certificate{good}},
		{"what is no client_id", "../tls", []certtest.Certificate{good}},
		{"a disabled client, another's certificate", "disabled", []certtest.Certificate{good}},
	} {
		form := asClient(row.client, clientCredentials)
		if row.client == "" {
			form = clientCredentials
		}
		for path, request := range map[string]*http.Request{
			"token":      s.tokenRequest(registered{}, newKey(t), form),
			"introspect": s.post("/oauth/introspect", registered{}, with(form, "token", "x")),
			"revoke":     s.post("/oauth/revoke", registered{}, with(form, "token", "x")),
		} {
			a := s.by(s.with(row.by...), s.tls(request))
			if same == "" {
				same = a.body
			}
			if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" || a.body != same {
				t.Errorf("%s, %s: %d %s", path, row.name, a.status, a.body)
			}
		}
	}
	// Beside a certificate any other method counts, and only that (RFC 6749 §2.3).
	for name, request := range map[string]*http.Request{
		"a wrong secret in the body":   s.post("/oauth/token", registered{}, asClient("tls", clientCredentials, "client_secret", "x")),
		"a wrong secret in the header": s.post("/oauth/token", registered{Client: &authz.Client{ID: "tls"}, secret: "x"}, clientCredentials),
		"an assertion":                 s.post("/oauth/token", registered{}, asClient("tls", clientCredentials, "client_assertion", "x")),
		"an assertion's type":          s.post("/oauth/token", registered{}, asClient("tls", clientCredentials, "client_assertion_type", "x")),
		"an Authorization header": func() *http.Request {
			r := s.post("/oauth/token", registered{}, asClient("tls", clientCredentials))
			r.Header.Set("Authorization", "Bearer x")
			return r
		}(),
	} {
		request.Header.Set("DPoP", s.proof(newKey(t)))
		if a := s.by(s.with(good), s.tls(request)); a.status/100 != 4 || !strings.HasPrefix(a.string("error"), "invalid_") || a.string("access_token") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// Who is proven is told what is wrong.
	if a := s.by(s.with(s.authority.Issue(t, dnsNamed("disabled.carrier.test"))), s.tls(s.tokenRequest(registered{}, newKey(t), asClient("disabled", clientCredentials)))); a.status != 401 || !strings.Contains(a.body, "disabled") {
		t.Errorf("disabled: %d %s", a.status, a.body)
	}
	// A certificate does not stand in the way of a secret.
	if a := s.by(s.with(good), s.tls(s.tokenRequest(registered{}, newKey(t), asClient(post.ID, clientCredentials, "client_secret", post.secret)))); a.status != 200 {
		t.Errorf("a secret beside a certificate: %d %s", a.status, a.body)
	}
}

func TestCertificateIsRefusedOnceItHasExpiredDuringAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	own := certtest.SelfSigned(t, x509.Certificate{})
	clients := map[string]*http.Client{
		w.client(named("tls", authz.CertificateName{DNS: "labels.carrier.test"})).ID: s.with(s.authority.Issue(t, dnsNamed("labels.carrier.test"))),
		w.client(selfSignedClient(t, "self-signed", own)).ID:                         s.with(own),
	}
	ask := func() map[string]int {
		got := map[string]int{}
		for id, by := range clients {
			got[id] = s.by(by, s.tls(s.tokenRequest(registered{}, newKey(t), asClient(id, clientCredentials)))).status
		}
		return got
	}
	if got := ask(); got["tls"] != 200 || got["self-signed"] != 200 {
		t.Errorf("in its time: %v", got)
	}
	s.advance(2 * time.Hour)
	if got := ask(); got["tls"] != 401 || got["self-signed"] != 401 {
		t.Errorf("past its time: %v", got)
	}
}

func TestAuthoritiesAreThoseOfTheMomentOfTheRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var pool atomic.Pointer[x509.CertPool] // nil must not stand for those of the system
	s := w.newSite(func(c *authz.Config) { c.ClientCertificates.Authorities = pool.Load })
	w.client(named("tls", authz.CertificateName{DNS: "labels.carrier.test"}))
	by := s.with(s.authority.Issue(t, dnsNamed("labels.carrier.test")))
	for _, row := range []struct {
		name   string
		pool   *x509.CertPool
		status int
	}{
		{"none", nil, 401}, {"an empty file", x509.NewCertPool(), 401}, {"another", certtest.NewAuthority(t, "clients").Pool(), 401},
		{"its own", s.authority.Pool(), 200}, {"its own no more", x509.NewCertPool(), 401},
	} {
		pool.Store(row.pool)
		if a := s.by(by, s.tls(s.tokenRequest(registered{}, newKey(t), asClient("tls", clientCredentials)))); a.status != row.status {
			t.Errorf("%s: %d %s", row.name, a.status, a.body)
		}
	}
}

func TestClientMayPublishTheKeyOfItsCertificateItself(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	s := w.newSite(host.trusted)
	client := authz.Client{ID: "by-url", AuthMethod: authz.SelfSignedTLSClientAuth, JWKSURI: host.URL + "/jwks.json"}
	w.client(client)
	old, fresh := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	publish := func(certificates ...certtest.Certificate) {
		host.document.Store(string(selfSignedClient(t, "", certificates...).JWKS))
	}
	ask := func(by certtest.Certificate, want int, when string) {
		t.Helper()
		if a := s.by(s.with(by), s.tls(s.tokenRequest(registered{}, newKey(t), asClient("by-url", clientCredentials)))); a.status != want {
			t.Errorf("%s: %d %s", when, a.status, a.body)
		}
	}
	host.document.Store("")
	ask(old, 401, "while there are none")
	s.advance(jwksuri.Interval)
	publish(old)
	ask(old, 200, "once it is there")
	publish(old, fresh)
	ask(fresh, 401, "a new one, a moment after the last look")
	s.advance(jwksuri.Interval)
	ask(fresh, 200, "a new one")
	ask(old, 200, "the old one beside it")
	publish(fresh)
	s.advance(jwksuri.Fresh)
	ask(certtest.SelfSigned(t, x509.Certificate{}), 401, "one that was never there") // reads them anew
	ask(old, 401, "the old one, once it is gone")
	ask(fresh, 200, "the new one alone")
}

// An authority that is held to some names could write any subject: nothing holds it
// to that.
func TestSubjectCountsForNothingUnderAnAuthorityHeldToNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	template := x509.Certificate{DNSNames: []string{"labels.carrier.test"}, Subject: pkix.Name{CommonName: "labels"}}
	w.client(named("dns", authz.CertificateName{DNS: "labels.carrier.test"}))
	w.client(named("dn", authz.CertificateName{SubjectDN: "CN=labels"}))
	team := s.authority.Issue(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "team"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomains: []string{"carrier.test"},
	})
	team.Chain = []*x509.Certificate{team.Leaf}
	held := &certtest.Authority{Certificate: team}
	for _, row := range []struct {
		client string
		by     certtest.Certificate
		status int
	}{
		{"dns", s.authority.Issue(t, template), 200}, {"dn", s.authority.Issue(t, template), 200},
		{"dns", held.Issue(t, template), 200}, {"dn", held.Issue(t, template), 401},
	} {
		a := s.by(s.with(row.by), s.tls(s.tokenRequest(registered{}, newKey(t), asClient(row.client, clientCredentials))))
		if a.status != row.status {
			t.Errorf("%s by %s: %d %s", row.client, row.by.Leaf.Issuer, a.status, a.body)
		}
	}
}
