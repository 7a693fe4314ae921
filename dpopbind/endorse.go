package dpopbind

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// TypeEndorsement is the typ of an endorsement, which keeps it apart from a proof
// (RFC 8725 §3.11).
const TypeEndorsement = "dpop-key-endorsement+jwt"

// MaxEndorsementLifetime is how long an endorsement may live, from iat to exp.
const MaxEndorsementLifetime = 5 * time.Minute

// endorsementLifetime is that of the endorsements made here.
const endorsementLifetime = time.Minute

// Endorse vouches for another key of the same client: whoever holds k says that
// the client may have tokens for the key of that thumbprint too. It is for one
// server, named by its issuer, once, and within a minute of now.
//
// It is no part of RFC 9449: a server that has it says so in its metadata, by
// dpop_keys_endpoint.
func (k *Key) Endorse(issuer, clientID, jkt string, now time.Time) (string, error) {
	if !isThumbprint(jkt) {
		return "", errors.New("dpopbind: endorsing a key: not the thumbprint of a key")
	}
	for _, s := range []string{issuer, clientID} { // none holds what JSON has to escape
		if s == "" || !isNonce(s) {
			return "", errors.New("dpopbind: endorsing a key: the issuer or the client_id is empty or has other than visible ASCII")
		}
	}
	header := `{"typ":"` + TypeEndorsement + `","alg":"` + string(k.alg) + `","jwk":` + string(k.public.Canonical) + `}`
	claims := `{"iss":"` + clientID + `","aud":"` + issuer + `","jkt":"` + jkt + `","jti":"` + rand.Text() +
		`","iat":` + strconv.FormatInt(now.Unix(), 10) +
		`,"exp":` + strconv.FormatInt(now.Add(endorsementLifetime).Unix(), 10) + `}`
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	signature, err := k.sign([]byte(input))
	if err != nil {
		return "", fmt.Errorf("dpopbind: signing an endorsement: %w", err)
	}
	return input + "." + b64.EncodeToString(signature), nil
}

// isThumbprint says whether s is the base64url encoding of a SHA-256 (RFC 7638).
func isThumbprint(s string) bool {
	b, ok := strictjose.DecodeBase64(s)
	return ok && len(b) == 32
}

// EndorsementError is the refusal of an endorsement: a fixed sentence for its
// sender, with nothing of the endorsement in it.
type EndorsementError string

func (e EndorsementError) Error() string { return "dpopbind: endorsement refused: " + string(e) }

// Endorsement is an endorsement that passed every check but that of its signature.
// That its key is one that the client may endorse with is for the caller to know.
type Endorsement struct {
	clientID, endorsed, jti string
	issuedAt                time.Time
	alg                     Algorithm
	key                     *publicKey
	input                   string
	signature               []byte
}

// ClientID returns who says it.
func (e *Endorsement) ClientID() string { return e.clientID }

// By returns the thumbprint of the key that signed it.
func (e *Endorsement) By() string { return e.key.Thumbprint }

// JKT returns the thumbprint of the key that it is for.
func (e *Endorsement) JKT() string { return e.endorsed }

// IssuedAt returns its iat.
func (e *Endorsement) IssuedAt() time.Time { return e.issuedAt }

// SpendKey is for an endorsement what it is for a Proof. No proof has the same.
func (e *Endorsement) SpendKey() [32]byte {
	return spendKey(TypeEndorsement, e.key.Thumbprint, "", e.jti)
}

// VerifySignature verifies the signature with the key in the header. The error is
// always an EndorsementError.
func (e *Endorsement) VerifySignature() error {
	if !verifyJWS(e.alg, e.key, e.input, e.signature) {
		return EndorsementError("Its signature does not verify with the key in its jwk.")
	}
	return nil
}

