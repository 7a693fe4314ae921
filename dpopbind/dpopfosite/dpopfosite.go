// Package dpopfosite adds DPoP (RFC 9449) to the token endpoint of a server
// that is built on fosite.
//
// A DPoP wraps two things that the server has already:
//
//   - its client authentication, so that all of a proof that costs nothing is
//     checked before the client is looked up;
//   - the handler of one grant, so that the proof's signature is verified for
//     authenticated clients only, and the answer says token_type DPoP.
//
// It wraps a handler rather than being one more, since fosite runs every
// handler that matches and takes any nil for success: a handler for DPoP alone
// would make unknown grants succeed.
//
// The server's session carries the proof (see Session). Whoever makes the token
// must embed Proof().JKT() in it as cnf.jkt (RFC 9449 §6). The proof is spent in
// Config.Replay; a server that has none there must spend Proof().SpendKey() in the
// transaction that records the token, and keep it spent until
// Proof().AcceptedUntil().
package dpopfosite

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/span"
)

// TokenType is the token_type of a bound token (RFC 9449 §5).
const TokenType = "DPoP"

// Session is what the session of a token request must be: it carries the proof
// from the client authentication to whoever records the token.
type Session interface {
	fosite.Session
	SetProof(*dpopbind.Proof)
	Proof() *dpopbind.Proof // nil: the request carries none
}

// Config is what New needs.
type Config struct {
	// Checker checks the proofs.
	Checker *dpopbind.Checker
	// Target is POST and the URLs of the token endpoint.
	Target dpopbind.Target
	// Nonces are the server's nonces (RFC 9449 §8). Nil: it has none.
	Nonces *dpopbind.Nonces
	// NonceRequired tells whether this request's proof must carry one. It is
	// asked twice: before the client is authenticated, when GetClient is not the
	// client yet, and after. Nil: always, where there are Nonces.
	NonceRequired func(context.Context, fosite.AccessRequester) bool
	// Replay spends the proof just before the wrapped handler makes the token.
	// Nil: whoever records the token spends it, see the package's comment.
	Replay dpopbind.Replay
	// BearerAdmitted tells whether a request without a proof may have a bearer
	// token. It is asked after the wrapped handler has handled the request.
	// Nil: never.
	BearerAdmitted func(context.Context, fosite.AccessRequester) bool
}

// DPoP is made by New and is safe for concurrent use.
type DPoP struct{ config Config }

// New makes a DPoP. It refuses a Config without a Checker.
func New(config Config) (*DPoP, error) {
	if config.Checker == nil {
		return nil, errors.New("dpopfosite: a Checker is missing")
	}
	if config.NonceRequired != nil && config.Nonces == nil {
		return nil, errors.New("dpopfosite: nonces are required, and there are no Nonces")
	}
	return &DPoP{config: config}, nil
}

// ErrSession is returned where the request's session is not a Session.
var ErrSession = errors.New("dpopfosite: the session does not implement dpopfosite.Session")

// ClientAuthentication checks all of the request's proof that costs nothing,
// keeps it in the session, and then authenticates the client by next.
func (d *DPoP) ClientAuthentication(next fosite.ClientAuthenticationStrategy) fosite.ClientAuthenticationStrategy {
	return func(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
		_, checking := span.Begin(ctx, "check")
		proof, err := d.check(r.Header)
		if endSpan(checking, err); err != nil {
			return nil, refuse(err)
		}
		if proof != nil {
			request, ok := ctx.Value(fosite.AccessRequestContextKey).(fosite.AccessRequester)
			if !ok {
				return nil, ErrSession
			}
			session, ok := request.GetSession().(Session)
			if !ok {
				return nil, ErrSession
			}
			session.SetProof(proof)
			// A missing nonce is answered here, before anything is spent.
			if err := d.checkNonce(ctx, request, proof); err != nil {
				return nil, err
			}
		}
		return next(ctx, r, form)
	}
}

// endSpan ends what fosite's spans of a request are traced with: nothing, where the
// request's context has no span.
func endSpan(s span.Span, err error) {
	if err != nil {
		s.Fail("invalid_dpop_proof")
	}
	s.End()
}

