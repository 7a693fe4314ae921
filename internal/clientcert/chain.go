package clientcert

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// maxIntermediates is one or two authorities between a certificate and its root,
	// and the root itself, which some send along.
	maxIntermediates = 3
	// maxComparisons bounds what the names in a chain may cost to hold against the
	// constraints in it: x509's own bound takes tens of milliseconds to reach.
	maxComparisons = 2000
)

var (
	errManyIntermediates = fmt.Errorf("more than %d certificates come with the client's", maxIntermediates)
	errNoAuthorities     = errors.New("there are no authorities to verify a certificate by")
	errNotALine          = errors.New("the certificates that come with the client's are not each the issuer of the one before, under a name of its own (RFC 8446 §4.4.2)")
	errNotForClients     = errors.New("the certificate is not one for clients: its extended key usage lacks clientAuth")
	errNotOfClients      = errors.New("an authority between the certificate and the known one is not for clients' certificates: its extended key usage lacks clientAuth")
)

// Verified is what holds of a certificate besides that it is one for clients, of an
// authority that is known.
type Verified struct {
	// NamesConstrained: an authority above it may give out some names only (RFC 5280
	// §4.2.1.10). Nothing holds its subject to them.
	NamesConstrained bool
}

// Verify holds that a certificate is of one of the authorities, for clients, at
// this time (RFC 8705 §2.1, RFC 5280 §6). The certificate must say itself that it
// is for clients (id-kp-clientAuth, RFC 5280 §4.2.1.12): one that says nothing
// may be a server's, or the authority's own.
//
// Anybody may have it called with certificates of their own making, so nothing is
// searched for: the certificates are a line, and the one farthest from the leaf is
// looked at first. A stranger's ends there, after one signature for each authority
// of that name; no other costs more than one for each certificate besides.
func (p *Presented) Verify(authorities *x509.CertPool, at time.Time) (Verified, error) {
	if authorities == nil { // x509 would take the system's
		return Verified{}, errNoAuthorities
	}
	line, err := p.line()
	if err != nil {
		return Verified{}, err
	}
	for _, c := range line {
		if err := CheckKey(c); err != nil {
			return Verified{}, err
		}
		if err := InTime(c, at); err != nil {
			return Verified{}, err
		}
	}
	top := line[len(line)-1]
	if _, err := top.Verify(options(authorities, nil, at, x509.ExtKeyUsageAny)); err != nil {
		// x509's texts quote the certificate, and it is a stranger's so far.
		return Verified{}, fmt.Errorf("the certificate is not of a known authority (%T)", err)
	}
	chains, err := p.Leaf.Verify(options(authorities, line[1:], at, x509.ExtKeyUsageClientAuth))
	// Whose it is before what it is for: whether one that anybody can have made says
	// that it is for clients is beside the point.
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage && forClients(p.Leaf):
		return Verified{}, errNotOfClients
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return Verified{}, errNotForClients
	case err != nil:
		return Verified{}, fmt.Errorf("the certificate is not of a known authority (%T)", err)
	}
	return CheckChains(chains, at)
}

func options(roots *x509.CertPool, between []*x509.Certificate, at time.Time, usage x509.ExtKeyUsage) x509.VerifyOptions {
	intermediates := x509.NewCertPool()
	for _, c := range between {
		intermediates.AddCert(c)
	}
	return x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
		MaxConstraintComparisions: maxComparisons,
	}
}

// line is the leaf and what leads from it to an authority, without a root at its
// end: x509 then finds one certificate at most to go on with from each.
func (p *Presented) line() ([]*x509.Certificate, error) {
	if len(p.Intermediates) > maxIntermediates {
		return nil, errManyIntermediates
	}
	line := append([]*x509.Certificate{p.Leaf}, p.Intermediates...)
	for i, c := range line[1:] {
		if !bytes.Equal(c.RawSubject, line[i].RawIssuer) {
			return nil, errNotALine
		}
		namesake := func(other *x509.Certificate) bool { return bytes.Equal(c.RawSubject, other.RawSubject) }
		if slices.ContainsFunc(line[1:i+1], namesake) {
			return nil, errNotALine
		}
	}
	if last := line[len(line)-1]; len(line) > 1 && bytes.Equal(last.RawSubject, last.RawIssuer) {
		line = line[:len(line)-1]
	}
	return line, nil
}

func forClients(c *x509.Certificate) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// CheckChains holds of chains that were verified, by Verify or by a TLS handshake
// some time ago, what x509 does not look at: that the certificate is for clients by
// its own word, with a key that is no weaker than others here; that none of a chain
// has expired; and that x509 has understood the constraints in it.
func CheckChains(chains [][]*x509.Certificate, at time.Time) (v Verified, err error) {
	if len(chains) == 0 || len(chains[0]) == 0 {
		return Verified{}, ErrNone
	}
	switch leaf := chains[0][0]; {
	case !forClients(leaf): // it is for anything, or for what it does not say
		return Verified{}, errNotForClients
	case CheckKey(leaf) != nil:
		return Verified{}, ErrKey
	}
	for _, chain := range chains { // one is enough
		if v, err = checkChain(chain, at); err == nil {
			return v, nil
		}
	}
	return Verified{}, err
}

func checkChain(chain []*x509.Certificate, at time.Time) (v Verified, err error) {
	for i, c := range chain {
		if err := InTime(c, at); err != nil {
			return Verified{}, err
		}
		if i == 0 {
			continue
		}
		constrained, err := constrainsNames(c)
		if err != nil {
			return Verified{}, err
		}
		v.NamesConstrained = v.NamesConstrained || constrained
	}
	return v, nil
}
