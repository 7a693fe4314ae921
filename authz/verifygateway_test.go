package authz_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// What a stranger is told of any call, good or bad: nothing of the call.
func TestNobodyButAGatewayLearnsAnythingOfACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	disabled := w.client(authz.Client{ID: "old-gateway", Introspects: []string{labels}})
	if err := w.owner.SetClientDisabled(t.Context(), disabled.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	token := i.token(client, key).string("access_token")
	good := i.goodCall(gateway, token, key)
	noProof, noToken, elsewhere := good, good, good
	noProof.proofs, noToken.token, elsewhere.url = nil, "", "https://elsewhere.test/"
	credentials := map[string]string{
		"none": "", "garbage": "x", "another scheme": "Bearer x", "not base64": "Basic %%",
		"no colon": "Basic " + gatewayBasic("edge-gateway", "")[6:10], "no secret": gatewayBasic(gateway.ID, ""),
		"wrong secret": gatewayBasic(gateway.ID, authz.NewSecret().Reveal()), "another's secret": gatewayBasic(gateway.ID, client.secret),
		"unknown": gatewayBasic("nobody", gateway.secret), "disabled": gatewayBasic(disabled.ID, disabled.secret),
		"not an ID": gatewayBasic("edge gateway", gateway.secret), "the wrong case": gatewayBasic("Edge-Gateway", gateway.secret),
	}
	var same string
	for name, value := range credentials {
		for _, c := range []call{good, noProof, noToken, elsewhere} {
			a := i.refusedAs(c, 500, "invalid_client", func(r *http.Request) {
				r.Header.Del("X-Gateway-Authorization")
				if value != "" {
					r.Header.Set("X-Gateway-Authorization", value)
				}
			})
			if same == "" {
				same = a.body
			}
			if a.body != same {
				t.Errorf("%s: answered by %s, not by %s", name, a.body, same)
			}
		}
	}
	i.refusedAs(good, 500, "invalid_client", func(r *http.Request) {
		r.Header.Add("X-Gateway-Authorization", gatewayBasic(gateway.ID, gateway.secret))
	})
	// A client that fronts nothing is no gateway, and one that fronts something
	// else is told as little.
	i.refusedAs(good, 500, "invalid_client", func(r *http.Request) {
		r.Header.Set("X-Gateway-Authorization", gatewayBasic(client.ID, client.secret))
	})
	other := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})
	for _, c := range []call{good, noProof, noToken, elsewhere} {
		c.gateway = other
		i.refusedAs(c, 403, "invalid_request")
	}
	i.passes(good)
}

func TestGatewayIsRefusedAtOnceWhenItIsDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	i.passes(i.goodCall(gateway, token, key))
	if err := w.owner.SetClientDisabled(t.Context(), gateway.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	i.refusedAs(i.goodCall(gateway, token, key), 500, "invalid_client")
}

func TestForwardedHeadersAreReadInOneFormOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	remove := func(r *http.Request) {
		for _, name := range []string{"Method", "Proto", "Host", "Uri"} {
			r.Header.Del("X-Forwarded-" + name)
		}
	}
	original := func(r *http.Request) {
		remove(r)
		r.Header.Set("X-Original-Method", "POST")
		r.Header.Set("X-Original-URL", createLabel+"?q=1")
	}
	envoy := func(r *http.Request) {
		remove(r)
		r.Method, r.URL.Path, r.Host = "POST", "/gateway/verify/v1/labels", "api.carrier.test"
		r.Header.Set("X-Forwarded-Proto", "https")
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	add := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	unset := func(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }
	type edits []func(*http.Request)
	for _, row := range []struct {
		name   string
		edits  edits
		status int
		code   string
	}{
		{"X-Forwarded", nil, 200, ""},
		{"X-Original", edits{original}, 200, ""},
		{"X-Original beside a lone X-Forwarded-Proto and -Host", edits{original, set("X-Forwarded-Proto", "http"), set("X-Forwarded-Host", "evil.test")}, 200, ""},
		{"Envoy", edits{envoy}, 200, ""},
		{"Envoy, a query and what looks like options", edits{envoy, func(r *http.Request) { r.URL.RawQuery = "scope=none&assertion=perhaps&x=1" }}, 200, ""},
		{"Envoy, options in the header", edits{envoy, set("X-Gateway-Parameters", "scope=label:read&resource="+url.QueryEscape(labels))}, 200, ""},
		{"X-Forwarded, options in the header are not looked at", edits{set("X-Gateway-Parameters", "scope=none")}, 200, ""},
		{"the Forwarded header is not looked at", edits{set("Forwarded", "host=evil.test;proto=http")}, 200, ""},
		{"upper-case scheme and host", edits{set("X-Forwarded-Proto", "HTTPS"), set("X-Forwarded-Host", "API.Carrier.test:443")}, 200, ""},

		{"nothing", edits{remove}, 500, "invalid_gateway_request"},
		{"no method", edits{unset("X-Forwarded-Method")}, 500, "invalid_gateway_request"},
		{"no scheme", edits{unset("X-Forwarded-Proto")}, 500, "invalid_gateway_request"},
		{"no host", edits{unset("X-Forwarded-Host")}, 500, "invalid_gateway_request"},
		{"no path", edits{unset("X-Forwarded-Uri")}, 500, "invalid_gateway_request"},
		{"an empty path", edits{set("X-Forwarded-Uri", "")}, 500, "invalid_gateway_request"},
		{"X-Original without method", edits{original, unset("X-Original-Method")}, 500, "invalid_gateway_request"},
		{"X-Original without URL", edits{original, unset("X-Original-URL")}, 500, "invalid_gateway_request"},
		{"Envoy without scheme", edits{envoy, unset("X-Forwarded-Proto")}, 500, "invalid_gateway_request"},

		{"X-Forwarded and X-Original-URL", edits{set("X-Original-URL", createLabel)}, 403, "invalid_request"},
		{"X-Forwarded and X-Original-Method", edits{set("X-Original-Method", "POST")}, 403, "invalid_request"},
		{"X-Forwarded and an empty X-Original-URL", edits{set("X-Original-URL", "")}, 403, "invalid_request"},
		{"X-Original and X-Forwarded-Uri", edits{original, set("X-Forwarded-Uri", "/v1/labels")}, 403, "invalid_request"},
		{"X-Original and X-Forwarded-Method", edits{original, set("X-Forwarded-Method", "POST")}, 403, "invalid_request"},
		{"Envoy and X-Forwarded-Uri", edits{envoy, set("X-Forwarded-Uri", "/v1/labels")}, 403, "invalid_request"},
		{"Envoy and X-Original-URL", edits{envoy, set("X-Original-URL", createLabel)}, 403, "invalid_request"},
		{"two methods", edits{add("X-Forwarded-Method", "POST")}, 403, "invalid_request"},
		{"two schemes", edits{add("X-Forwarded-Proto", "https")}, 403, "invalid_request"},
		{"two hosts", edits{add("X-Forwarded-Host", "api.carrier.test")}, 403, "invalid_request"},
		{"two paths", edits{add("X-Forwarded-Uri", "/v1/labels")}, 403, "invalid_request"},
		{"two original URLs", edits{original, add("X-Original-URL", createLabel)}, 403, "invalid_request"},
		{"a list of schemes", edits{set("X-Forwarded-Proto", "https,http")}, 403, "invalid_request"},
		{"a list of hosts", edits{set("X-Forwarded-Host", "api.carrier.test, evil.test")}, 403, "invalid_request"},
		{"a host with a path", edits{set("X-Forwarded-Host", "api.carrier.test/v1/labels?")}, 403, "invalid_request"},
		{"a host with a fragment", edits{set("X-Forwarded-Host", "api.carrier.test/v1/labels#")}, 403, "invalid_request"},
		{"a host with userinfo", edits{set("X-Forwarded-Host", "x@api.carrier.test")}, 403, "invalid_request"},
		{"another scheme", edits{set("X-Forwarded-Proto", "ftp")}, 403, "invalid_request"},
		{"a scheme with a host", edits{set("X-Forwarded-Proto", "https://api.carrier.test/v1/labels?")}, 403, "invalid_request"},
		{"a path that is none", edits{set("X-Forwarded-Uri", "v1/labels")}, 403, "invalid_request"},
		{"an absolute URL for a path", edits{set("X-Forwarded-Uri", createLabel)}, 403, "invalid_request"},
		{"a star for a path", edits{set("X-Forwarded-Uri", "*")}, 403, "invalid_request"},
		{"a path with a raw space", edits{set("X-Forwarded-Uri", "/v1/ labels")}, 403, "invalid_request"},
		{"a path with a bad escape", edits{set("X-Forwarded-Uri", "/v1/%zz")}, 403, "invalid_request"},
		{"a method that is none", edits{set("X-Forwarded-Method", "PO ST")}, 403, "invalid_request"},
		{"X-Original, relative", edits{original, set("X-Original-URL", "/v1/labels")}, 403, "invalid_request"},
		{"X-Original, without a path", edits{original, set("X-Original-URL", "https://api.carrier.test")}, 403, "invalid_request"},
		{"X-Original, a userinfo", edits{original, set("X-Original-URL", "https://x@api.carrier.test/v1/labels")}, 403, "invalid_request"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := i.goodCall(gateway, token, key)
			edit := func(r *http.Request) {
				for _, e := range row.edits {
					e(r)
				}
			}
			if row.status == 200 {
				i.passes(c, edit)
				return
			}
			i.refusedAs(c, row.status, row.code, edit)
		})
	}
}

