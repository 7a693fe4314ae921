package authz

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestUserAgentIsKnownByItsFirstProductOnly(t *testing.T) {
	for sent, want := range map[string]string{
		"curl/8.5.0": "curl/8.5.0", "Go-http-client/1.1": "Go-http-client/1.1", "node-fetch": "node-fetch",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36": "Mozilla/5.0",
		"Apache-HttpClient/4.5.13 (Java/17.0.2)":             "Apache-HttpClient/4.5.13",
		"python-requests/2.31.0":                             "python-requests/2.31.0",
		"carrier-label-service/2026.11.1+build.5":            "carrier-label-service/2026.11.1+build.5",
		"okhttp/4.9.3\tandroid":                              "okhttp/4.9.3",

		"": "", " ": "", "/": "", "/1.0": "", "curl/": "", "(a comment)": "", " curl/8": "",
		"a/b/c": "", "a;b": "", "a\"b": "", "a\\b": "", "a<b>": "", "a\x00b": "", "é/1": "", "a,b": "", "a=b": "", "a:b@c": "", "%41": "",
		"azs_short": "", "x-azs_short/1": "", "a/azt_x": "", "eyJhbGciOi": "", "curl/eyJ": "",
		"a/0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23.24": "", // 65 bytes and more
		"3f2504e0-4f89-11d3-9a0c-0305e82c3301":                               "",
		"x/3f2504e0-4f89-11d3-9a0c-0305e82c3301":                             "",
		"AbCdEfGhIjKlMnOpQrStUv":                                             "",
		"abcdefghijklmnopqrstuv":                                             "",
		"CheckoutServiceForShops/1":                                          "",
		"shop-checkout-service/dev":                                          "", "AnApplicationClient/dev": "",
		"a-abcdefghijklmnopqrst": "",
	} {
		if got := product(sent); got != want {
			t.Errorf("%q is %q, want %q", sent, got, want)
		}
	}
}

func TestNoSecretPassesForAUserAgent(t *testing.T) {
	b := make([]byte, 32)
	for range 10_000 {
		rand.Read(b)
		for _, secret := range []string{
			NewSecret().Reveal(), random(OpaqueTokenPrefix), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
			hex.EncodeToString(b[:10]), strings.ToLower(base32.StdEncoding.EncodeToString(b[:15])), base64.RawURLEncoding.EncodeToString(b[:15]),
		} {
			for _, sent := range []string{secret, secret + "/1.0", "curl/" + secret, secret + " x", secret[:20]} {
				if got := product(sent); got != "" {
					t.Fatalf("%q passes", got)
				}
			}
		}
	}
}

func FuzzUserAgent(f *testing.F) {
	for _, seed := range []string{"curl/8.5.0", "a b", "a/b/c", "eyJ", "x\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		got := product(sent)
		if !strings.HasPrefix(sent, got) || len(got) > maxUserAgent || strings.ContainsFunc(got, func(r rune) bool {
			return r > 0x7e || !isAlphanumeric(byte(r)) && !strings.ContainsRune("-_.+/", r)
		}) {
			t.Errorf("%q is %q", sent, got)
		}
	})
}
