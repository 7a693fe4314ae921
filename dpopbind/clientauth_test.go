package dpopbind_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

func TestClientWithACertificateShowsItWhereTheServerWantsIt(t *testing.T) {
	t.Parallel()
	own := certtest.SelfSigned(t, x509.Certificate{})
	var server *httptest.Server
	var path string
	var form url.Values
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q,"mtls_endpoint_aliases":{"token_endpoint":%q}}`,
				server.URL, server.URL+"/token", server.URL+"/mtls/token")
			return
		}
		if len(r.TLS.PeerCertificates) != 1 || !r.TLS.PeerCertificates[0].Equal(own.Leaf) {
			t.Error("the certificate is not shown")
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		path, form = r.URL.Path, r.PostForm
		fmt.Fprint(w, `{"access_token":"t","token_type":"DPoP"}`)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{own.TLS()}
	t.Cleanup(transport.CloseIdleConnections)

	byCertificate := url.Values{"grant_type": {"client_credentials"}, "client_id": {"labels"}} // RFC 8705 §2: and no secret
	bySecret := url.Values{"grant_type": {"client_credentials"}}
	for name, row := range map[string]struct {
		cfg  dpopbind.ClientConfig
		path string
		form url.Values
	}{
		"tls_client_auth":             {dpopbind.ClientConfig{AuthMethod: dpopbind.TLSClientAuth}, "/mtls/token", byCertificate},
		"self_signed_tls_client_auth": {dpopbind.ClientConfig{AuthMethod: dpopbind.SelfSignedTLSClientAuth}, "/mtls/token", byCertificate},
		"beside a secret":             {dpopbind.ClientConfig{ClientSecret: "s", MutualTLS: true}, "/mtls/token", bySecret},
		"a secret alone":              {dpopbind.ClientConfig{ClientSecret: "s"}, "/token", bySecret},
	} {
		row.cfg.Issuer, row.cfg.ClientID, row.cfg.Transport = server.URL, "labels", transport
		if _, err := must(dpopbind.NewClient(row.cfg)).Token(t.Context()); err != nil || path != row.path {
			t.Errorf("%s: it asks at %s: %v", name, path, err)
		}
		if diff := cmp.Diff(row.form, form); diff != "" {
			t.Errorf("%s: the form (-want +got):\n%s", name, diff)
		}
	}
	for name, cfg := range map[string]dpopbind.ClientConfig{
		"a secret too":                       {AuthMethod: dpopbind.TLSClientAuth, ClientSecret: "s", Transport: transport},
		"a key too":                          {AuthMethod: dpopbind.SelfSignedTLSClientAuth, ClientKey: must(dpopbind.GenerateKey()), Transport: transport},
		"no transport of its own":            {AuthMethod: dpopbind.TLSClientAuth},
		"a certificate, and no method by it": {MutualTLS: true, Transport: transport},
	} {
		cfg.Issuer, cfg.ClientID = server.URL, "labels"
		if _, err := dpopbind.NewClient(cfg); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
