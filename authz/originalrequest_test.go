package authz

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cargokey/authz/dpopbind"
)

// What is read of forwarded headers is one URL in normal form under the host and
// the scheme that they name, or nothing.
func FuzzOriginalRequest(f *testing.F) {
	f.Add("POST", "https", "api.test", "/v1/labels?x=1", "", "")
	f.Add("GET", "http", "127.0.0.1:80", "/%2e%2e/x", "", "")
	f.Add("GET", "https", "api.test", "//x", "GET", "https://api.test/x")
	f.Add("GET", "https", "[::1]:8443", "/a/./b", "", "")
	f.Add("", "", "", "", "PUT", "https://u@api.test/x#y")
	f.Fuzz(func(t *testing.T, method, proto, host, uri, originalMethod, originalURL string) {
		r := &http.Request{Method: "GET", RequestURI: pathVerify, Header: http.Header{}, URL: &url.URL{Path: pathVerify}}
		for name, value := range map[string]string{
			"X-Forwarded-Method": method, "X-Forwarded-Proto": proto, "X-Forwarded-Host": host, "X-Forwarded-Uri": uri,
			"X-Original-Method": originalMethod, "X-Original-Url": originalURL,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		o, err := readOriginalRequest(r)
		if err != nil {
			return
		}
		if normal, err := dpopbind.NormalizeURL(o.url); err != nil || normal != o.url {
			t.Errorf("%q is not in normal form: %q, %v", o.url, normal, err)
		}
		u, err := url.Parse(o.url)
		if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Host == "" {
			t.Fatalf("%q: %v", o.url, err)
		}
		if slices.ContainsFunc(strings.Split(u.EscapedPath(), "/"), func(s string) bool { return s == "." || s == ".." }) {
			t.Errorf("%q has dot segments", o.url)
		}
		forwarded := method + uri
		if forwarded != "" && originalMethod+originalURL != "" {
			t.Errorf("two forms were read as %q", o.url)
		}
		if forwarded != "" && (o.method != method || !strings.HasPrefix(o.url, strings.ToLower(proto)+"://")) {
			t.Errorf("%s %s was read as %s %q", method, proto, o.method, o.url)
		}
	})
}

// Whatever path is asked for, a route is found only for one that reads the same
// to everyone.
func FuzzRoute(f *testing.F) {
	routes, err := newRouteTable([]Route{
		{Path: "/files/{path...}", Scopes: []string{"any"}}, {Method: "GET", Path: "/labels/{id}", Scopes: []string{"read"}},
		{Method: "POST", Path: "/labels", Scopes: []string{"create"}}, {Path: "/tree/", Scopes: []string{"tree"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range []string{"/labels/7", "/files/../labels", "/files/%2e%2e", "/files/a%2Fb", "/files/..;/x", "/tree", "//labels", "/files/\x00"} {
		f.Add("GET", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		normal, err := dpopbind.RequestURL("https://api.test" + path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		if path = strings.TrimPrefix(normal, "https://api.test"); !plainPath(path) {
			return
		}
		scopes, ok := routes.find(method, path)
		if !ok {
			return
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || strings.Count(decoded, "/") != strings.Count(path, "/") || strings.ContainsAny(decoded, "\\\x00") || strings.Contains(decoded, "//") {
			t.Errorf("%s %q has a route: %v, %v", method, path, scopes, err)
		}
		for _, segment := range strings.Split(decoded, "/") {
			if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
				t.Errorf("%s %q has a route: %v", method, path, scopes)
			}
		}
		first := strings.Split(decoded, "/")[1]
		if want := map[string]string{"files": "any", "tree": "tree"}[first]; want != "" && scopes[0] != want || first == "labels" && scopes[0] != "read" && scopes[0] != "create" {
			t.Errorf("%s %q has the route of %v", method, path, scopes)
		}
	})
}
