package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientcert/certtest"
	"github.com/cargokey/authz/internal/freeport"
)

// certifiedAPI demands a certificate, and takes the tokens that are bound to it
// (RFC 8705 §3).
func certifiedAPI(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		parts := strings.Split(token, ".")
		var claims struct {
			Confirm map[string]string `json:"cnf"`
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
		shown := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
		if err != nil || json.Unmarshal(payload, &claims) != nil || r.Header.Get("DPoP") != "" ||
			claims.Confirm["x5t#S256"] != base64.RawURLEncoding.EncodeToString(shown[:]) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "a label")
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestRequestAndCurlShowACertificate(t *testing.T) {
	t.Parallel()
	s, own, dir := newSite(t), newCertificateFiles(t), t.TempDir()
	own.write(t, 1, time.Now())
	authority := certtest.NewAuthority(t, "clients")
	put := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := func(name string, c certtest.Certificate) []string {
		return []string{"--cert", put(name+".pem", c.PEM()), "--cert-key", put(name+".key", c.KeyPEM(t))}
	}
	named := pair("named", authority.Issue(t, x509.Certificate{DNSNames: []string{"labels.test"}}))
	itself := pair("itself", certtest.SelfSigned(t, x509.Certificate{}))
	issuer := "https://" + freeport.Address(t)
	s.server = append(s.server, "AUTHZ_ISSUER="+issuer, "AUTHZ_TLS_CERT_FILE="+own.cert, "AUTHZ_TLS_KEY_FILE="+own.key,
		"AUTHZ_TLS_CLIENT_CERT=request", "AUTHZ_TLS_CLIENT_CA_FILE="+put("clients.pem", authority.PEM()), "AUTHZ_MTLS_URL="+issuer)
	run := func(args ...string) string { return runAuthz(t, s.program, s.env, args...) }
	grant := []string{"--grant", testResource + "=label:create", "--certificate-bound"}
	run("resource", "update", testResource, "--allow-certificate-bound")
	run(append([]string{"client", "create", "named", "--auth-method", "tls_client_auth", "--tls-san-dns", "labels.test"}, grant...)...)
	run(append([]string{"client", "create", "itself", "--auth-method", "self_signed_tls_client_auth", "--jwks", itself[1]}, grant...)...)
	secret := s.register(t, "secret", grant...).secret
	s.startAt(t, strings.TrimPrefix(issuer, "https://"))

	api := certifiedAPI(t)
	believed := []string{"--issuer", issuer, "--ca", put("both.pem", append(read(t, own.cert), certtest.Certificate{Leaf: api.Certificate()}.PEM()...))}
	for id, credentials := range map[string][]string{
		"named": named, "itself": itself, "secret": append([]string{"--client-secret", secret}, itself...),
	} {
		args := append(append([]string{"--client-id", id}, believed...), credentials...)
		if out := run(append([]string{"request", "--json"}, args...)...); !strings.Contains(out, `"token_type":"DPoP"`) {
			t.Errorf("%s, with a proof: %s", id, out)
		}
		if out := run(append([]string{"request", "--bearer", "--json"}, args...)...); !strings.Contains(out, `"token_type":"Bearer"`) {
			t.Errorf("%s, without a proof: %s", id, out)
		}
		if out := run(append([]string{"curl", "--bearer", api.URL + "/labels"}, args...)...); out != "a label" {
			t.Errorf("%s, at an API: %s", id, out)
		}
	}
	for want, args := range map[string][]string{
		"the server refused: invalid_client":   append(append([]string{"--client-id", "named"}, believed...), itself...),
		"certificate":                          append([]string{"--client-id", "named", "--issuer", issuer}, named...), // another's authority
		"missing [cert-key]":                   append([]string{"--client-id", "named", "--cert", named[1]}, believed...),
		"--cert: tls: private key does not":    append([]string{"--client-id", "named", "--cert", named[1], "--cert-key", itself[3]}, believed...),
		"--ca: " + named[3] + " has no cert":   append([]string{"--client-id", "named", "--issuer", issuer, "--ca", named[3]}, named...),
		"needs neither a secret nor a key":     append(append([]string{"--client-id", "secret", "--client-secret", secret, "--auth-method", "tls_client_auth"}, believed...), itself...),
		"none of the others can be; [bearer k": append(append([]string{"--client-id", "named", "--bearer", "--key", "x.jwk"}, believed...), named...),
	} {
		p := startAuthz(t, s.program, s.env, append([]string{"request"}, args...)...)
		if code, err := p.wait(); err != nil || code != 1 || !strings.Contains(p.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %v: %s", want, code, err, &p.errOut)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
