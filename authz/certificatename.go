package authz

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cargokey/authz/internal/clientcert"
)

// validateTLSName holds RFC 8705 §2.1.2: exactly one name, for exactly this
// method. It is brought to the form that clientcert.Names has it in.
func (c *Client) validateTLSName() error {
	name := &c.TLSName
	text := name.String()
	given := 0
	for _, one := range []string{name.SubjectDN, name.DNS, name.URI, name.IP, name.Email} {
		if one != "" {
			given++
		}
	}
	switch {
	case c.AuthMethod != TLSClientAuth && given > 0:
		return fmt.Errorf("client %s: a certificate's name is for the authentication method %s only", c.ID, TLSClientAuth)
	case c.AuthMethod != TLSClientAuth:
		return nil
	// A gateway's authorities are not the clients' own, and neither are their listeners.
	case len(c.Grants) > 0 && len(c.Introspects) > 0:
		return fmt.Errorf("client %s: %s is for a gateway at the gateways' listener, or for a client that asks for tokens; register two", c.ID, TLSClientAuth)
	case given != 1:
		return fmt.Errorf("client %s: %s needs one name of its certificate: its subject, a DNS name, a URI, an IP address or an email address", c.ID, TLSClientAuth)
	case len(text) > 255 || name.SubjectDN == "" && strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("client %s: the certificate's name %q is longer than 255 bytes or has other than visible ASCII", c.ID, text)
	}
	if err := name.normalize(); err != nil {
		return fmt.Errorf("client %s: the certificate's name %q: %w", c.ID, text, err)
	}
	return nil
}

func (n *CertificateName) normalize() (err error) {
	switch {
	case n.SubjectDN != "":
		n.SubjectDN, err = clientcert.NormalDN(n.SubjectDN)
	case n.IP != "":
		n.IP, err = clientcert.NormalIP(n.IP)
	case n.Email != "":
		n.Email, err = clientcert.NormalEmail(n.Email)
	case n.DNS != "" && (strings.Contains(n.DNS, "*") || strings.ToLower(n.DNS) != n.DNS):
		err = errors.New("a DNS name is to be in lower case, without a wildcard")
	case n.URI != "":
		if u, parsed := url.Parse(n.URI); parsed != nil || !u.IsAbs() || u.Host == "" {
			err = errors.New("it is no URI, such as spiffe://example.com/gateway")
		}
	}
	return err
}

// namesOf are the names that a client, or a gateway, could be known by. A subject is
// none under an authority that may give out some names only: it would be outside
// of what that authority is held to.
func namesOf(c *x509.Certificate, verified clientcert.Verified) ([]CertificateName, error) {
	read, err := clientcert.NamesOf(c)
	if err != nil {
		return nil, err
	}
	var names []CertificateName
	if read.SubjectDN != "" && !verified.NamesConstrained {
		names = append(names, CertificateName{SubjectDN: read.SubjectDN})
	}
	for _, dns := range read.DNS {
		names = append(names, CertificateName{DNS: dns})
	}
	for _, uri := range read.URIs {
		names = append(names, CertificateName{URI: uri})
	}
	for _, ip := range read.IPs {
		names = append(names, CertificateName{IP: ip})
	}
	for _, email := range read.Emails {
		names = append(names, CertificateName{Email: email})
	}
	return names, nil
}
