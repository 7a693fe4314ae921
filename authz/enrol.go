package authz

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/dpopfosite"
)

// maxOverlap is how long after a new key an old one may be asked to live on.
const maxOverlap = 90 * 24 * time.Hour

// enrolment answers POST /oauth/dpop-keys.
type enrolment struct {
	JKT        string `json:"jkt"`
	EndorsedBy string `json:"endorsed_by"`
}

// enrol answers POST /oauth/dpop-keys, which is this server's own: a client
// enrols a successor of its DPoP key, so that keys rotate without an operator.
// Three things have to come together: the client's credentials, a DPoP proof by
// the new key (RFC 9449 §4.3), and an endorsement by an enrolled one.
func (s *Server) enrol(w http.ResponseWriter, r *http.Request, ev *event) error {
	form, err := s.parse(r)
	if err != nil {
		return err
	}
	asked, err := s.readEnrolment(r.Header, form)
	if asked.proof != nil {
		ev.proofOffset = new(asked.proof.Offset())
	}
	if err != nil {
		return err
	}
	client, err := s.authenticateClient(r.Context(), r.Header, form)
	if err != nil {
		return err
	}
	ev.clientID, ev.credential = client.ID, client.Credential
	// RFC 9449 §8: a missing or stale nonce is answered before anything is spent.
	nonce := s.nonces.Check(asked.proof.Nonce())
	if nonce == dpopbind.NonceInvalid && (s.requireNonce || client.RequireNonce) {
		return s.errUseNonce()
	}
	_, verifying := s.step(r.Context(), "verify")
	err = asked.verify(client)
	if verifying.end(err); err != nil {
		return err
	}
	ev.jkt = asked.proof.JKT()
	if err := s.recordEnrolment(r, ev, client, asked); err != nil {
		return err
	}
	if nonce == dpopbind.NonceAging { // RFC 9449 §8.2
		w.Header().Set(dpopfosite.NonceHeader, s.nonces.Current())
	}
	_, answering := s.step(r.Context(), "answer")
	writeJSON(w, http.StatusOK, enrolment{JKT: asked.proof.JKT(), EndorsedBy: asked.endorsement.By()})
	answering.end(nil)
	return nil
}

// askedEnrolment is what a request brings, of which no signature is verified yet.
type askedEnrolment struct {
	proof       *dpopbind.Proof
	endorsement *dpopbind.Endorsement
	// byEndsAt is when the endorsing key is to end; zero: no sooner than it does.
	byEndsAt time.Time
}

// readEnrolment makes every check that costs nothing.
func (s *Server) readEnrolment(h http.Header, form url.Values) (asked askedEnrolment, err error) {
	raw, err := dpopbind.ProofHeader(h)
	if errors.Is(err, dpopbind.ErrNoProof) {
		e := errProof(err)
		e.description = "This request needs a DPoP proof by the new key: send exactly one DPoP header."
		return asked, e
	}
	if err != nil {
		return asked, errProof(err)
	}
	if asked.proof, err = s.checker.Check(raw, s.enrolTarget); err != nil {
		return asked, errProof(err)
	}
	if !form.Has("endorsement") {
		return asked, errInvalidRequest("The parameter endorsement is missing: a JWS by a DPoP key of this client that is enrolled.")
	}
	if asked.endorsement, err = s.checker.CheckEndorsement(form.Get("endorsement"), s.issuer); err != nil {
		return asked, errEndorsement(err)
	}
	if !form.Has("expires_in") {
		return asked, nil
	}
	seconds, err := strconv.ParseUint(form.Get("expires_in"), 10, 31)
	if err != nil || time.Duration(seconds)*time.Second > maxOverlap {
		return asked, errInvalidRequest("The parameter expires_in is how many seconds the endorsing key stays: 0 to 7776000.")
	}
	asked.byEndsAt = s.now().Add(time.Duration(seconds) * time.Second)
	return asked, nil
}

