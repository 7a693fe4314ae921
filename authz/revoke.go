package authz

import (
	"errors"
	"net/http"
	"net/url"
)

// revoke answers POST /oauth/revoke (RFC 7009). It answers 200 only for a
// token that is inactive from then on: its own token just revoked, or one that
// never was or is no more.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request, ev *event) error {
	caller, form, err := s.authenticatedForm(r, ev)
	if err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return errInvalidRequest("The parameter token is missing.")
	}
	if err := s.spendAssertion(r.Context(), caller); err != nil {
		return err
	}
	// token_type_hint is not needed (RFC 7009 §2.1: it may be ignored).
	audit := NewAuditEvent(s.now(), AuditTokenRevoked, actorClient(caller.ID))
	audit.RequestID, audit.RemoteAddr = ev.requestID, ev.remote
	audit.Detail = map[string]any{"credential": caller.Credential}
	if agent := product(ev.userAgent); agent != "" {
		audit.Detail["user_agent"] = agent
	}
	asksStore(r.Context())
	ctx, recording := s.step(r.Context(), "revoke and record")
	revoked, err := s.store.RevokeToken(ctx, DigestOf(token), caller.Caller(), audit)
	recording.end(err)
	switch {
	case errors.Is(err, ErrNotFound): // RFC 7009 §2.2: an invalid token is no error
	case errors.Is(err, ErrNotOwner): // RFC 7009 §2.1
		return errUnauthorizedClient("This token was issued to another client, and stays as it is.")
	case errors.Is(err, ErrClientChanged):
		return errInvalidClient(err)
	case err != nil: // RFC 7009 §2.2.1
		return errUnavailable("revoking the token", err)
	default:
		ev.jti, ev.jkt, ev.resource = revoked.JTI, revoked.JKT, revoked.Resource
	}
	_, answering := s.step(r.Context(), "answer")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	answering.end(nil)
	return nil
}

// authenticatedForm is how requests to introspection and revocation begin.
func (s *Server) authenticatedForm(r *http.Request, ev *event) (*Client, url.Values, error) {
	form, err := s.parse(r)
	if err != nil {
		return nil, nil, err
	}
	caller, err := s.authenticateClient(r.Context(), r.Header, form)
	if err != nil {
		return nil, nil, err
	}
	ev.clientID, ev.credential = caller.ID, caller.Credential
	return caller, form, nil
}
