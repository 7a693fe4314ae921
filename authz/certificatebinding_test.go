package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// Resources of these tests.
const (
	tracking    = "https://tracking.carrier.test" // admits certificates
	trackingURL = "https://api.carrier.test/tracking"
	pickups     = "https://pickups.carrier.test" // admits certificates and bearer tokens
	pickupsURL  = "https://api.carrier.test/pickups"
)

// certificateResources registers the two.
func (w *world) certificateResources() {
	w.t.Helper()
	w.resource(&authz.Resource{URI: tracking, Scopes: []string{"track:read", "track:write"}, BaseURLs: []string{trackingURL}, AllowCertificateBound: true})
	w.resource(&authz.Resource{URI: pickups, Scopes: []string{"pickup:read"}, BaseURLs: []string{pickupsURL}, AllowCertificateBound: true, AllowBearer: true})
}

func boundClient(id string) authz.Client {
	return authz.Client{ID: id, CertificateBound: true, Grants: []authz.Grant{
		{Resource: tracking, Scopes: []string{"track:read"}}, {Resource: pickups, Scopes: []string{"pickup:read"}}, {Resource: labels, Scopes: []string{"label:read"}},
	}}
}

// claimsOf are those of a JWT, unverified.
func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// boundToken gets a token that is bound to a certificate, which must succeed.
func (s *site) boundToken(c registered, by certtest.Certificate, resource string) string {
	s.w.t.Helper()
	a := s.by(s.with(by), s.tls(s.post("/oauth/token", c, with(clientCredentials, "resource", resource, "client_id", c.ID))))
	if a.status != http.StatusOK || a.string("token_type") != "Bearer" { // RFC 8705 §3
		s.w.t.Fatalf("%s: %d %s", c.ID, a.status, a.body)
	}
	return a.string("access_token")
}

// The binding does not depend on how the client authenticates (RFC 8705 §4), and
// the certificate needs nobody's trust for it.
func TestTokenIsBoundToTheCertificateThatItWasAskedForWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	s := w.newSite()
	gateway := w.client(authz.Client{ID: "track-gateway", Introspects: []string{tracking}})
	own := certtest.SelfSigned(t, x509.Certificate{})
	tlsClient, ownClient, opaque := boundClient("tls"), boundClient("self-signed"), boundClient("opaque")
	tlsClient.AuthMethod, tlsClient.TLSName = authz.TLSClientAuth, authz.CertificateName{DNS: "labels.carrier.test"}
	keys := selfSignedClient(t, "", own)
	ownClient.AuthMethod, ownClient.JWKS = keys.AuthMethod, keys.JWKS
	opaque.TokenFormat = authz.FormatOpaque
	for _, row := range []struct {
		client      authz.Client
		bySecret    bool
		certificate certtest.Certificate
	}{
		{tlsClient, false, s.authority.Issue(t, dnsNamed("labels.carrier.test"))},
		{ownClient, false, own},
		{boundClient("secret"), true, certtest.NewAuthority(t, "strangers").Issue(t, dnsNamed("x"))},
		{opaque, true, certtest.SelfSigned(t, x509.Certificate{})},
	} {
		c := w.client(row.client)
		if !row.bySecret {
			c.secret = ""
		}
		token := s.boundToken(c, row.certificate, tracking)
		want := map[string]any{"x5t#S256": clientcert.Thumbprint(row.certificate.Leaf)}
		if row.client.TokenFormat != authz.FormatOpaque {
			if diff := cmp.Diff(want, claimsOf(t, token)["cnf"]); diff != "" {
				t.Errorf("%s: cnf of the token (-want +got):\n%s", c.ID, diff)
			}
		}
		a := s.introspect(gateway, token) // RFC 8705 §3.2
		if diff := cmp.Diff(want, a.json["cnf"]); diff != "" || a.json["token_type"] != "Bearer" || a.json["active"] != true {
			t.Errorf("%s: cnf of the introspection: %s (-want +got):\n%s", c.ID, a.body, diff)
		}
		r := s.post("/oauth/introspect", gateway, with(nil, "token", token))
		r.Header.Set("Accept", introspectionJWT)
		if diff := cmp.Diff(any(a.json), claimsOf(t, s.do(r).body)["token_introspection"]); diff != "" {
			t.Errorf("%s: introspection as a JWT (-as JSON +got):\n%s", c.ID, diff)
		}
		if n := w.count("select count(*) from authz.audit_events where kind = 'token.issued' and client_id = '" + c.ID +
			"' and detail->>'x5t#S256' = '" + clientcert.Thumbprint(row.certificate.Leaf) + "'"); n != 1 {
			t.Errorf("%s: %d events with the certificate", c.ID, n)
		}
	}
}

