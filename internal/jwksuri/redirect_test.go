package jwksuri_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
)

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

func TestARedirectIsJudgedAsTheFirstHostIs(t *testing.T) {
	t.Parallel()
	private, one := newHost(t, "127.0.0.2"), assertiontest.NewSigner("ES256")
	private.publishes(one)
	plain := httptest.NewServer(redirect("/"))
	defer plain.Close()
	other := newHost(t, "")
	other.publishes(one)
	for name, row := range map[string]struct{ to, want string }{
		"to another allowed host": {other.URL + "/jwks.json", one.Thumbprint()},
		"to a private address":    {private.URL, "is not a public address"},
		"to the metadata service": {"https://169.254.169.254/latest/meta-data/", "is not a public address"},
		"to plain http":           {plain.URL, "redirected to something else than https"},
		"to a file":               {"file:///etc/passwd", "redirected to something else than https"},
		"with a password":         {strings.Replace(other.URL, "https://", "https://user:password@", 1), "redirected to something else than https"},
		"to itself":               {"", "redirected more than 3 times"},
	} {
		h := newHost(t, "")
		h.does(redirect(row.to))
		if row.to == "" {
			h.does(redirect(h.URL))
		}
		r := newRig(t, nil, loopback, h, other, private)
		if got := names(t, r.Keys, h.URL); !strings.Contains(got, row.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := private.requests.Load(); n != 0 {
		t.Errorf("%d requests came to the private address", n)
	}
}

func TestADNSAnswerThatChangesIsJudgedAnew(t *testing.T) {
	t.Parallel()
	h, private := newHost(t, ""), newHost(t, "127.0.0.2")
	one, server := assertiontest.NewSigner("ES256"), newDNS(t)
	h.publishes(one)
	private.publishes(assertiontest.NewSigner("ES256"))
	server.leadsTo("127.0.0.1")
	r := newRig(t, server.resolver(), loopback, h, private)
	uri := "https://example.com" + h.port()
	if got := names(t, r.Keys, uri); got != one.Thumbprint() {
		t.Fatal(got)
	}
	server.leadsTo("127.0.0.2")
	r.advance(jwksuri.Fresh)
	if got := names(t, r.Keys, uri); got != one.Thumbprint() { // as in any outage
		t.Error(got)
	}
	if n := h.requests.Load(); n != 1 {
		t.Errorf("the old address was asked %d times: the answer was not asked for anew", n)
	}
	if n := private.requests.Load(); n != 0 || !strings.Contains(r.logs.String(), "is not a public address") {
		t.Errorf("%d requests came to the private address; the log: %s", n, r.logs.String())
	}
	server.leadsTo("127.0.0.1")
	r.advance(jwksuri.Interval)
	names(t, r.Keys, uri)
	eventually(t, func() bool { return h.requests.Load() == 2 })
}

func TestAHostWithoutItsCertificateIsNotBelieved(t *testing.T) {
	t.Parallel()
	h, server := newHost(t, ""), newDNS(t)
	h.publishes(assertiontest.NewSigner("ES256"))
	server.leadsTo("127.0.0.1")
	for uri, authorities := range map[string][]*host{
		h.URL:                           nil,
		"https://other.test" + h.port(): {h},
	} {
		r := newRig(t, server.resolver(), loopback, authorities...)
		if got := names(t, r.Keys, uri); !strings.Contains(got, "certificate") {
			t.Errorf("%s: %s", uri, got)
		}
	}
	if h.requests.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	proxy := newHost(t, "")
	proxy.publishes()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("ALL_PROXY", proxy.URL)
	server := newDNS(t)
	server.leadsTo("10.0.0.1")
	start := time.Now()
	r := newRig(t, server.resolver(), nil, proxy)
	if got := names(t, r.Keys, "https://keys.example.com/"); !strings.Contains(got, "is not a public address") || time.Since(start) > time.Second {
		t.Error(got)
	}
	if proxy.requests.Load() != 0 {
		t.Error("the proxy was asked")
	}
}
