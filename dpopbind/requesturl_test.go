package dpopbind_test

import (
	"testing"

	"github.com/cargokey/authz/dpopbind"
)

func TestAURLWithDotSegmentsIsNoRequests(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example":                       "https://api.example/",
		"https://api.example/":                      "https://api.example/",
		"https://API.example:443/%6Cabels/?q=/../x": "https://api.example/labels/",
		"https://api.example/labels//x":             "https://api.example/labels//x",
		"https://api.example/a..b/...":              "https://api.example/a..b/...",
		"https://api.example/..%2fadmin":            "https://api.example/..%2Fadmin",
		"https://api.example/labels/../admin":       "",
		"https://api.example/labels/%2e%2E/admin":   "",
		"https://api.example/labels/%2e./admin":     "",
		"https://api.example/labels/./x":            "",
		"https://api.example/labels/..":             "",
		"https://api.example/labels/%2e":            "",
		"https://api.example/../":                   "",
		"https://api.example/labels\\..\\admin":     "",
		"https://api.example/a b":                   "",
		"https://api.example*":                      "",
		"/labels":                                   "",
		"":                                          "",
	} {
		got, err := dpopbind.RequestURL(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", raw, got, err)
		}
	}
}

// FuzzRequestURL holds that RequestURL differs from NormalizeURL in nothing but
// what it refuses.
func FuzzRequestURL(f *testing.F) {
	for _, seed := range []string{"https://a/b/../c", "https://a/%2e/", "http://a:80//x?y#z", "https://a", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := dpopbind.RequestURL(raw)
		want, normalErr := dpopbind.NormalizeURL(raw)
		if err == nil && (normalErr != nil || got != want) {
			t.Errorf("%q: got %q, and %q, %v", raw, got, want, normalErr)
		}
		// What is normal has no dot segments left.
		if normalErr == nil {
			if again, err := dpopbind.RequestURL(want); err != nil || again != want {
				t.Errorf("%q: got %q, %v", want, again, err)
			}
		}
	})
}
