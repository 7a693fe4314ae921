package dpopbind_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/cargokey/authz/dpopbind"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestAProofIsForAPublicURLAndNeverForTheHostHeader(t *testing.T) {
	const second = "https://alias.example:8443"
	for _, row := range []struct {
		name, url string // of the proof
		proxies   []netip.Prefix
		bases     []string
		headers   []string
		status    int
	}{
		{"a base", apiURL, nil, []string{apiBase}, nil, 200},
		{"a base with a slash", apiURL, nil, []string{apiBase + "/"}, nil, 200},
		{"the second base", second + "/labels", nil, []string{apiBase, second}, nil, 200},
		{"without the prefix", "https://api.example/labels", nil, []string{apiBase}, nil, 401},
		{"the Host", "https://evil.example/labels", nil, []string{apiBase}, []string{"Host", "evil.example"}, 401},
		{"a forwarded host of nobody trusted", "https://evil.example/labels", nil, []string{apiBase},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}, 401},
		{"a forwarded host of another peer", "https://evil.example/labels", prefixes("10.0.0.0/8"), []string{apiBase},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}, 401},
		{"a forwarded host that is no base", "https://evil.example/labels", prefixes("127.0.0.1/32"), []string{apiBase},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}, 401},
		{"a base, and a forwarded host that is none", apiURL, prefixes("127.0.0.1/32"), []string{apiBase},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}, 200},
		{"the forwarded base", second + "/labels", prefixes("127.0.0.0/8"), []string{apiBase, second},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "alias.example:8443"}, 200},
		{"another base than the forwarded one", apiURL, prefixes("127.0.0.0/8"), []string{apiBase, second},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "alias.example:8443"}, 401},
		{"the forwarded base with its prefix", apiURL, prefixes("127.0.0.0/8"), []string{apiBase, second},
			[]string{"Forwarded", `for=10.0.0.1;host=api.example;proto=https`}, 200},
		{"no base: X-Forwarded", "https://gw.example/labels", prefixes("127.0.0.1/32"), nil,
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "gw.example"}, 200},
		{"no base: Forwarded", "https://gw.example:444/labels", prefixes("127.0.0.1/32"), nil,
			[]string{"Forwarded", `for="[2001:db8::1]:4711"; Proto=https;host="gw.example:444"`}, 200},
		{"no base: mapped address", "https://gw.example/labels", prefixes("0.0.0.0/0"), nil,
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "gw.example"}, 200},
		{"no base: nothing forwarded", "https://gw.example/labels", prefixes("127.0.0.1/32"), nil, []string{"Host", "gw.example"}, 400},
		{"no base: another peer", "https://gw.example/labels", prefixes("10.0.0.0/8"), nil,
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "gw.example"}, 400},
		{"no base: only the host", "https://gw.example/labels", prefixes("127.0.0.1/32"), nil, []string{"X-Forwarded-Host", "gw.example"}, 400},
		{"no base: only the scheme", "https://gw.example/labels", prefixes("127.0.0.1/32"), nil, []string{"X-Forwarded-Proto", "https"}, 400},
		{"no base: both kinds", "https://gw.example/labels", prefixes("127.0.0.1/32"), nil,
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "gw.example", "Forwarded", "host=gw.example;proto=https"}, 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.BaseURLs, cfg.TrustedProxies = row.bases, row.proxies })
			token := a.token()
			req := must(http.NewRequest(http.MethodGet, a.URL+"/labels", nil))
			for i := 0; i < len(row.headers); i += 2 {
				if row.headers[i] == "Host" {
					req.Host = row.headers[i+1]
				}
				req.Header.Add(row.headers[i], row.headers[i+1])
			}
			req.Header.Set("Authorization", "DPoP "+token)
			req.Header.Set("DPoP", a.proofFor(row.url, token, ""))
			if got := a.do(t, req); got.status != row.status {
				t.Errorf("got %d %s (%s)", got.status, got.code, got.description)
			}
		})
	}
}

func TestWhatATrustedProxyForwardsMustBeOneHost(t *testing.T) {
	a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) {
		cfg.BaseURLs, cfg.TrustedProxies = nil, prefixes("127.0.0.0/8", "::1/128")
	})
	token := a.token()
	send := func(headers ...string) answer {
		return a.get(t, "/labels", append(headers, "Authorization", "DPoP "+token, "DPoP", a.proofFor("https://gw.example/labels", token, ""))...)
	}
	for _, host := range []string{
		"", "gw.example, evil.example", "gw.example,", "gw.example/", "gw.example?x", "gw.example#x", "x@gw.example", "gw.example:0",
		"gw.example:443:443", "gw example", "[gw.example]",
	} {
		send("X-Forwarded-Proto", "https", "X-Forwarded-Host", host).expect(t, http.StatusBadRequest, "invalid_request")
	}
	for _, proto := range []string{"", "https, http", "ftp", "https://x.example/?", "//"} {
		send("X-Forwarded-Proto", proto, "X-Forwarded-Host", "gw.example").expect(t, http.StatusBadRequest, "invalid_request")
	}
	send("X-Forwarded-Proto", "https", "X-Forwarded-Host", "gw.example", "X-Forwarded-Host", "gw.example").
		expect(t, http.StatusBadRequest, "invalid_request")
	for _, forwarded := range []string{
		"", "host=gw.example", "proto=https", "host=gw.example;proto=https, host=evil.example;proto=https",
		"host=gw.example;host=gw.example;proto=https", `host="gw.example;proto=https`, "host=gw.example;proto", `host="gw\.example";proto=https`,
		"host=gw.example;;proto=https",
	} {
		send("Forwarded", forwarded).expect(t, http.StatusBadRequest, "invalid_request")
	}
	send("Forwarded", "host=gw.example;proto=https", "Forwarded", "host=gw.example;proto=https").
		expect(t, http.StatusBadRequest, "invalid_request")
	send("Forwarded", "HOST=GW.example:443;PROTO=HTTPS").expect(t, http.StatusOK, "")
}

func TestAPathThatMeansAnotherIsRefused(t *testing.T) {
	a := newAPI(t, nil)
	token := a.token()
	for _, target := range []string{
		"/labels/../labels", "/./labels", "/labels/%2e%2e/labels", "/../carrier/labels", "/labels/.", "*", "/labels\x7f", "/labels/%zz",
	} {
		// A client of net/http would clean some of these itself.
		conn := must(net.Dial("tcp", a.Listener.Addr().String()))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: DPoP %s\r\nDPoP: %s\r\n\r\n", target, token, a.proof(token))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 300 || a.calls.Load() != 0 {
			t.Errorf("%q: status %d", target, res.StatusCode)
		}
		_ = conn.Close()
	}
	// And without a mux that cleans it before.
	protected := a.mw.Require()(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }))
	a.Config.Handler = protected
	for _, path := range []string{"/labels/../labels", "/%2e/labels", "/x/.."} {
		req := must(http.NewRequest(http.MethodGet, a.URL+path, nil))
		req.Header.Set("Authorization", "DPoP "+token)
		req.Header.Set("DPoP", a.proof(token))
		a.do(t, req).expect(t, http.StatusBadRequest, "invalid_request")
	}
	for _, path := range []string{"/labels%2Fother", "/Labels", "//labels"} {
		req := must(http.NewRequest(http.MethodGet, a.URL+path, nil))
		req.Header.Set("Authorization", "DPoP "+token)
		req.Header.Set("DPoP", a.proof(token))
		a.do(t, req).expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
	}
	if strings.Contains(a.log.String(), token) {
		t.Error("the log holds the token")
	}
}
