// Package certtest makes certificates for tests: real ones, of authorities that
// nobody knows.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority is a certificate that issues others.
type Authority struct{ Certificate }

// Certificate is one with its private key, and those that lead from it to its root.
type Certificate struct {
	Leaf  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate // without the root
}

// NewAuthority makes a root of this name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	return &Authority{newCertificate(t, authorityTemplate(name), nil)}
}

// Intermediate makes an authority under a.
func (a *Authority) Intermediate(t testing.TB, name string) *Authority {
	t.Helper()
	return &Authority{newCertificate(t, authorityTemplate(name), a)}
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Leaf)
	return pool
}

// Issue makes a certificate for a client from a template, which may be empty:
// what is not said is filled in.
func (a *Authority) Issue(t testing.TB, template x509.Certificate) Certificate {
	t.Helper()
	return newCertificate(t, forClients(template), a)
}

// SelfSigned makes a certificate that no authority knows.
func SelfSigned(t testing.TB, template x509.Certificate) Certificate {
	t.Helper()
	return newCertificate(t, forClients(template), nil)
}

func forClients(template x509.Certificate) *x509.Certificate {
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	return &template
}

// newCertificate fills in what all certificates have; without a parent it is self-signed.
// A template's PublicKey, if it is a crypto.Signer, is the key to use.
func newCertificate(t testing.TB, template *x509.Certificate, parent *Authority) Certificate {
	t.Helper()
	key, ok := template.PublicKey.(crypto.Signer)
	if !ok {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.PublicKey = serial, nil
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	issuer, by := template, key
	if parent != nil {
		issuer, by = parent.Leaf, parent.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := Certificate{Leaf: leaf, Key: key}
	if parent != nil && parent.Chain != nil {
		c.Chain = append(c.Chain, parent.Chain...)
	}
	if template.IsCA && parent != nil {
		c.Chain = append([]*x509.Certificate{leaf}, c.Chain...)
	}
	return c
}

// TLS is the certificate for a tls.Config, with its chain.
func (c Certificate) TLS() tls.Certificate {
	out := tls.Certificate{Certificate: [][]byte{c.Leaf.Raw}, PrivateKey: c.Key}
	for _, i := range c.Chain {
		out.Certificate = append(out.Certificate, i.Raw)
	}
	return out
}

// Field is the certificate as RFC 9440's Client-Cert has it.
func (c Certificate) Field() string { return Field(c.Leaf) }

// Field is a certificate as a byte sequence (RFC 9440 §2.1).
func Field(c *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"
}

// PEM is the certificate as PEM.
func (c Certificate) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw})
}

// KeyPEM is its private key as PEM.
func (c Certificate) KeyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
