package clientcert

import (
	"cmp"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDN bounds a distinguished name as text.
const maxDN = 1 << 10

var (
	errDN      = errors.New("it is not a distinguished name by RFC 4514, such as CN=labels,O=Example,C=DE")
	errSubject = errors.New("the certificate's subject is malformed")
)

// attribute is one type and value of a relative distinguished name. A value that
// is text is the same whatever kind of ASN.1 string it was; any other is # and its
// DER in hexadecimal.
type attribute struct {
	oid   string
	text  string
	other string // # and the DER of what is no text
}

// relative is a relative distinguished name: a set of attributes.
type relative []attribute

// short are the names of RFC 4514 §3, and two more that openssl prints. The
// first nine are written too.
var short = []struct{ name, oid string }{
	{"CN", "2.5.4.3"}, {"L", "2.5.4.7"}, {"ST", "2.5.4.8"}, {"O", "2.5.4.10"}, {"OU", "2.5.4.11"}, {"C", "2.5.4.6"},
	{"STREET", "2.5.4.9"}, {"DC", "0.9.2342.19200300.100.1.25"}, {"UID", "0.9.2342.19200300.100.1.1"},
	{"SERIALNUMBER", "2.5.4.5"}, {"EMAILADDRESS", "1.2.840.113549.1.9.1"},
}

// NormalDN brings a distinguished name (RFC 4514) to the one spelling that equal
// names have: the types of RFC 4514 §3 by their names and all others by numbers,
// no space that counts for nothing, and escaped what is not printable ASCII.
//
// Values are told apart byte by byte, by case too. RFC 4517's distinguishedNameMatch
// would take more names for the same; a certificate that an authority made for a
// registered name has it as it was written.
func NormalDN(text string) (string, error) {
	if len(text) > maxDN || !utf8.ValidString(text) {
		return "", errDN
	}
	p := &dnParser{rest: text}
	var name []relative
	for {
		rdn, err := p.relative()
		if err != nil {
			return "", err
		}
		name = append(name, rdn)
		if p.rest == "" {
			return writeDN(name), nil
		}
		if p.rest[0] != ',' {
			return "", errDN
		}
		p.rest = p.rest[1:]
	}
}

// dnParser reads RFC 4514 §3. Spaces around separators, which it has no place for,
// are passed over, as openssl and others write them.
type dnParser struct{ rest string }

func (p *dnParser) relative() (relative, error) {
	var rdn relative
	for {
		a, err := p.attribute()
		if err != nil {
			return nil, err
		}
		rdn = append(rdn, a)
		if p.rest == "" || p.rest[0] != '+' {
			return rdn, nil
		}
		p.rest = p.rest[1:]
	}
}

func (p *dnParser) attribute() (attribute, error) {
	kind, rest, ok := strings.Cut(p.rest, "=")
	oid, known := oidOf(strings.Trim(kind, " "))
	if !ok || !known {
		return attribute{}, errDN
	}
	p.rest = strings.TrimLeft(rest, " ")
	if strings.HasPrefix(p.rest, "#") {
		return p.hexValue(oid)
	}
	text, err := p.value()
	return attribute{oid: oid, text: text}, err
}

// hexValue reads # and the DER of a value (RFC 4514 §2.4).
func (p *dnParser) hexValue(oid string) (attribute, error) {
	end := strings.IndexAny(p.rest, ",+")
	if end < 0 {
		end = len(p.rest)
	}
	der, err := hex.DecodeString(strings.TrimRight(p.rest[1:end], " "))
	p.rest = p.rest[end:]
	var raw asn1.RawValue
	if err != nil {
		return attribute{}, errDN
	}
	if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) > 0 {
		return attribute{}, errDN
	}
	return newAttribute(oid, raw), nil
}

