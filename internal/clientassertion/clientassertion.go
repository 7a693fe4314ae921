// Package clientassertion checks the assertions by which clients authenticate with
// a key of their own: private_key_jwt (RFC 7523 §2.2 and §3, OpenID Connect Core
// §9), as the FAPI 2.0 Security Profile §5.3.2.1 narrows it.
//
// It looks nothing up: who the client is, which keys it has, and whether the
// assertion was spent before is for its caller to know. An Assertion is not to be
// trusted before its VerifyBy has returned a key, and is to be spent once its
// caller has found all else in order.
package clientassertion

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Type is the client_assertion_type (RFC 7523 §2.2).
const Type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// MaxLifetime is how far ahead exp may be, without the skew.
const MaxLifetime = 5 * time.Minute

// Bounds, in bytes. An assertion that is signed by an RSA key of 4096 bits needs
// less than 2000.
const (
	maxAssertion = 8192
	maxClientID  = 256
	maxJTI       = 256
)

// What iat and nbf may be ahead of this clock, whatever the skew: FAPI 2.0 Security
// Profile §5.3.2.1 has 10 s accepted and more than 60 s refused.
const (
	minAhead = 10 * time.Second
	maxAhead = 60 * time.Second
)

// Algorithms lists what assertions may be signed by: what FAPI 2.0 Security Profile
// §5.4.1 admits, EdDSA by both of its names (RFC 9864 §2.2). RS256 is not among them.
func Algorithms() []string { return []string{"ES256", "PS256", "EdDSA", "Ed25519"} }

// Check names the check that an assertion failed. The set is closed.
type Check string

// The checks, in the order that they are made.
const (
	CheckFormat    Check = "format" // a JWS in compact serialization (RFC 7515 §7.1)
	CheckJSON      Check = "json"   // header and claims are unambiguous JSON objects
	CheckTyp       Check = "typ"
	CheckCrit      Check = "crit"
	CheckAlg       Check = "alg"
	CheckKID       Check = "kid"
	CheckIss       Check = "iss"
	CheckSub       Check = "sub"
	CheckAud       Check = "aud"
	CheckExp       Check = "exp"
	CheckIAT       Check = "iat"
	CheckNBF       Check = "nbf"
	CheckJTI       Check = "jti"
	CheckKey       Check = "key" // the client has a key that the assertion could be by
	CheckSignature Check = "signature"
)

// Checks returns every Check.
func Checks() []Check {
	return []Check{
		CheckFormat, CheckJSON, CheckTyp, CheckCrit, CheckAlg, CheckKID, CheckIss, CheckSub, CheckAud,
		CheckExp, CheckIAT, CheckNBF, CheckJTI, CheckKey, CheckSignature,
	}
}

// Error is the refusal of an assertion: a sentence for its sender, with nothing of
// the assertion in it.
type Error struct {
	Check       Check
	Description string
}

func (e *Error) Error() string {
	return "client assertion refused (" + string(e.Check) + "): " + e.Description
}

func refuse(check Check, format string, args ...any) *Error {
	return &Error{check, fmt.Sprintf(format, args...)}
}

// Config is what New needs.
type Config struct {
	// Audiences are what aud may be, one of them as a single string. The first is
	// the issuer.
	Audiences []string
	// ClockSkew is how far a client's clock may be off, either way.
	ClockSkew time.Duration
	Now       func() time.Time
}

// Checker checks assertions. It is made by New and safe for concurrent use.
type Checker struct {
	audiences []string
	skew      time.Duration
	ahead     time.Duration // of iat and nbf
	now       func() time.Time
}

// New makes a Checker. It refuses a Config that lacks anything.
func New(c Config) (*Checker, error) {
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") || c.Now == nil || c.ClockSkew < 0 {
		return nil, errors.New("clientassertion: Audiences, ClockSkew and Now are all needed")
	}
	return &Checker{
		audiences: slices.Clone(c.Audiences), skew: c.ClockSkew,
		ahead: min(max(c.ClockSkew, minAhead), maxAhead), now: c.Now,
	}, nil
}

// Window is how far apart the exp of two assertions may be while both are accepted.
func (c *Checker) Window() time.Duration { return MaxLifetime + 2*c.skew }

// Check makes every check that needs neither the client nor its keys. The error is
// always an *Error.
func (c *Checker) Check(text string) (*Assertion, error) {
	if len(text) > maxAssertion {
		return nil, refuse(CheckFormat, "it is longer than %d bytes", maxAssertion)
	}
	part := strings.Split(text, ".")
	if len(part) != 3 {
		return nil, refuse(CheckFormat, "it is not a JWS in compact serialization")
	}
	header, err := object(part[0])
	if err != nil {
		return nil, err
	}
	a := &Assertion{input: text[:len(part[0])+1+len(part[1])]}
	if err := a.readHeader(header); err != nil {
		return nil, err
	}
	var ok bool
	if a.signature, ok = strictjose.DecodeBase64(part[2]); !ok {
		return nil, refuse(CheckFormat, "it is not canonical base64url")
	}
	claims, err := object(part[1])
	if err != nil {
		return nil, err
	}
	if err := c.readClaims(a, claims); err != nil {
		return nil, err
	}
	return a, nil
}

