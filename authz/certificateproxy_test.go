package authz_test

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

func TestCertificateIsTakenFromAProxyThatIsBelievedAndFromNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	authority := certtest.NewAuthority(t, "clients")
	between := authority.Intermediate(t, "between")
	proxied, open := w.instance(behindProxy(authority)), w.siteOf(authority)
	bare := w.instance()
	const name = "labels.carrier.test"
	w.client(named("tls", authz.CertificateName{DNS: name}))
	own := certtest.SelfSigned(t, x509.Certificate{})
	w.client(selfSignedClient(t, "self-signed", own))
	good, below, stranger := authority.Issue(t, dnsNamed(name)), between.Issue(t, dnsNamed(name)), certtest.NewAuthority(t, "clients").Issue(t, dnsNamed(name))
	escaped := strings.ReplaceAll(string(good.PEM()), "\n", "%0A")
	type header map[string][]string
	for _, row := range []struct {
		name, client string
		header       header
		status       int
	}{
		{"a certificate", "tls", header{"Client-Cert": {good.Field()}}, 200},
		{"as nginx has it", "tls", header{"Client-Cert": {escaped}}, 200},
		{"with its chain", "tls", header{"Client-Cert": {below.Field()}, "Client-Cert-Chain": {certtest.Field(between.Leaf)}}, 200},
		{"without its chain", "tls", header{"Client-Cert": {below.Field()}}, 401},
		{"with a chain of nonsense", "tls", header{"Client-Cert": {good.Field()}, "Client-Cert-Chain": {":AAAA:"}}, 401},
		{"self-signed", "self-signed", header{"Client-Cert": {own.Field()}}, 200},
		{"none", "tls", nil, 401},
		{"an empty one", "tls", header{"Client-Cert": {""}}, 401},
		{"two", "tls", header{"Client-Cert": {good.Field(), good.Field()}}, 401},
		{"another authority's, which the proxy has let through", "tls", header{"Client-Cert": {stranger.Field()}}, 401},
		{"a certificate in the chain only", "tls", header{"Client-Cert-Chain": {good.Field()}}, 401},
		{"the proxy's word that it has verified it", "tls", header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=" + name}}, 401},
	} {
		send := func(i *instance) answer {
			r := i.tokenRequest(registered{}, newKey(t), asClient(row.client, clientCredentials))
			for name, values := range row.header {
				r.Header[name] = values
			}
			return i.do(r)
		}
		if a := send(proxied); a.status != row.status {
			t.Errorf("%s: %d %s, want %d", row.name, a.status, a.body, row.status)
		}
		// The same from a stranger, to a server that takes certificates by TLS, and to
		// one that takes none.
		for _, i := range []*instance{open.instance, bare} {
			if a := send(i); a.status != 401 || a.string("error") != "invalid_client" {
				t.Errorf("%s, from a stranger: %d %s", row.name, a.status, a.body)
			}
		}
	}
	// One who connects to a server that takes certificates from proxies alone is none.
	elsewhere := w.siteOf(authority, func(c *authz.Config) {
		c.ClientCertificates = authz.ClientCertificates{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Authorities: authority.Pool}
	})
	if a := elsewhere.by(elsewhere.with(good), elsewhere.tls(elsewhere.tokenRequest(registered{}, newKey(t), asClient("tls", clientCredentials)))); a.status != 401 {
		t.Errorf("a certificate that was not asked for: %d %s", a.status, a.body)
	}
	// A stranger's header neither adds to his certificate nor stands for it.
	bound := w.client(boundClient("bound"))
	r := open.tls(open.post("/oauth/token", bound, with(clientCredentials, "resource", tracking)))
	r.Header.Set("Client-Cert", good.Field())
	a := open.by(open.with(own), r)
	if a.status != 200 || claimsOf(t, a.string("access_token"))["cnf"].(map[string]any)["x5t#S256"] != clientcert.Thumbprint(own.Leaf) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A proxy may connect by mutual TLS itself: its own certificate is no client's.
func TestCertificateOfAProxyIsNotItsClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	authority := certtest.NewAuthority(t, "clients")
	s := w.siteOf(authority, behindProxy(authority), func(c *authz.Config) { c.ClientCertificates.Requested = true })
	w.client(named("proxy", authz.CertificateName{DNS: "proxy.carrier.test"}))
	bound := w.client(boundClient("bound"))
	own := s.with(authority.Issue(t, dnsNamed("proxy.carrier.test")))
	if a := s.by(own, s.tls(s.tokenRequest(registered{}, newKey(t), asClient("proxy", clientCredentials)))); a.status != 401 {
		t.Errorf("a client is authenticated by the proxy's certificate: %d %s", a.status, a.body)
	}
	if a := s.by(own, s.tls(s.post("/oauth/token", bound, with(clientCredentials, "resource", tracking)))); a.status != 400 {
		t.Errorf("a token is bound to the proxy's certificate: %d %s", a.status, a.body)
	}
}