// verify holds the two signatures to what they say, and to each other.
func (a *askedEnrolment) verify(client *Client) error {
	if err := a.proof.VerifySignature(); err != nil {
		return errProof(err)
	}
	if err := a.endorsement.VerifySignature(); err != nil {
		return errEndorsement(err)
	}
	switch {
	case a.endorsement.ClientID() != client.ID:
		return errEndorsement(dpopbind.EndorsementError("Its iss must be the client_id."))
	case a.endorsement.JKT() != a.proof.JKT():
		return errEndorsement(dpopbind.EndorsementError("It is for another key than the one that the DPoP proof is by."))
	}
	return nil
}

// recordEnrolment spends both and enrols the key, in one step.
func (s *Server) recordEnrolment(r *http.Request, ev *event, client *Client, asked askedEnrolment) (err error) {
	ctx, recording := s.step(r.Context(), "spend and record")
	defer func() { recording.end(err) }()
	audit := NewAuditEvent(s.now(), AuditDPoPKeyEnrolled, actorClient(client.ID))
	audit.RequestID, audit.RemoteAddr = ev.requestID, ev.remote
	audit.Detail = map[string]any{"by": "jkt:" + asked.endorsement.By(), "credential": client.Credential}
	if !asked.byEndsAt.IsZero() {
		audit.Detail["by_ends_at"] = asked.byEndsAt
	}
	proof, endorsement := asked.proof, asked.endorsement
	asksStore(ctx)
	err = s.store.EndorseKey(ctx, Endorsement{
		Caller: client.Caller(), JKT: proof.JKT(), By: endorsement.By(), ByEndsAt: asked.byEndsAt, Assertion: client.Assertion,
		Spent: []Spending{
			{Digest: proof.SpendKey(), IssuedAt: proof.IssuedAt(), Window: s.proofWindow},
			{Digest: endorsement.SpendKey(), IssuedAt: endorsement.IssuedAt(), Window: s.endorsementWindow},
		},
	}, audit)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrProofSpent):
		e := errProofSpent()
		e.description = "This DPoP proof or this endorsement was used before. Make both anew, with a new jti, for each request."
		return e
	case errors.Is(err, ErrAssertionSpent):
		return errAssertionSpent(client.ID)
	case errors.Is(err, ErrNotEndorsed):
		e := errEndorsement(dpopbind.EndorsementError("It is by a key that is not enrolled for this client, or that has ended or is revoked; or this client's keys are not enrolled at all."))
		e.cause = &refusedEndorsement{client.ID, endorsement.By(), proof.JKT()}
		return e
	case errors.Is(err, ErrKeyNotAdmitted):
		return errKeyNotAdmitted(client.ID, proof.JKT())
	case errors.Is(err, ErrTooManyKeys):
		e := errInvalidRequest("This client has 100 DPoP keys already, ended ones included. Ask an operator.")
		e.cause = err
		return e
	case errors.Is(err, ErrClientChanged):
		return errInvalidClient(err)
	default:
		return errUnavailable("enrolling the key", err)
	}
}

// errProof is RFC 9449 §5.
func errProof(cause error) *oauthError {
	e := &oauthError{status: http.StatusBadRequest, code: "invalid_dpop_proof", cause: proofCause(cause)}
	var refused *dpopbind.ProofError
	if errors.As(cause, &refused) {
		e.description = refused.Description
	}
	return e
}

// errEndorsement is the answer to an endorsement that does not hold.
func errEndorsement(cause error) *oauthError {
	e := &oauthError{status: http.StatusBadRequest, code: "invalid_endorsement", cause: cause}
	var refused dpopbind.EndorsementError
	if errors.As(cause, &refused) {
		e.description = "The endorsement does not hold. " + string(refused)
	}
	return e
}

// errUseNonce is RFC 9449 §8.
func (s *Server) errUseNonce() *oauthError {
	description := "nonce: this server wants its nonce in the proof; make a new proof with the one in the DPoP-Nonce header"
	return &oauthError{
		status: http.StatusBadRequest, code: codeUseNonce, description: description,
		header: http.Header{"Dpop-Nonce": {s.nonces.Current()}},
		cause:  &dpopbind.ProofError{Check: dpopbind.CheckNonce, Description: description},
	}
}
