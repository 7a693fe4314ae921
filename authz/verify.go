package authz

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// pathVerify is the check for gateways, on the internal listener.
const pathVerify = "/gateway/verify"

// gatewayCall is a call under check, with what becomes known of it on the way.
type gatewayCall struct {
	request   *http.Request
	event     *event
	claim     GatewayClaim
	table     *gatewayTable
	gateway   *Gateway
	options   verifyOptions
	original  originalRequest
	api       *api     // nil: no resource of the gateway is known to be at the URL
	path      string   // below the api's base URL
	scopes    []string // that the call needs
	presented dpopbind.Presentation
	proof     *dpopbind.Proof // nil: a bearer token
	nonce     dpopbind.NonceState
	// certificate is the caller's, by the gateway's word: x5t#S256, "" for none, and
	// why there is none.
	certificate   string
	noCertificate error
	// proofOffset is of a proof that was refused for its time.
	proofOffset time.Duration
}

// verify answers a gateway whether a call of an API may pass (RFC 9449 §7, for
// gateways that cannot check a proof themselves). All checks that need no
// database come first, the gateway's own credentials before all; the rest, and
// the spending of the proof, is one statement.
func (s *Server) verify(w http.ResponseWriter, r *http.Request, ev *event) error {
	_, parsing := s.step(r.Context(), "parse")
	claim, err := readGatewayClaim(r)
	parsing.end(err)
	if err == nil && claim.Secret != nil && !s.profile.admitsMethod(ClientSecretBasic) {
		err = errSecretRuledOut
	}
	if err != nil {
		return errGatewayUnknown(err)
	}
	call := &gatewayCall{request: r, event: ev, claim: claim}
	token, err := s.admitCall(r.Context(), call)
	outcome := tallyAdmitted
	if err != nil {
		outcome = tallyRefused
	}
	if call.api != nil {
		ev.resource = call.api.URI
	}
	if ev.gatewayID != "" {
		s.tally.add(AuditCallVerified, ev.gatewayID, ev.resource, outcome)
	}
	if err != nil {
		return err
	}
	ev.clientID, ev.jti, ev.jkt, ev.x5t, ev.tokenType = token.ClientID, token.JTI, token.JKT, token.X5T, tokenType(*token)
	return s.passCall(w, r, call, token)
}

// Outcomes of a call in the tally.
const (
	tallyAdmitted = "admitted"
	tallyRefused  = "refused"
)

// admitCall makes all checks, and makes them again where something has changed
// since this instance read the gateway table: at once where the Store has another
// revision, for which it spends nothing, and within gatewayTableAge where the call
// was refused before that, if only to one that is a gateway no more.
func (s *Server) admitCall(ctx context.Context, call *gatewayCall) (*Token, error) {
	begun := time.Now()
	// Somebody else's reading may have begun before the call, so twice may not do.
	for attempt := range 3 {
		call.table = s.gateways.loaded.Load()
		if err := s.prepareCall(ctx, call); err != nil {
			newer, failed := s.gateways.refresh(ctx, call.table)
			switch {
			case failed != nil:
				return nil, errUnavailable("reading the gateway table", failed)
			case newer && attempt == 0:
				continue
			}
			return nil, err
		}
		// A table that was read since the call came knows all that was registered
		// before it: what has changed meanwhile counts for the next one.
		fresh := !call.table.at.Before(begun)
		admitting, asking := s.step(ctx, "spend and record")
		verdict, err := s.store.AdmitCall(admitting, s.storeCall(call, fresh), s.now())
		asking.end(err)
		switch {
		case err != nil:
			return nil, errUnavailable("checking the call", err)
		case fresh || verdict.Revision == call.table.revision:
			return s.judge(call, verdict)
		}
		if err := s.gateways.reload(ctx, call.table); err != nil {
			return nil, errUnavailable("reading the gateway table", err)
		}
	}
	return nil, errUnavailable("checking the call", errors.New("the gateway table is older than its reading"))
}

