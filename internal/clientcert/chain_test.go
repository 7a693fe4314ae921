package clientcert_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

func TestKeysAreStrongEnoughAndQuickToVerifyBy(t *testing.T) {
	t.Parallel()
	modulus := func(bits uint) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bits-1), big.NewInt(1))
	}
	curve := func(c elliptic.Curve) crypto.PublicKey {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		key crypto.PublicKey
		ok  bool
	}{
		"RSA 1024":                {&rsa.PublicKey{N: modulus(1024), E: 65537}, false},
		"RSA 2047":                {&rsa.PublicKey{N: modulus(2047), E: 65537}, false},
		"RSA 2048":                {&rsa.PublicKey{N: modulus(2048), E: 65537}, true},
		"RSA 4096":                {&rsa.PublicKey{N: modulus(4096), E: 65537}, true},
		"RSA 4097":                {&rsa.PublicKey{N: modulus(4097), E: 65537}, false},
		"RSA 8192":                {&rsa.PublicKey{N: modulus(8192), E: 65537}, false},
		"RSA of a short exponent": {&rsa.PublicKey{N: modulus(2048), E: 3}, false},
		"RSA of a long exponent":  {&rsa.PublicKey{N: modulus(2048), E: 1<<31 - 1}, false},
		"P-224":                   {curve(elliptic.P224()), false},
		"P-256":                   {curve(elliptic.P256()), true},
		"P-384":                   {curve(elliptic.P384()), true},
		"P-521":                   {curve(elliptic.P521()), true},
		"Ed25519":                 {ed, true},
		"none that is known":      {nil, false},
	} {
		if err := clientcert.CheckKey(&x509.Certificate{PublicKey: row.key}); (err == nil) != row.ok || err != nil && !errors.Is(err, clientcert.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stranger's certificates cost as little as their number allows: what would take
// long is refused for its form, and the rest ends at the first signature.
func TestStrangersChainIsNotSearched(t *testing.T) {
	t.Parallel()
	now, root, mine := time.Now(), certtest.NewAuthority(t, "root"), certtest.NewAuthority(t, "mine")
	const form, key, authority = "each the issuer", "has a key", "known authority (x509.UnknownAuthorityError)"
	slow := func(c *x509.Certificate) *x509.Certificate { // takes long to verify by
		changed := *c
		changed.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8191), E: 1<<31 - 1}
		return &changed
	}
	// All have one name and one key, and so each would be the issuer of each.
	alike := []*x509.Certificate{mine.Leaf}
	for range 4 {
		c := mine.Issue(t, x509.Certificate{Subject: mine.Leaf.Subject, PublicKey: mine.Key, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
		alike = append(alike, c.Leaf)
	}
	one := mine.Intermediate(t, "one")
	two := one.Intermediate(t, "two")
	for name, row := range map[string]struct {
		leaf  certtest.Certificate
		chain []*x509.Certificate
		want  string
	}{
		"five alike":                {mine.Issue(t, x509.Certificate{}), alike, "more than 3"},
		"two alike":                 {mine.Issue(t, x509.Certificate{}), alike[1:3], form},
		"a slow key":                {one.Issue(t, x509.Certificate{}), []*x509.Certificate{slow(one.Leaf)}, key},
		"a slow key in the leaf":    {certtest.Certificate{Leaf: slow(mine.Leaf)}, nil, key},
		"a line of their own":       {two.Issue(t, x509.Certificate{}), two.Chain, authority},
		"a line up to their root":   {two.Issue(t, x509.Certificate{}), append(two.Chain[:2:2], mine.Leaf), authority},
		"a line to a known one":     {two.Issue(t, x509.Certificate{}), append(two.Chain[:2:2], root.Leaf), form},
		"a leaf below a known name": {certtest.NewAuthority(t, "root").Issue(t, x509.Certificate{}), nil, authority},
	} {
		p := clientcert.Presented{Leaf: row.leaf.Leaf, Intermediates: row.chain}
		if _, err := p.Verify(root.Pool(), now); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

// constrained is an authority that may give out names below one: a general name
// (RFC 5280 §4.2.1.6) as DER.
func constrained(t *testing.T, by *certtest.Authority, critical bool, name asn1.RawValue) *certtest.Authority {
	t.Helper()
	value, err := asn1.Marshal(struct {
		Permitted [][]asn1.RawValue `asn1:"tag:0"`
	}{[][]asn1.RawValue{{name}}})
	if err != nil {
		t.Fatal(err)
	}
	c := by.Issue(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "team a"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: critical, Value: value}},
	})
	c.Chain = []*x509.Certificate{c.Leaf}
	return &certtest.Authority{Certificate: c}
}

func TestAuthorityIsHeldToItsConstraintsOrNotTaken(t *testing.T) {
	t.Parallel()
	root := certtest.NewAuthority(t, "clients")
	directory, err := asn1.Marshal(pkix.Name{Organization: []string{"Team A"}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	context := func(tag int, bytes []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: bytes}
	}
	directoryName := context(4, directory)
	directoryName.IsCompound = true
	for name, row := range map[string]struct {
		constraint asn1.RawValue
		leaf       x509.Certificate
		ok         bool
	}{
		"DNS":                {context(2, []byte("a.test")), x509.Certificate{DNSNames: []string{"x.a.test"}}, true},
		"another DNS name":   {context(2, []byte("a.test")), x509.Certificate{DNSNames: []string{"x.b.test"}}, false},
		"IP":                 {context(7, []byte{192, 0, 2, 0, 255, 255, 255, 0}), x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}}, true},
		"a directory's name": {directoryName, x509.Certificate{Subject: pkix.Name{CommonName: "gateway", Organization: []string{"Team B"}}}, false},
		"a name of the same": {directoryName, x509.Certificate{Subject: pkix.Name{CommonName: "a", Organization: []string{"Team A"}}}, false},
		"a registered ID":    {context(8, []byte{42, 3}), x509.Certificate{}, false},
	} {
		for _, critical := range []bool{true, false} {
			team := constrained(t, root, critical, row.constraint)
			p := clientcert.Presented{Leaf: team.Issue(t, row.leaf).Leaf, Intermediates: team.Chain}
			v, err := p.Verify(root.Pool(), time.Now())
			if (err == nil) != row.ok || v.NamesConstrained != row.ok {
				t.Errorf("%s, critical %t: %+v, %v", name, critical, v, err)
			}
			// The same as the known authority itself.
			p.Intermediates = nil
			if v, err := p.Verify(team.Pool(), time.Now()); (err == nil) != row.ok || v.NamesConstrained != row.ok {
				t.Errorf("%s, critical %t, of the known authority: %+v, %v", name, critical, v, err)
			}
		}
	}
}
