package dpopbind

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestEqualURLsAreNormalisedToOne(t *testing.T) {
	for _, row := range []struct{ raw, want string }{
		{"https://example.com", "https://example.com/"},
		{"HTTPS://EXAMPLE.com:443", "https://example.com/"},
		{"http://example.com:80/", "http://example.com/"},
		{"http://example.com:443/", "http://example.com:443/"},
		{"https://example.com:80/", "https://example.com:80/"},
		{"https://example.com:/", "https://example.com/"},
		{"https://example.com:8443/a", "https://example.com:8443/a"},
		{"https://example.com?a=/../b", "https://example.com/"},
		{"https://example.com#a", "https://example.com/"},
		{"https://example.com/a?b=%zz#c%", "https://example.com/a"},
		{"https://example.com/A/b/", "https://example.com/A/b/"},
		{"https://example.com//a//", "https://example.com//a//"},
		{"https://example.com/a%2fb", "https://example.com/a%2Fb"},
		{"https://example.com/%7euser/%41%2d%2e%5f", "https://example.com/~user/A-._"},
		{"https://example.com/%25%37%65", "https://example.com/%257e"},
		{"https://example.com/a/./b/../c", "https://example.com/a/c"},
		{"https://example.com/a/b/..", "https://example.com/a/"},
		{"https://example.com/a/b/.", "https://example.com/a/b/"},
		{"https://example.com/../../a", "https://example.com/a"},
		{"https://example.com/..", "https://example.com/"},
		{"https://example.com/a//../b", "https://example.com/a/b"},
		{"https://example.com/..//a", "https://example.com//a"},
		{"https://example.com/a/%2E%2e/b", "https://example.com/b"},
		{"https://example.com/...", "https://example.com/..."},
		{"https://example.com/.a/..b/c.", "https://example.com/.a/..b/c."},
		{"https://example.com/!$&'()*+,;=:@", "https://example.com/!$&'()*+,;=:@"},
		{"https://example.com./", "https://example.com./"},
		{"https://a_b.example/", "https://a_b.example/"},
		{"https://127.0.0.1:8443/", "https://127.0.0.1:8443/"},
		{"https://[::1]", "https://[::1]/"},
		{"https://[2001:DB8:0:0::1]:443/a", "https://[2001:db8::1]/a"},
		{"https://[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443/a"},
		{"https://[::ffff:1.2.3.4]/", "https://[::ffff:1.2.3.4]/"},
	} {
		got, err := NormalizeURL(row.raw)
		if err != nil || got != row.want {
			t.Errorf("%s: got %q, %v", row.raw, got, err)
		}
	}
}