// prepareCall makes every check that needs no database, the cheap ones first.
func (s *Server) prepareCall(ctx context.Context, call *gatewayCall) error {
	call.api, call.event.gatewayID, call.event.credential = nil, "", ""
	_, authenticating := s.step(ctx, "authenticate")
	gateway, credential, err := call.table.identify(call.claim, s.now())
	if err != nil {
		err = errGatewayUnknown(err)
	}
	if authenticating.end(err); err != nil {
		return err
	}
	call.event.gatewayID, call.event.credential, call.gateway = gateway.ID, credential, gateway
	if call.options, err = readVerifyOptions(call.request); err != nil {
		return err
	}
	if call.original, err = readOriginalRequest(call.request); err != nil {
		return s.refuseOriginal(err)
	}
	call.event.call = call.original.method + " " + call.original.url
	found, path := call.table.find(call.original.url)
	if found == nil || !gateway.fronts(found.URI) || call.options.resource != "" && call.options.resource != found.URI {
		return s.refuseNotFronted(call)
	}
	call.api, call.path = found, path
	if found.broken != nil {
		return errUnavailable("reading the routes", found.broken)
	}
	if call.scopes, err = s.neededScopes(call); err != nil {
		return err
	}
	if refused := s.readPresented(ctx, call); refused != nil {
		return s.refuseCall(call, refused)
	}
	return nil
}

// neededScopes are the gateway's and the route's.
func (s *Server) neededScopes(call *gatewayCall) ([]string, error) {
	if !containsAll(call.api.Scopes, call.options.scopes) {
		e := errGatewayRequest("It asks for a scope that the resource does not define.")
		e.cause = fmt.Errorf("%s does not define all of the scopes %q", call.api.URI, call.options.scopes)
		return nil, e
	}
	if call.api.routes == nil {
		return call.options.scopes, nil
	}
	scopes, ok := call.api.routes.find(call.original.method, call.path)
	if !ok {
		return nil, s.refuseCall(call, refuseForbidden("This API has no route for this method and path."))
	}
	for _, scope := range call.options.scopes {
		if !containsAll(scopes, []string{scope}) {
			scopes = append(scopes[:len(scopes):len(scopes)], scope)
		}
	}
	return scopes, nil
}

// readPresented is what dpopbind.Middleware checks of a request before it knows
// the token: RFC 9449 §7.1 and §4.3.
func (s *Server) readPresented(ctx context.Context, call *gatewayCall) *dpopbind.Refusal {
	header := call.request.Header
	presented, refused := dpopbind.ReadPresentation(header, call.original.query)
	if refused != nil {
		return refused
	}
	call.presented = presented
	switch {
	case presented.Scheme == "":
		return dpopbind.RefuseNoToken()
	case presented.Scheme == dpopbind.SchemeDPoP:
		return s.readCallProof(ctx, call)
	case !call.api.AllowBearer && !call.api.AllowCertificateBound: // RFC 9449 §7.2
		return dpopbind.RefuseBearer()
	case len(header.Values("DPoP")) > 0:
		return dpopbind.RefuseProofWithBearer()
	}
	s.readCallCertificate(call)
	return nil
}

func (s *Server) readCallProof(ctx context.Context, call *gatewayCall) *dpopbind.Refusal {
	raw, err := dpopbind.ProofHeader(call.request.Header)
	if errors.Is(err, dpopbind.ErrNoProof) {
		return dpopbind.RefuseMissingProof()
	}
	if err != nil {
		return dpopbind.RefuseProof(err)
	}
	if call.proof, err = s.checker.CheckWithToken(raw, call.original.target, call.presented.Token); err != nil {
		var e *dpopbind.ProofError
		if errors.As(err, &e) {
			call.proofOffset = e.Offset
		}
		return dpopbind.RefuseProof(err)
	}
	call.event.proofOffset = new(call.proof.Offset())
	call.nonce = s.nonces.Check(call.proof.Nonce())
	if call.nonce == dpopbind.NonceInvalid && (s.requireNonce || call.api.RequireNonce) { // RFC 9449 §9
		return dpopbind.RefuseNonce()
	}
	_, verifying := s.step(ctx, "verify")
	err = call.proof.VerifySignature()
	if verifying.end(err); err != nil {
		return dpopbind.RefuseProof(err)
	}
	return nil
}

