package dpopbind

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// ProofOptions are what a proof is bound to besides the request.
type ProofOptions struct {
	// AccessToken is the token that the request carries, at a protected
	// resource: the proof gets its hash as ath (RFC 9449 §4.2).
	AccessToken string
	// Nonce is the last one that the server sent (RFC 9449 §8, §9).
	Nonce string
}

// Proof makes a proof for one request (RFC 9449 §4.2): a new one is needed for
// each. The uri is the request's absolute URL, whose query and fragment are left
// out. The time is the proof's iat, in whole seconds.
func (k *Key) Proof(method, uri string, now time.Time, opts ProofOptions) (string, error) {
	if !isToken(method) {
		return "", errors.New("dpopbind: making a proof: not an HTTP method")
	}
	// The htu stays as it is on the wire, for a server that does not normalise;
	// normalising only tells whether it is a URL.
	htu := withoutQuery(uri)
	if _, err := NormalizeURL(htu); err != nil {
		return "", fmt.Errorf("dpopbind: making a proof: the URL %w", err)
	}
	if !isNonce(opts.Nonce) {
		return "", errors.New("dpopbind: making a proof: the nonce has characters that RFC 9449 does not allow")
	}
	// None of the strings holds a character that JSON has to escape: tokens and
	// URLs have no quotes, backslashes or controls, and neither have nonces.
	payload := make([]byte, 0, 512)
	payload = append(payload, `{"jti":"`...)
	payload = append(payload, rand.Text()...) // at least 128 bits, where RFC 9449 §4.2 wants 96
	payload = append(payload, `","htm":"`...)
	payload = append(payload, method...)
	payload = append(payload, `","htu":"`...)
	payload = append(payload, htu...)
	payload = append(payload, `","iat":`...)
	payload = strconv.AppendInt(payload, now.Unix(), 10)
	if opts.AccessToken != "" {
		sum := sha256.Sum256([]byte(opts.AccessToken))
		payload = append(payload, `,"ath":"`...)
		payload = b64.AppendEncode(payload, sum[:])
		payload = append(payload, '"')
	}
	if opts.Nonce != "" {
		payload = append(payload, `,"nonce":"`...)
		payload = append(payload, opts.Nonce...)
		payload = append(payload, '"')
	}
	payload = append(payload, '}')

	jws := make([]byte, 0, len(k.header)+b64.EncodedLen(len(payload))+1+b64.EncodedLen(strictjose.MaxRSABits/8))
	jws = append(jws, k.header...)
	jws = b64.AppendEncode(jws, payload)
	signature, err := k.sign(jws)
	if err != nil {
		return "", fmt.Errorf("dpopbind: signing a proof: %w", err)
	}
	jws = append(jws, '.')
	return string(b64.AppendEncode(jws, signature)), nil
}

func (k *Key) sign(input []byte) ([]byte, error) {
	if k.alg.kty() == strictjose.TypeOKP {
		return k.signer.Sign(rand.Reader, input, crypto.Hash(0))
	}
	digest := sha256.Sum256(input)
	switch k.alg {
	case ES256:
		der, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return fixedSignature(der)
	case PS256:
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		return k.signer.Sign(rand.Reader, digest[:], opts)
	case RS256:
		return k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	return nil, errors.New("unknown algorithm")
}

// fixedSignature turns the ASN.1 of an ECDSA signature on P-256 into r and s of
// 32 bytes each (RFC 7518 §3.4). It takes DER only; encoding/asn1 would ignore
// further elements of the sequence.
func fixedSignature(der []byte) ([]byte, error) {
	out := make([]byte, 64)
	// A sequence of at most 70 bytes has a length of one byte.
	if len(der) > 2 && der[0] == 0x30 && int(der[1]) == len(der)-2 {
		rest, ok := takeInteger(out[:32], der[2:])
		if ok {
			rest, ok = takeInteger(out[32:], rest)
		}
		if ok && len(rest) == 0 {
			return out, nil
		}
	}
	return nil, errors.New("the signer returned something else than an ASN.1 signature on P-256")
}

// takeInteger writes the positive DER INTEGER that b begins with into out, and
// returns what follows it.
func takeInteger(out, b []byte) (rest []byte, ok bool) {
	if len(b) < 3 || b[0] != 0x02 {
		return nil, false
	}
	size := int(b[1])
	if size == 0 || size > len(b)-2 {
		return nil, false
	}
	n, rest := b[2:2+size], b[2+size:]
	if n[0] >= 0x80 || n[0] == 0 && (len(n) == 1 || n[1] < 0x80) { // negative, zero or padded
		return nil, false
	}
	if n[0] == 0 {
		n = n[1:]
	}
	if len(n) > len(out) {
		return nil, false
	}
	copy(out[len(out)-len(n):], n)
	return rest, true
}

// isNonce says whether s is empty or a nonce of RFC 9449 §8.1: 1*NQCHAR.
func isNonce(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
