package authz

import (
	"crypto/subtle"
	"errors"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientcert"
)

var errNoClientCert = errors.New("the gateway does not ask with client_cert=true")

// readCallCertificate reads with which certificate a caller has connected to its
// gateway, by the gateway's word (RFC 9440). A certificate is no secret: a gateway
// has to overwrite the header that a caller sends, and to say that it does. What
// cannot be read is no certificate: a token that is bound to one is refused for it,
// and no other.
func (s *Server) readCallCertificate(call *gatewayCall) {
	call.certificate, call.noCertificate = "", nil
	switch {
	case !call.api.AllowCertificateBound:
		return
	case !call.options.clientCert:
		call.noCertificate = errNoClientCert
		return
	}
	certificate, err := clientcert.FromHeader(call.request.Header)
	if err == nil {
		err = clientcert.InTime(certificate.Leaf, s.now())
	}
	if err == nil {
		err = clientcert.CheckKey(certificate.Leaf)
	}
	if err != nil {
		call.noCertificate = err
		return
	}
	call.certificate = clientcert.Thumbprint(certificate.Leaf)
}

// judgeCertificate is RFC 8705 §3: the certificate of the connection must be the
// token's. Whether anybody trusts it is of no matter; the token names it.
func judgeCertificate(call *gatewayCall, v Verdict) *dpopbind.Refusal {
	switch {
	case !call.api.AllowCertificateBound:
		return dpopbind.RefuseBearer()
	case call.certificate == "":
		refused := refuseCertificate("The access token is bound to a certificate, and the call came without one that is valid now: connect with the certificate that the token was asked for with.")
		refused.Cause = call.noCertificate
		return refused
	case !v.Certified, subtle.ConstantTimeCompare([]byte(v.Token.X5T), []byte(call.certificate)) != 1:
		return refuseCertificate("The access token is bound to another certificate than the one that the call came with.")
	}
	return refuseScopes(call, v.Token)
}

// refuseCertificate is RFC 8705 §3: 401 invalid_token.
func refuseCertificate(description string) *dpopbind.Refusal {
	refused := dpopbind.RefuseToken(description)
	refused.Scheme = dpopbind.SchemeBearer
	return refused
}
