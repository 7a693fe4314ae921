package dpopbind

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// gatewayAssertionType is the typ of an assertion, and by it alone it is no access
// token (RFC 8725 §3.11).
const gatewayAssertionType = "gateway-assertion+jwt"

// maxAssertionLife is the longest that an assertion may be valid for. It is made
// for one request and used at once.
const maxAssertionLife = time.Minute

// assertion is what a gateway's assertion says: who sent which request.
type assertion struct {
	caller          Caller
	id              string // its own jti
	issued, expires time.Time
}

// spendKey names the assertion for a Replay. No proof is named alike: the name of
// one begins with a thumbprint.
func (a *assertion) spendKey(issuer string) [32]byte {
	return spendKey(gatewayAssertionType, issuer, a.id)
}

// assertionHeader returns the one X-Auth-Assertion of a request. A second one, or
// one that an intermediary joined to it (RFC 9110 §5.3), is somebody else's.
func assertionHeader(h http.Header) (jwt string, refused *Refusal) {
	values := h.Values("X-Auth-Assertion")
	switch len(values) {
	case 0:
		return "", refuseAssertion("The request has no X-Auth-Assertion.")
	case 1:
		return values[0], nil
	}
	return "", refuseAssertion("The request has more than one X-Auth-Assertion.")
}

// assertionVerifier verifies what the authorization server asserts to the API
// behind a gateway.
type assertionVerifier struct {
	jwtVerifier
	resource string
}

// verify returns what an assertion says that is the issuer's, of now, and about
// the target. The error is jwtVerifier.verify's.
func (v *assertionVerifier) verify(ctx context.Context, jwt string, target Target) (*assertion, error) {
	var a *assertion
	err := v.jwtVerifier.verify(ctx, jwt, func(claims object) (err error) {
		a, err = v.checkClaims(claims, target)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (v *assertionVerifier) checkClaims(o object, target Target) (*assertion, error) {
	if err := v.checkIssuer(o); err != nil {
		return nil, err
	}
	if err := v.checkRequest(o, target); err != nil {
		return nil, err
	}
	var (
		a   assertion
		err error
	)
	if a.issued, a.expires, err = v.checkTimes(o); err != nil {
		return nil, err
	}
	if !a.expires.After(a.issued) || a.expires.Sub(a.issued) > maxAssertionLife {
		return nil, v.refuse("'s exp must be at most 60 s after its iat.")
	}
	for _, claim := range []struct {
		name string
		into *string
	}{
		{"jti", &a.id}, {"client_id", &a.caller.ClientID}, {"sub", &a.caller.Subject}, {"token_jti", &a.caller.TokenID},
	} {
		if *claim.into, err = v.text(o, claim.name); err != nil {
			return nil, err
		}
	}
	if a.caller.Scopes, err = v.scopes(o.Get("scope")); err != nil {
		return nil, err
	}
	if a.caller.JKT, a.caller.X5T, err = v.confirmed(o.Get("cnf")); err != nil {
		return nil, err
	}
	a.caller.Expires = a.expires
	return &a, nil
}

// confirmed returns what the token is bound to: a DPoP key (RFC 9449 §6.1) or a
// certificate (RFC 8705 §3.1). The issuer has held the call to either, and the API
// has seen neither.
func (v *assertionVerifier) confirmed(raw []byte) (jkt, x5t string, err error) {
	if raw == nil {
		return "", "", nil
	}
	malformed := v.refuse("'s cnf must have jkt or x5t#S256, and nothing else.")
	if jkt, ok := onlyThumbprint(raw, "jkt"); ok {
		return jkt, "", nil
	}
	if x5t, ok := onlyThumbprint(raw, "x5t#S256"); ok {
		return "", x5t, nil
	}
	return "", "", malformed
}

// checkRequest holds an assertion to the request that it comes with: an assertion
// about another API, method or URL opens nothing.
func (v *assertionVerifier) checkRequest(o object, target Target) error {
	// One resource, as a string: there is never a second one to confuse it with.
	if aud, ok := strictjose.AsString(o.Get("aud")); !ok || aud != v.resource {
		return v.refuse(" is for another resource: its aud is not this API.")
	}
	if htm, ok := strictjose.AsString(o.Get("htm")); !ok || htm != target.method { // RFC 9110 §9.1: case-sensitive
		return v.refuse(" is for another method: its htm is not the request's.")
	}
	// Both sides are normalised, so that equal URLs are equal strings.
	if htu, ok := strictjose.AsString(o.Get("htu")); !ok || !slices.Contains(target.urls, htu) {
		return v.refuse(" is for another URL: its htu is not a base URL of this API with the path of the request.")
	}
	return nil
}
