package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// clientTLS is what a command that is a client shows, and whom it believes.
type clientTLS struct{ certFile, keyFile, authorities string }

func (t *clientTLS) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.certFile, "cert", "", "a certificate to show in TLS, with its chain, PEM; alone, what it authenticates by")
	c.Flags().StringVar(&t.keyFile, "cert-key", "", "the certificate's private key, PEM")
	c.Flags().StringVar(&t.authorities, "ca", "", "authorities to believe besides the system's, PEM (SSL_CERT_FILE names others instead of those)")
	c.MarkFlagsRequiredTogether("cert", "cert-key")
	for _, name := range []string{"cert", "cert-key", "ca"} {
		completeFiles(c, name)
	}
}

// transport is the default one, but for what the flags say.
func (t *clientTLS) transport() (http.RoundTripper, error) {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default transport is another one")
	}
	transport := standard.Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if t.authorities != "" {
		var err error
		if transport.TLSClientConfig.RootCAs, err = systemAnd(t.authorities); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	if t.certFile != "" {
		pair, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		// Whatever authorities the server names: a certificate that the client made
		// itself is of none of them (RFC 8705 §2.2).
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	return transport, nil
}
