package clientcert

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
	"strings"
)

// Names are what a certificate calls its holder, each in the normal form that
// Normal… brings a registered name to, so that equal names are equal strings.
type Names struct {
	SubjectDN              string // RFC 4514; empty: the certificate has no subject
	DNS, URIs, IPs, Emails []string
}

var (
	errSAN      = errors.New("the certificate's subject alternative names are malformed")
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
	errNotIP    = errors.New("it is not an IP address, such as 192.0.2.7 or 2001:db8::7")
	errNotEmail = errors.New("it is not an email address, such as labels@example.com")
)

// The tags of RFC 5280 §4.2.1.6's GeneralName that are looked at.
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
	tagIP    = 7
)

// NamesOf reads the names from the certificate itself: what x509 makes of a URI is
// another spelling of it.
func NamesOf(c *x509.Certificate) (Names, error) {
	var n Names
	var err error
	if n.SubjectDN, err = subjectDN(c.RawSubject); err != nil {
		return Names{}, err
	}
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		if err := n.readSAN(e.Value); err != nil {
			return Names{}, err
		}
	}
	return n, nil
}

func (n *Names) readSAN(der []byte) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return errSAN
	}
	for _, name := range names {
		if name.Class != asn1.ClassContextSpecific {
			return errSAN
		}
		switch text := string(name.Bytes); name.Tag {
		case tagEmail:
			if email, err := NormalEmail(text); err == nil { // else it is nobody's
				n.Emails = append(n.Emails, email)
			}
		case tagDNS:
			n.DNS = append(n.DNS, lowerASCII(text)) // RFC 4343
		case tagURI:
			n.URIs = append(n.URIs, text)
		case tagIP:
			address, ok := netip.AddrFromSlice(name.Bytes) // RFC 8705 §2.1.2: by its bytes
			if !ok {
				return errSAN
			}
			n.IPs = append(n.IPs, address.String())
		}
	}
	return nil
}

// NormalIP returns the one spelling of an address (RFC 5952).
func NormalIP(text string) (string, error) {
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return "", errNotIP
	}
	return address.String(), nil
}

// NormalEmail brings the host to lower case; what is before it is told apart by
// case (RFC 5280 §7.5).
func NormalEmail(text string) (string, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 1 || at == len(text)-1 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errNotEmail
	}
	return text[:at+1] + lowerASCII(text[at+1:]), nil
}

// lowerASCII leaves all but A to Z as it is.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
