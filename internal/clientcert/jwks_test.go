package clientcert_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

func pemOf(certificates ...certtest.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw})...)
	}
	return text
}

func TestCertificatesAreRegisteredByTheirPEM(t *testing.T) {
	own, other := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	renewed := certtest.SelfSigned(t, x509.Certificate{PublicKey: own.Key})
	jwks, err := clientcert.JWKs(pemOf(own, other))
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(map[string]any{"keys": jwks})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := clientassertion.RegistrableCertificateKeys(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []certtest.Certificate{own, other} {
		if _, err := clientcert.KeyIn(keys, c.Leaf); err != nil {
			t.Error(err)
		}
	}
	if _, err := clientcert.KeyIn(keys, renewed.Leaf); err == nil {
		t.Error("another certificate of the same key is taken for the one that is registered")
	}
}

func TestWhatIsNoCertificateIsNotRegistered(t *testing.T) {
	good := pemOf(certtest.SelfSigned(t, x509.Certificate{}))
	for name, text := range map[string][]byte{
		"a private key":              []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"a certificate and a key":    slices.Concat(good, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
		"a certificate of nothing":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"text":                       []byte("-----BEGIN"),
		"text after the certificate": slices.Concat(good, []byte("text")),
	} {
		if keys, err := clientcert.JWKs(text); err == nil {
			t.Errorf("%s: %s", name, keys)
		}
	}
}