func TestTokenThatCouldBeBoundToNothingIsNotIssued(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	s := w.newSite()
	bound, plain := w.client(boundClient("bound")), boundClient("plain")
	plain.CertificateBound = false
	unbound := w.client(plain)
	enrolled := w.client(boundClient("enrolled"))
	if err := w.owner.SetDPoPKeyPolicy(t.Context(), enrolled.ID, authz.FirstUseKey, operatorEvent(authz.AuditClientUpdated)); err != nil {
		t.Fatal(err)
	}
	own := certtest.SelfSigned(t, x509.Certificate{})
	old := certtest.SelfSigned(t, x509.Certificate{NotAfter: time.Now().Add(-time.Minute)})
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := certtest.SelfSigned(t, x509.Certificate{PublicKey: short})
	key := newKey(t)
	for _, row := range []struct {
		name     string
		client   registered
		by       *http.Client
		resource string
		proof    bool
		kind     string // token_type; empty: refused
		says     string
	}{
		{"a certificate", bound, s.with(own), tracking, false, "Bearer", ""},
		{"a certificate, where bearer tokens are admitted", bound, s.with(own), pickups, false, "Bearer", ""},
		{"no certificate", bound, s.with(), tracking, false, "", "mutual TLS"},
		{"no certificate, where bearer tokens are admitted", bound, s.with(), pickups, false, "", "mutual TLS"},
		{"an expired certificate", bound, s.with(old), tracking, false, "", "valid now"},
		{"a certificate with a short key", bound, s.with(weak), tracking, false, "", "valid now"},
		{"a certificate for a resource that admits none", bound, s.with(own), labels, false, "", "admits no tokens that are bound to a certificate"},
		{"a certificate and a proof", bound, s.with(own), tracking, true, "DPoP", ""},
		{"a certificate and a proof for a resource that admits no certificate", bound, s.with(own), labels, true, "DPoP", ""},
		{"a proof", bound, s.with(), tracking, true, "DPoP", ""},
		{"a client that is not registered so", unbound, s.with(own), tracking, false, "", "DPoP"},
		{"a client that is not registered so, where bearer tokens are admitted", unbound, s.with(own), pickups, false, "", "DPoP"},
		{"a client whose keys are enrolled", enrolled, s.with(own), tracking, false, "", "DPoP"},
		{"a client whose keys are enrolled, and a proof", enrolled, s.with(own), tracking, true, "DPoP", ""},
	} {
		var r *http.Request
		if row.proof {
			r = s.tokenRequest(row.client, key, with(clientCredentials, "resource", row.resource))
		} else {
			r = s.tokenRequest(row.client, nil, with(clientCredentials, "resource", row.resource))
		}
		before := w.count("select count(*) from authz.tokens")
		a := s.by(row.by, s.tls(r))
		issued := w.count("select count(*) from authz.tokens") - before
		if row.kind != "" {
			if a.status != http.StatusOK || a.string("token_type") != row.kind || issued != 1 {
				t.Errorf("%s: %d %s, %d issued", row.name, a.status, a.body, issued)
			}
			continue
		}
		if a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" || !strings.Contains(a.string("error_description"), row.says) || issued != 0 {
			t.Errorf("%s: %d %s, %d issued", row.name, a.status, a.body, issued)
		}
	}
	if w.count("select count(*) from authz.tokens where (jkt is null) = (x5t is null)") != 0 {
		t.Error("a token is bound to both, or to neither")
	}
}

// certificateCall is one by the Bearer scheme, whose gateway says with which
// certificate its caller has come.
func certificateCall(gateway registered, url, token string) call {
	return call{gateway: gateway, method: http.MethodGet, url: url, token: token, scheme: "Bearer", options: "client_cert=true"}
}

func clientCert(values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header["Client-Cert"] = values }
}

