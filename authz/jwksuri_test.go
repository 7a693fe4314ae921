package authz_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
)

// keyHost is a client's own host, with TLS, that publishes its keys.
type keyHost struct {
	*httptest.Server
	requests atomic.Int64
	document atomic.Value // a string; empty: an error
}

func newKeyHost(t *testing.T) *keyHost {
	t.Helper()
	h := &keyHost{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		document := h.document.Load().(string)
		if document == "" {
			w.WriteHeader(http.StatusBadGateway)
		}
		w.Write([]byte(document))
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *keyHost) publishes(signers ...*assertiontest.Signer) {
	h.document.Store(assertiontest.Set(signers...))
}

// trusted lets an instance connect to the host, which has a private address.
func (h *keyHost) trusted(c *authz.Config) {
	c.JWKSURINetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	c.JWKSURIAuthorities = x509.NewCertPool()
	c.JWKSURIAuthorities.AddCert(h.Certificate())
}

func TestClientsMayPublishTheirKeysThemselves(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	i, key := w.instance(host.trusted), newKey(t)
	old, fresh := assertiontest.NewSigner("ES256"), assertiontest.NewSigner("PS256")
	client := w.asserting(authz.Client{JWKSURI: host.URL + "/jwks.json"}, old)
	ask := func(s *assertiontest.Signer, want int, when string) {
		t.Helper()
		if a := i.assertedToken(asserting{client.Client, s}, key); a.status != want {
			t.Errorf("%s: %d %s", when, a.status, a.body)
		}
	}
	host.publishes(old)
	for range 5 {
		ask(old, 200, "the key there is")
	}
	if n := host.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	host.publishes(old, fresh)
	i.advance(jwksuri.Interval)
	ask(fresh, 200, "a new key, at once")
	ask(old, 200, "the old one beside it")
	host.publishes(fresh)
	i.advance(jwksuri.Fresh)
	ask(old, 401, "the old one, withdrawn")
	host.document.Store("")
	i.advance(jwksuri.Kept - time.Hour)
	ask(fresh, 200, "the host is out")
	i.advance(time.Hour)
	ask(fresh, 401, "the host is out for longer")
	host.publishes(fresh)
	i.advance(jwksuri.Interval)
	ask(fresh, 200, "the host is back")
}

func TestAFloodOfUnknownKeysReachesTheClientsHostOnce(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	i, key := w.instance(host.trusted), newKey(t)
	client := w.asserting(authz.Client{JWKSURI: host.URL})
	host.publishes(client.signer)
	for range 50 {
		a := i.assertedToken(asserting{client.Client, assertiontest.NewSigner("ES256")}, key)
		if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if a := i.assertedToken(client, key); a.status != http.StatusOK {
		t.Errorf("the client itself: %d %s", a.status, a.body)
	}
	if n := host.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestAPrivateAddressIsNotConnectedToUnlessConfigured(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	i, key := w.instance(host.trusted, func(c *authz.Config) { c.JWKSURINetworks = nil }), newKey(t)
	client := w.asserting(authz.Client{JWKSURI: host.URL})
	host.publishes(client.signer)
	a := i.assertedToken(client, key)
	if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" || host.requests.Load() != 0 {
		t.Errorf("%d %s, and %d requests", a.status, a.body, host.requests.Load())
	}
	if !strings.Contains(w.logs.String(), "is not a public address") || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("the log does not tell why, or the answer does: %s", a.body)
	}
}
