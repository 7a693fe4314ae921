package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// keys says where the issuer's keys are fetched, and by what: nil for a client of
// the middleware's own.
//
// dpopbind takes no keys by plain http from another host, since whoever is on the
// network could answer with keys of their own. A trial in a compose network has
// nothing else, so there, with an issuer that is plain http on this machine and no
// other, every connection for the keys goes to the host of -jwks-uri instead. No
// real service should copy that: it has https.
func (c config) keys() (jwksURI string, client *http.Client, err error) {
	u, err := url.Parse(c.jwksURI)
	if err != nil {
		return "", nil, fmt.Errorf("the -jwks-uri: %w", err)
	}
	if u.Scheme != "http" || !strings.HasPrefix(c.issuer, "http://") {
		return c.jwksURI, nil, nil
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	var dialer net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}
	return "http://localhost" + u.RequestURI(), &http.Client{Transport: transport}, nil
}
