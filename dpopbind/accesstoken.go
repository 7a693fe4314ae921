package dpopbind

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds on an access token and the strings in it, in bytes.
const (
	maxAccessToken = 8192
	maxTokenClaim  = 2048
	maxAudiences   = 64
)

// Caller is what an accepted access token says of the request's sender.
type Caller struct {
	ClientID string
	Subject  string // the ClientID, where a client acts for itself
	Scopes   []string
	JKT      string // the name of the key that the token is bound to, "" for a bearer token
	TokenID  string // the token's jti
	Expires  time.Time
}

// tokenError is the refusal of an access token. The text is fixed: it holds
// nothing of the token, and only what error_description may hold.
type tokenError string

func (e tokenError) Error() string { return "dpopbind: access token refused: " + string(e) }

// tokenVerifier validates access tokens as RFC 9068 §4 has it. Opaque tokens
// are not for it: they need introspection (RFC 7662).
type tokenVerifier struct {
	issuer     string
	resource   string
	algorithms []Algorithm
	skew       time.Duration
	now        func() time.Time
	keys       *keySet
}

// verify returns what a token says once its signature, its type, its issuer, its
// audience and its times hold. The error is a tokenError, or a
// *keysUnavailableError where no key could be had to judge it by.
func (v *tokenVerifier) verify(ctx context.Context, token string) (*Caller, error) {
	if len(token) > maxAccessToken {
		return nil, tokenError("The access token is too long.")
	}
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return nil, tokenError("The access token is not a signed JWT in compact serialization.")
	}
	header, err := tokenObject(part[0])
	if err != nil {
		return nil, err
	}
	kid, alg, err := v.checkHeader(header)
	if err != nil {
		return nil, err
	}
	signature, ok := decodeBase64URL(part[2])
	if !ok {
		return nil, tokenError("The access token is not canonical base64url.")
	}
	claims, err := tokenObject(part[1])
	if err != nil {
		return nil, err
	}
	// The claims come before the signature: they cost no key and no fetch.
	caller, err := v.checkClaims(claims)
	if err != nil {
		return nil, err
	}
	key, err := v.keys.find(ctx, kid, alg)
	if err != nil {
		return nil, err
	}
	input := token[:len(part[0])+1+len(part[1])]
	if len(signature) != signatureSize(key) || !verifyJWS(alg, key, input, signature) {
		return nil, tokenError("The access token's signature does not verify.")
	}
	return caller, nil
}

// tokenObject decodes a segment. Base64 that is not canonical, line breaks
// included, and JSON that two parsers could read in two ways are refused.
func tokenObject(segment string) (object, error) {
	b, ok := decodeBase64URL(segment)
	if !ok {
		return nil, tokenError("The access token is not canonical base64url.")
	}
	o, err := parseObject(b)
	if err != nil {
		return nil, tokenError("The access token's JSON is malformed or ambiguous.")
	}
	return o, nil
}

// checkHeader is RFC 9068 §4 on the JOSE header. Keys that the header brings or
// points to (jwk, jku, x5c, x5u) are never looked at.
func (v *tokenVerifier) checkHeader(o object) (kid string, alg Algorithm, err error) {
	// RFC 9068 §4: at+jwt or application/at+jwt; media types are compared
	// without regard to case (RFC 7515 §4.1.9, RFC 2045 §5.1).
	typ, _ := asString(o.get("typ"))
	if !strings.EqualFold(typ, "at+jwt") && !strings.EqualFold(typ, "application/at+jwt") {
		return "", "", tokenError("The token is not an access token: its typ must be at+jwt.")
	}
	// RFC 7515 §4.1.11 and RFC 7797 §6, as for proofs.
	if o.get("crit") != nil || o.get("b64") != nil {
		return "", "", tokenError("The access token has a critical header extension, and none is supported.")
	}
	name, _ := asString(o.get("alg"))
	if alg = Algorithm(name); !slices.Contains(v.algorithms, alg) { // RFC 8725 §3.1
		return "", "", tokenError("The access token is signed with an algorithm that is not accepted here.")
	}
	raw := o.get("kid")
	if raw == nil {
		return "", alg, nil
	}
	kid, ok := asString(raw)
	if !ok || kid == "" || len(kid) > maxKID {
		return "", "", tokenError("The access token's kid must be a string of 1 to 256 bytes.")
	}
	return kid, alg, nil
}

