package clientcert_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
	"github.com/cargokey/authz/internal/strictjose"
)

func TestCertificateIsVerifiedForClientsAtItsTime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root, stranger, namesake := certtest.NewAuthority(t, "root"), certtest.NewAuthority(t, "stranger"), certtest.NewAuthority(t, "root")
	between := root.Intermediate(t, "between")
	notAuthority := root.Issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}})
	below := (&certtest.Authority{Certificate: notAuthority}).Issue(t, x509.Certificate{})
	usages := func(u ...x509.ExtKeyUsage) x509.Certificate {
		return x509.Certificate{ExtKeyUsage: u}
	}
	below3 := root
	for i := range 3 {
		below3 = below3.Intermediate(t, fmt.Sprintf("below %d", i))
	}
	renewed := root.Intermediate(t, "between")
	self := between.Intermediate(t, "between")
	good := root.Issue(t, x509.Certificate{})
	for name, row := range map[string]struct {
		certificate   certtest.Certificate
		intermediates []*x509.Certificate
		at            time.Time
		ok            bool
	}{
		"good":                                          {good, nil, now, true},
		"good, with what is not needed":                 {good, []*x509.Certificate{stranger.Leaf, between.Leaf}, now, false},
		"good, with its root":                           {good, []*x509.Certificate{root.Leaf}, now, true},
		"by an intermediate, with the root":             {between.Issue(t, x509.Certificate{}), []*x509.Certificate{between.Leaf, root.Leaf}, now, true},
		"by an intermediate, the wrong way round":       {between.Issue(t, x509.Certificate{}), []*x509.Certificate{root.Leaf, between.Leaf}, now, false},
		"by an intermediate, and another like it":       {between.Issue(t, x509.Certificate{}), []*x509.Certificate{between.Leaf, renewed.Leaf}, now, false},
		"by an intermediate of its issuer's name":       {self.Issue(t, x509.Certificate{}), []*x509.Certificate{self.Leaf, between.Leaf}, now, false},
		"by an intermediate of another key":             {between.Issue(t, x509.Certificate{}), []*x509.Certificate{renewed.Leaf}, now, false},
		"by the third of three":                         {below3.Issue(t, x509.Certificate{}), below3.Chain, now, true},
		"by the third of three, with the root":          {below3.Issue(t, x509.Certificate{}), append(slices.Clone(below3.Chain), root.Leaf), now, false},
		"for servers too":                               {root.Issue(t, usages(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)), nil, now, true},
		"by an intermediate":                            {between.Issue(t, x509.Certificate{}), []*x509.Certificate{between.Leaf}, now, true},
		"without its intermediate":                      {between.Issue(t, x509.Certificate{}), nil, now, false},
		"for servers only":                              {root.Issue(t, usages(x509.ExtKeyUsageServerAuth)), nil, now, false},
		"for anything":                                  {root.Issue(t, usages(x509.ExtKeyUsageAny)), nil, now, false},
		"without a usage":                               {root.Issue(t, usages([]x509.ExtKeyUsage{}...)), nil, now, false},
		"the authority itself":                          {root.Certificate, nil, now, false},
		"an intermediate":                               {between.Certificate, nil, now, false},
		"another authority's":                           {stranger.Issue(t, x509.Certificate{}), nil, now, false},
		"another authority's, which comes with it":      {stranger.Issue(t, x509.Certificate{}), []*x509.Certificate{stranger.Leaf}, now, false},
		"another's of the same name":                    {namesake.Issue(t, x509.Certificate{}), nil, now, false},
		"another's of the same name, which comes along": {namesake.Issue(t, x509.Certificate{}), []*x509.Certificate{namesake.Leaf}, now, false},
		"self-signed":                                   {certtest.SelfSigned(t, x509.Certificate{}), nil, now, false},
		"by one that is no authority":                   {below, []*x509.Certificate{notAuthority.Leaf}, now, false},
		"before its time":                               {good, nil, good.Leaf.NotBefore.Add(-time.Second), false},
		"at its first second":                           {good, nil, good.Leaf.NotBefore, true},
		"at its last second":                            {good, nil, good.Leaf.NotAfter, true},
		"after its time":                                {good, nil, good.Leaf.NotAfter.Add(time.Second), false},
		"in its time, past its root's":                  {root.Issue(t, x509.Certificate{NotAfter: now.Add(3 * time.Hour)}), nil, now.Add(2 * time.Hour), false},
	} {
		p := clientcert.Presented{Leaf: row.certificate.Leaf, Intermediates: row.intermediates}
		if _, err := p.Verify(root.Pool(), row.at); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whose it is comes before what it is for.
	for name, row := range map[string]struct {
		certificate certtest.Certificate
		want        string
	}{
		"self-signed, for nothing that it says": {certtest.SelfSigned(t, usages([]x509.ExtKeyUsage{}...)), "known authority"},
		"another authority's, for servers only": {stranger.Issue(t, usages(x509.ExtKeyUsageServerAuth)), "known authority"},
		"for servers only":                      {root.Issue(t, usages(x509.ExtKeyUsageServerAuth)), "lacks clientAuth"},
		"for anything":                          {root.Issue(t, usages(x509.ExtKeyUsageAny)), "lacks clientAuth"},
		"without a usage":                       {root.Issue(t, usages([]x509.ExtKeyUsage{}...)), "lacks clientAuth"},
	} {
		p := clientcert.Presented{Leaf: row.certificate.Leaf}
		if _, err := p.Verify(root.Pool(), now); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	p := clientcert.Presented{Leaf: good.Leaf}
	if _, err := p.Verify(nil, now); err == nil {
		t.Error("without authorities: verified")
	}
	if _, err := p.Verify(x509.NewCertPool(), now); err == nil {
		t.Error("by no authority: verified")
	}
}

func TestNamesAreReadAsTheyAreRegistered(t *testing.T) {
	t.Parallel()
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	c := certtest.SelfSigned(t, x509.Certificate{
		DNSNames: []string{"Labels.Example.com", "*.example.com"}, EmailAddresses: []string{"Labels@Example.COM"},
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7), net.ParseIP("2001:DB8:0::7")},
		URIs:        []*url.URL{uri("spiffe://example.com/labels"), uri("spiffe://example.com/a%2Fb")},
	})
	got, err := clientcert.NamesOf(c.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2][]string{
		"DNS":    {got.DNS, {"labels.example.com", "*.example.com"}},
		"URIs":   {got.URIs, {"spiffe://example.com/labels", "spiffe://example.com/a%2Fb"}},
		"IPs":    {got.IPs, {"192.0.2.7", "2001:db8::7"}},
		"Emails": {got.Emails, {"Labels@example.com"}},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %q, want %q", what, pair[0], pair[1])
		}
	}
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:DB8::0:7": "2001:db8::7", "::ffff:192.0.2.7": "::ffff:192.0.2.7",
		"192.0.2.07": "", "192.0.2.7/32": "", "fe80::1%eth0": "", "": "", "localhost": "",
	} {
		if got, err := clientcert.NormalIP(text); got != want || (err == nil) != (want != "") {
			t.Errorf("IP %q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"A@B.Example": "A@b.example", "": "", "a": "", "@b": "", "a@": "", "a b@c": "", "ä@b": "", "a@b\n": "",
	} {
		if got, err := clientcert.NormalEmail(text); got != want || (err == nil) != (want != "") {
			t.Errorf("email %q: %q, %v", text, got, err)
		}
	}
}

func TestCertificateIsFoundAmongTheKeysOfItsClient(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// Another certificate with the key of the first one.
	renewed := func(c certtest.Certificate) certtest.Certificate {
		return certtest.SelfSigned(t, x509.Certificate{PublicKey: c.Key})
	}
	for name, c := range map[string]certtest.Certificate{
		"EC": certtest.SelfSigned(t, x509.Certificate{}), "RSA": certtest.SelfSigned(t, x509.Certificate{PublicKey: rsaKey}),
		"Ed25519": certtest.SelfSigned(t, x509.Certificate{PublicKey: ed}),
	} {
		other := certtest.SelfSigned(t, x509.Certificate{})
		jwk := jose.JSONWebKey{Key: c.Leaf.PublicKey}
		withCert, withOther, enc := jwk, jwk, jwk
		withCert.Certificates, withOther.Certificates = []*x509.Certificate{c.Leaf}, []*x509.Certificate{renewed(c).Leaf}
		enc.Use = "enc"
		private := jose.JSONWebKey{Key: c.Key}
		others := jose.JSONWebKey{Key: other.Leaf.PublicKey}
		for what, row := range map[string]struct {
			keys []jose.JSONWebKey
			ok   bool
		}{
			"its key":                          {[]jose.JSONWebKey{jwk}, true},
			"among others":                     {[]jose.JSONWebKey{others, jwk}, true},
			"with itself":                      {[]jose.JSONWebKey{withCert}, true},
			"with an earlier certificate":      {[]jose.JSONWebKey{withOther}, false},
			"with an earlier one, and itself":  {[]jose.JSONWebKey{withOther, withCert}, true},
			"with an earlier one, and without": {[]jose.JSONWebKey{withOther, jwk}, true},
			"another's":                        {[]jose.JSONWebKey{others}, false},
			"for encryption":                   {[]jose.JSONWebKey{enc}, false},
			"a private key":                    {[]jose.JSONWebKey{private}, false},
			"none":                             {[]jose.JSONWebKey{}, false},
		} {
			set, err := json.Marshal(jose.JSONWebKeySet{Keys: row.keys})
			if err != nil {
				t.Fatal(err)
			}
			got, err := keyIn(t, set, c.Leaf)
			if row.ok {
				if want, _ := jwk.Thumbprint(crypto.SHA256); err != nil || got != base64.RawURLEncoding.EncodeToString(want) {
					t.Errorf("%s, %s: %q, %v", name, what, got, err)
				}
				continue
			}
			if !errors.Is(err, clientcert.ErrNotInSet) {
				t.Errorf("%s, %s: %q, %v", name, what, got, err)
			}
		}
	}
	c := certtest.SelfSigned(t, x509.Certificate{})
	key, err := jose.JSONWebKey{Key: c.Leaf.PublicKey}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, x5c := range []string{`[]`, `null`, `""`, `[""]`, `["%"]`, `[1]`, `{}`, `["` + base64.RawURLEncoding.EncodeToString(c.Leaf.Raw) + `"]`} {
		set := `{"keys":[` + string(key[:len(key)-1]) + `,"x5c":` + x5c + `}]}`
		if got, err := keyIn(t, []byte(set), c.Leaf); !errors.Is(err, clientcert.ErrNotInSet) {
			t.Errorf("x5c %s: %q, %v", x5c, got, err)
		}
	}
}

func keyIn(t *testing.T, set []byte, c *x509.Certificate) (string, error) {
	t.Helper()
	keys, _, err := strictjose.ParseKeySet(set, 10)
	if err != nil {
		t.Fatal(err)
	}
	return clientcert.KeyIn(keys, c)
}

// A renewed certificate with the same key is another one.
func TestThumbprintIsOfTheWholeCertificate(t *testing.T) {
	t.Parallel()
	one := certtest.SelfSigned(t, x509.Certificate{})
	two := certtest.SelfSigned(t, x509.Certificate{PublicKey: one.Key})
	if a := clientcert.Thumbprint(one.Leaf); len(a) != 43 || a == clientcert.Thumbprint(two.Leaf) {
		t.Errorf("%q, and another certificate with the key has %q", a, clientcert.Thumbprint(two.Leaf))
	}
}
