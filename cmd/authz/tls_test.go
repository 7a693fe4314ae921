package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// certificateFiles is a certificate and its key on disk.
type certificateFiles struct{ cert, key string }

// write makes a new certificate with this serial number and puts it there. The
// files get the time given, since two that are written at once may share one.
func (f certificateFiles) write(t *testing.T, serial int64, at time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), at)
	f.put(t, f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), at)
}

func (f certificateFiles) put(t *testing.T, path string, text []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func newCertificateFiles(t *testing.T) certificateFiles {
	dir := t.TempDir()
	return certificateFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

// handshake returns the serial number that the server at address shows.
func handshake(address string, maxVersion uint16) (int64, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, &tls.Config{
		InsecureSkipVerify: true, // the serial number is what is looked at
		MinVersion:         tls.VersionTLS12, MaxVersion: maxVersion,
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// serveTLS accepts connections until the test ends.
func serveTLS(t *testing.T, files certificateFiles) (address string, log *output) {
	t.Helper()
	log = &output{}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tlsListener(plain, files.cert, files.key, tls.NoClientCert, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.(*tls.Conn).Handshake()
				conn.Close()
			}()
		}
	}()
	return l.Addr().String(), log
}

func TestTLS13IsServedAndTLS12IsRefused(t *testing.T) {
	t.Parallel()
	files := newCertificateFiles(t)
	files.write(t, 1, time.Now())
	address, _ := serveTLS(t, files)
	if serial, err := handshake(address, tls.VersionTLS13); err != nil || serial != 1 {
		t.Errorf("TLS 1.3: certificate %d, %v", serial, err)
	}
	if _, err := handshake(address, tls.VersionTLS12); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v, want a refusal of the version", err)
	}
}

func TestCertificateIsReadAgainWhenItsFileChanges(t *testing.T) {
	t.Parallel()
	files, now := newCertificateFiles(t), time.Now()
	files.write(t, 1, now.Add(-3*time.Hour))
	address, log := serveTLS(t, files)
	shows := func(when string, want int64) {
		t.Helper()
		if serial, err := handshake(address, tls.VersionTLS13); err != nil || serial != want {
			t.Errorf("%s: certificate %d, %v; want %d", when, serial, err, want)
		}
	}
	shows("at first", 1)
	files.write(t, 2, now.Add(-2*time.Hour))
	shows("once renewed", 2)

	good, err := os.ReadFile(files.cert)
	if err != nil {
		t.Fatal(err)
	}
	files.put(t, files.cert, []byte("half a certifi"), now.Add(-time.Hour))
	shows("while a bad one lies there", 2)
	shows("while a bad one lies there", 2)
	if n := strings.Count(log.String(), "cannot be read again"); n != 1 {
		t.Errorf("the failure is logged %d times:\n%s", n, log)
	}
	if err := os.Remove(files.cert); err != nil {
		t.Fatal(err)
	}
	shows("while there is none", 2)
	files.put(t, files.cert, good, now.Add(-time.Hour))
	shows("once put back", 2)
	files.write(t, 3, now)
	shows("once renewed again", 3)
}

func TestBadCertificateStopsTheStart(t *testing.T) {
	t.Parallel()
	one, other := newCertificateFiles(t), newCertificateFiles(t)
	one.write(t, 1, time.Now())
	other.write(t, 2, time.Now())
	for name, files := range map[string]certificateFiles{
		"no file":        {filepath.Join(t.TempDir(), "none"), one.key},
		"no certificate": {one.key, one.key},
		"another's key":  {one.cert, other.key},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, err = tlsListener(plain, files.cert, files.key, tls.NoClientCert, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), "AUTHZ_TLS_CERT_FILE") {
				t.Errorf("%v, want an error that names the variable", err)
			}
			if key, _ := os.ReadFile(files.key); err != nil && bytes.Contains(key, []byte(err.Error())) {
				t.Error("the key is in the error")
			}
			if _, err := plain.Accept(); err == nil {
				t.Error("the listener is left open")
			}
		})
	}
}

func TestServeSpeaksTLS13AloneAndTakesARenewedCertificate(t *testing.T) {
	t.Parallel()
	s, files := newSite(t), newCertificateFiles(t)
	files.write(t, 1, time.Now().Add(-time.Hour))
	s.server = append(s.server, "AUTHZ_TLS_CERT_FILE="+files.cert, "AUTHZ_TLS_KEY_FILE="+files.key)
	i := s.start(t)
	if serial, err := handshake(i.address, tls.VersionTLS13); err != nil || serial != 1 {
		t.Errorf("TLS 1.3: certificate %d, %v", serial, err)
	}
	if _, err := handshake(i.address, tls.VersionTLS12); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	files.write(t, 2, time.Now())
	if serial, err := handshake(i.address, tls.VersionTLS13); err != nil || serial != 2 {
		t.Errorf("once renewed: certificate %d, %v", serial, err)
	}
	key, err := os.ReadFile(files.key)
	if err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, string(key), strings.Split(string(key), "\n")[1])
	s.checkSilence(t)
}

// Some systems give all files one time, and a file can be written over in place.
func TestFileIsReadAgainThoughItLooksTheSame(t *testing.T) {
	t.Parallel()
	one, two := certtest.NewAuthority(t, "a"), certtest.NewAuthority(t, "b")
	file, at := filepath.Join(t.TempDir(), "authorities.pem"), time.Unix(1, 0)
	// put writes over what is there, at the same time and of the same size if need be.
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(file, append(text, bytes.Repeat([]byte("\n"), 4096-len(text))...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	log, now := &output{}, time.Now()
	r := newAuthorities(file, slog.New(slog.NewTextHandler(log, nil)))
	r.now = func() time.Time { return now }
	holds := func(when string, want *certtest.Authority) {
		t.Helper()
		if a, err := r.get(); err != nil || !a.pool.Equal(want.Pool()) {
			t.Errorf("%s: it holds others, %v", when, err)
		}
	}
	put(one.PEM())
	holds("at first", one)
	put(two.PEM())
	now = now.Add(rereadAge)
	holds("a minute after it was written over", two)
	now = now.Add(-time.Hour)
	put(one.PEM())
	holds("once the clock was put back", one)
	if n := strings.Count(log.String(), "read again"); n != 2 {
		t.Errorf("it was read again %d times:\n%s", n, log)
	}
	now = now.Add(rereadAge)
	holds("a minute later, unchanged", one)
	if n := strings.Count(log.String(), "read again"); n != 2 {
		t.Errorf("unchanged, it was read again:\n%s", log)
	}
	// Another size, at once; another file of that size and time, at once.
	text := append(two.PEM(), bytes.Repeat([]byte("\n"), 5000)...)
	for when, write := range map[string]func(){
		"another size": func() { os.WriteFile(file, text, 0o600); os.Chtimes(file, at, at) },
		"another file": func() {
			other := file + ".new"
			os.Rename(file, other)
			put(two.PEM())
		},
	} {
		put(one.PEM())
		now = now.Add(rereadAge)
		holds("before "+when, one)
		write()
		holds(when, two)
	}
}
