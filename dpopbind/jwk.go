package dpopbind

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

// Key types, RFC 7518 §6.1 and RFC 8037 §2.
const (
	ktyEC  = "EC"
	ktyOKP = "OKP"
	ktyRSA = "RSA"
)

// Bounds of an RSA key. RFC 7518 §3.3 demands 2048 bits at least; the upper
// bounds limit what a sender can make a verification cost.
const (
	minRSABits = 2048
	maxRSABits = 4096
	minRSAExp  = 65537
	maxRSAExp  = 1<<31 - 1
)

// b64 is base64url without padding (RFC 7515 §2), strict about the bits of the
// last character. It still skips line breaks: what it decodes has to be checked
// by isBase64URL first.
var b64 = base64.RawURLEncoding.Strict()

// decodeBase64URL decodes the only encoding of some bytes, and no other.
func decodeBase64URL(s string) ([]byte, bool) {
	if !isBase64URL(s) {
		return nil, false
	}
	b, err := b64.DecodeString(s)
	return b, err == nil
}

func isBase64URL(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// publicKey is a DPoP key's public half.
type publicKey struct {
	key       crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	kty       string
	jkt       string
	canonical []byte // the JWK's required members as RFC 7638 §3.3 orders them
}

// Thumbprint returns the name that a public JWK has as a DPoP key: the base64url
// encoding of its RFC 7638 SHA-256 thumbprint. It refuses what a Checker would
// refuse in a proof, a private key included.
func Thumbprint(jwk []byte) (string, error) {
	o, err := parseObject(jwk)
	if err != nil {
		return "", errors.New("dpopbind: not a JWK, or an ambiguous one")
	}
	key, err := parsePublicJWK(o)
	if err != nil {
		return "", fmt.Errorf("dpopbind: not a usable public JWK: %w", err)
	}
	return key.jkt, nil
}

// parsePublicJWK reads a jwk and holds it to one encoding of one good key, so
// that a key has one thumbprint. Members that do not make the key (kid, alg,
// use, x5c and unknown ones) are ignored, as RFC 7517 §4 demands.
func parsePublicJWK(o object) (*publicKey, error) {
	kty, ok := asString(o.get("kty"))
	if !ok {
		return nil, refuse(CheckJWK, "jwk: the member kty is missing or not a string")
	}
	if kty == "oct" {
		// RFC 9449 §4.2: the key has to be asymmetric.
		return nil, refuse(CheckJWK, "jwk: the key is symmetric; use an EC, OKP or RSA public key")
	}
	// RFC 9449 §4.3, check 7. Names of RFC 7518 §6.2.2, §6.3.2 and §6.4.1.
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if o.get(name) != nil {
			return nil, refuse(CheckJWK, "jwk: the member %s belongs to a private key; send the public members only, "+
				"and replace this key, for it has been disclosed", name)
		}
	}
	var (
		key       crypto.PublicKey
		canonical []byte
		err       error
	)
	switch kty {
	case ktyEC:
		key, canonical, err = parseEC(o)
	case ktyOKP:
		key, canonical, err = parseOKP(o)
	case ktyRSA:
		key, canonical, err = parseRSA(o)
	default:
		return nil, refuse(CheckJWK, "jwk: the key type %s is not supported; use EC, OKP or RSA", quote(kty))
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(canonical) // RFC 7638 §3
	return &publicKey{key: key, kty: kty, jkt: b64.EncodeToString(sum[:]), canonical: canonical}, nil
}

func parseEC(o object) (crypto.PublicKey, []byte, error) {
	if crv, _ := asString(o.get("crv")); crv != "P-256" { // RFC 7518 §3.4: ES256 means P-256
		return nil, nil, refuse(CheckJWK, "jwk: the curve of an EC key must be P-256")
	}
	const size = 32
	point := make([]byte, 0, 1+2*size)
	point = append(point, 4) // uncompressed, SEC 1 §2.3.3
	var text [2]string
	for i, name := range []string{"x", "y"} {
		s, ok := asString(o.get(name))
		b, canonical := decodeBase64URL(s)
		// RFC 7518 §6.2.1.2, §6.2.1.3: the full size of a coordinate.
		if !ok || !canonical || len(b) != size {
			return nil, nil, refuse(CheckJWK, "jwk: %s must be the unpadded base64url encoding of %d bytes", name, size)
		}
		text[i], point = s, append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil { // RFC 8725 §3.4: the point has to be validated
		return nil, nil, refuse(CheckJWK, "jwk: x and y are not a point of the curve P-256")
	}
	return key, canonicalEC(text[0], text[1]), nil
}

func parseOKP(o object) (crypto.PublicKey, []byte, error) {
	if crv, _ := asString(o.get("crv")); crv != "Ed25519" { // RFC 8037 §3.1, less Ed448
		return nil, nil, refuse(CheckJWK, "jwk: the curve of an OKP key must be Ed25519")
	}
	x, ok := asString(o.get("x"))
	b, canonical := decodeBase64URL(x)
	if !ok || !canonical || len(b) != ed25519.PublicKeySize {
		return nil, nil, refuse(CheckJWK, "jwk: x must be the unpadded base64url encoding of %d bytes", ed25519.PublicKeySize)
	}
	if !isEd25519Point(b) {
		return nil, nil, refuse(CheckJWK, "jwk: x is not a point of large order on Ed25519, or not canonical")
	}
	return ed25519.PublicKey(b), canonicalOKP(x), nil
}

func parseRSA(o object) (crypto.PublicKey, []byte, error) {
	var text [2]string
	var value [2][]byte
	for i, name := range []string{"n", "e"} {
		s, ok := asString(o.get(name))
		b, canonical := decodeBase64URL(s)
		// RFC 7518 §2: Base64urlUInt is the least number of octets.
		if !ok || !canonical || len(b) == 0 || b[0] == 0 {
			return nil, nil, refuse(CheckJWK, "jwk: %s must be the unpadded base64url encoding of an integer "+
				"in as few bytes as possible", name)
		}
		text[i], value[i] = s, b
	}
	if len(value[0]) > maxRSABits/8 || len(value[0]) < minRSABits/8 {
		return nil, nil, errRSASize()
	}
	n := new(big.Int).SetBytes(value[0])
	if bits := n.BitLen(); bits < minRSABits || bits > maxRSABits { // RFC 7518 §3.3
		return nil, nil, errRSASize()
	}
	if n.Bit(0) == 0 {
		return nil, nil, refuse(CheckJWK, "jwk: the RSA modulus n is even")
	}
	e := new(big.Int)
	if len(value[1]) <= 4 {
		e.SetBytes(value[1])
	}
	if x := e.Uint64(); x < minRSAExp || x > maxRSAExp || x&1 == 0 { // FIPS 186-5 A.1.1 has the lower bound
		return nil, nil, refuse(CheckJWK, "jwk: the RSA exponent e must be odd, and from %d to %d", minRSAExp, maxRSAExp)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, canonicalRSA(text[0], text[1]), nil
}

func errRSASize() *ProofError {
	return refuse(CheckJWK, "jwk: an RSA key must have %d to %d bits", minRSABits, maxRSABits)
}

// The canonical forms are RFC 7638 §3.2 and RFC 8037 §2: required members only,
// in lexicographic order, without space. The arguments are base64url.

func canonicalEC(x, y string) []byte {
	return []byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`)
}

func canonicalOKP(x string) []byte {
	return []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`)
}

func canonicalRSA(n, e string) []byte {
	return []byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`)
}

// Parameters of edwards25519, RFC 8032 §5.1. They are read-only.
var (
	edP = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	edD = func() *big.Int { // -121665/121666
		d := new(big.Int).ModInverse(big.NewInt(121666), edP)
		d.Mul(d, big.NewInt(-121665))
		return d.Mod(d, edP)
	}()
	// edSmallOrder are the y coordinates of the eight points of small order. With
	// such a key a signature can hold for any message, without a private key.
	edSmallOrder = [][]byte{
		ed25519Y("0000000000000000000000000000000000000000000000000000000000000000"), // order 4
		ed25519Y("0100000000000000000000000000000000000000000000000000000000000000"), // order 1
		ed25519Y("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), // order 2
		ed25519Y("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), // order 8
		ed25519Y("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), // order 8
	}
)

func ed25519Y(hexadecimal string) []byte {
	b := make([]byte, ed25519.PublicKeySize)
	for i := range b {
		b[i] = byte(unhex(hexadecimal[2*i])<<4 | unhex(hexadecimal[2*i+1]))
	}
	return b
}

// isEd25519Point says whether b is the canonical encoding (RFC 8032 §5.1.3,
// steps 1 and 3) of a point that is not of small order. crypto/ed25519 takes
// non-canonical and small-order keys.
func isEd25519Point(b []byte) bool {
	le := bytes.Clone(b)
	le[31] &= 0x7f // the sign of x
	for _, small := range edSmallOrder {
		if bytes.Equal(le, small) {
			return false
		}
	}
	be := make([]byte, len(le))
	for i, c := range le {
		be[len(le)-1-i] = c
	}
	y := new(big.Int).SetBytes(be)
	if y.Cmp(edP) >= 0 {
		return false
	}
	// x² = (y²-1)/(dy²+1) needs a square root: numerator times denominator is a
	// square exactly when their quotient is.
	yy := y.Mul(y, y)
	yy.Mod(yy, edP)
	u := new(big.Int).Sub(yy, big.NewInt(1))
	v := yy.Mul(yy, edD)
	v.Add(v, big.NewInt(1))
	u.Mul(u, v)
	return big.Jacobi(u.Mod(u, edP), edP) == 1
}