// check returns nil without an error only where there is no DPoP header at all.
func (d *DPoP) check(h http.Header) (*dpopbind.Proof, error) {
	raw, err := dpopbind.ProofHeader(h)
	if errors.Is(err, dpopbind.ErrNoProof) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return d.config.Checker.Check(raw, d.config.Target)
}

// Handler wraps the handler of one grant. The server's client authentication
// must be wrapped too, or no request has a proof.
func (d *DPoP) Handler(next fosite.TokenEndpointHandler) fosite.TokenEndpointHandler {
	return &handler{TokenEndpointHandler: next, dpop: d}
}

type handler struct {
	fosite.TokenEndpointHandler
	dpop *DPoP
}

// HandleTokenEndpointRequest verifies the proof's signature, lets the wrapped
// handler handle the request, and refuses one without a proof where a bearer
// token is not admitted.
func (h *handler) HandleTokenEndpointRequest(ctx context.Context, request fosite.AccessRequester) error {
	if !h.CanHandleTokenEndpointRequest(ctx, request) {
		return fosite.ErrUnknownRequest
	}
	session, ok := request.GetSession().(Session)
	if !ok {
		return ErrSession
	}
	proof := session.Proof()
	if proof != nil {
		// Again, now that the client is known.
		if err := h.dpop.checkNonce(ctx, request, proof); err != nil {
			return err
		}
		_, verifying := span.Begin(ctx, "verify")
		err := proof.VerifySignature()
		if endSpan(verifying, err); err != nil {
			return refuse(err)
		}
	}
	if err := h.TokenEndpointHandler.HandleTokenEndpointRequest(ctx, request); err != nil {
		return err
	}
	if proof == nil && (h.dpop.config.BearerAdmitted == nil || !h.dpop.config.BearerAdmitted(ctx, request)) {
		return refuse(dpopbind.ErrNoProof)
	}
	return nil
}

// PopulateTokenEndpointResponse corrects the token_type that fosite hard-codes
// (RFC 9449 §5: it MUST be DPoP for a bound token).
func (h *handler) PopulateTokenEndpointResponse(ctx context.Context, request fosite.AccessRequester, response fosite.AccessResponder) error {
	if err := h.spend(ctx, request); err != nil {
		return err
	}
	if err := h.TokenEndpointHandler.PopulateTokenEndpointResponse(ctx, request, response); err != nil {
		return err
	}
	if session, ok := request.GetSession().(Session); ok && session.Proof() != nil {
		response.SetTokenType(TokenType)
	}
	return nil
}

// spend spends the request's proof where that is this package's to do.
func (h *handler) spend(ctx context.Context, request fosite.AccessRequester) error {
	session, ok := request.GetSession().(Session)
	if !ok || !h.CanHandleTokenEndpointRequest(ctx, request) {
		return fosite.ErrUnknownRequest
	}
	if h.dpop.config.Replay == nil || session.Proof() == nil {
		return nil
	}
	err := session.Proof().Spend(ctx, h.dpop.config.Replay)
	var unknown *dpopbind.ReplayUnknownError
	if errors.As(err, &unknown) { // a check that cannot be made refuses
		return (&fosite.RFC6749Error{
			ErrorField:       "temporarily_unavailable",
			DescriptionField: "The server cannot tell now whether the DPoP proof was used before. Try again shortly, with a new one.",
			CodeField:        http.StatusServiceUnavailable,
		}).WithWrap(err)
	}
	if err != nil {
		return refuse(err)
	}
	return nil
}

// refuse is RFC 9449 §5: 400 and invalid_dpop_proof. The *dpopbind.ProofError
// is wrapped, for logs and metrics.
func refuse(err error) error {
	description := "This request needs a DPoP proof: send exactly one DPoP header."
	var proofErr *dpopbind.ProofError
	if errors.As(err, &proofErr) {
		description = proofErr.Description
	}
	return (&fosite.RFC6749Error{
		ErrorField:       "invalid_dpop_proof",
		DescriptionField: description,
		CodeField:        http.StatusBadRequest,
	}).WithWrap(err)
}
