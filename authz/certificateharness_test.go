package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

const mtlsURL = "https://mtls.auth.carrier.test"

// site is an instance with a listener for clients with certificates, and the
// authority of those.
type site struct {
	*instance
	authority *certtest.Authority
	address   string
	trusted   *x509.CertPool // who made the listener's own certificate
}

// newSite serves the public handler by TLS that asks for a certificate, as cmd
// does.
func (w *world) newSite(options ...func(*authz.Config)) *site {
	w.t.Helper()
	authority := certtest.NewAuthority(w.t, "clients")
	return w.siteOf(authority, options...)
}

func (w *world) siteOf(authority *certtest.Authority, options ...func(*authz.Config)) *site {
	w.t.Helper()
	certificates := func(c *authz.Config) {
		c.ClientCertificates = authz.ClientCertificates{Requested: true, Authorities: authority.Pool, URL: mtlsURL}
	}
	s := &site{instance: w.instance(append([]func(*authz.Config){certificates}, options...)...), authority: authority}
	server := httptest.NewUnstartedServer(s.server.Handler())
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	s.address, s.trusted = server.Listener.Addr().String(), x509.NewCertPool()
	s.trusted.AddCert(server.Certificate())
	return s
}

// with is a client that shows this certificate, or none.
func (s *site) with(certificates ...certtest.Certificate) *http.Client {
	s.w.t.Helper()
	config := &tls.Config{RootCAs: s.trusted, ServerName: "example.com"} // httptest's name
	for _, c := range certificates {
		config.Certificates = append(config.Certificates, c.TLS())
	}
	transport := &http.Transport{TLSClientConfig: config}
	s.w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// tls redirects a request to the listener.
func (s *site) tls(r *http.Request) *http.Request {
	r.URL.Scheme, r.URL.Host = "https", s.address
	return r
}

// behindProxy trusts whoever connects from here, as a proxy.
func behindProxy(authority *certtest.Authority) func(*authz.Config) {
	return func(c *authz.Config) {
		c.ClientCertificates = authz.ClientCertificates{
			Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Authorities: authority.Pool,
		}
	}
}

// named is a client of tls_client_auth.
func named(id string, name authz.CertificateName) authz.Client {
	return authz.Client{ID: id, AuthMethod: authz.TLSClientAuth, TLSName: name}
}

// selfSignedClient is a client of self_signed_tls_client_auth with these certificates.
func selfSignedClient(t testing.TB, id string, certificates ...certtest.Certificate) authz.Client {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, c := range certificates {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: c.Leaf.PublicKey, Certificates: []*x509.Certificate{c.Leaf}})
	}
	jwks, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Client{ID: id, AuthMethod: authz.SelfSignedTLSClientAuth, JWKS: jwks}
}

// asClient is the form of a client that authenticates by its certificate.
func asClient(id string, form url.Values, pairs ...string) url.Values {
	return with(form, append([]string{"client_id", id}, pairs...)...)
}

func dnsNamed(names ...string) x509.Certificate { return x509.Certificate{DNSNames: names} }
