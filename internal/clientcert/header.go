package clientcert

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// The header fields of RFC 9440 §2.
const (
	Header      = "Client-Cert"
	ChainHeader = "Client-Cert-Chain"
)

// maxField bounds a certificate as it is written in a header: most take 1 to 3 KiB.
const maxField = 16 << 10

var (
	errTwice      = errors.New("the header Client-Cert came twice: whoever forwards it has to overwrite what its caller sent")
	errLong       = errors.New("the header Client-Cert is longer than 16 KiB")
	errForm       = errors.New("the header Client-Cert is neither a byte sequence (RFC 9440) nor one URL-encoded PEM certificate")
	errChain      = errors.New("the header Client-Cert-Chain is not a list of at most 3 byte sequences (RFC 9440), or longer than 16 KiB each")
	errNotDER     = errors.New("what the header Client-Cert encodes is not one certificate")
	errChainAlone = errors.New("there is a header Client-Cert-Chain, and no Client-Cert")
)

// FromHeader reads RFC 9440's headers, which whoever calls must believe: Client-Cert
// once, and Client-Cert-Chain, if there is one. In place of a byte sequence
// Client-Cert may be one certificate as URL-encoded PEM, since nginx and Envoy can
// write nothing else. It fails with ErrNone where there is no Client-Cert or an
// empty one, which is how some proxies say that there was no certificate.
func FromHeader(h http.Header) (*Presented, error) {
	values := h.Values(Header)
	switch {
	case len(values) > 1:
		return nil, errTwice
	case len(values) == 0 || values[0] == "" || values[0] == "::":
		if strings.Join(h.Values(ChainHeader), "") != "" {
			return nil, errChainAlone
		}
		return nil, ErrNone
	case len(values[0]) > maxField:
		return nil, errLong
	}
	der, err := decodeField(values[0])
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der) // it refuses what follows a certificate
	if err != nil {
		return nil, errNotDER
	}
	chain, err := readChain(h.Values(ChainHeader))
	if err != nil {
		return nil, err
	}
	return &Presented{Leaf: leaf, Intermediates: chain}, nil
}

func decodeField(value string) (der []byte, err error) {
	if strings.HasPrefix(value, ":") {
		return decodeBytes(value)
	}
	return decodePEM(value)
}

// decodeBytes reads a byte sequence (RFC 8941 §3.3.5), which has no parameters
// here (RFC 9440 §2.1). RFC 8941 §4.2.7 lets a parser insist on padding.
func decodeBytes(item string) ([]byte, error) {
	inner, begins := strings.CutPrefix(item, ":")
	inner, ends := strings.CutSuffix(inner, ":")
	// Go's decoder skips line breaks.
	if !begins || !ends || inner == "" || strings.ContainsAny(inner, "\r\n") {
		return nil, errForm
	}
	der, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil {
		return nil, errForm
	}
	return der, nil
}

// decodePEM reads what nginx has in $ssl_client_escaped_cert, and Envoy in
// %DOWNSTREAM_PEER_CERT%: one PEM block (RFC 7468), URL-encoded.
func decodePEM(value string) ([]byte, error) {
	const begin = "-----BEGIN CERTIFICATE-----"
	text, err := url.PathUnescape(value) // a plus sign is itself
	if err != nil || !strings.HasPrefix(text, begin) {
		return nil, errForm
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 ||
		strings.Count(text, begin) != 1 { // or pem.Decode has passed over a first one
		return nil, errForm
	}
	return block.Bytes, nil
}

// readChain reads Client-Cert-Chain, a list of byte sequences (RFC 9440 §2.3),
// which may be on several lines (RFC 8941 §3.1).
func readChain(lines []string) ([]*x509.Certificate, error) {
	list := strings.Trim(strings.Join(lines, ","), " \t")
	if list == "" || len(lines) > maxIntermediates || strings.Count(list, ",") >= maxIntermediates {
		if list == "" {
			return nil, nil
		}
		return nil, errChain
	}
	var chain []*x509.Certificate
	for item := range strings.SplitSeq(list, ",") {
		if len(item) > maxField {
			return nil, errChain
		}
		der, err := decodeBytes(strings.Trim(item, " \t"))
		if err != nil {
			return nil, errChain
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errChain
		}
		chain = append(chain, c)
	}
	return chain, nil
}
