package authz_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
)

// behindTrusted is a server that believes its peer at 127.0.0.2 alone.
func behindTrusted(c *authz.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
}

// forwardedFor sends a request as a proxy does, or as somebody who says to be one.
func forwardedFor(r *http.Request, address string) *http.Request {
	r.Header.Set("X-Forwarded-For", "198.51.100.1, "+address)
	return r
}

func TestTrustedProxyTellsTheLogAndTheTrailWhereAClientIsAndNobodyElseDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	behind, open := w.instance(behindTrusted), w.instance()
	proxy, stranger := from(t, "127.0.0.2"), from(t, "127.0.0.3")
	for n, row := range []struct {
		to   *instance
		by   *http.Client
		want string
	}{
		{behind, proxy, "192.0.2.0"},
		{behind, stranger, "127.0.0.3"},
		{open, proxy, "127.0.0.2"},
		{open, stranger, "127.0.0.3"},
	} {
		a := row.to.by(row.by, forwardedFor(row.to.tokenRequest(client, key, clientCredentials), fmt.Sprint("192.0.2.", n)))
		if a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		id := a.header.Get("X-Request-Id")
		if n := w.count(fmt.Sprintf("select count(*) from authz.audit_events where request_id = '%s' and remote_addr = '%s'", id, row.want)); n != 1 {
			t.Errorf("%s: %d events are from there", row.want, n)
		}
		for line := range strings.Lines(w.logs.String()) {
			if strings.Contains(line, id) && !strings.Contains(line, `"remote":"`+row.want+`"`) {
				t.Errorf("not from %s: %s", row.want, line)
			}
		}
	}
	if strings.Contains(w.logs.String(), "198.51.100.1") {
		t.Error("what the client sent itself is in the log")
	}
}

// One that fails does not use up what the others behind the same proxy have, and gains
// nothing by naming others.
func TestFailuresBehindATrustedProxyAreTheClientsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(behindTrusted, limits(1000, 5))
	proxy := from(t, "127.0.0.2")
	fail := func(spoofed, address string) int {
		r := i.post("/oauth/token", unknown("nobody"), clientCredentials)
		r.Header.Set("X-Forwarded-For", spoofed+", "+address)
		return i.by(proxy, r).status
	}
	for n := range 20 {
		status := fail(fmt.Sprint("198.51.100.", n), "192.0.2.7")
		if n >= 6 && status != http.StatusTooManyRequests {
			t.Errorf("failure %d is answered with %d", n, status)
		}
	}
	if status := fail("192.0.2.7", "192.0.2.8"); status != http.StatusUnauthorized {
		t.Errorf("another client's first failure is answered with %d", status)
	}
}
