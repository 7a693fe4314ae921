package clientcert

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
)

var (
	errConstraint      = errors.New("an authority of the certificate's chain is held to kinds of names that are not understood here: only DNS, IP, email and URI names are")
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// asn1Constraints is RFC 5280 §4.2.1.10's NameConstraints: lists of subtrees, whose
// first element is the name. asn1 needs its fields exported.
type asn1Constraints struct {
	Permitted [][]asn1.RawValue `asn1:"optional,tag:0"`
	Excluded  [][]asn1.RawValue `asn1:"optional,tag:1"`
}

// constrainsNames tells whether an authority may give out some names only. It fails
// where one of the constraints is for a kind of name that x509 does not hold
// against it: RFC 5280 §6.1 wants all of them held, and x509 passes over such
// ones, such as of a directoryName, where the extension is not critical.
func constrainsNames(c *x509.Certificate) (bool, error) {
	found := false
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidNameConstraints) {
			continue
		}
		found = true
		if err := checkConstraints(e.Value); err != nil {
			return false, err
		}
	}
	return found, nil
}

func checkConstraints(der []byte) error {
	var constraints asn1Constraints
	if rest, err := asn1.Unmarshal(der, &constraints); err != nil || len(rest) > 0 {
		return errConstraint
	}
	for _, subtree := range append(constraints.Permitted, constraints.Excluded...) {
		if len(subtree) != 1 || subtree[0].Class != asn1.ClassContextSpecific { // no minimum or maximum
			return errConstraint
		}
		switch subtree[0].Tag {
		case tagEmail, tagDNS, tagURI, tagIP:
		default:
			return errConstraint
		}
	}
	return nil
}
