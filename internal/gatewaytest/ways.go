package gatewaytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/freeport"
)

// Certificates are the files of mutual TLS between the gateway and the server.
type Certificates struct {
	Authority string // who issued the server's
	Own, Key  string // the gateway's
}

// ways are the listeners that tell by themselves which gateway is there, each
// with the means of this site's gateway and with those of another one.
type ways struct {
	server          []string // environment of "authz serve"
	mutualTLS       string   // host:port
	socket, another string
	known, stranger Certificates
}

const gatewayName, strangersName = "gateway.carrier.test", "stranger.carrier.test"

// newWays registers the gateway a second time, as one with a certificate, and
// another gateway, of another resource.
func newWays(s *site) ways {
	s.t.Helper()
	s.run("client", "create", "labels-gateway-by-certificate", "--introspects", resource, "--auth-method", "tls_client_auth", "--tls-san-dns", gatewayName)
	s.register("tracking-gateway", "--introspects", otherResource)
	dir, err := os.MkdirTemp("", "gw") // short: a socket's path has at most 104 bytes
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := ways{mutualTLS: freeport.Address(s.t), socket: filepath.Join(dir, "labels.sock"), another: filepath.Join(dir, "tracking.sock")}
	a := newAuthority(s.t, dir)
	serverCert, serverKey := a.issue(s.t, "server", "authz.carrier.test")
	own, key := a.issue(s.t, "gateway", gatewayName)
	w.known = Certificates{a.file, own, key}
	own, key = a.issue(s.t, "stranger", strangersName)
	w.stranger = Certificates{a.file, own, key}
	w.server = []string{
		"AUTHZ_GATEWAY_SOCKETS=" + s.asGateway.id + "=" + w.socket + ",tracking-gateway=" + w.another,
		"AUTHZ_GATEWAY_LISTEN=" + w.mutualTLS, "AUTHZ_GATEWAY_CLIENT_CA_FILE=" + a.file,
		"AUTHZ_GATEWAY_TLS_CERT_FILE=" + serverCert, "AUTHZ_GATEWAY_TLS_KEY_FILE=" + serverKey,
	}
	return w
}

// asAnother is where a gateway is that has to be refused, whichever way it takes.
func (s *site) asAnother(at At) At {
	at.Secret, at.Socket, at.Certificates = "azs_wrong", s.ways.another, s.ways.stranger
	return at
}

// authority issues certificates, for a day.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir, key: newECKey(t)}
	a.cert = template("authority")
	a.cert.IsCA, a.cert.BasicConstraintsValid, a.cert.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, filepath.Join(dir, "authority.pem"), "CERTIFICATE", der)
	return a
}

// issue writes a certificate for a name, at 127.0.0.1, and its key.
func (a *authority) issue(t testing.TB, file, name string) (certFile, keyFile string) {
	t.Helper()
	key := newECKey(t)
	cert := template(name)
	cert.DNSNames, cert.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, filepath.Join(a.dir, file+".pem"), "CERTIFICATE", der), writePEM(t, filepath.Join(a.dir, file+"-key.pem"), "PRIVATE KEY", raw)
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	t.Helper()
	WriteFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	return path
}