// inPath makes the check one whose call is said by the path after it.
func inPath(path, options string) func(*http.Request) {
	return func(r *http.Request) {
		r.Method, r.URL.Path, r.URL.RawQuery, r.Host = http.MethodGet, "/gateway/verify"+path, "", "api.carrier.test"
		for _, name := range []string{"Method", "Host", "Uri"} {
			r.Header.Del("X-Forwarded-" + name)
		}
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Gateway-Parameters", options)
	}
}

func TestStolenCertificateBoundTokenOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	s := w.newSite()
	two := w.siteOf(s.authority)
	gateway := w.client(authz.Client{ID: "both-gateway", Introspects: []string{tracking, pickups, labels}})
	own, other := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	renewed := certtest.SelfSigned(t, x509.Certificate{PublicKey: own.Key})
	bound := w.client(boundClient("bound"))
	bearer := boundClient("bearer")
	bearer.CertificateBound, bearer.AllowBearer = false, true
	unbound := w.client(bearer)
	token, atPickups := s.boundToken(bound, own, tracking), s.boundToken(bound, own, pickups)
	plain := s.do(s.tokenRequest(unbound, nil, with(clientCredentials, "resource", pickups))).string("access_token")
	key := newKey(t)
	dpop := s.token(bound, key, "resource", tracking).string("access_token")
	for _, i := range []*instance{s.instance, two.instance} {
		c := certificateCall(gateway, trackingURL+"/parcels/7", token)
		for range 2 { // a certificate is shown any number of times
			a := i.passes(c, clientCert(own.Field()))
			if a.header.Get("X-Auth-Client-Id") != bound.ID || a.header["X-Auth-Jkt"] != nil {
				t.Errorf("the API is told %v", a.header)
			}
		}
		i.passes(c, clientCert(strings.ReplaceAll(string(own.PEM()), "\n", "%0A")))
		c.options = "client_cert=true&assertion=true"
		if claims := claimsOf(t, i.passes(c, clientCert(own.Field())).header.Get("X-Auth-Assertion")); !cmp.Equal(claims["cnf"], any(map[string]any{"x5t#S256": clientcert.Thumbprint(own.Leaf)})) || claims["client_id"] != bound.ID {
			t.Errorf("the assertion says %v", claims)
		}
		c.options = "client_cert=true"
		for name, values := range map[string][]string{
			"no certificate": nil, "an empty one": {""}, "an empty byte sequence": {"::"}, "another certificate": {other.Field()},
			"another certificate with its key": {renewed.Field()}, "two": {own.Field(), own.Field()}, "two, the other first": {other.Field(), own.Field()},
			"two in one": {own.Field() + "," + other.Field()}, "nonsense": {":AAAA:"}, "its thumbprint": {":" + clientcert.Thumbprint(own.Leaf) + ":"},
		} {
			for url, token := range map[string]string{trackingURL + "/x": token, pickupsURL + "/x": atPickups} {
				a := i.refusedAs(certificateCall(gateway, url, token), 401, "invalid_token", clientCert(values...))
				if challenge := strings.Join(a.header["Www-Authenticate"], "; "); !strings.Contains(challenge, `Bearer realm="`) || !strings.Contains(challenge, "certificate") {
					t.Errorf("%s: the challenge is %q", name, challenge)
				}
			}
		}
		// What is not bound to a certificate does not ask for one, and is not opened by one.
		i.passes(certificateCall(gateway, pickupsURL+"/x", plain))
		i.passes(certificateCall(gateway, pickupsURL+"/x", plain), clientCert("nonsense"))
		i.refusedAs(certificateCall(gateway, trackingURL+"/x", dpop), 401, "invalid_token", clientCert(own.Field()))
		i.refusedAs(certificateCall(gateway, labelsURL+"/x", token), 401, "invalid_token", clientCert(own.Field()))
		// By the DPoP scheme it is no DPoP token, whoever signs the proof.
		byDPoP := call{gateway: gateway, method: "GET", url: trackingURL + "/x", token: token,
			proofs: []string{i.proofFor(key, "GET", trackingURL+"/x", token)}}
		i.refusedAs(byDPoP, 401, "invalid_token", clientCert(own.Field()))
		byDPoP.scheme = "Bearer"
		i.refusedAs(byDPoP, 401, "invalid_request", clientCert(own.Field()))
		c.options = "scope=track:write&client_cert=true"
		i.refusedAs(c, 403, "insufficient_scope", clientCert(own.Field()))
	}
	// A gateway that does not say that the header is its own lets its callers' through.
	for _, options := range []string{"", "client_cert=false"} {
		c := certificateCall(gateway, trackingURL+"/x", token)
		c.options = options
		s.refusedAs(c, 401, "invalid_token", clientCert(own.Field()))
		c.options = "client_cert=yes"
		s.refusedAs(c, 500, "invalid_gateway_request", clientCert(own.Field()))
	}
	// Where the options are a header, it may be the caller's, who says what he likes.
	forged := certificateCall(gateway, trackingURL+"/x", token)
	for _, options := range []string{"client_cert=true", "client_cert=false", "resource=" + tracking + "&client_cert=true"} {
		a := s.verify(forged, clientCert(own.Field()), inPath("/tracking/x", options))
		if a.status != 500 || a.string("error") != "invalid_gateway_request" || !strings.Contains(a.body, "caller's word") {
			t.Errorf("%s in the header: %d %s", options, a.status, a.body)
		}
	}
	if a := s.verify(forged, clientCert(own.Field()), inPath("/tracking/x", "resource="+tracking)); a.status != 401 || a.string("error") != "invalid_token" {
		t.Errorf("without it: %d %s", a.status, a.body)
	}
	// A key that is weaker than others here proves nothing.
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := certtest.SelfSigned(t, x509.Certificate{PublicKey: short})
	s.refusedAs(certificateCall(gateway, trackingURL+"/x", token), 401, "invalid_token", clientCert(weak.Field()))
	if !strings.Contains(w.logs.String(), clientcert.ErrKey.Error()) {
		t.Error("the log does not say that the key is too short")
	}
	// A gateway is proven by what it is registered for, whatever secrets there are.
	for id, client := range map[string]authz.Client{
		"by-name": named("by-name", authz.CertificateName{DNS: "gw.carrier.test"}), "by-key": selfSignedClient(t, "by-key", own),
	} {
		client.Introspects = []string{tracking}
		c := certificateCall(w.client(client), trackingURL+"/x", token)
		if a := s.verify(c, clientCert(own.Field())); a.status != 500 || a.string("error") != "invalid_client" {
			t.Errorf("gateway %s by a secret: %d %s", id, a.status, a.body)
		}
	}
	// What the gateway is told nothing of counts for nothing.
	s.refusedAs(certificateCall(gateway, trackingURL+"/x", token), 401, "invalid_token", func(r *http.Request) {
		r.Header.Set("X-Forwarded-Client-Cert", own.Field())
		r.Header["Client_Cert"] = []string{own.Field()}
	})
}

