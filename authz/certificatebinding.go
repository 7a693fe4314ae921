package authz

import (
	"context"
	"net/http"

	"github.com/cargokey/authz/internal/clientcert"
)

// bindCertificate decides what a token without a DPoP proof is bound to, for a
// client whose tokens are bound (RFC 8705 §3). The certificate needs no trust for
// that: to have its private key is enough.
func (s *Server) bindCertificate(ctx context.Context, state *session) error {
	if state.proof != nil || !state.client.CertificateBound || state.client.DPoPKeys != AnyKey {
		return nil
	}
	if !state.grant.AllowCertificateBound {
		return errNoBinding("This resource admits no tokens that are bound to a certificate. Send a DPoP proof: exactly one DPoP header.")
	}
	certificate, err := s.shownCertificate(ctx)
	if err != nil {
		e := errNoBinding("This client's tokens are bound to a certificate, and the request came with none that is valid now. Connect with the client's certificate (mutual TLS), or send a DPoP proof.")
		e.cause = err
		return e
	}
	state.x5t = clientcert.Thumbprint(certificate.Leaf)
	return nil
}

// errNoBinding answers a request for a token that could be bound to nothing. A
// certificate is not part of the request, so it is the proof that is missing.
func errNoBinding(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_dpop_proof", description: description}
}
