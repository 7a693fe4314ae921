package jwksuri_test

import (
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/jwksuri"
)

// Each address goes through a real resolution and a real dialler.
func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	const refused = "is not a public address"
	server := newDNS(t)
	for _, address := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1",
		"203.0.113.1", "168.63.129.16", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1", "2001::1", "2001:10::1", "2001:20::1", "2001:db8::1",
		"2002:7f00:1::", "2002:808:808::", "3fff::1", "4000::1", "64:ff9b:1::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe",
	} {
		server.leadsTo(address)
		// By a name that leads there, and by the address itself.
		host := address
		if strings.Contains(address, ":") {
			host = "[" + address + "]"
		}
		for _, uri := range []string{"https://keys.example.com/jwks.json", "https://" + host + "/jwks.json"} {
			r := newRig(t, server.resolver(), nil)
			if got := names(t, r.Keys, uri); !strings.Contains(got, refused) {
				t.Errorf("%s by %s: %s", address, uri, got)
			}
		}
	}
}

func TestURIsThatMayBeRegistered(t *testing.T) {
	for uri, ok := range map[string]bool{
		"https://labels.example.com/jwks.json": true, "https://labels.example.com": true, "https://10.0.0.1:8443/k?v=1": true, "https://[fd00::1]/": true,
		"": false, "labels.example.com": false, "http://labels.example.com/": false, "https://": false, "https:///jwks": false, "https://:443/": false,
		"https://user@labels.example.com/": false, "https://labels.example.com/#k": false, "https://labels.example.com/a b": false,
		"https:labels.example.com": false, "file:///etc/passwd": false, "https://labels.example.com/\x00": false, "https://lábels.example.com/": false,
		"https://labels.example.com/" + strings.Repeat("x", 2048): false, "ftp://labels.example.com/": false, "HTTPS://labels.example.com/": true,
		"https://labels.example.com:65535/": true, "https://labels.example.com:0/": false, "https://labels.example.com:00/": false,
		"https://labels.example.com:65536/": false, "https://labels.example.com:/": false, "https://[fd00::1]:/": false,
	} {
		if err := jwksuri.Validate(uri); (err == nil) != ok {
			t.Errorf("%.60q: %v", uri, err)
		}
	}
}