func TestWhatIsNoHTTPURLIsRefused(t *testing.T) {
	for _, row := range []struct{ raw, want string }{
		{"", "is not absolute"},
		{"/a", "is not absolute"},
		{"a", "is not absolute"},
		{"//example.com/", "is not absolute"},
		{"?https://example.com/", "is not absolute"},
		{":https://example.com/", "is neither https nor http"},
		{"ftp://example.com/", "is neither https nor http"},
		{"httpss://example.com/", "is neither https nor http"},
		{"https:example.com", "has no host"},
		{"https:/example.com", "has no host"},
		{"https:///a", "has no host"},
		{"https://", "has no host"},
		{"https://?a", "has no host"},
		{"https://:443/", "has no host"},
		{"https://user@example.com/", "has userinfo"},
		{"https://user:pass@example.com/", "has userinfo"},
		{"https://@example.com/", "has userinfo"},
		{"https://exam ple.com/", "has a character that is not printable ASCII"},
		{"https://example.com/\t", "has a character that is not printable ASCII"},
		{"https://example.com/\x7f", "has a character that is not printable ASCII"},
		{"https://exämple.com/", "has a character that is not printable ASCII"},
		{"https://example.com/?ä", "has a character that is not printable ASCII"},
		{"https://exa%6dple.com/", "has a host that is neither"},
		{"https://example.com\\@evil.example/", "has userinfo"},
		{"https://example.com\\.evil.example/", "has a host that is neither"},
		{"https://a,b/", "has a host that is neither"},
		{"https://::1/", "has a host that is neither"},
		{"https://[::1/", "has a host in brackets"},
		{"https://::1]/", "has a host that is neither"},
		{"https://[1.2.3.4]/", "has a host in brackets"},
		{"https://[::1%25lo]/", "has a host in brackets"},
		{"https://[::1%lo]/", "has a host in brackets"},
		{"https://[v1.a]/", "has a host in brackets"},
		{"https://[]/", "has a host in brackets"},
		{"https://[[::1]]/", "has a host in brackets"},
		{"https://[::1]x/", "has a host in brackets"},
		{"https://[::1]x:443/", "has a host in brackets"},
		{"https://example.com:0/", "has a port"},
		{"https://example.com:080/", "has a port"},
		{"https://example.com:65536/", "has a port"},
		{"https://example.com:+80/", "has a port"},
		{"https://example.com:-1/", "has a port"},
		{"https://example.com:8_0/", "has a port"},
		{"https://example.com:80:80/", "has a host that is neither"},
		{"https://example.com/%", "has a bad percent-encoding"},
		{"https://example.com/%4", "has a bad percent-encoding"},
		{"https://example.com/%g0", "has a bad percent-encoding"},
		{"https://example.com/%0g", "has a bad percent-encoding"},
		{"https://example.com/a\\b", "has a path character"},
		{"https://example.com/a\"b", "has a path character"},
		{"https://example.com/<a>", "has a path character"},
		{"https://example.com/[a]", "has a path character"},
		{"https://example.com/a|b^`{}", "has a path character"},
		{"https://example.com/" + strings.Repeat("a", 2029), "is longer than 2048 bytes"},
	} {
		if got, err := NormalizeURL(row.raw); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%q: got %q, %v, want %q", row.raw, got, err, row.want)
		}
	}
	if _, err := NormalizeURL("https://example.com/" + strings.Repeat("a", 2028)); err != nil {
		t.Errorf("2048 bytes: %v", err)
	}
}

func FuzzNormalizeURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com", "HTTP://EXAMPLE.com:80/a/../b/%7e%2f?q#f", "https://[2001:DB8::1]:443/%2e%2E/x", "https://a@b/",
		"https://example.com//..//./%2e", "http://1.2.3.4:65535/;a=b,c", "https://[::ffff:1.2.3.4]:8443",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		n, err := NormalizeURL(raw)
		if err != nil {
			return
		}
		if again, err := NormalizeURL(n); err != nil || again != n {
			t.Fatalf("%q: %q becomes %q, %v", raw, n, again, err)
		}
		before, err := url.Parse(withoutQuery(raw))
		if err != nil {
			t.Fatalf("%q: net/url refuses it: %v", raw, err)
		}
		after, err := url.Parse(n)
		if err != nil {
			t.Fatalf("%q: net/url refuses %q: %v", raw, n, err)
		}
		if after.User != nil || after.RawQuery != "" || after.Fragment != "" || after.Scheme != before.Scheme {
			t.Fatalf("%q: %q has more or another scheme", raw, n)
		}
		if !sameHost(before.Hostname(), after.Hostname()) {
			t.Fatalf("%q: %q has the host %q, want %q", raw, n, after.Hostname(), before.Hostname())
		}
		port := map[string]string{"https": "443", "http": "80"}[before.Scheme]
		if p := before.Port(); p != "" {
			port = p
		}
		if p := after.Port(); p != port && (p != "" || port != "443" && port != "80") {
			t.Fatalf("%q: %q has the port %q, want %q", raw, n, p, port)
		}
		if !strings.HasPrefix(after.Path, "/") {
			t.Fatalf("%q: the path of %q", raw, n)
		}
	})
}

func sameHost(a, b string) bool {
	if strings.Contains(a, ":") {
		x, errX := netip.ParseAddr(a)
		y, errY := netip.ParseAddr(b)
		return errX == nil && errY == nil && x == y
	}
	return strings.ToLower(a) == b
}
