package authz

// CertificateTerms are what a client is registered with of mutual TLS, and can be
// changed.
type CertificateTerms struct {
	Name  CertificateName // Client.TLSName
	Bound bool            // Client.CertificateBound
}

// CertificateTerms returns the client's.
func (c *Client) CertificateTerms() CertificateTerms {
	return CertificateTerms{c.TLSName, c.CertificateBound}
}

// ReplaceCertificateTerms gives a client other terms than those it has, or says what
// is wrong with them. What it has already is not judged anew, so that a name can be
// taken back whatever else was changed since.
func (c *Client) ReplaceCertificateTerms(to CertificateTerms) error {
	begins := to.Bound && !c.CertificateBound
	c.TLSName, c.CertificateBound = to.Name, to.Bound
	if err := c.validateTLSName(); err != nil {
		return err
	}
	if begins {
		return c.validateBinding()
	}
	return nil
}

// String is the name, whichever of the five it is; "" is none.
func (n CertificateName) String() string {
	return n.SubjectDN + n.DNS + n.URI + n.IP + n.Email
}
