package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Bounds on a JWT of the issuer's and the strings in it, in bytes.
const (
	maxSignedJWT  = 8192
	maxTokenClaim = 2048
)

// tokenError is the refusal of a JWT that the issuer should have signed. The text
// is fixed: it holds nothing of the JWT, and only what error_description may hold.
type tokenError string

func (e tokenError) Error() string { return "dpopbind: token refused: " + string(e) }

// errUnknownKey says that the issuer publishes no key of that name.
var errUnknownKey = errors.New("dpopbind: the issuer publishes no such key")

// keysUnavailableError says that no keys could be had to judge a token by. It is
// the resource server's failure (503), not the token's.
type keysUnavailableError struct{ cause error }

func (e *keysUnavailableError) Error() string {
	return fmt.Sprintf("dpopbind: the issuer's keys are unavailable: %v", e.cause)
}

func (e *keysUnavailableError) Unwrap() error { return e.cause }

// jwtVerifier verifies JWTs of one kind that one issuer signs. Kinds are told
// apart by their typ (RFC 8725 §3.11).
type jwtVerifier struct {
	noun       string // the kind, as the sentences that refuse one call it
	isType     func(typ string) bool
	wrongType  tokenError
	needsKID   bool
	issuer     string
	algorithms []Algorithm
	skew       time.Duration
	now        func() time.Time
	keys       *keySet
}

func (v *jwtVerifier) refuse(predicate string) error {
	return tokenError("The " + v.noun + predicate)
}

// verify holds a JWT to its type, its claims, which the caller checks, and its
// signature. The error is a tokenError, or a *keysUnavailableError where no key
// could be had to judge it by.
func (v *jwtVerifier) verify(ctx context.Context, jwt string, checkClaims func(object) error) error {
	if len(jwt) > maxSignedJWT {
		return v.refuse(" is too long.")
	}
	part := strings.Split(jwt, ".")
	if len(part) != 3 {
		return v.refuse(" is not a signed JWT in compact serialization.")
	}
	header, err := v.object(part[0])
	if err != nil {
		return err
	}
	kid, alg, err := v.checkHeader(header)
	if err != nil {
		return err
	}
	signature, ok := strictjose.DecodeBase64(part[2])
	if !ok {
		return v.refuse(" is not canonical base64url.")
	}
	claims, err := v.object(part[1])
	if err != nil {
		return err
	}
	// The claims come before the signature: they cost no key and no fetch.
	if err := checkClaims(claims); err != nil {
		return err
	}
	key, err := v.keys.find(ctx, kid, alg)
	if errors.Is(err, errUnknownKey) {
		return v.refuse(" is signed with a key that its issuer does not publish.")
	}
	if err != nil {
		return err
	}
	input := jwt[:len(part[0])+1+len(part[1])]
	if len(signature) != strictjose.SignatureSize(key) || !verifyJWS(alg, key, input, signature) {
		return v.refuse("'s signature does not verify.")
	}
	return nil
}

// object decodes a segment. Base64 that is not canonical, line breaks included,
// and JSON that two parsers could read in two ways are refused.
func (v *jwtVerifier) object(segment string) (object, error) {
	b, ok := strictjose.DecodeBase64(segment)
	if !ok {
		return nil, v.refuse(" is not canonical base64url.")
	}
	o, err := strictjose.ParseObject(b)
	if err != nil {
		return nil, v.refuse("'s JSON is malformed or ambiguous.")
	}
	return o, nil
}