func TestGatewayThatAsksForWhatThereIsNotIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	for _, options := range []string{
		"scop=label:read", "scope=label:read&scope=CXS", "assertion=1", "scope=label:write", "scope=%zz", "scope=" + strings.Repeat("a", 5000),
		"resource=x&resource=y", "scope=a;b",
		// A variable of the gateway's that is not set.
		"scope=", "scope", "scope=%20", "scope=+", "resource=", "resource", "assertion=", "scope=label:read&x=", "=",
	} {
		c := i.goodCall(gateway, token, key)
		c.options = options
		i.refusedAs(c, 500, "invalid_gateway_request")
	}
	c := i.goodCall(gateway, token, key)
	c.options = "scope=label:read%20label:create&assertion=false&resource=" + url.QueryEscape(labels)
	i.passes(c)
}

// listener serves a GatewayHandler on l, and returns a client for it.
func (i *instance) listener(l net.Listener, identify func(*http.Request, time.Time) authz.GatewayClaim) {
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: i.server.GatewayHandler(identify)}}
	server.Start()
	i.w.t.Cleanup(server.Close)
}

func TestGatewayIsKnownByItsSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	i.listener(l, authz.SocketGateway(gateway.ID))
	overSocket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for name, value := range map[string]string{"no header": "", "a client's header": "Basic x"} {
		r := i.checkRequest(i.goodCall(registered{}, token, key))
		if value != "" {
			r.Header.Set("X-Gateway-Authorization", value)
		}
		if a := i.by(overSocket, r); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	introspect := i.post("/oauth/introspect", registered{}, url.Values{"token": {token}})
	if a := i.by(overSocket, introspect); a.json["active"] != true {
		t.Errorf("introspection: %d %s", a.status, a.body)
	}
	withSecret := i.post("/oauth/introspect", gateway, url.Values{"token": {token}})
	if a := i.by(overSocket, withSecret); a.status != http.StatusBadRequest {
		t.Errorf("introspection by two methods: %d %s", a.status, a.body)
	}
	otherID := i.post("/oauth/introspect", registered{}, url.Values{"token": {token}, "client_id": {client.ID}})
	if a := i.by(overSocket, otherID); a.status != http.StatusUnauthorized {
		t.Errorf("introspection as somebody else: %d %s", a.status, a.body)
	}
	tokenRequest := i.post("/oauth/token", registered{}, clientCredentials)
	if a := i.by(overSocket, tokenRequest); a.status != http.StatusNotFound {
		t.Errorf("the token endpoint at a gateway's socket: %d %s", a.status, a.body)
	}
	if err := w.owner.SetClientDisabled(t.Context(), gateway.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	if a := i.by(overSocket, i.checkRequest(i.goodCall(registered{}, token, key))); a.string("error") != "invalid_client" {
		t.Errorf("disabled: %d %s", a.status, a.body)
	}
}

func TestGatewayIsKnownByTheOneNameInItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	client, key := w.client(authz.Client{}), newKey(t)
	for id, name := range map[string]authz.CertificateName{
		"gateway-dns": {DNS: "gw.carrier.test"}, "gateway-uri": {URI: "spiffe://carrier.test/gw"}, "gateway-ip": {IP: "192.0.2.7"},
		"gateway-email": {Email: "gw@carrier.test"}, "gateway-dn": {SubjectDN: "cn=gw, o=Carrier"},
	} {
		w.client(authz.Client{ID: id, AuthMethod: authz.TLSClientAuth, TLSName: name, Introspects: []string{labels}})
	}
	token := i.token(client, key).string("access_token")
	authority, server := certtest.NewAuthority(t, "gateways"), certtest.NewAuthority(t, "servers")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i.listener(tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{server.Issue(t, x509.Certificate{
			DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}).TLS()},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
	}), authz.CertificateGateway)
	uri, other := &url.URL{Scheme: "spiffe", Host: "carrier.test", Path: "/gw"}, &url.URL{Scheme: "spiffe", Host: "carrier.test", Path: "/gw/x"}
	dns := func(names ...string) x509.Certificate { return x509.Certificate{DNSNames: names} }
	for _, row := range []struct {
		name        string
		authority   *certtest.Authority // nil: no certificate
		certificate x509.Certificate
		status      int // 0: no connection
	}{
		{"a DNS name", authority, dns("gw.carrier.test"), 200},
		{"a DNS name in capitals", authority, dns("GW.carrier.test"), 200},
		{"a DNS name among others", authority, dns("x.carrier.test", "gw.carrier.test"), 200},
		{"a URI", authority, x509.Certificate{URIs: []*url.URL{uri}}, 200},
		{"an IP address", authority, x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}}, 200},
		{"an email address", authority, x509.Certificate{EmailAddresses: []string{"gw@Carrier.test"}}, 200},
		{"a subject", authority, x509.Certificate{Subject: pkix.Name{CommonName: "gw", Organization: []string{"Carrier"}}}, 200},
		{"a part of the subject", authority, x509.Certificate{Subject: pkix.Name{CommonName: "gw"}}, 500},
		{"another name", authority, x509.Certificate{DNSNames: []string{"other.carrier.test"}, URIs: []*url.URL{other}}, 500},
		{"a URI for a DNS name", authority, dns("spiffe://carrier.test/gw"), 500},
		{"a common name for a DNS name", authority, x509.Certificate{Subject: pkix.Name{CommonName: "gw.carrier.test"}}, 500},
		{"a wildcard", authority, dns("*.carrier.test"), 500},
		{"for nothing that it says", authority, x509.Certificate{DNSNames: []string{"gw.carrier.test"}, ExtKeyUsage: []x509.ExtKeyUsage{}}, 500},
		{"no name", authority, x509.Certificate{}, 500},
		{"two gateways' names", authority, x509.Certificate{DNSNames: []string{"gw.carrier.test"}, URIs: []*url.URL{uri}}, 500},
		{"the name, from another authority", server, dns("gw.carrier.test"), 0},
		{"no certificate", nil, x509.Certificate{}, 0},
	} {
		config := &tls.Config{RootCAs: server.Pool(), ServerName: "localhost"}
		if row.authority != nil {
			config.Certificates = []tls.Certificate{row.authority.Issue(t, row.certificate).TLS()}
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		r := i.checkRequest(i.goodCall(registered{}, token, key))
		r.URL.Scheme, r.URL.Host = "https", l.Addr().String()
		if row.status == 0 {
			if response, err := c.Do(r); err == nil {
				response.Body.Close()
				t.Errorf("%s: %d, want no connection", row.name, response.StatusCode)
			}
			continue
		}
		if a := i.by(c, r); a.status != row.status {
			t.Errorf("%s: %d %s", row.name, a.status, a.body)
		}
	}
}

func TestWhoAskedAboutWhichResourceIsInTheTrail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	c := i.goodCall(gateway, token, key)
	i.passes(c)
	i.refusedAs(c, 401, "invalid_dpop_proof")
	c.url = "https://nowhere.test/"
	i.refusedAs(c, 403, "invalid_request")
	ctx, end := context.WithCancel(t.Context())
	end()
	i.server.Run(ctx) // it records what was counted and returns
	const counts = `select coalesce(sum((detail->>'%s')::int), 0)::int from authz.audit_events
		where kind = 'call.verified' and actor = 'client:edge-gateway' and resource is not distinct from %s`
	for sql, want := range map[string]int{
		fmt.Sprintf(counts, "admitted", "'"+labels+"'"): 1,
		fmt.Sprintf(counts, "refused", "'"+labels+"'"):  1,
		fmt.Sprintf(counts, "refused", "null"):          1,
	} {
		if got := w.count(sql); got != want {
			t.Errorf("%d, want %d: %s", got, want, sql)
		}
	}
}