// object decodes a segment. Base64 that is not canonical, line breaks included,
// and JSON that two parsers could read in two ways are refused.
func object(segment string) (strictjose.Object, error) {
	b, ok := strictjose.DecodeBase64(segment)
	if !ok {
		return nil, refuse(CheckFormat, "it is not canonical base64url")
	}
	o, err := strictjose.ParseObject(b)
	if err != nil {
		return nil, refuse(CheckJSON, "its JSON is malformed or ambiguous")
	}
	return o, nil
}

// readHeader makes the checks on the JOSE header. Keys that it brings or points to
// (jwk, jku, x5c, x5u) are never looked at: the client's are those it registered.
func (a *Assertion) readHeader(o strictjose.Object) error {
	// RFC 8725 §3.11: no token of another kind is taken for an assertion. typ was
	// never demanded of them, and draft-ietf-oauth-rfc7523bis has a value for it.
	if raw := o.Get("typ"); raw != nil {
		if typ, _ := strictjose.AsString(raw); !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "client-authentication+jwt") {
			return refuse(CheckTyp, "its typ must be client-authentication+jwt or JWT, or left out")
		}
	}
	// RFC 7515 §4.1.11: a critical extension that is not understood makes the JWS
	// invalid. RFC 7797 §6: b64 has to be listed there.
	if o.Get("crit") != nil || o.Get("b64") != nil {
		return refuse(CheckCrit, "it has a critical header extension, and none is supported")
	}
	a.alg, _ = strictjose.AsString(o.Get("alg"))
	if !slices.Contains(Algorithms(), a.alg) { // RFC 8725 §3.1
		return refuse(CheckAlg, "its alg must be one of %s", strings.Join(Algorithms(), ", "))
	}
	raw := o.Get("kid")
	if raw == nil {
		return nil
	}
	var ok bool
	if a.kid, ok = strictjose.AsString(raw); !ok || a.kid == "" || len(a.kid) > strictjose.MaxKID {
		return refuse(CheckKID, "its kid must be a string of 1 to %d bytes", strictjose.MaxKID)
	}
	return nil
}

// readClaims is RFC 7523 §3.
func (c *Checker) readClaims(a *Assertion, o strictjose.Object) error {
	var ok bool
	// Items 1 and 2.B: both are the client_id.
	if a.clientID, ok = strictjose.AsString(o.Get("iss")); !ok || a.clientID == "" || len(a.clientID) > maxClientID {
		return refuse(CheckIss, "its iss must be the client_id")
	}
	if sub, ok := strictjose.AsString(o.Get("sub")); !ok || sub != a.clientID {
		return refuse(CheckSub, "its sub must be the client_id, as its iss is")
	}
	// Item 3, and FAPI 2.0 Security Profile §5.3.2.1: the issuer as a string, and no
	// list. What is for several servers, one of them could use at the others.
	if aud, ok := strictjose.AsString(o.Get("aud")); !ok || !slices.Contains(c.audiences, aud) {
		return refuse(CheckAud, "its aud must be the issuer of this server, as one string")
	}
	if err := c.readTimes(a, o); err != nil {
		return err
	}
	// Item 7: without a jti nothing keeps it from being used again.
	if a.jti, ok = strictjose.AsString(o.Get("jti")); !ok || a.jti == "" || len(a.jti) > maxJTI {
		return refuse(CheckJTI, "its jti must be a string of 1 to %d bytes", maxJTI)
	}
	return nil
}

// readTimes is RFC 7523 §3, items 4 to 6.
func (c *Checker) readTimes(a *Assertion, o strictjose.Object) error {
	now := c.now()
	var ok bool
	a.expires, ok = strictjose.AsTime(o.Get("exp"))
	switch {
	case !ok:
		return refuse(CheckExp, "its exp must be a time, in seconds since 1970")
	case !now.Before(a.expires.Add(c.skew)): // RFC 7519 §4.1.4: not on or after
		return refuse(CheckExp, "it has expired; make a new one for each request, and check the clocks")
	case a.expires.After(now.Add(MaxLifetime + c.skew)):
		return refuse(CheckExp, "its exp must be at most 5 minutes ahead")
	}
	for _, optional := range []Check{CheckIAT, CheckNBF} {
		raw := o.Get(string(optional))
		if raw == nil {
			continue
		}
		t, ok := strictjose.AsTime(raw)
		if !ok {
			return refuse(optional, "its %s must be a time, in seconds since 1970", optional)
		}
		if t.After(now.Add(c.ahead)) {
			return refuse(optional, "its %s lies in the future by this server's clock; check the clocks", optional)
		}
		if optional == CheckIAT {
			a.issued = t
		}
	}
	return nil
}
