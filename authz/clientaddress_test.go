package authz

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// trusted are the proxies of the tests. No client is among them.
var trusted = networks{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8:f::/64")}

const proxy = "10.0.0.1"

func TestClientsAddressIsWhatTheNearestTrustedProxySawAndNothingThatWasSentToIt(t *testing.T) {
	type fields []string
	for _, row := range []struct {
		name         string
		x, forwarded fields
		want         string
	}{
		{"no header", nil, nil, proxy},
		{"one", fields{"192.0.2.7"}, nil, "192.0.2.7"},
		{"with a port", fields{"192.0.2.7:4711"}, nil, "192.0.2.7"},
		{"IPv6", fields{"2001:db8::1"}, nil, "2001:db8::1"},
		{"IPv6 in brackets", fields{"[2001:db8::1]"}, nil, "2001:db8::1"},
		{"IPv6 with a port", fields{"[2001:db8::1]:4711"}, nil, "2001:db8::1"},
		{"IPv4 as IPv6", fields{"::ffff:192.0.2.7"}, nil, "192.0.2.7"},
		{"a spoofed left part", fields{"198.51.100.1, 192.0.2.7"}, nil, "192.0.2.7"},
		{"a spoofed field before", fields{"198.51.100.1", "192.0.2.7"}, nil, "192.0.2.7"},
		{"a spoofed proxy", fields{"198.51.100.1, 10.0.0.9, 192.0.2.7"}, nil, "192.0.2.7"},
		{"garbage on the left", fields{"\"'; drop table, <script>, ,192.0.2.7"}, nil, "192.0.2.7"},
		{"two proxies", fields{"198.51.100.1, 192.0.2.7, 10.0.0.2"}, nil, "192.0.2.7"},
		{"two proxies in two fields", fields{"198.51.100.1, 192.0.2.7", "2001:db8:f::2, 10.0.0.2"}, nil, "192.0.2.7"},
		{"empty members", fields{" , 192.0.2.7 ,, 10.0.0.2,", ""}, nil, "192.0.2.7"},
		{"proxies only", fields{"10.0.0.3, 10.0.0.2"}, nil, proxy},
		{"too many proxies", fields{"192.0.2.7" + strings.Repeat(", 10.0.0.2", maxProxies+1)}, nil, proxy},
		{"as many as may be", fields{"192.0.2.7" + strings.Repeat(", 10.0.0.2", maxProxies)}, nil, proxy},
		{"one less", fields{"192.0.2.7" + strings.Repeat(", 10.0.0.2", maxProxies-1)}, nil, "192.0.2.7"},
		{"32 KB to the left", fields{strings.Repeat("9", 32<<10) + ", 192.0.2.7"}, nil, "192.0.2.7"},
		{"32 KB", fields{strings.Repeat("9", 32<<10)}, nil, proxy},
		{"32 KB of commas", fields{strings.Repeat(",", 32<<10)}, nil, proxy},
		{"32 KB of proxies", fields{strings.Repeat("10.0.0.2,", 32<<10/9)}, nil, proxy},
		{"empty", fields{""}, nil, proxy},
		{"unknown", fields{"unknown"}, nil, proxy},
		{"unknown behind a proxy", fields{"192.0.2.7, unknown, 10.0.0.2"}, nil, proxy},
		{"a name", fields{"localhost"}, nil, proxy},
		{"a zone", fields{"fe80::1%eth0"}, nil, proxy},
		{"everybody", fields{"0.0.0.0"}, nil, proxy},
		{"everybody, IPv6", fields{"[::]:80"}, nil, proxy},
		{"a group", fields{"224.0.0.1"}, nil, proxy},
		{"IPv4 in brackets", fields{"[192.0.2.7]"}, nil, proxy},
		{"half a bracket", fields{"[2001:db8::1"}, nil, proxy},
		{"a bad port", fields{"192.0.2.7:port"}, nil, proxy},
		{"leading zeros", fields{"192.0.02.7"}, nil, proxy},
		{"a pair of the other header", fields{"for=192.0.2.7"}, nil, proxy},

		{"Forwarded", nil, fields{"for=192.0.2.7"}, "192.0.2.7"},
		{"its other pairs", nil, fields{`proto=https;FOR="192.0.2.7:4711" ; by=_edge;host="a,b;c=\"d"`}, "192.0.2.7"},
		{"its IPv6", nil, fields{`for="[2001:db8::1]:4711"`}, "2001:db8::1"},
		{"spoofed on its left", nil, fields{`for=198.51.100.1;by="10.0.0.2", for=192.0.2.7`}, "192.0.2.7"},
		{"spoofed before", nil, fields{"for=198.51.100.1", "for=192.0.2.7"}, "192.0.2.7"},
		{"through two proxies", nil, fields{"for=198.51.100.1, for=192.0.2.7", "for=10.0.0.2"}, "192.0.2.7"},
		{"through two proxies in one field", nil, fields{"for=192.0.2.7, , for=10.0.0.2,"}, "192.0.2.7"},
		{"garbage before", nil, fields{"\"", "for=192.0.2.7"}, "192.0.2.7"},
		{"a quote that is left open on its left", nil, fields{`for=198.51.100.1;x=", for=192.0.2.7`}, proxy},
		{"a quote that is closed by the proxy's own", nil, fields{`for=198.51.100.1;x=", for="[2001:db8::1]"`}, proxy},
		{"its unknown", nil, fields{"for=unknown"}, proxy},
		{"obfuscated", nil, fields{"for=_SEVKISEK"}, proxy},
		{"an obfuscated port", nil, fields{`for="192.0.2.7:_p"`}, proxy},
		{"two for in one", nil, fields{"for=198.51.100.1;for=192.0.2.7"}, proxy},
		{"no for", nil, fields{"proto=https"}, proxy},
		{"no pairs", nil, fields{"192.0.2.7"}, proxy},
		{"IPv6 without quotes", nil, fields{"for=[2001:db8::1]"}, proxy},
		{"its own 32 KB", nil, fields{strings.Repeat("for=198.51.100.1,", 2000) + "for=192.0.2.7"}, proxy},
		{"more than is read", nil, fields{"for=198.51.100.1;x=\"" + strings.Repeat("x", maxForwarded) + "\", for=192.0.2.7"}, proxy},

		{"both, alike", fields{"192.0.2.7"}, fields{"for=192.0.2.7"}, "192.0.2.7"},
		{"both, different", fields{"198.51.100.1"}, fields{"for=192.0.2.7"}, proxy},
		{"the other one spoofed", fields{"198.51.100.1, 192.0.2.7"}, fields{"for=198.51.100.1"}, proxy},
		{"the other one garbage", fields{"192.0.2.7"}, fields{"garbage"}, proxy},
		{"the other one empty", fields{"192.0.2.7"}, fields{""}, proxy},
		{"the first one garbage", fields{"unknown"}, fields{"for=192.0.2.7"}, proxy},
	} {
		h := http.Header{"X-Real-Ip": {"198.51.100.2"}, "True-Client-Ip": {"198.51.100.3"}}
		for name, values := range map[string]fields{"X-Forwarded-For": row.x, "Forwarded": row.forwarded} {
			if values != nil {
				h[name] = values
			}
		}
		if got := originOf(&http.Request{RemoteAddr: proxy + ":80", Header: h}, trusted); got.remote != row.want {
			t.Errorf("%s: %s, want %s", row.name, got.remote, row.want)
		}
		for _, peer := range []string{"192.0.2.200", "::ffff:192.0.2.200", "2001:db8::200", ""} {
			remote := "[" + peer + "]:80"
			if peer == "" {
				remote, peer = "@", "@" // a Unix socket
			}
			for _, proxies := range []networks{nil, trusted} {
				if got := originOf(&http.Request{RemoteAddr: remote, Header: h}, proxies); got.remote != peer {
					t.Errorf("%s: from %s, which nobody trusts, it is %s", row.name, peer, got.remote)
				}
			}
		}
	}
}

func TestFailuresAreCountedByTheNetworkOfOneSubscriber(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
	} {
		r := &http.Request{RemoteAddr: proxy + ":80", Header: http.Header{"X-Forwarded-For": {address}}}
		if got := originOf(r, trusted).network; got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// Whatever a client sends, what the proxy in front of it has appended stands, or
// nothing does.
func FuzzClientChoosesNoAddress(f *testing.F) {
	for _, seed := range []string{"198.51.100.1", "for=198.51.100.1", `for=198.51.100.1;x="`, `"`, `x=\`, "10.0.0.2,", ",", ";", `for="[2001:db8::9]:1";by="`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for name, appended := range map[string]string{"X-Forwarded-For": "192.0.2.7", "Forwarded": `for="192.0.2.7:80";by="[2001:db8:f::1]";proto=https`} {
			for _, values := range [][]string{{sent + ", " + appended}, {sent + "," + appended}, {sent, appended}} {
				r := &http.Request{RemoteAddr: proxy + ":80", Header: http.Header{name: values}}
				if got := originOf(r, trusted).remote; got != "192.0.2.7" && got != proxy {
					t.Errorf("%s %q: %s", name, values, got)
				}
			}
		}
	})
}