func TestCertificateBoundTokensEndWithTheLeaveOfTheirResource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificateResources()
	s := w.newSite()
	gateway := w.client(authz.Client{ID: "track-gateway", Introspects: []string{tracking, pickups}})
	own := certtest.SelfSigned(t, x509.Certificate{NotAfter: time.Now().Add(5 * time.Minute)})
	bound := w.client(boundClient("bound"))
	c, show := certificateCall(gateway, pickupsURL+"/x", s.boundToken(bound, own, pickups)), clientCert(own.Field())
	s.passes(c, show)
	s.advance(6 * time.Minute) // the token lives for ten
	s.refusedAs(c, 401, "invalid_token", show)
	s.advance(-6 * time.Minute)
	s.passes(c, show)
	bearer := boundClient("bearer")
	bearer.CertificateBound, bearer.AllowBearer = false, true
	plain := certificateCall(gateway, pickupsURL+"/x",
		s.do(s.tokenRequest(w.client(bearer), nil, with(clientCredentials, "resource", pickups))).string("access_token"))
	admits := func(certificates, bearer bool) {
		r, err := w.owner.Resource(t.Context(), pickups)
		if err != nil {
			t.Fatal(err)
		}
		r.AllowCertificateBound, r.AllowBearer = certificates, bearer
		w.changed.Store(time.Now().UnixMilli())
		if err := w.owner.UpdateResource(t.Context(), r, operatorEvent(authz.AuditResourceUpdated)); err != nil {
			t.Fatal(err)
		}
	}
	s.passes(plain)
	admits(true, false)
	s.refusedAs(plain, 401, "invalid_token")
	s.refusedAs(plain, 401, "invalid_token", show)
	s.passes(c, show)
	for _, bearer := range []bool{true, false} {
		admits(false, bearer)
		s.refusedAs(c, 401, "invalid_token", show)
		s.refusedAs(c, 401, "invalid_token")
	}
}
