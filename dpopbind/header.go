package dpopbind

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cargokey/authz/internal/strictjose"
)

// maxProof bounds a proof, in bytes. One with an RSA key of 4096 bits and all
// optional claims needs less than 3000.
const maxProof = 8192

// ProofHeader returns the one DPoP header of a request (RFC 9449 §4.3, check
// 1). It returns ErrNoProof when there is none at all, and a *ProofError when
// there are several, or when the one is empty, longer than 8192 bytes, or
// several that an intermediary joined by commas (RFC 9110 §5.3).
func ProofHeader(h http.Header) (string, error) {
	values := h.Values("DPoP")
	switch len(values) {
	case 0:
		return "", ErrNoProof
	case 1:
	default:
		return "", refuse(CheckHeaderCount, "DPoP: the request has %d DPoP headers; send exactly one", len(values))
	}
	proof := values[0]
	if proof == "" {
		return "", errEmptyProof()
	}
	if len(proof) > maxProof {
		return "", errLongProof()
	}
	if strings.IndexByte(proof, ',') >= 0 {
		return "", errCommaProof()
	}
	return proof, nil
}

func errEmptyProof() *ProofError { return refuse(CheckFormat, "DPoP: the proof is empty") }
func errLongProof() *ProofError {
	return refuse(CheckFormat, "DPoP: the proof is longer than %d bytes", maxProof)
}
func errCommaProof() *ProofError {
	return refuse(CheckHeaderCount, "DPoP: the header has several values joined by commas; send exactly one proof")
}

// splitProof cuts a proof into the three segments of the JWS compact
// serialization (RFC 7515 §7.1; RFC 9449 §4.3, check 2). The alphabet is
// checked over the whole, since Go's base64 decoder skips line breaks.
func splitProof(proof string) (header, payload, signature string, err error) {
	if proof == "" {
		return "", "", "", errEmptyProof()
	}
	if len(proof) > maxProof {
		return "", "", "", errLongProof()
	}
	dots := 0
	for i := 0; i < len(proof); i++ {
		switch c := proof[i]; {
		case isAlphanumeric(c) || c == '-' || c == '_':
		case c == '.':
			dots++
		case c == ',':
			return "", "", "", errCommaProof()
		case c == '=': // RFC 7515 §2: without padding
			return "", "", "", refuse(CheckFormat, "DPoP: the proof has base64 padding; RFC 7515 leaves it out")
		case c == ' ' || '\t' <= c && c <= '\r':
			return "", "", "", refuse(CheckFormat, "DPoP: the proof has white space or a line break in it")
		default:
			return "", "", "", refuse(CheckFormat, "DPoP: the proof has a character that is not base64url; "+
				"send a JWS in compact serialization")
		}
	}
	if dots != 2 {
		return "", "", "", refuse(CheckFormat, "DPoP: the proof has %d segments; a JWS in compact serialization has 3", dots+1)
	}
	header, rest, _ := strings.Cut(proof, ".")
	payload, signature, _ = strings.Cut(rest, ".")
	return header, payload, signature, nil
}

func decodeSegment(segment, what string) ([]byte, error) {
	b, err := b64.DecodeString(segment)
	if err != nil { // an impossible length, or stray bits at the end
		return nil, refuse(CheckFormat, "DPoP: the proof's %s is not canonical base64url", what)
	}
	return b, nil
}

func parseSegment(segment, what string) (object, error) {
	b, err := decodeSegment(segment, what)
	if err != nil {
		return nil, err
	}
	o, err := strictjose.ParseObject(b)
	if err != nil {
		return nil, refuse(CheckJSON, "DPoP: the proof's %s %v", what, err)
	}
	return o, nil
}

// checkJOSEHeader makes the checks of RFC 9449 §4.3 on the JOSE header: 4, 5, 7
// and the header's part of 3.
func (c *Checker) checkJOSEHeader(o object) (Algorithm, *publicKey, error) {
	// RFC 9449 §4.3, check 4, and §4.2: typ has the value dpop+jwt. RFC 7515
	// §4.1.9 would have media types compared without regard to case and allow
	// the prefix application/, but no client sends either, and a type that is
	// compared exactly cannot be confused with another (RFC 8725 §3.11).
	if typ, ok := strictjose.AsString(o.Get("typ")); !ok || typ != "dpop+jwt" {
		return "", nil, refuse(CheckTyp, "typ: must be dpop+jwt")
	}
	// RFC 7515 §4.1.11: a critical extension that is not understood makes the
	// JWS invalid, and none is understood here. An empty crit is invalid itself.
	if o.Get("crit") != nil {
		return "", nil, refuse(CheckCrit, "crit: no critical header extension is supported; leave crit out")
	}
	// RFC 7797 §6: b64 has to be listed in crit, so alone it is invalid; a
	// library that obeys it would sign other bytes than these.
	if o.Get("b64") != nil {
		return "", nil, refuse(CheckCrit, "b64: the unencoded payload option is not supported; leave b64 out")
	}
	// RFC 9449 §4.3, check 5; RFC 8725 §3.1: only what this side offers, which
	// never includes none nor a MAC.
	name, _ := strictjose.AsString(o.Get("alg"))
	alg := Algorithm(name)
	if !slices.Contains(c.algorithms, alg) {
		return "", nil, refuse(CheckAlg, "alg: must be one of %s", c.offered)
	}
	raw := o.Get("jwk")
	if len(raw) == 0 || raw[0] != '{' { // RFC 9449 §4.3, check 3
		return "", nil, refuse(CheckJWK, "jwk: the header has no JWK object with the public key")
	}
	jwk, err := strictjose.ParseValidObject(raw)
	if err != nil {
		return "", nil, refuse(CheckJSON, "DPoP: the proof's header %v", err)
	}
	key, err := parsePublicJWK(jwk)
	if err != nil {
		return "", nil, err
	}
	if alg.kty() != key.Type { // RFC 8725 §3.1: key and algorithm belong together
		return "", nil, refuse(CheckAlg, "alg: %s does not fit the key in jwk, which is of type %s", alg, key.Type)
	}
	return alg, key, nil
}
