package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/cargokey/authz/authz"
)

type clientCertMode string

// Set is called by envconfig.
func (m *clientCertMode) Set(s string) error {
	if s != "off" && s != "request" {
		return errors.New("off or request")
	}
	*m = clientCertMode(s)
	return nil
}

// tlsClientAuth is what the public listener asks in its handshake. A certificate
// that nobody has signed must get through it (RFC 8705 §2.2).
func (c *config) tlsClientAuth() tls.ClientAuthType {
	if c.TLSClientCert == "request" {
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// validateClientCerts checks the variables for certificates of clients, but not
// what is in files.
func (c *config) validateClientCerts() error {
	if c.TLSClientCert == "request" && c.TLSCertFile == "" {
		return errors.New("AUTHZ_TLS_CLIENT_CERT is request, and there is no TLS of this server's own to ask in: set AUTHZ_TLS_CERT_FILE and AUTHZ_TLS_KEY_FILE, or AUTHZ_CLIENT_CERT_PROXIES where a proxy ends TLS")
	}
	if _, err := c.clientCertProxies(); err != nil {
		return err
	}
	shown := c.TLSClientCert == "request" || len(c.ClientCertProxies) > 0
	if (c.TLSClientCAFile != "" || c.MtlsURL != "") && !shown {
		return errors.New("AUTHZ_TLS_CLIENT_CA_FILE and AUTHZ_MTLS_URL are of no use while no certificate of a client reaches the server: set AUTHZ_TLS_CLIENT_CERT to request, or AUTHZ_CLIENT_CERT_PROXIES")
	}
	if c.MtlsURL != "" {
		if err := authz.ValidateIssuer(c.MtlsURL); err != nil { // the same rules
			return fmt.Errorf("%w: %w", badValue("AUTHZ_MTLS_URL", c.MtlsURL, fieldTag("MtlsURL", "desc")), err)
		}
	}
	return nil
}

func (c *config) clientCertProxies() ([]netip.Prefix, error) {
	return proxiesOf("ClientCertProxies", c.ClientCertProxies)
}

func (c *config) trustedProxies() ([]netip.Prefix, error) {
	return proxiesOf("TrustedProxies", c.TrustedProxies)
}

// proxiesOf names the variable that is wrong.
func proxiesOf(field string, list []string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, text := range list {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, badValue(variableName(field), text, fieldTag(field, "desc"))
		}
		if err := authz.ValidateProxies(p); err != nil {
			return nil, fmt.Errorf("%w: %w", badValue(variableName(field), text, fieldTag(field, "desc")), err)
		}
		proxies = append(proxies, p)
	}
	return proxies, nil
}

// clientCertificates is what the server is told of all this.
func (c *config) clientCertificates(log *slog.Logger) (authz.ClientCertificates, error) {
	proxies, err := c.clientCertProxies()
	if err != nil {
		return authz.ClientCertificates{}, err
	}
	certificates := authz.ClientCertificates{Requested: c.TLSClientCert == "request", Proxies: proxies, URL: c.MtlsURL}
	if c.TLSClientCAFile == "" {
		return certificates, nil
	}
	authorities := newAuthorities(c.TLSClientCAFile, log)
	if _, err := authorities.get(); err != nil {
		return authz.ClientCertificates{}, fmt.Errorf("AUTHZ_TLS_CLIENT_CA_FILE: %w", err)
	}
	certificates.Authorities = func() *x509.CertPool {
		known, _ := authorities.get() // what was read once stays
		return known.pool
	}
	return certificates, nil
}
