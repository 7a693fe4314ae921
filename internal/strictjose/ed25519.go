package strictjose

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
)

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
	b, err := hex.DecodeString(hexadecimal)
	if err != nil || len(b) != ed25519.PublicKeySize {
		panic("strictjose: not a coordinate: " + hexadecimal)
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
