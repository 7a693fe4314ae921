package authz

import (
	"context"
	"errors"
	"net/http"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind/dpopfosite"
)

// tokenResponse is RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"` // DPoP (RFC 9449 §5) or Bearer
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

// token answers POST /oauth/token (RFC 6749 §4.4, RFC 8707, RFC 9449 §5). The
// way of a request: its form here, then in fosite's order the proof but for its
// signature (dpopfosite), the client (clientauth.go), the signature
// (dpopfosite), the grant (grant.go), the token (mint.go), and recordToken.
func (s *Server) token(w http.ResponseWriter, r *http.Request, ev *event) error {
	form, err := s.parse(r)
	if err != nil {
		return err
	}
	switch form.Get("grant_type") {
	case grantType:
	case "":
		return errInvalidRequest("The parameter grant_type is missing: set it to client_credentials.")
	default:
		return errUnsupportedGrant()
	}
	state := &session{event: ev, asked: asked{scope: form.Get("scope"), resource: form.Get("resource")}}
	if err := state.asked.validate(); err != nil {
		return err
	}
	ev.asked = state.asked // only now: it costs the square of the number of scopes to look at
	// fosite sees neither: it takes the square of the number of scopes before it
	// knows the client. Nor its own parameter audience, which is nothing here.
	for _, name := range []string{"scope", "resource", "audience"} {
		form.Del(name)
	}
	r.Form, r.PostForm = form, form // so that fosite parses nothing again

	response, err := s.grantToken(r, state)
	if state.proof != nil {
		ev.proofOffset = new(state.proof.Offset())
	}
	if state.proof != nil && state.client != nil { // its signature is verified before the grant is looked for
		ev.jkt = state.proof.JKT()
	}
	if nonce := s.dpop.Nonce(state, err); nonce != "" {
		w.Header().Set(dpopfosite.NonceHeader, nonce)
	}
	if err != nil {
		return err
	}
	ev.tokenType = tokenType(state.token)
	s.metrics.tokensIssued.inc(ev.tokenType)
	_, answering := s.step(r.Context(), "answer")
	writeJSON(w, http.StatusOK, tokenResponse{
		AccessToken: response.GetAccessToken(),
		TokenType:   ev.tokenType,
		ExpiresIn:   state.token.ExpiresAt.Unix() - state.token.IssuedAt.Unix(),
		Scope:       state.token.Scope,
	})
	answering.end(nil)
	return nil
}

// maxMintings bounds how often a token is made because the key that signed it
// was revoked just then.
const maxMintings = 3

// grantToken takes the request through fosite.
func (s *Server) grantToken(r *http.Request, state *session) (fosite.AccessResponder, error) {
	request, err := s.oauth2.NewAccessRequest(r.Context(), r, state)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		response, err := s.oauth2.NewAccessResponse(r.Context(), request)
		if !errors.Is(err, ErrSigningKeyRevoked) || attempt == maxMintings {
			return response, err
		}
		// The key was revoked since this instance read it. Nothing was recorded: what
		// is asked for is made again, by the key that took over.
		if err := s.keys.renew(r.Context(), trusts(state.token.KID)); err != nil {
			s.log.Error("the signing keys could not be read anew", "cause", err)
		}
	}
}

// tokenType is RFC 6749 §7.1's, by whether the token is bound to a DPoP key (RFC
// 9449 §5). One that is bound to a certificate is of type Bearer (RFC 8705 §3).
func tokenType(t Token) string {
	if t.JKT != "" {
		return dpopfosite.TokenType
	}
	return bearerType
}

const bearerType = "Bearer" // RFC 6750 §6.1.1

func tokenTypes() []string { return []string{dpopfosite.TokenType, bearerType} }

// recordToken spends the proof and the assertion and records the token, in one step; no token
// leaves the server that did not get past here.
func (s *Server) recordToken(ctx context.Context, state *session) (err error) {
	ctx, recording := s.step(ctx, "spend and record")
	defer func() { recording.end(err) }()
	state.token.Credential = state.client.Credential
	ev, t := state.event, state.token
	ev.jti, ev.jkt, ev.x5t = t.JTI, t.JKT, t.X5T
	audit := NewAuditEvent(t.IssuedAt, AuditTokenIssued, actorClient(t.ClientID))
	audit.ClientID, audit.Resource, audit.JTI, audit.JKT = t.ClientID, t.Resource, t.JTI, t.JKT
	audit.RequestID, audit.RemoteAddr = ev.requestID, ev.remote
	detail := issuedDetail{token: t, format: state.client.TokenFormat, userAgent: product(ev.userAgent)}
	if state.proof != nil {
		detail.offset = new(state.proof.Offset())
	}
	audit.DetailJSON = detail.json()

	issue := Issue{
		Token: t, Assertion: state.client.Assertion, Event: audit,
		Revision: state.client.Revision, ResourceRevision: state.grant.Revision,
	}
	if p := state.proof; p != nil {
		issue.Proof = &Spending{
			Digest:   p.SpendKey(),
			IssuedAt: p.IssuedAt(),
			// Two proofs of one name exclude each other while both could be
			// accepted: their iats lie at most a lifetime and twice the skew apart.
			Window: s.proofWindow,
		}
	}
	asksStore(ctx)
	switch err := s.store.RecordToken(ctx, issue); {
	case err == nil:
		return nil
	case errors.Is(err, ErrProofSpent):
		return errProofSpent()
	case errors.Is(err, ErrAssertionSpent):
		return errAssertionSpent(t.ClientID)
	case errors.Is(err, ErrKeyNotAdmitted):
		return errKeyNotAdmitted(t.ClientID, t.JKT)
	case errors.Is(err, ErrClientChanged):
		return errInvalidClient(err)
	default:
		return errUnavailable("recording the token", err)
	}
}