// CheckEndorsement makes all checks of an endorsement that cost nothing: its form,
// that it is for the issuer, and its time. The error is always an
// EndorsementError.
//
// The Endorsement is not to be trusted before its VerifySignature has returned nil.
func (c *Checker) CheckEndorsement(text, issuer string) (*Endorsement, error) {
	// A JWS is held to the same form as a proof: see splitProof.
	headerPart, payloadPart, signaturePart, err := splitProof(text)
	if err != nil {
		return nil, EndorsementError("It is not a JWS in compact serialization, of at most 8192 bytes.")
	}
	e := &Endorsement{input: text[:len(headerPart)+1+len(payloadPart)]}
	header, err := endorsementObject(headerPart)
	if err != nil {
		return nil, err
	}
	if err := c.checkEndorsementHeader(e, header); err != nil {
		return nil, err
	}
	var ok bool
	if e.signature, ok = strictjose.DecodeBase64(signaturePart); !ok || len(e.signature) != strictjose.SignatureSize(e.key) {
		return nil, EndorsementError("Its signature is not canonical base64url, or not of the size that its alg and key have.")
	}
	payload, err := endorsementObject(payloadPart)
	if err != nil {
		return nil, err
	}
	if err := c.checkEndorsementClaims(e, payload, issuer); err != nil {
		return nil, err
	}
	return e, nil
}

func endorsementObject(segment string) (object, error) {
	b, ok := strictjose.DecodeBase64(segment)
	if !ok {
		return nil, EndorsementError("It is not canonical base64url.")
	}
	o, err := strictjose.ParseObject(b)
	if err != nil {
		return nil, EndorsementError("Its JSON is malformed or ambiguous.")
	}
	return o, nil
}

func (c *Checker) checkEndorsementHeader(e *Endorsement, o object) error {
	if typ, _ := strictjose.AsString(o.Get("typ")); typ != TypeEndorsement {
		return EndorsementError("Its typ must be " + TypeEndorsement + ".")
	}
	// RFC 7515 §4.1.11 and RFC 7797 §6, as for proofs.
	if o.Get("crit") != nil || o.Get("b64") != nil {
		return EndorsementError("It has a critical header extension, and none is supported.")
	}
	name, _ := strictjose.AsString(o.Get("alg"))
	if e.alg = Algorithm(name); !slices.Contains(c.algorithms, e.alg) { // RFC 8725 §3.1
		return EndorsementError("Its alg must be one of " + c.offered + ".")
	}
	raw := o.Get("jwk")
	if len(raw) == 0 || raw[0] != '{' {
		return EndorsementError("Its header has no JWK object with the public key.")
	}
	jwk, err := strictjose.ParseValidObject(raw)
	if err != nil {
		return EndorsementError("Its JSON is malformed or ambiguous.")
	}
	if e.key, err = parsePublicJWK(jwk); err != nil || e.alg.kty() != e.key.Type {
		return EndorsementError("Its jwk is not a public key that fits its alg.")
	}
	return nil
}

func (c *Checker) checkEndorsementClaims(e *Endorsement, o object, issuer string) error {
	var okIssuer, okKey, okJTI bool
	e.clientID, okIssuer = strictjose.AsString(o.Get("iss"))
	e.endorsed, okKey = strictjose.AsString(o.Get("jkt"))
	e.jti, okJTI = strictjose.AsString(o.Get("jti"))
	aud, okAudience := strictjose.AsString(o.Get("aud"))
	issued, okIssued := strictjose.AsTime(o.Get("iat"))
	expires, okExpires := strictjose.AsTime(o.Get("exp"))
	now := c.now()
	switch {
	case !okIssuer || e.clientID == "":
		return EndorsementError("Its iss must be the client_id.")
	case !okAudience || aud != issuer: // RFC 8725 §3.9
		return EndorsementError("Its aud must be the issuer of this server, as one string.")
	case !okKey || !isThumbprint(e.endorsed):
		return EndorsementError("Its jkt must be the SHA-256 thumbprint (RFC 7638) of the new key.")
	case !okJTI || e.jti == "" || len(e.jti) > maxJTI:
		return EndorsementError("Its jti must be a string of 1 to 256 bytes.")
	case !okIssued || !okExpires:
		return EndorsementError("Its iat and exp must be times, in seconds since 1970.")
	case !expires.After(issued) || expires.Sub(issued) > MaxEndorsementLifetime:
		return EndorsementError("Its exp must be after its iat, by 5 minutes at most.")
	case now.Before(issued.Add(-c.skew)):
		return EndorsementError("It was issued in the future by this server's clock; check the clocks.")
	case !now.Before(expires.Add(c.skew)): // RFC 7519 §4.1.4: not on or after
		return EndorsementError("It has expired; make a new one, and check the clocks.")
	case e.endorsed == e.key.Thumbprint:
		return EndorsementError("It is for the very key that signed it; a key cannot vouch for itself.")
	}
	e.issuedAt = issued
	return nil
}
