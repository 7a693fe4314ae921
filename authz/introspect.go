package authz

import (
	"errors"
	"net/http"
)

// introspection is RFC 7662 §2.2, with the cnf of RFC 9449 §6.2 and RFC 8705 §3.2.
type introspection struct {
	Active    bool          `json:"active"`
	Scope     string        `json:"scope"`
	ClientID  string        `json:"client_id"`
	TokenType string        `json:"token_type"`
	Subject   string        `json:"sub"`
	Audience  string        `json:"aud"`
	Issuer    string        `json:"iss"`
	JTI       JTI           `json:"jti"`
	IssuedAt  int64         `json:"iat"`
	NotBefore int64         `json:"nbf"`
	Expires   int64         `json:"exp"`
	Confirm   *confirmation `json:"cnf,omitempty"`
}

// inactive is RFC 7662 §2.2: nothing more is said of a token that is not active.
type inactive struct {
	Active bool `json:"active"` // false
}

// introspect answers POST /oauth/introspect (RFC 7662, RFC 9701). The token is told by
// its digest, whatever its form. A token that is unknown, altered, expired,
// revoked, of a disabled client or of a resource that the caller does not
// front gets the same answer, from the same code.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request, ev *event) error {
	w.Header().Set("Vary", "Accept") // RFC 9110 §12.5.5: the form of the answer is the request's choice
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
	asksStore(r.Context())
	ctx, looking := s.step(r.Context(), "look up")
	t, err := s.store.ActiveToken(ctx, DigestOf(token), caller.Caller(), s.now())
	looking.end(err)
	if errors.Is(err, ErrClientChanged) {
		return errInvalidClient(err)
	}
	if err == nil && !s.profile.holds(t) {
		err = ErrNotFound
	}
	active := err == nil
	ev.active = &active
	switch {
	case errors.Is(err, ErrNotFound):
		s.tally.add(AuditTokenIntrospected, caller.ID, "", "inactive")
		return s.writeIntrospection(w, r, caller, inactive{})
	case err != nil:
		return errUnavailable("reading the token", err)
	}
	ev.jti, ev.jkt, ev.x5t, ev.resource = t.JTI, t.JKT, t.X5T, t.Resource
	s.tally.add(AuditTokenIntrospected, caller.ID, t.Resource, "active")
	return s.writeIntrospection(w, r, caller, introspection{
		Active: true, Scope: t.Scope, ClientID: t.ClientID, TokenType: tokenType(*t),
		Subject: t.ClientID, Audience: t.Resource, Issuer: s.issuer, JTI: t.JTI,
		IssuedAt: t.IssuedAt.Unix(), NotBefore: t.IssuedAt.Unix(), Expires: t.ExpiresAt.Unix(),
		Confirm: confirm(*t),
	})
}
