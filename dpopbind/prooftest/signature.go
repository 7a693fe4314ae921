package prooftest

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

func (t *table) signatures() {
	const check, verify = dpopbind.CheckSignature, "signature: does not verify"
	sig := func(name, description string, key signer, f func(sig []byte) []byte) {
		t.bad("signature "+name, check, description,
			t.with(key).Signature(func(input string) []byte { return f(key.sign(input)) }))
	}
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	keys := []signer{keyES256(), keyEdDSA(), keyPS256(), keyRS256()}
	for _, key := range keys {
		sig("of zeros by "+key.alg, verify, key, func(b []byte) []byte { return make([]byte, len(b)) })
		sig("with a bit flipped by "+key.alg, verify, key, flip)
		sig("cut by "+key.alg, "signature: must be of", key, func(b []byte) []byte { return b[:len(b)-1] })
		sig("extended by "+key.alg, "signature: must be of", key, func(b []byte) []byte { return append(b, 0) })
		t.bad("signature over other claims by "+key.alg, check, verify, t.with(key).Rewrite(otherClaims))
	}
	for _, other := range []signer{newES256(), newEdDSA()} {
		t.bad("signature by another key, "+other.alg, check, verify,
			t.with(map[string]signer{"ES256": keyES256(), "EdDSA": keyEdDSA()}[other.alg]).Signature(other.sign))
	}

	order := elliptic.P256().Params().N
	es256 := func(name string, f func(r, s *big.Int) (*big.Int, *big.Int)) {
		sig(name, verify, keyES256(), func(b []byte) []byte { return editECDSA(b, f) })
	}
	es256("with r zero", func(_, s *big.Int) (*big.Int, *big.Int) { return new(big.Int), s })
	es256("with s zero", func(r, _ *big.Int) (*big.Int, *big.Int) { return r, new(big.Int) })
	es256("with r the group's order", func(_, s *big.Int) (*big.Int, *big.Int) { return order, s })
	es256("with s the group's order", func(r, _ *big.Int) (*big.Int, *big.Int) { return r, order })
	es256("with r and s exchanged", func(r, s *big.Int) (*big.Int, *big.Int) { return s, r })
	sig("in ASN.1", "signature: must be of 64 bytes for this alg and key, and is of 70", keyES256(), func(b []byte) []byte {
		return append([]byte("\x30\x44\x02\x20"), append(b[:32:32], append([]byte("\x02\x20"), b[32:]...)...)...)
	})
	t.good("signature with the other s", t.draft().Rewrite(OtherS))
	sig("of Ed25519 with s beyond the order", verify, keyEdDSA(), addOrder)

	noSalt := rsaSigner("PS256", &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
	t.bad("signature with a salt of 20 bytes", check, verify, t.with(noSalt))
	t.bad("signature of RS256 under PS256", check, verify, t.with(keyPS256()).Signature(keyRS256().sign))
	t.bad("signature of PS256 under RS256", check, verify, t.with(keyRS256()).Signature(keyPS256().sign))
}

// otherClaims replaces the payload by one that differs in an unknown claim.
func otherClaims(proof string) string {
	part := strings.Split(proof, ".")
	claims := string(must(base64.RawURLEncoding.DecodeString(part[1])))
	return part[0] + "." + b64(strings.TrimSuffix(claims, "}")+`,"a":0}`) + "." + part[2]
}

// OtherS replaces s by n-s in the signature of an ES256 proof: the other valid
// signature that anyone can make of the one.
func OtherS(proof string) string {
	i := strings.LastIndexByte(proof, '.') + 1
	sig := must(base64.RawURLEncoding.DecodeString(proof[i:]))
	sig = editECDSA(sig, func(r, s *big.Int) (*big.Int, *big.Int) {
		return r, s.Sub(elliptic.P256().Params().N, s)
	})
	return proof[:i] + b64(string(sig))
}

func editECDSA(sig []byte, f func(r, s *big.Int) (*big.Int, *big.Int)) []byte {
	r, s := f(new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

// addOrder adds the group's order to s of an Ed25519 signature, which RFC 8032
// §5.1.7 has verifiers refuse.
func addOrder(sig []byte) []byte {
	order := hexInt("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed")
	s := new(big.Int).SetBytes(reversed(sig[32:]))
	s.Add(s, order)
	return append(sig[:32:32], reversed(s.FillBytes(make([]byte, 32)))...)
}
