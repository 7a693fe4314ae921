package dpopbind

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// maxAudiences bounds the list of an access token's aud.
const maxAudiences = 64

// Caller is what an accepted access token says of the request's sender, or a
// gateway's assertion of the token that it accepted.
type Caller struct {
	ClientID string
	Subject  string // the ClientID, where a client acts for itself
	Scopes   []string
	JKT      string // the name of the DPoP key that the token is bound to, "" for none
	// X5T is the x5t#S256 (RFC 8705 §3.1) of the certificate that the token is bound
	// to instead, "" for none. Only a GatewayMiddleware has it: the issuer has compared
	// it with the certificate that the gateway says the call came with. Where both are
	// "", it was a bearer token.
	X5T     string
	TokenID string // the token's jti
	// Expires is the token's exp. An assertion's is no later, and mostly earlier.
	Expires time.Time
}

// tokenVerifier validates access tokens as RFC 9068 §4 has it. Opaque tokens
// are not for it: they need introspection (RFC 7662).
type tokenVerifier struct {
	jwtVerifier
	resource string
}

// isAccessTokenType is RFC 9068 §4: at+jwt or application/at+jwt; media types are
// compared without regard to case (RFC 7515 §4.1.9, RFC 2045 §5.1).
func isAccessTokenType(typ string) bool {
	return strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt")
}

// verify returns what a token says once its signature, its type, its issuer, its
// audience and its times hold. The error is jwtVerifier.verify's.
func (v *tokenVerifier) verify(ctx context.Context, token string) (*Caller, error) {
	var caller *Caller
	err := v.jwtVerifier.verify(ctx, token, func(claims object) (err error) {
		caller, err = v.checkClaims(claims)
		return err
	})
	if err != nil {
		return nil, err
	}
	return caller, nil
}

func (v *tokenVerifier) checkClaims(o object) (*Caller, error) {
	if err := v.checkIssuer(o); err != nil { // RFC 9068 §4
		return nil, err
	}
	if !v.isAudience(o.Get("aud")) {
		return nil, v.refuse(" is for another resource: its aud is not this API.")
	}
	_, expires, err := v.checkTimes(o)
	if err != nil {
		return nil, err
	}
	caller := &Caller{Expires: expires}
	// RFC 9068 §2.2: all REQUIRED.
	if caller.ClientID, err = v.text(o, "client_id"); err != nil {
		return nil, err
	}
	if caller.Subject, err = v.text(o, "sub"); err != nil {
		return nil, err
	}
	if caller.TokenID, err = v.text(o, "jti"); err != nil {
		return nil, err
	}
	if raw := o.Get("scope"); raw != nil {
		if caller.Scopes, err = v.scopes(raw); err != nil {
			return nil, err
		}
	}
	if caller.JKT, err = v.confirmedKey(o.Get("cnf")); err != nil {
		return nil, err
	}
	return caller, nil
}

// isAudience says whether aud, a string or a list of strings, has the resource
// (RFC 9068 §4, RFC 7519 §4.1.3).
func (v *tokenVerifier) isAudience(raw []byte) bool {
	if aud, ok := strictjose.AsString(raw); ok {
		return aud == v.resource
	}
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) > maxAudiences {
		return false
	}
	found := false
	for _, item := range list {
		aud, ok := strictjose.AsString(item)
		if !ok {
			return false
		}
		found = found || aud == v.resource
	}
	return found
}