// checkHeader makes the checks on the JOSE header. Keys that the header brings or
// points to (jwk, jku, x5c, x5u) are never looked at.
func (v *jwtVerifier) checkHeader(o object) (kid string, alg Algorithm, err error) {
	if typ, _ := strictjose.AsString(o.Get("typ")); !v.isType(typ) {
		return "", "", v.wrongType
	}
	// RFC 7515 §4.1.11 and RFC 7797 §6, as for proofs.
	if o.Get("crit") != nil || o.Get("b64") != nil {
		return "", "", v.refuse(" has a critical header extension, and none is supported.")
	}
	name, _ := strictjose.AsString(o.Get("alg"))
	if alg = Algorithm(name); !slices.Contains(v.algorithms, alg) { // RFC 8725 §3.1
		return "", "", v.refuse(" is signed with an algorithm that is not accepted here.")
	}
	raw := o.Get("kid")
	if raw == nil && !v.needsKID {
		return "", alg, nil
	}
	kid, ok := strictjose.AsString(raw)
	if !ok || kid == "" || len(kid) > maxKID {
		return "", "", v.refuse("'s kid must be a string of 1 to 256 bytes.")
	}
	return kid, alg, nil
}

// checkIssuer holds iss to the issuer exactly. There is one, whose keys are the
// only ones.
func (v *jwtVerifier) checkIssuer(o object) error {
	if iss, ok := strictjose.AsString(o.Get("iss")); !ok || iss != v.issuer {
		return v.refuse(" is from another issuer.")
	}
	return nil
}

// checkTimes demands exp and iat, and takes nbf.
func (v *jwtVerifier) checkTimes(o object) (issued, expires time.Time, err error) {
	fail := func(predicate string) (time.Time, time.Time, error) {
		return time.Time{}, time.Time{}, v.refuse(predicate)
	}
	now := v.now()
	expires, ok := strictjose.AsTime(o.Get("exp"))
	if !ok {
		return fail("'s exp must be a time.")
	}
	if !now.Before(expires.Add(v.skew)) { // RFC 7519 §4.1.4: not on or after
		return fail(" has expired.")
	}
	issued, ok = strictjose.AsTime(o.Get("iat"))
	if !ok {
		return fail("'s iat must be a time.")
	}
	if now.Before(issued.Add(-v.skew)) {
		return fail(" was issued in the future; check the clocks.")
	}
	if raw := o.Get("nbf"); raw != nil { // RFC 7519 §4.1.5
		nbf, ok := strictjose.AsTime(raw)
		if !ok {
			return fail("'s nbf must be a time.")
		}
		if now.Before(nbf.Add(-v.skew)) {
			return fail(" is not valid yet; check the clocks.")
		}
	}
	return issued, expires, nil
}

// text returns a claim that must be a string, and not empty.
func (v *jwtVerifier) text(o object, claim string) (string, error) {
	s, ok := strictjose.AsString(o.Get(claim))
	if !ok || s == "" || len(s) > maxTokenClaim {
		return "", v.refuse("'s " + claim + " must be a string, and not empty.")
	}
	return s, nil
}

// scopes reads a scope, which must be a string.
func (v *jwtVerifier) scopes(raw []byte) ([]string, error) {
	s, ok := strictjose.AsString(raw)
	if !ok {
		return nil, v.refuse("'s scope must be a string.")
	}
	names, ok := parseScope(s)
	if !ok {
		return nil, v.refuse("'s scope is malformed.")
	}
	return names, nil
}

// confirmedKey returns the cnf's jkt (RFC 9449 §6.1), "" where there is no cnf
// at all. RFC 7800 §3.1 would have unknown members ignored; but each is another
// condition on the sender, and one that is not checked here is not met.
func (v *jwtVerifier) confirmedKey(raw []byte) (jkt string, err error) {
	if raw == nil {
		return "", nil
	}
	jkt, ok := onlyThumbprint(raw, "jkt")
	if !ok {
		return "", v.refuse("'s cnf is not a DPoP binding: it must have jkt, and nothing else.")
	}
	return jkt, nil
}

// onlyThumbprint returns the SHA-256 thumbprint that is an object's only member.
func onlyThumbprint(raw []byte, member string) (thumbprint string, ok bool) {
	if raw[0] != '{' {
		return "", false
	}
	o, err := strictjose.ParseValidObject(raw)
	if err != nil || len(o) != 1 {
		return "", false
	}
	thumbprint, ok = strictjose.AsString(o.Get(member))
	digest, canonical := strictjose.DecodeBase64(thumbprint)
	return thumbprint, ok && canonical && len(digest) == 32
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
