package clientcert

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what a stranger can have verified: a chain is a leaf, one or two
// authorities between, and a root; and crypto/tls, which a proxy may not be, takes
// no longer keys either.
const (
	maxIntermediates = 5
	maxRSABits       = 8192
)

var (
	errManyIntermediates = fmt.Errorf("more than %d certificates come with the client's", maxIntermediates)
	errNoAuthorities     = errors.New("there are no authorities to verify a certificate by")
	errLongKey           = fmt.Errorf("a certificate has an RSA key of more than %d bits", maxRSABits)
	errNotForClients     = errors.New("the certificate is not one for clients: its extended key usage lacks clientAuth")
	errNotOfClients      = errors.New("an authority between the certificate and the known one is not for clients' certificates: its extended key usage lacks clientAuth")
)

// Verify holds that a certificate is of one of the authorities, for clients, at
// this time (RFC 8705 §2.1, RFC 5280 §6). The certificate must say itself that it
// is for clients (id-kp-clientAuth, RFC 5280 §4.2.1.12): one that says nothing
// may be a server's, or the authority's own.
func (p *Presented) Verify(authorities *x509.CertPool, at time.Time) error {
	switch {
	case authorities == nil: // x509 would take the system's
		return errNoAuthorities
	case len(p.Intermediates) > maxIntermediates:
		return errManyIntermediates
	case slices.ContainsFunc(append([]*x509.Certificate{p.Leaf}, p.Intermediates...), hasLongKey):
		return errLongKey
	}
	if err := InTime(p.Leaf, at); err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, c := range p.Intermediates {
		intermediates.AddCert(c)
	}
	_, err := p.Leaf.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	// Whose it is before what it is for: whether one that anybody can have made says
	// that it is for clients is beside the point.
	var invalid x509.CertificateInvalidError
	forClients := slices.Contains(p.Leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage && forClients:
		return errNotOfClients
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return errNotForClients
	case err != nil:
		// x509's texts quote the certificate, and it is a stranger's so far.
		return fmt.Errorf("the certificate is not of a known authority (%T)", err)
	case !forClients: // of an authority, and for anything or for what it does not say
		return errNotForClients
	}
	return nil
}

func hasLongKey(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() > maxRSABits
}