func TestProxiesAreNetworksThatMatchSomebodyAndNotEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.config(w.instance(), w.sealer)
	for network, ok := range map[string]bool{
		"192.0.2.0/24": true, "192.0.2.7/32": true, "10.0.0.0/8": true, "2001:db8::/32": true, "fd00::/16": true, "::1/128": true,
		"0.0.0.0/0": false, "0.0.0.0/1": false, "10.0.0.0/7": false, "::/0": false, "::/1": false, "fc00::/15": false,
		"::ffff:10.0.0.0/104": false, "::ffff:0:0/96": false, "10.1.0.0/8": false, "192.0.2.7/24": false,
	} {
		c := good
		c.ClientCertificates = authz.ClientCertificates{Proxies: []netip.Prefix{netip.MustParsePrefix(network)}}
		if _, err := authz.New(t.Context(), c); (err == nil) != ok {
			t.Errorf("%s: %v", network, err)
		}
		c = good
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(network)}
		if _, err := authz.New(t.Context(), c); (err == nil) != ok {
			t.Errorf("%s, trusted: %v", network, err)
		}
	}
	c := good
	c.ClientCertificates = authz.ClientCertificates{Proxies: []netip.Prefix{{}}}
	if _, err := authz.New(t.Context(), c); err == nil {
		t.Error("no network: taken")
	}
}

func TestMetadataTellsOfMutualTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	authority := certtest.NewAuthority(t, "clients")
	for name, row := range map[string]struct {
		options func(*authz.Config)
		methods []string // of mutual TLS
		aliases any
	}{
		"none": {func(*authz.Config) {}, nil, nil},
		"all": {func(c *authz.Config) {
			c.ClientCertificates = authz.ClientCertificates{Requested: true, Authorities: authority.Pool, URL: mtlsURL}
		}, []string{"tls_client_auth", "self_signed_tls_client_auth"}, map[string]any{
			"token_endpoint": mtlsURL + "/oauth/token", "introspection_endpoint": mtlsURL + "/oauth/introspect",
			"revocation_endpoint": mtlsURL + "/oauth/revoke", "dpop_keys_endpoint": mtlsURL + "/oauth/dpop-keys",
		}},
		"no authorities": {func(c *authz.Config) { c.ClientCertificates = authz.ClientCertificates{Requested: true} }, []string{"self_signed_tls_client_auth"}, nil},
		"a proxy":        {behindProxy(authority), []string{"tls_client_auth", "self_signed_tls_client_auth"}, nil},
	} {
		document := w.instance(row.options).get("/.well-known/oauth-authorization-server").json
		if diff := cmp.Diff(row.aliases, document["mtls_endpoint_aliases"]); diff != "" {
			t.Errorf("%s: mtls_endpoint_aliases (-want +got):\n%s", name, diff)
		}
		if bound, _ := document["tls_client_certificate_bound_access_tokens"].(bool); bound != (row.methods != nil) {
			t.Errorf("%s: tls_client_certificate_bound_access_tokens: %t", name, bound)
		}
		for _, endpoint := range []string{"token", "introspection", "revocation"} {
			var got []string
			for _, m := range document[endpoint+"_endpoint_auth_methods_supported"].([]any) {
				if strings.Contains(m.(string), "tls") {
					got = append(got, m.(string))
				}
			}
			want := row.methods
			if endpoint == "introspection" { // gateways by name have a listener of their own
				want = slices.DeleteFunc(slices.Clone(want), func(m string) bool { return m == "tls_client_auth" })
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: methods at %s (-want +got):\n%s", name, endpoint, diff)
			}
		}
	}
}