func (v *tokenVerifier) checkClaims(o object) (*Caller, error) {
	// RFC 9068 §4: iss is the issuer exactly. There is one issuer, whose keys
	// are the only ones.
	if iss, ok := asString(o.get("iss")); !ok || iss != v.issuer {
		return nil, tokenError("The access token is from another issuer.")
	}
	if !v.isAudience(o.get("aud")) {
		return nil, tokenError("The access token is for another resource: its aud is not this API.")
	}
	expires, err := v.checkTokenTimes(o)
	if err != nil {
		return nil, err
	}
	caller := &Caller{Expires: expires}
	// RFC 9068 §2.2: all REQUIRED.
	for _, claim := range []struct {
		name string
		into *string
	}{{"client_id", &caller.ClientID}, {"sub", &caller.Subject}, {"jti", &caller.TokenID}} {
		s, ok := asString(o.get(claim.name))
		if !ok || s == "" || len(s) > maxTokenClaim {
			return nil, tokenError("The access token's " + claim.name + " must be a string, and not empty.")
		}
		*claim.into = s
	}
	if raw := o.get("scope"); raw != nil {
		s, ok := asString(raw)
		if !ok {
			return nil, tokenError("The access token's scope must be a string.")
		}
		if caller.Scopes, ok = parseScope(s); !ok {
			return nil, tokenError("The access token's scope is malformed.")
		}
	}
	if caller.JKT, err = confirmedKey(o.get("cnf")); err != nil {
		return nil, err
	}
	return caller, nil
}

// isAudience says whether aud, a string or a list of strings, has the resource
// (RFC 9068 §4, RFC 7519 §4.1.3).
func (v *tokenVerifier) isAudience(raw []byte) bool {
	if aud, ok := asString(raw); ok {
		return aud == v.resource
	}
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) > maxAudiences {
		return false
	}
	found := false
	for _, item := range list {
		aud, ok := asString(item)
		if !ok {
			return false
		}
		found = found || aud == v.resource
	}
	return found
}

func (v *tokenVerifier) checkTokenTimes(o object) (expires time.Time, err error) {
	now := v.now()
	expires, ok := asTime(o.get("exp"))
	if !ok {
		return time.Time{}, tokenError("The access token's exp must be a time.")
	}
	if !now.Before(expires.Add(v.skew)) { // RFC 7519 §4.1.4: not on or after
		return time.Time{}, tokenError("The access token has expired.")
	}
	issued, ok := asTime(o.get("iat")) // RFC 9068 §2.2: REQUIRED
	if !ok {
		return time.Time{}, tokenError("The access token's iat must be a time.")
	}
	if now.Before(issued.Add(-v.skew)) {
		return time.Time{}, tokenError("The access token was issued in the future; check the clocks.")
	}
	if raw := o.get("nbf"); raw != nil { // RFC 7519 §4.1.5
		nbf, ok := asTime(raw)
		if !ok {
			return time.Time{}, tokenError("The access token's nbf must be a time.")
		}
		if now.Before(nbf.Add(-v.skew)) {
			return time.Time{}, tokenError("The access token is not valid yet; check the clocks.")
		}
	}
	return expires, nil
}

// confirmedKey returns the cnf's jkt (RFC 9449 §6.1), "" where there is no cnf
// at all. RFC 7800 §3.1 would have unknown members ignored; but each is another
// condition on the sender, and one that is not checked here is not met.
func confirmedKey(raw []byte) (jkt string, err error) {
	if raw == nil {
		return "", nil
	}
	const malformed = tokenError("The access token's cnf is not a DPoP binding: it must have jkt, and nothing else.")
	if raw[0] != '{' {
		return "", malformed
	}
	o, err := parseValidObject(raw)
	if err != nil || len(o) != 1 {
		return "", malformed
	}
	jkt, ok := asString(o.get("jkt"))
	thumbprint, canonical := decodeBase64URL(jkt)
	if !ok || !canonical || len(thumbprint) != 32 {
		return "", malformed
	}
	return jkt, nil
}

// parseScope reads a scope (RFC 6749 §3.3): names with one space between them.
func parseScope(s string) (names []string, ok bool) {
	if s == "" {
		return nil, true
	}
	names = strings.Split(s, " ")
	for _, name := range names {
		if !isScope(name) {
			return nil, false
		}
	}
	return names, true
}

// isScope says whether s is a scope-token of RFC 6749 §3.3.
func isScope(s string) bool {
	return s != "" && isNonce(s) // the same characters, NQCHAR
}

// keysUnavailableError says that no keys could be had to judge a token by. It is
// the resource server's failure (503), not the token's.
type keysUnavailableError struct{ cause error }

func (e *keysUnavailableError) Error() string {
	return fmt.Sprintf("dpopbind: the issuer's keys are unavailable: %v", e.cause)
}

func (e *keysUnavailableError) Unwrap() error { return e.cause }
