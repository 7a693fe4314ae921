package authz_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// causeOf is what the log says of the request that was answered so.
func (w *world) causeOf(a answer) string {
	w.t.Helper()
	id := a.header.Get("X-Request-Id")
	for line := range strings.Lines(w.logs.String()) {
		var event struct {
			ID    string `json:"request_id"`
			Cause string `json:"cause"`
		}
		if err := json.Unmarshal([]byte(line), &event); err == nil && id != "" && event.ID == id {
			return event.Cause
		}
	}
	w.t.Errorf("no line of the log has the request id %q", id)
	return ""
}

func TestLogSaysWhyACertificateProvesNoClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite()
	const name = "labels.carrier.test"
	w.client(named("tls", authz.CertificateName{DNS: name}))
	w.client(authz.Client{ID: "by-secret"})
	w.client(selfSignedClient(t, "self-signed", certtest.SelfSigned(t, x509.Certificate{})))
	template := func(change func(*x509.Certificate)) x509.Certificate {
		c := dnsNamed(name)
		change(&c)
		return c
	}
	noUsage := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{} }
	var many []string
	for range 50 {
		many = append(many, strings.Repeat("a", 50)+".carrier.test")
	}
	for _, row := range []struct {
		name, client string
		by           []certtest.Certificate
		cause        string
	}{
		{"none", "tls", nil, "client tls is registered for tls_client_auth and no certificate came with the request: this server's TLS asks for them"},
		{"none, of a self-signed client", "self-signed", nil, "client self-signed is registered for self_signed_tls_client_auth and no certificate came with the request"},
		{"none, of a client of secrets", "by-secret", nil, "client by-secret is registered for client_secret_basic, and came with no credentials"},
		{"none, of nobody", "nobody", nil, "no client credentials"},
		{"another name", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{DNSNames: []string{"a.test", "b.test"}, EmailAddresses: []string{"c@test"}})},
			"the certificate has not the name of client tls, which is registered as DNS labels.carrier.test: it has DNS a.test, DNS b.test, email c@test"},
		{"no name", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{})}, "DNS labels.carrier.test: it has no names"},
		{"many names", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{DNSNames: many})}, "..."},
		{"a name that would not be printed", "tls", []certtest.Certificate{s.authority.Issue(t, x509.Certificate{URIs: []*url.URL{{Scheme: "x", Opaque: `a"b`}}})}, "it has URI x:a?b"},
		{"self-signed, and not for clients", "tls", []certtest.Certificate{certtest.SelfSigned(t, template(noUsage))}, "client tls: the certificate is not of a known authority"},
		{"a known authority's, and not for clients", "tls", []certtest.Certificate{s.authority.Issue(t, template(noUsage))}, "client tls: the certificate is not one for clients"},
		{"a server's", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))},
			"client tls: the certificate is not one for clients"},
		{"expired", "tls", []certtest.Certificate{s.authority.Issue(t, template(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))},
			"client tls, which is registered for tls_client_auth: the certificate is not valid at this time"},
		{"another key", "self-signed", []certtest.Certificate{certtest.SelfSigned(t, x509.Certificate{})}, "client self-signed: no registered key of the client is the certificate's"},
		{"of a client of secrets", "by-secret", []certtest.Certificate{s.authority.Issue(t, dnsNamed(name))}, "client by-secret is registered for client_secret_basic, and has shown a certificate alone"},
	} {
		a := s.by(s.with(row.by...), s.tls(s.tokenRequest(registered{}, newKey(t), asClient(row.client, clientCredentials))))
		if a.status != http.StatusUnauthorized || !strings.Contains(a.string("error_description"), "its certificate comes with the request") {
			t.Errorf("%s: %d %s", row.name, a.status, a.body)
		}
		if cause := w.causeOf(a); !strings.Contains(cause, row.cause) || len(cause) > 700 || strings.Contains(cause, "nobody") {
			t.Errorf("%s: the log says %q, want %q", row.name, cause, row.cause)
		}
	}
}

func TestLogSaysWhetherTheServerAsksForCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client(named("tls", authz.CertificateName{DNS: "labels.carrier.test"}))
	authority := certtest.NewAuthority(t, "clients")
	proxies := func(c *authz.Config) {
		c.ClientCertificates = authz.ClientCertificates{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Authorities: authority.Pool}
	}
	both := func(c *authz.Config) { proxies(c); c.ClientCertificates.Requested = true }
	for name, row := range map[string]struct {
		i     *instance
		asks  string
		tells string
	}{
		"none":    {w.instance(), "this server asks for none", "the secret"},
		"proxies": {w.instance(proxies), "this server takes them from its proxies only", "its certificate"},
		"both":    {w.instance(both), "this server's TLS asks for them, and from its proxies it takes them", "its certificate"},
	} {
		var same string
		for _, id := range []string{"tls", "nobody", "../tls"} {
			a := row.i.do(row.i.tokenRequest(registered{}, newKey(t), asClient(id, clientCredentials)))
			if same == "" {
				same = a.body
			}
			if a.status != http.StatusUnauthorized || a.body != same || !strings.Contains(a.body, row.tells) {
				t.Errorf("%s, %s: %d %s", name, id, a.status, a.body)
			}
			if cause := w.causeOf(a); strings.Contains(cause, row.asks) != (id == "tls") || strings.Contains(cause, "nobody") || strings.Contains(cause, "..") {
				t.Errorf("%s, %s: the log says %q", name, id, cause)
			}
		}
	}
}

func TestLogSaysThatAClientHasNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, bySecret, byKey := w.instance(), w.client(authz.Client{ID: "by-secret"}), w.asserting(authz.Client{ID: "by-key"})
	wrong := registered{Client: &authz.Client{ID: bySecret.ID}, secret: "azs_wrong"}
	none := registered{Client: &authz.Client{ID: byKey.ID}, secret: "azs_wrong"}
	one, other := i.do(i.tokenRequest(wrong, newKey(t), clientCredentials)), i.do(i.tokenRequest(none, newKey(t), clientCredentials))
	if one.status != http.StatusUnauthorized || one.body != other.body || one.status != other.status {
		t.Errorf("a wrong secret: %d %s; one where there is none: %d %s", one.status, one.body, other.status, other.body)
	}
	if cause := w.causeOf(other); !strings.Contains(cause, "client by-key is registered for private_key_jwt and has no secrets, and came with one") {
		t.Errorf("the log says %q", cause)
	}
	if cause := w.causeOf(one); !strings.Contains(cause, "wrong secret for client by-secret") {
		t.Errorf("the log says %q", cause)
	}
}

func TestLogNamesTheClientWhoseSecretTheProfileRulesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(fapi2), w.client(authz.Client{ID: "forgotten"})
	stranger := registered{Client: &authz.Client{ID: "stranger"}, secret: "azs_wrong"}
	known := i.do(i.tokenRequest(client, newKey(t), clientCredentials))
	unknown := i.do(i.tokenRequest(stranger, newKey(t), clientCredentials))
	if known.status != http.StatusUnauthorized || known.body != unknown.body {
		t.Errorf("%d %s; a stranger: %d %s", known.status, known.body, unknown.status, unknown.body)
	}
	if cause := w.causeOf(known); !strings.Contains(cause, "client forgotten, which is registered for client_secret_basic: the profile fapi2 rules secrets out") {
		t.Errorf("the log says %q", cause)
	}
	if cause := w.causeOf(unknown); strings.Contains(cause, "stranger") {
		t.Errorf("the log says %q", cause)
	}
}
