package authz

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParametersAreReadStrictly(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       url.Values // nil: refused
	}{
		{"nothing", "", url.Values{}},
		{"one", "a=1", url.Values{"a": {"1"}}},
		{"encoded", "a=%20%2B+x", url.Values{"a": {" + x"}}},
		{"an encoded name", "%61=1", url.Values{"a": {"1"}}},
		{"a value with an equals sign", "a=b=c", url.Values{"a": {"b=c"}}},
		{"without a value: left out", "a=&b&c=1", url.Values{"c": {"1"}}},
		{"empty pairs", "&&a=1&", url.Values{"a": {"1"}}},
		{"a semicolon is no separator", "a=1;b=2", url.Values{"a": {"1;b=2"}}},
		{"twice", "a=1&a=2", nil},
		{"twice the same", "a=1&a=1", nil},
		{"twice, once without a value", "a=1&a=", nil},
		{"twice, once encoded", "a=1&%61=1", nil},
		{"bad encoding of a value", "a=%", nil},
		{"bad encoding of a name", "%x=1", nil},
		{"too many", strings.Repeat("x", 1) + manyPairs(maxParameters), nil},
	} {
		got, err := parseParameters(c.body)
		if (err != nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		} else if diff := cmp.Diff(c.want, got); c.want != nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func manyPairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + strings.Repeat("p", i) + "=1")
	}
	return b.String()
}

// FuzzParameters holds that whatever is accepted is what net/url reads too, and
// has no name twice.
func FuzzParameters(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2", "a=%zz", "a=1&%61=2", "a;b=1", "grant_type=client_credentials&scope=CXS"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseParameters(body)
		if err != nil {
			return
		}
		if strings.Contains(body, ";") {
			return // net/url refuses what RFC 1866 does not separate by
		}
		reference, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("%q is accepted, and refused by net/url: %v", body, err)
		}
		for name, values := range reference {
			if len(values) != 1 {
				t.Fatalf("%q: %q is there %d times", body, name, len(values))
			}
			if got.Get(name) != values[0] {
				t.Fatalf("%q: %q is %q, net/url says %q", body, name, got.Get(name), values[0])
			}
		}
	})
}

func FuzzBasicCredentials(f *testing.F) {
	for _, seed := range []string{"", "Basic", "Basic Og==", "basic YTpi", "Basic YTpi\n", "Bearer x", "Basic  YTpi"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := basicCredentials(header, url.Values{})
		if err == nil && c.method != ClientSecretBasic {
			t.Errorf("%q: %+v", header, c)
		}
		if validClientID(c.clientID) && strings.ContainsFunc(c.clientID, func(r rune) bool { return r <= 0x20 || r >= 0x7f }) {
			t.Errorf("%q is a valid client_id", c.clientID)
		}
	})
}

func TestIssuerIsHTTPSOrLoopback(t *testing.T) {
	for issuer, ok := range map[string]bool{
		"https://auth.example.com":      true,
		"https://auth.example.com:8443": true,
		"http://127.0.0.1:8080":         true,
		"http://localhost:8080":         true,
		"http://[::1]:8080":             true,
		"http://auth.example.com":       false,
		"http://127.0.0.1.example.com":  false,
		"http://localhost.example.com":  false,
		"https://auth.example.com/":     false,
		"https://auth.example.com/a":    false,
		"https://auth.example.com?a":    false,
		"https://auth.example.com?":     false,
		"https://auth.example.com#a":    false,
		"https://auth.example.com#":     false,
		"https://u@auth.example.com":    false,
		"https://":                      false,
		"auth.example.com":              false,
		"ftp://auth.example.com":        false,
		"":                              false,
	} {
		if err := ValidateIssuer(issuer); (err == nil) != ok {
			t.Errorf("%q: %v", issuer, err)
		}
	}
}
