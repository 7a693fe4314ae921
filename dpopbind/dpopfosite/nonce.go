package dpopfosite

import (
	"context"
	"net/http"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind"
)

// NonceHeader carries a nonce to the client (RFC 9449 §8.1).
const NonceHeader = "DPoP-Nonce"

// ErrorUseNonce is the error code that asks for a proof with the nonce in
// NonceHeader (RFC 9449 §8).
const ErrorUseNonce = "use_dpop_nonce"

// Nonce is the value of NonceHeader for the answer to a request: on the error
// ErrorUseNonce always, and on a success where the nonce of its proof is aging,
// so that a well-behaved client is challenged once and never again. It is empty
// where no header is to be sent. fosite's writers know nothing of it: the server
// sets the header before it calls them.
func (d *DPoP) Nonce(session Session, err error) string {
	n := d.config.Nonces
	if n == nil {
		return ""
	}
	if err != nil {
		if fosite.ErrorToRFC6749Error(err).ErrorField == ErrorUseNonce {
			return n.Current()
		}
		return ""
	}
	if proof := session.Proof(); proof != nil && n.Check(proof.Nonce()) == dpopbind.NonceAging {
		return n.Current()
	}
	return ""
}

// checkNonce is RFC 9449 §4.3, check 10, for servers that have handed one out.
func (d *DPoP) checkNonce(ctx context.Context, request fosite.AccessRequester, proof *dpopbind.Proof) error {
	n := d.config.Nonces
	if n == nil || d.config.NonceRequired != nil && !d.config.NonceRequired(ctx, request) {
		return nil
	}
	if n.Check(proof.Nonce()) != dpopbind.NonceInvalid {
		return nil
	}
	description := "nonce: this server wants its nonce in the proof; make a new proof with the one in the DPoP-Nonce header"
	if proof.Nonce() != "" {
		description = "nonce: the one in the proof is too old or not of this server; make a new proof with the one in the DPoP-Nonce header"
	}
	return (&fosite.RFC6749Error{
		ErrorField:       ErrorUseNonce,
		DescriptionField: description,
		CodeField:        http.StatusBadRequest,
	}).WithWrap(&dpopbind.ProofError{Check: dpopbind.CheckNonce, Description: description})
}
