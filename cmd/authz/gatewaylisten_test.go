package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientcert/certtest"
	"github.com/cargokey/authz/internal/freeport"
)

// asGateway introspects by a connection, or tells that there is none: 0.
func asGateway(t *testing.T, by *http.Client, address string) int {
	t.Helper()
	response, err := by.PostForm("https://"+address+"/oauth/introspect", url.Values{"token": {"x"}})
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func TestGatewaysAreKnownByTheAuthoritiesOfTheMoment(t *testing.T) {
	t.Parallel()
	s, files := newSite(t), newCertificateFiles(t)
	files.write(t, 1, time.Now())
	one, other := certtest.NewAuthority(t, "gateways"), certtest.NewAuthority(t, "gateways")
	file := filepath.Join(t.TempDir(), "gateways.pem")
	at := time.Now().Add(-time.Hour)
	put := func(text []byte) {
		at = at.Add(time.Minute)
		files.put(t, file, text, at)
	}
	put(one.PEM())
	address := freeport.Address(t)
	s.server = append(s.server, "AUTHZ_GATEWAY_LISTEN="+address, "AUTHZ_GATEWAY_TLS_CERT_FILE="+files.cert,
		"AUTHZ_GATEWAY_TLS_KEY_FILE="+files.key, "AUTHZ_GATEWAY_CLIENT_CA_FILE="+file)
	runAuthz(t, s.program, s.env, "client", "create", "edge", "--introspects", testResource, "--auth-method", "tls_client_auth", "--tls-san-dns", "edge.test")
	s.start(t)

	client := func(a *certtest.Authority, settings func(*http.Transport)) *http.Client {
		own := a.Issue(t, x509.Certificate{DNSNames: []string{"edge.test"}})
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{own.TLS()}, // the test knows where it connects to
		}}
		if settings != nil {
			settings(transport)
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	anew := func(tr *http.Transport) { tr.DisableKeepAlives = true }
	kept := client(one, nil)
	resumes := client(one, func(tr *http.Transport) {
		anew(tr)
		tr.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	})
	of := map[string]*http.Client{"a connection that is kept": kept, "one that resumes": resumes, "a new one": client(one, anew)}
	others := client(other, anew)
	expect := func(when string, ones, othersToo bool) {
		t.Helper()
		for name, c := range of {
			if status := asGateway(t, c, address); (status == http.StatusOK) != ones {
				t.Errorf("%s: %s: %d", when, name, status)
			}
		}
		if status := asGateway(t, others, address); (status == http.StatusOK) != othersToo {
			t.Errorf("%s: another authority's: %d", when, status)
		}
	}
	expect("at first", true, false)
	put(append(one.PEM(), other.PEM()...))
	expect("with both", true, true)
	put([]byte("half a certifi"))
	expect("while a broken file lies there", true, true)
	put(other.PEM())
	expect("with the other alone", false, true)
	put(one.PEM())
	expect("with the first again", true, false)
}
