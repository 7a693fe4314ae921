package strictjose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
)

// Key types, RFC 7518 §6.1 and RFC 8037 §2.
const (
	TypeEC  = "EC"
	TypeOKP = "OKP"
	TypeRSA = "RSA"
)

// Bounds of an RSA key. RFC 7518 §3.3 demands 2048 bits at least; the upper
// bounds limit what a sender can make a verification cost.
const (
	MinRSABits = 2048
	MaxRSABits = 4096
	minRSAExp  = 65537
	maxRSAExp  = 1<<31 - 1
)

// PublicKey is a key that verifies signatures. It is not changed.
type PublicKey struct {
	Key        crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	Type       string           // EC, OKP or RSA
	Thumbprint string           // RFC 7638, by SHA-256, in base64url
	Canonical  []byte           // the JWK's required members as RFC 7638 §3.3 orders them
}

// ParsePublicJWK reads a jwk and holds it to one encoding of one good key, so
// that a key has one thumbprint. The error is a sentence for the key's owner, with
// nothing of the key in it. Members that do not make the key (kid, alg,
// use, x5c and unknown ones) are ignored, as RFC 7517 §4 demands.
func ParsePublicJWK(o Object) (*PublicKey, error) {
	kty, ok := AsString(o.Get("kty"))
	if !ok {
		return nil, errors.New("jwk: the member kty is missing or not a string")
	}
	if kty == "oct" {
		// RFC 9449 §4.2: the key has to be asymmetric.
		return nil, errors.New("jwk: the key is symmetric; use an EC, OKP or RSA public key")
	}
	// RFC 9449 §4.3, check 7.
	if name := privateMember(o); name != "" {
		return nil, fmt.Errorf("jwk: the member %s belongs to a private key; send the public members only, "+
			"and replace this key, for it has been disclosed", name)
	}
	var (
		key       crypto.PublicKey
		canonical []byte
		err       error
	)
	switch kty {
	case TypeEC:
		key, canonical, err = parseEC(o)
	case TypeOKP:
		key, canonical, err = parseOKP(o)
	case TypeRSA:
		key, canonical, err = parseRSA(o)
	default:
		return nil, fmt.Errorf("jwk: the key type %s is not supported; use EC, OKP or RSA", Quote(kty))
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(canonical) // RFC 7638 §3
	return &PublicKey{Key: key, Type: kty, Thumbprint: Base64.EncodeToString(sum[:]), Canonical: canonical}, nil
}

// privateMember names a member that only a private or symmetric key has, by RFC
// 7518 §6.2.2, §6.3.2 and §6.4.1; "" where there is none.
func privateMember(o Object) string {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if o.Get(name) != nil {
			return name
		}
	}
	return ""
}

func parseEC(o Object) (crypto.PublicKey, []byte, error) {
	if crv, _ := AsString(o.Get("crv")); crv != "P-256" { // RFC 7518 §3.4: ES256 means P-256
		return nil, nil, errors.New("jwk: the curve of an EC key must be P-256")
	}
	const size = 32
	point := make([]byte, 0, 1+2*size)
	point = append(point, 4) // uncompressed, SEC 1 §2.3.3
	var text [2]string
	for i, name := range []string{"x", "y"} {
		s, ok := AsString(o.Get(name))
		b, canonical := DecodeBase64(s)
		// RFC 7518 §6.2.1.2, §6.2.1.3: the full size of a coordinate.
		if !ok || !canonical || len(b) != size {
			return nil, nil, fmt.Errorf("jwk: %s must be the unpadded base64url encoding of %d bytes", name, size)
		}
		text[i], point = s, append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil { // RFC 8725 §3.4: the point has to be validated
		return nil, nil, errors.New("jwk: x and y are not a point of the curve P-256")
	}
	return key, CanonicalEC(text[0], text[1]), nil
}

func parseOKP(o Object) (crypto.PublicKey, []byte, error) {
	if crv, _ := AsString(o.Get("crv")); crv != "Ed25519" { // RFC 8037 §3.1, less Ed448
		return nil, nil, errors.New("jwk: the curve of an OKP key must be Ed25519")
	}
	x, ok := AsString(o.Get("x"))
	b, canonical := DecodeBase64(x)
	if !ok || !canonical || len(b) != ed25519.PublicKeySize {
		return nil, nil, fmt.Errorf("jwk: x must be the unpadded base64url encoding of %d bytes", ed25519.PublicKeySize)
	}
	if !isEd25519Point(b) {
		return nil, nil, errors.New("jwk: x is not a point of large order on Ed25519, or not canonical")
	}
	return ed25519.PublicKey(b), CanonicalOKP(x), nil
}

func parseRSA(o Object) (crypto.PublicKey, []byte, error) {
	var text [2]string
	var value [2][]byte
	for i, name := range []string{"n", "e"} {
		s, ok := AsString(o.Get(name))
		b, canonical := DecodeBase64(s)
		// RFC 7518 §2: Base64urlUInt is the least number of octets.
		if !ok || !canonical || len(b) == 0 || b[0] == 0 {
			return nil, nil, fmt.Errorf("jwk: %s must be the unpadded base64url encoding of an integer "+
				"in as few bytes as possible", name)
		}
		text[i], value[i] = s, b
	}
	if len(value[0]) > MaxRSABits/8 || len(value[0]) < MinRSABits/8 {
		return nil, nil, errRSASize()
	}
	n := new(big.Int).SetBytes(value[0])
	if bits := n.BitLen(); bits < MinRSABits || bits > MaxRSABits { // RFC 7518 §3.3
		return nil, nil, errRSASize()
	}
	if n.Bit(0) == 0 {
		return nil, nil, errors.New("jwk: the RSA modulus n is even")
	}
	e := new(big.Int)
	if len(value[1]) <= 4 {
		e.SetBytes(value[1])
	}
	if x := e.Uint64(); x < minRSAExp || x > maxRSAExp || x&1 == 0 { // FIPS 186-5 A.1.1 has the lower bound
		return nil, nil, fmt.Errorf("jwk: the RSA exponent e must be odd, and from %d to %d", minRSAExp, maxRSAExp)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, CanonicalRSA(text[0], text[1]), nil
}

func errRSASize() error {
	return fmt.Errorf("jwk: an RSA key must have %d to %d bits", MinRSABits, MaxRSABits)
}

// CanonicalEC is a key on P-256 in its canonical form (RFC 7638 §3.2): required
// members only, in lexicographic order, without space. The arguments are base64url.
func CanonicalEC(x, y string) []byte {
	return []byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`)
}

// CanonicalOKP is CanonicalEC for Ed25519 (RFC 8037 §2).
func CanonicalOKP(x string) []byte {
	return []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`)
}

// CanonicalRSA is CanonicalEC for RSA.
func CanonicalRSA(n, e string) []byte {
	return []byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`)
}
