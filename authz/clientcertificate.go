package authz

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/cargokey/authz/internal/clientcert"
)

// ClientCertificates say how certificates of clients come to the public listener
// (RFC 8705). Whoever shows one must have proven to have its private key: to this
// server's own TLS, or to a proxy that says so.
type ClientCertificates struct {
	// Requested: the listener's TLS asks for them, and verifies none.
	Requested bool
	// Proxies are the networks of the peers whose headers Client-Cert and
	// Client-Cert-Chain (RFC 9440) are believed. From all others there are no such
	// headers. What such a peer shows in TLS of its own is never a client's.
	Proxies []netip.Prefix
	// Authorities returns those that certificates for tls_client_auth are from. It
	// is asked at each request. Nil: no client authenticates so.
	Authorities func() *x509.CertPool
	// URL is where clients with certificates find the server, by the rules of an
	// issuer (see ValidateIssuer); empty: at the issuer's.
	URL string
}

func (c *ClientCertificates) enabled() bool { return c.Requested || len(c.Proxies) > 0 }

func (c *ClientCertificates) validate() error {
	if !c.enabled() && (c.Authorities != nil || c.URL != "") {
		return errors.New("authz: there are authorities or a URL for certificates of clients, and none reaches the server")
	}
	for _, network := range c.Proxies {
		if err := ValidateProxies(network); err != nil {
			return fmt.Errorf("authz: the proxies %s: %w", network, err)
		}
	}
	if c.URL == "" {
		return nil
	}
	if err := ValidateIssuer(c.URL); err != nil {
		return fmt.Errorf("the URL for clients with certificates: %w", err)
	}
	return nil
}

// The widest networks that proxies are believed from: who is believed can be any
// client that is known by its certificate.
const (
	widestIPv4 = 8
	widestIPv6 = 16
)

// ValidateProxies says whether a network can be one of ClientCertificates.Proxies or
// Config.TrustedProxies:
// written by its first address, of at most 2^24 IPv4 addresses or an IPv6 /16.
// IPv4 is not to be written as IPv6 (::ffff:192.0.2.0/120): it would match nobody.
func ValidateProxies(network netip.Prefix) error {
	switch addr := network.Addr(); {
	case !network.IsValid() || network != network.Masked():
		return errors.New("it is not a network by its first address, such as 192.0.2.0/24")
	case addr.Is4In6():
		return errors.New("write it as IPv4, such as 192.0.2.0/24")
	case addr.Is4() && network.Bits() < widestIPv4, addr.Is6() && network.Bits() < widestIPv6:
		return fmt.Errorf("it is wider than /%d (IPv6: /%d)", widestIPv4, widestIPv6)
	}
	return nil
}

// urlsOf is where an endpoint is: at the issuer's URL, and at that for clients with
// certificates (RFC 8705 §5).
func (c *Config) urlsOf(path string) []string {
	urls := []string{c.Issuer + path}
	if alias := c.ClientCertificates.URL; alias != "" && alias != c.Issuer {
		urls = append(urls, alias+path)
	}
	return urls
}

// authMethods are those that a client can have at the public listener.
func (c *ClientCertificates) authMethods() []AuthMethod {
	methods := publicAuthMethods()
	if c.enabled() && c.Authorities != nil {
		methods = append(methods, TLSClientAuth)
	}
	if c.enabled() {
		methods = append(methods, SelfSignedTLSClientAuth)
	}
	return methods
}

type shownKey struct{}

// shown is the certificate that came with a request, or why there is none.
type shown struct {
	*clientcert.Presented
	err error // clientcert.ErrNone, or what is wrong with a header
}

// shownTo lets next know what certificate a request came with.
func (c *ClientCertificates) shownTo(next http.Handler) http.Handler {
	if !c.enabled() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented, err := c.read(r)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shownKey{}, shown{presented, err})))
	})
}

// read takes a proxy's word, or else the connection's own. A header from anybody
// but a proxy is a stranger's invention: it is not looked at.
func (c *ClientCertificates) read(r *http.Request) (*clientcert.Presented, error) {
	if networks(c.Proxies).has(peerOf(r)) {
		return clientcert.FromHeader(r.Header)
	}
	if !c.Requested || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, clientcert.ErrNone
	}
	return &clientcert.Presented{Leaf: r.TLS.PeerCertificates[0], Intermediates: r.TLS.PeerCertificates[1:]}, nil
}

// shownCertificate is the certificate that a request came with, in its time and with
// a key that is strong enough (FAPI 2.0 §5.4.1). It fails with clientcert.ErrNone
// where there is none.
func (s *Server) shownCertificate(ctx context.Context) (*clientcert.Presented, error) {
	certificate, ok := ctx.Value(shownKey{}).(shown)
	if !ok {
		return nil, clientcert.ErrNone
	}
	if certificate.err != nil {
		return nil, certificate.err
	}
	if err := clientcert.CheckKey(certificate.Leaf); err != nil {
		return nil, err
	}
	return certificate.Presented, clientcert.InTime(certificate.Leaf, s.now())
}
