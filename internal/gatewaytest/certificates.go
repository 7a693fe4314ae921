package gatewaytest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/clientcert/certtest"
)

const certificateHost = "localhost"

// TestCertificates has the gateway end TLS and ask for certificates (At.TLS), and
// tries to pass with a token that is bound to one (RFC 8705 §3) and was stolen. The
// thief has the certificate too, which is no secret, but not its key.
func TestCertificates(t *testing.T, g Gateway) {
	g.requireProgram(t)
	s := newSite(t, g)
	// By name: Caddy wants that of the TLS and that of the request to be one.
	s.scheme, s.listen = "https", strings.Replace(s.listen, "127.0.0.1", certificateHost, 1)
	s.run("resource", "update", resource, "--allow-certificate-bound", "--base-url", s.base())
	bound := s.register("label-bound", "--certificate-bound", "--grant", resource+"=label:create")
	s.serve("AUTHZ_CLIENT_CERT_PROXIES=127.0.0.1/32") // the test is the proxy
	s.startAPI()
	at := s.at(s.behind.address)
	a := newAuthority(t, t.TempDir())
	at.TLS.Own, at.TLS.Key = a.issue(t, "public", certificateHost)
	s.startGateway(at)

	own, other := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	token := s.certificateToken(bound, own)
	stolen := makeLabel.with(field{"Authorization", "Bearer " + token})
	escaped := strings.ReplaceAll(url.QueryEscape(string(own.PEM())), "+", "%20")
	for _, row := range []struct {
		name   string
		by     *certtest.Certificate
		call   call
		passes bool
	}{
		{"its certificate", &own, stolen, true},
		{"its certificate, again", &own, stolen, true},
		{"its certificate, and a forged header", &own, stolen.with(field{"Client-Cert", other.Field()}), true},
		{"no certificate", nil, stolen, false},
		{"another certificate", &other, stolen, false},
		{"no certificate, and a forged header", nil, stolen.with(field{"Client-Cert", own.Field()}), false},
		{"no certificate, and a forged header as nginx writes it", nil, stolen.with(field{"Client-Cert", escaped}), false},
		{"no certificate, and a forged header in lower case", nil, stolen.with(field{"client-cert", own.Field()}), false},
		{"no certificate, and a forged header with an underscore", nil, stolen.with(field{"Client_Cert", own.Field()}), false},
		{"no certificate, and two forged headers", nil, stolen.with(field{"Client-Cert", own.Field()}, field{"Client-Cert", own.Field()}), false},
		{"no certificate, and a forged header that is taken away", nil, stolen.with(field{"Client-Cert", own.Field()}, field{"Connection", "close, Client-Cert"}), false},
		{"no certificate, and a forged chain", nil, stolen.with(field{"Client-Cert-Chain", own.Field()}), false},
		{"no certificate, and forged parameters", nil, stolen.with(field{"X-Gateway-Parameters", "client_cert=true"}, field{"Client-Cert", own.Field()}), false},
		{"another certificate, and a forged header", &other, stolen.with(field{"Client-Cert", own.Field()}), false},
		{"no certificate, and other proxies' headers", nil, stolen.with(field{"X-Forwarded-Client-Cert", own.Field()}, field{"X-Forwarded-Tls-Client-Cert", own.Field()}), false},
		{"a DPoP-bound token, with a certificate", &own, s.good(s.issue(s.service, resource), makeLabel), true},
		{"a DPoP-bound token, without", nil, s.good(s.issue(s.service, resource), makeLabel), true},
		{"a DPoP-bound token by the Bearer scheme, with a certificate", &own,
			makeLabel.with(field{"Authorization", "Bearer " + s.issue(s.service, resource).token}), false},
	} {
		a := row.call.sendTLS(t, s.listen, row.by)
		reached := s.behind.take()
		switch {
		case row.passes && (a.status != http.StatusCreated || len(reached) != 1):
			t.Errorf("%s: %d %q %s, after %d requests to the API\n%s", row.name, a.status, a.header.Values("WWW-Authenticate"), a.body, len(reached), &s.front.printed)
		case !row.passes && (a.status != http.StatusUnauthorized || len(reached) != 0):
			t.Errorf("%s: %d %s, after %d requests to the API", row.name, a.status, a.body, len(reached))
		}
		for _, r := range reached {
			if told := strings.Join(r.told("client-cert"), " "); strings.Contains(told, other.Field()) {
				t.Errorf("%s: the API is told of a forged certificate", row.name)
			}
		}
	}
}

// sendTLS is send by TLS, with a certificate or without. Whose the gateway's is
// does not matter here.
func (c call) sendTLS(t testing.TB, address string, own *certtest.Certificate) answer {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: certificateHost, NextProtos: []string{"http/1.1"}}
	if own != nil {
		config.Certificates = []tls.Certificate{own.TLS()}
	}
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	return c.sendOver(t, conn, address)
}

// certificateToken asks for a token that is bound to a certificate.
func (s *site) certificateToken(c credentials, own certtest.Certificate) string {
	s.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Client-Cert", own.Field())
	request.SetBasicAuth(c.id, c.secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var made struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil || made.Token == "" {
		s.t.Fatalf("asking for a token is answered %s: %v", response.Status, err)
	}
	return made.Token
}