func (s *Server) storeCall(call *gatewayCall, anyRevision bool) Call {
	c := Call{
		AnyRevision: anyRevision, Revision: call.table.revision, Resource: call.api.URI, Generation: call.api.generation,
		Token: DigestOf(call.presented.Token), Scopes: call.scopes, NonceFresh: call.nonce != dpopbind.NonceInvalid,
		X5T: call.certificate,
	}
	if p := call.proof; p != nil {
		c.JKT = p.JKT()
		c.Proof = &Spending{Digest: p.SpendKey(), IssuedAt: p.IssuedAt(), Window: s.proofWindow}
	}
	return c
}

// judge answers by what the Store knows.
func (s *Server) judge(call *gatewayCall, v Verdict) (*Token, error) {
	if refused := s.judgeToken(call, v); refused != nil {
		return nil, s.refuseCall(call, refused)
	}
	return v.Token, nil
}

// judgeToken tells what is wrong with a call by what the Store knows, in the order in
// which its sender can mend it. Whatever it finds the Store has found too, and
// has spent nothing; the last two checks make sure.
func (s *Server) judgeToken(call *gatewayCall, v Verdict) *dpopbind.Refusal {
	t := v.Token
	switch {
	case t == nil:
		return dpopbind.RefuseToken("The access token is unknown, expired, revoked or for another API: ask for a new one.")
	case call.proof == nil && t.JKT != "": // RFC 9449 §7.2
		return dpopbind.RefuseBoundAsBearer()
	case call.proof == nil && t.X5T != "":
		return judgeCertificate(call, v)
	case call.proof == nil && !call.api.AllowBearer:
		return dpopbind.RefuseBearer()
	case call.proof == nil:
		return refuseScopes(call, t)
	case t.JKT == "": // RFC 9449 §7.1
		return dpopbind.RefuseUnboundToken()
	// RFC 9449 §4.3, check 12, second half.
	case subtle.ConstantTimeCompare([]byte(t.JKT), []byte(call.proof.JKT())) != 1:
		return dpopbind.RefuseOtherKey()
	}
	if refused := refuseScopes(call, t); refused != nil {
		return refused
	}
	if v.ClientNonce && call.nonce == dpopbind.NonceInvalid { // RFC 9449 §9
		return dpopbind.RefuseNonce()
	}
	if !v.Spent { // RFC 9449 §11.1
		return dpopbind.RefuseProof(&dpopbind.ProofError{Check: dpopbind.CheckReplay,
			Description: "jti: this proof was used before; make a new one, with a new jti, for each request"})
	}
	// What is past its time the Store may have forgotten, and the checks before
	// may have taken long.
	if s.now().After(call.proof.AcceptedUntil()) {
		return dpopbind.RefuseProof(&dpopbind.ProofError{Check: dpopbind.CheckIAT,
			Description: "iat: the proof expired while the request was checked; make a new one"})
	}
	return nil
}

func refuseScopes(call *gatewayCall, t *Token) *dpopbind.Refusal {
	if !containsAll(strings.Fields(t.Scope), call.scopes) {
		return dpopbind.RefuseScope(call.scopes...)
	}
	return nil
}

// passCall answers that the call may pass, and what the API behind may want to
// know of its caller.
func (s *Server) passCall(w http.ResponseWriter, r *http.Request, call *gatewayCall, t *Token) (err error) {
	ctx, answering := s.step(r.Context(), "answer")
	defer func() { answering.end(err) }()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Auth-Client-Id", t.ClientID)
	h.Set("X-Auth-Scope", t.Scope)
	h.Set("X-Auth-Token-Id", t.JTI.String())
	if t.JKT != "" {
		h.Set("X-Auth-Jkt", t.JKT)
	}
	if call.options.assertion {
		assertion, err := s.assertion(ctx, call, t)
		if err != nil {
			return fmt.Errorf("making the assertion: %w", err)
		}
		h.Set("X-Auth-Assertion", assertion)
	}
	if call.nonce == dpopbind.NonceAging { // RFC 9449 §8.2
		h.Set("DPoP-Nonce", s.nonces.Current())
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
