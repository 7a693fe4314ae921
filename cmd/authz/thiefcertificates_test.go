package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// authority: makes an authority, ca.pem, and the server's certificate by it.
func (th *theft) authorityCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0, "authority")
	th.issuer = certtest.NewAuthority(of(ts).t, "of the test")
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), th.issuer.PEM(), 0o600))
	writeCertificate(ts, "server", th.issuer.Issue(of(ts).t, x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}))
}

// certificate NAME itself|URI: makes NAME.pem and NAME.key, by the authority for a
// client that is known by the URI, or by itself with NAME.jwks, to be registered.
func (th *theft) certificateCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "certificate NAME itself|URI")
	if args[1] != "itself" {
		uri, err := url.Parse(args[1])
		ts.Check(err)
		writeCertificate(ts, args[0], th.issuer.Issue(of(ts).t, x509.Certificate{URIs: []*url.URL{uri}}))
		return
	}
	c := certtest.SelfSigned(of(ts).t, x509.Certificate{})
	writeCertificate(ts, args[0], c)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.Key.Public()}}})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".jwks"), set, 0o600))
}

func writeCertificate(ts *testscript.TestScript, name string, c certtest.Certificate) {
	ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), c.PEM(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(name+".key"), c.KeyPEM(of(ts).t), 0o600))
}

// httpClient trusts the authority, where there is one, and shows a certificate, where
// one is named.
func httpClient(ts *testscript.TestScript, certificate string) *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if authority, err := os.ReadFile(ts.MkAbs("ca.pem")); err == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(authority)
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(ts.MkAbs(certificate+".pem"), ts.MkAbs(certificate+".key"))
		ts.Check(err)
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
}

// certified CERTIFICATE FILE: the gateway with this certificate finds the token in the
// file active.
func (th *theft) certifiedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: certified CERTIFICATE FILE")
	}
	status, body := postForm(ts, httpClient(ts, args[0]), "https://"+ts.Getenv("AUTHZ_GATEWAY_LISTEN"), "/oauth/introspect",
		func(*http.Request) {}, url.Values{"token": {strings.TrimSpace(ts.ReadFile(args[1]))}})
	succeeds(ts, neg, isActive(status, body))
}

// shown CERTIFICATE CLIENT FILE: the client with this certificate gets a token, which is
// written to the file.
func (th *theft) shownCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: shown CERTIFICATE CLIENT FILE")
	}
	key, err := dpopbind.GenerateKey()
	ts.Check(err)
	proof, err := key.Proof(http.MethodPost, ts.Getenv("AUTHZ_ISSUER")+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
	ts.Check(err)
	status, body := postForm(ts, httpClient(ts, args[0]), ts.Getenv("AUTHZ_ISSUER"), "/oauth/token", func(r *http.Request) {
		r.Header.Set("DPoP", proof)
	}, url.Values{"grant_type": {"client_credentials"}, "client_id": {args[1]}})
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK {
		succeeds(ts, neg, fmt.Errorf("%d %s %w", status, body, err))
		return
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(answer.Token), 0o600))
	succeeds(ts, neg, nil)
}
