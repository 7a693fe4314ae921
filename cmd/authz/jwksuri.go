package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// jwksURINetworks are those that keys may be fetched from besides public ones.
func (c *config) jwksURINetworks() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.JwksUriNetworks {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || network != network.Masked() {
			return nil, badValue("AUTHZ_JWKS_URI_NETWORKS", text, fieldTag("JwksUriNetworks", "desc"))
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// jwksURIAuthorities are the system's and those of the file; nil: the system's.
func (c *config) jwksURIAuthorities() (*x509.CertPool, error) {
	if c.JwksUriCAFile == "" {
		return nil, nil
	}
	pool, err := systemAnd(c.JwksUriCAFile)
	if err != nil {
		return nil, fmt.Errorf("AUTHZ_JWKS_URI_CA_FILE: %w", err)
	}
	return pool, nil
}

// systemAnd are the system's authorities and those of a file.
func systemAnd(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's authorities: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(file + " has no certificate in PEM")
	}
	return pool, nil
}