func TestCertificateNamesAreRegisteredInOneSpelling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := func(n authz.CertificateName) authz.Client { return named("", n) }
	for what, row := range map[string]struct {
		client authz.Client
		want   authz.CertificateName // the zero value: refused
	}{
		"DNS":             {name(authz.CertificateName{DNS: "a.test"}), authz.CertificateName{DNS: "a.test"}},
		"IP":              {name(authz.CertificateName{IP: "2001:DB8:0::1"}), authz.CertificateName{IP: "2001:db8::1"}},
		"email":           {name(authz.CertificateName{Email: "A@B.Test"}), authz.CertificateName{Email: "A@b.test"}},
		"subject":         {name(authz.CertificateName{SubjectDN: "cn=a b, o=c"}), authz.CertificateName{SubjectDN: "CN=a b,O=c"}},
		"none":            {name(authz.CertificateName{}), authz.CertificateName{}},
		"two":             {name(authz.CertificateName{DNS: "a.test", IP: "192.0.2.7"}), authz.CertificateName{}},
		"DNS in capitals": {name(authz.CertificateName{DNS: "A.test"}), authz.CertificateName{}},
		"a wildcard":      {name(authz.CertificateName{DNS: "*.test"}), authz.CertificateName{}},
		"no URI":          {name(authz.CertificateName{URI: "carrier.test"}), authz.CertificateName{}},
		"no IP":           {name(authz.CertificateName{IP: "192.0.2"}), authz.CertificateName{}},
		"no email":        {name(authz.CertificateName{Email: "labels"}), authz.CertificateName{}},
		"no subject":      {name(authz.CertificateName{SubjectDN: "labels"}), authz.CertificateName{}},
		"another method":  {authz.Client{TLSName: authz.CertificateName{DNS: "a.test"}}, authz.CertificateName{}},
		"too long":        {name(authz.CertificateName{DNS: strings.Repeat("a", 256)}), authz.CertificateName{}},
		"bound, and keys enrolled": {authz.Client{AuthMethod: authz.TLSClientAuth, TLSName: authz.CertificateName{DNS: "a.test"},
			CertificateBound: true, DPoPKeys: authz.EnrolledKey}, authz.CertificateName{}},
		"a gateway, and grants": {authz.Client{AuthMethod: authz.TLSClientAuth, TLSName: authz.CertificateName{DNS: "a.test"},
			Introspects: []string{labels}}, authz.CertificateName{}},
		"bound, and bearer": {authz.Client{AuthMethod: authz.TLSClientAuth, TLSName: authz.CertificateName{DNS: "a.test"},
			CertificateBound: true, AllowBearer: true}, authz.CertificateName{}},
	} {
		c := row.client
		c.ID, c.Grants = "labels", []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}
		err := c.Validate()
		if refused := row.want == (authz.CertificateName{}); (err != nil) != refused || !refused && c.TLSName != row.want {
			t.Errorf("%s: %+v, %v", what, c.TLSName, err)
		}
	}
	// One name is one client's.
	w.client(named("one", authz.CertificateName{SubjectDN: "CN=a,O=b"}))
	two := named("two", authz.CertificateName{SubjectDN: "cn = a , o = b"})
	two.Grants = []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}
	if err := two.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.owner.CreateClient(t.Context(), &two, operatorEvent(authz.AuditClientCreated)); err == nil {
		t.Error("two clients have one name")
	}
}
