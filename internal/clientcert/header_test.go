package clientcert_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// escapedPEM is what nginx has in $ssl_client_escaped_cert.
func escapedPEM(c certtest.Certificate) string {
	return strings.ReplaceAll(url.QueryEscape(string(c.PEM())), "+", "%20")
}

func TestOneCertificateIsReadFromItsHeader(t *testing.T) {
	t.Parallel()
	root := certtest.NewAuthority(t, "root")
	one := root.Intermediate(t, "one")
	two := one.Intermediate(t, "two")
	leaf := two.Issue(t, x509.Certificate{})
	chain := []string{certtest.Field(two.Leaf), certtest.Field(one.Leaf)}
	for name, row := range map[string]struct {
		header http.Header
		chain  int
	}{
		"a byte sequence":           {http.Header{"Client-Cert": {leaf.Field()}}, 0},
		"URL-encoded PEM":           {http.Header{"Client-Cert": {escapedPEM(leaf)}}, 0},
		"PEM, with little escaped":  {http.Header{"Client-Cert": {strings.ReplaceAll(string(leaf.PEM()), "\n", "%0A")}}, 0},
		"a chain":                   {http.Header{"Client-Cert": {leaf.Field()}, "Client-Cert-Chain": {chain[0] + ", " + chain[1]}}, 2},
		"a chain of two lines":      {http.Header{"Client-Cert": {leaf.Field()}, "Client-Cert-Chain": chain}, 2},
		"an empty chain":            {http.Header{"Client-Cert": {leaf.Field()}, "Client-Cert-Chain": {""}}, 0},
		"a chain with a tab and so": {http.Header{"Client-Cert": {leaf.Field()}, "Client-Cert-Chain": {chain[0] + " \t,\t" + chain[1] + " "}}, 2},
	} {
		p, err := clientcert.FromHeader(row.header)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !p.Leaf.Equal(leaf.Leaf) || len(p.Intermediates) != row.chain {
			t.Errorf("%s: another certificate, or %d intermediates", name, len(p.Intermediates))
		}
	}
	for _, none := range []http.Header{{}, {"Client-Cert": {""}}, {"Client-Cert": {"::"}}, {"Client-Cert": {"::"}, "Client-Cert-Chain": {""}}} {
		if _, err := clientcert.FromHeader(none); !errors.Is(err, clientcert.ErrNone) {
			t.Errorf("%q: %v, want ErrNone", none, err)
		}
	}
}

func TestHeaderThatIsNotOneCertificateIsRefused(t *testing.T) {
	t.Parallel()
	leaf, other := certtest.SelfSigned(t, x509.Certificate{}), certtest.SelfSigned(t, x509.Certificate{})
	encode := func(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
	good, der := leaf.Field(), leaf.Leaf.Raw
	pad := append(bytes.Clone(der), 0)
	block := func(b *pem.Block) string { return url.PathEscape(string(pem.EncodeToMemory(b))) }
	for name, values := range map[string][]string{
		"two headers":                    {good, good},
		"an empty one before it":         {"", good},
		"two in one":                     {good + ", " + good},
		"a space before":                 {" " + good},
		"a space after":                  {good + " "},
		"parameters":                     {good + ";q=1"},
		"no colon before":                {good[1:]},
		"no colon after":                 {good[:len(good)-1]},
		"one colon":                      {":"},
		"three colons":                   {":::"},
		"not base64":                     {":%%:"},
		"URL-safe base64":                {":" + base64.URLEncoding.EncodeToString(append([]byte{0xfb, 0xff, 0xfe}, der...)) + ":"},
		"no padding":                     {":" + base64.RawStdEncoding.EncodeToString(pad[:len(pad)/3*3+1-3]) + ":"},
		"bits after the padding":         {":QR==:"},
		"a line break in it":             {good[:20] + "\n" + good[20:]},
		"nothing but bytes":              {encode([]byte("certificate"))},
		"half a certificate":             {encode(der[:len(der)/2])},
		"a byte after it":                {encode(pad)},
		"two certificates' DER":          {encode(append(bytes.Clone(der), other.Leaf.Raw...))},
		"PEM in base64":                  {encode(leaf.PEM())},
		"a quoted string":                {`"` + good + `"`},
		"too long":                       {":" + strings.Repeat("AAAA", 5000) + ":"},
		"PEM of two":                     {escapedPEM(leaf) + escapedPEM(other)},
		"PEM of two, the first broken":   {url.PathEscape("-----BEGIN CERTIFICATE-----\n%\n" + string(leaf.PEM()))},
		"PEM after text":                 {"x" + escapedPEM(leaf)},
		"PEM before text":                {escapedPEM(leaf) + "x"},
		"PEM with headers":               {block(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: der})},
		"PEM of a key":                   {url.PathEscape(string(leaf.KeyPEM(t)))},
		"PEM of a trusted certificate":   {block(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: der})},
		"PEM of half":                    {block(&pem.Block{Type: "CERTIFICATE", Bytes: der[:len(der)/2]})},
		"PEM of one with a byte after":   {block(&pem.Block{Type: "CERTIFICATE", Bytes: pad})},
		"PEM with a bad escape":          {escapedPEM(leaf) + "%zz"},
		"PEM without an end":             {escapedPEM(leaf)[:200]},
		"X-Forwarded-Client-Cert's form": {`Cert="` + escapedPEM(leaf) + `"`},
	} {
		if p, err := clientcert.FromHeader(http.Header{"Client-Cert": values}); err == nil || errors.Is(err, clientcert.ErrNone) {
			t.Errorf("%s: %v, %v", name, p, err)
		} else if strings.Contains(err.Error(), good[1:30]) {
			t.Errorf("%s: the error quotes it: %v", name, err)
		}
	}
	for name, chain := range map[string][]string{
		"not a certificate":    {encode([]byte("x"))},
		"an empty item":        {good + ",," + good},
		"an empty byte string": {"::"},
		"PEM":                  {escapedPEM(leaf)},
		"parameters":           {good + ";a"},
		"an inner list":        {"(" + good + ")"},
		"four":                 {strings.Repeat(good+",", 3) + good},
		"four lines":           {good, good, good, good},
		"too long":             {":" + strings.Repeat("AAAA", 5000) + ":"},
	} {
		if _, err := clientcert.FromHeader(http.Header{"Client-Cert": {good}, "Client-Cert-Chain": chain}); err == nil {
			t.Errorf("chain, %s: accepted", name)
		}
	}
	if _, err := clientcert.FromHeader(http.Header{"Client-Cert-Chain": {good}}); err == nil || errors.Is(err, clientcert.ErrNone) {
		t.Errorf("a chain alone: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	leaf := certtest.SelfSigned(f, x509.Certificate{})
	f.Add(leaf.Field(), "")
	f.Add(escapedPEM(leaf), leaf.Field())
	f.Add("::", "::")
	f.Fuzz(func(t *testing.T, value, chain string) {
		p, err := clientcert.FromHeader(http.Header{"Client-Cert": {value}, "Client-Cert-Chain": {chain}})
		if err != nil {
			return
		}
		again, err := clientcert.FromHeader(http.Header{"Client-Cert": {certtest.Field(p.Leaf)}})
		if err != nil || !again.Leaf.Equal(p.Leaf) {
			t.Errorf("what was read is not read again: %v", err)
		}
		// What a hostile certificate says must only not break anything.
		clientcert.NamesOf(p.Leaf)
		p.Verify(x509.NewCertPool(), p.Leaf.NotBefore)
	})
}
