package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// asked is an answer of the token endpoint.
type asked struct {
	status int
	Type   string `json:"token_type"`
	Error  string `json:"error"`
}

// askBy asks for a token by a connection with a certificate, and with a proof
// where there is a key.
func askBy(t *testing.T, address string, own *tls.Certificate, key *dpopbind.Key, form url.Values, header http.Header) asked {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} // the test knows where it connects to
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	form.Set("grant_type", "client_credentials")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != nil {
		proof, err := key.Proof(http.MethodPost, "https://mtls.auth.test/oauth/token", time.Now(), dpopbind.ProofOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("DPoP", proof)
	}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := asked{status: response.StatusCode}
	if err != nil || json.Unmarshal(body, &a) != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return a
}

func newDPoPKey(t *testing.T) *dpopbind.Key {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestServeKnowsClientsByTheirCertificates(t *testing.T) {
	t.Parallel()
	s, files := newSite(t), newCertificateFiles(t)
	files.write(t, 1, time.Now().Add(-time.Hour))
	authority, next := certtest.NewAuthority(t, "one"), certtest.NewAuthority(t, "two")
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	files.put(t, authorities, authority.PEM(), time.Now().Add(-time.Hour))
	s.server = append(s.server, "AUTHZ_TLS_CERT_FILE="+files.cert, "AUTHZ_TLS_KEY_FILE="+files.key,
		"AUTHZ_TLS_CLIENT_CERT=request", "AUTHZ_TLS_CLIENT_CA_FILE="+authorities, "AUTHZ_MTLS_URL=https://mtls.auth.test")
	runAuthz(t, s.program, s.env, "resource", "update", testResource, "--allow-certificate-bound")
	runAuthz(t, s.program, s.env, "client", "create", "labels", "--grant", testResource+"=label:create",
		"--auth-method", "tls_client_auth", "--tls-subject-dn", "CN=labels", "--certificate-bound")
	template := x509.Certificate{DNSNames: []string{"x"}, RawSubject: []byte("0\x111\x0f0\x0d\x06\x03U\x04\x03\x0c\x06labels")}
	good, stranger := authority.Issue(t, template).TLS(), next.Issue(t, template).TLS()
	form := func() url.Values { return url.Values{"client_id": {"labels"}} }
	forged := http.Header{"Client-Cert": {certtest.Field(authority.Issue(t, template).Leaf)}}
	for range 2 { // instances
		i := s.start(t)
		at := "https://" + i.address
		for name, row := range map[string]struct {
			own    *tls.Certificate
			key    *dpopbind.Key
			header http.Header
			status int
			kind   string
		}{
			"a certificate":                      {&good, nil, nil, 200, "Bearer"},
			"a certificate and a proof":          {&good, newDPoPKey(t), nil, 200, "DPoP"},
			"another authority's":                {&stranger, nil, nil, 401, ""},
			"none":                               {nil, nil, nil, 401, ""},
			"none, and a header":                 {nil, nil, forged, 401, ""},
			"another authority's, and a header":  {&stranger, nil, forged, 401, ""},
			"a certificate, and a broken header": {&good, nil, http.Header{"Client-Cert": {"x"}}, 200, "Bearer"},
		} {
			if a := askBy(t, at, row.own, row.key, form(), row.header); a.status != row.status || a.Type != row.kind {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
	// Another authority takes over, without a restart.
	i := s.start(t)
	files.put(t, authorities, next.PEM(), time.Now())
	for certificate, want := range map[*tls.Certificate]int{&stranger: 200, &good: 401} {
		if a := askBy(t, "https://"+i.address, certificate, nil, form(), nil); a.status != want {
			t.Errorf("once the authority is another one: %+v, want %d", a, want)
		}
	}
	files.put(t, authorities, []byte("half a certifi"), time.Now().Add(time.Second))
	if a := askBy(t, "https://"+i.address, &stranger, nil, form(), nil); a.status != 200 {
		t.Errorf("while the file is broken: %+v", a)
	}
}

func TestServeBelievesTheProxiesItIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	authority := certtest.NewAuthority(t, "clients")
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(authorities, authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	runAuthz(t, s.program, s.env, "client", "create", "labels", "--grant", testResource+"=label:create",
		"--auth-method", "tls_client_auth", "--tls-san-dns", "labels.test")
	certificate := authority.Issue(t, x509.Certificate{DNSNames: []string{"labels.test"}})
	for networks, want := range map[string]int{"127.0.0.0/8": 200, "192.0.2.0/24,127.0.0.1/32": 200, "192.0.2.0/24": 401} {
		with := *s
		with.server = append(s.server[:len(s.server):len(s.server)], "AUTHZ_CLIENT_CERT_PROXIES="+networks, "AUTHZ_TLS_CLIENT_CA_FILE="+authorities, "AUTHZ_MTLS_URL=https://mtls.auth.test")
		i := with.start(t)
		if a := askBy(t, "http://"+i.address, nil, newDPoPKey(t), url.Values{"client_id": {"labels"}}, http.Header{"Client-Cert": {certificate.Field()}}); a.status != want {
			t.Errorf("%s: %+v, want %d", networks, a, want)
		}
	}
}

func TestNetworksOfProxiesAreCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"10.0.0.0/8": true, " 2001:db8::/32 ": true, "0.0.0.0/1": false, "::/1": false, "::ffff:10.0.0.0/104": false,
		"fe80::1%eth0/128": false, "10.0.0.1": false, "10.0.0.1/8": false,
	} {
		c := config{ClientCertProxies: []string{text}}
		if _, err := c.clientCertProxies(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "AUTHZ_CLIENT_CERT_PROXIES") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
