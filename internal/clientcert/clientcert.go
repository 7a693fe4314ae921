// Package clientcert reads certificates that clients present (RFC 8705): by
// their own TLS connection, or by a proxy's word of one (RFC 9440). It tells what
// a certificate is called, whether it is of an authority, and whose key is in it.
//
// It decides nothing about who may speak for a client: its callers say whether
// a proxy is to be believed, and that whoever shows a certificate has its private
// key. What is in a certificate it does not trust: all of it may be hostile.
package clientcert

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"time"
)

// Presented is a certificate as it was shown, with what may lead from it to an
// authority. Nothing of it has been verified.
type Presented struct {
	Leaf          *x509.Certificate
	Intermediates []*x509.Certificate
}

// Errors of what a client presents.
var (
	// ErrNone: no certificate was presented.
	ErrNone = errors.New("no certificate was presented")
	// ErrTime: the certificate's validity has not begun, or has ended.
	ErrTime = errors.New("the certificate is not valid at this time")
)

// Thumbprint is RFC 8705 §3.1's x5t#S256: SHA-256 of the certificate's DER, as 43
// characters of base64url.
func Thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// InTime fails with ErrTime. A connection may outlive the certificate that it was
// made with, so it is asked at each request.
func InTime(c *x509.Certificate, at time.Time) error {
	if at.Before(c.NotBefore) || at.After(c.NotAfter) {
		return ErrTime
	}
	return nil
}