// value reads a value's text up to a separator.
func (p *dnParser) value() (string, error) {
	var b strings.Builder
	solid := 0 // how much of it does not end in bare spaces
	for p.rest != "" && p.rest[0] != ',' && p.rest[0] != '+' {
		switch c := p.rest[0]; {
		case c == '\\':
			escaped, err := p.escaped()
			if err != nil {
				return "", err
			}
			b.WriteByte(escaped)
			solid = b.Len()
		case strings.IndexByte("\";<>\x00", c) >= 0: // RFC 4514 §3: only escaped
			return "", errDN
		default:
			b.WriteByte(c)
			p.rest = p.rest[1:]
			if c != ' ' {
				solid = b.Len()
			}
		}
	}
	text := b.String()[:solid]
	if !utf8.ValidString(text) {
		return "", errDN
	}
	return text, nil
}

// escaped reads a backslash and what it escapes: a special character, or a byte
// in hexadecimal.
func (p *dnParser) escaped() (byte, error) {
	if len(p.rest) >= 2 && strings.IndexByte(` "#+,;<=>\`, p.rest[1]) >= 0 {
		c := p.rest[1]
		p.rest = p.rest[2:]
		return c, nil
	}
	if len(p.rest) < 3 {
		return 0, errDN
	}
	b, err := hex.DecodeString(p.rest[1:3])
	if err != nil {
		return 0, errDN
	}
	p.rest = p.rest[3:]
	return b[0], nil
}

// oidOf knows a type by its name, in any case (RFC 4512 §1.4), or by its numbers.
func oidOf(kind string) (string, bool) {
	for _, s := range short {
		if strings.EqualFold(s.name, kind) {
			return s.oid, true
		}
	}
	parts := strings.Split(kind, ".")
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return "", false
		}
	}
	return kind, len(parts) >= 2
}

// The types that asn1 fills in; the suffix SET says what they are to it.
type (
	asn1Attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	asn1RelativeSET []asn1Attribute
)

// subjectDN is NormalDN of a certificate's subject, "" for an empty one.
func subjectDN(der []byte) (string, error) {
	var sequence []asn1RelativeSET
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "", errSubject
	}
	var name []relative
	for _, set := range sequence {
		var rdn relative
		for _, a := range set {
			rdn = append(rdn, newAttribute(a.Type.String(), a.Value))
		}
		if len(rdn) == 0 {
			return "", errSubject
		}
		name = append(name, rdn)
	}
	slices.Reverse(name) // RFC 4514 §2.1: the last one comes first
	return writeDN(name), nil
}

func newAttribute(oid string, v asn1.RawValue) attribute {
	isText := v.Class == asn1.ClassUniversal && !v.IsCompound &&
		slices.Contains([]int{asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString}, v.Tag)
	if !isText || !utf8.Valid(v.Bytes) {
		return attribute{oid: oid, other: "#" + hex.EncodeToString(v.FullBytes)}
	}
	return attribute{oid: oid, text: string(v.Bytes)}
}

// writeDN is the normal form.
func writeDN(name []relative) string {
	var rdns []string
	for _, rdn := range name {
		// A set has no order.
		slices.SortFunc(rdn, func(a, b attribute) int {
			return cmp.Or(cmp.Compare(a.oid, b.oid), cmp.Compare(a.text, b.text), cmp.Compare(a.other, b.other))
		})
		var attributes []string
		for _, a := range rdn {
			attributes = append(attributes, a.String())
		}
		rdns = append(rdns, strings.Join(attributes, "+"))
	}
	return strings.Join(rdns, ",")
}

func (a attribute) String() string {
	kind := a.oid
	for _, s := range short[:9] {
		if s.oid == a.oid {
			kind = s.name
		}
	}
	if a.other != "" {
		return kind + "=" + a.other
	}
	return kind + "=" + escapeValue(a.text)
}

// escapeValue is RFC 4514 §2.4.
func escapeValue(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		edge := c == ' ' && (i == 0 || i == len(text)-1) || c == '#' && i == 0
		switch {
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%02X`, c)
		case edge || strings.IndexByte("\"+,;<>\\", c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
