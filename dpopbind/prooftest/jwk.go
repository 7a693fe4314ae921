package prooftest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"math/big"

	"github.com/cargokey/authz/dpopbind"
)

func (t *table) jwkRow(key signer, name, description, member, value string) {
	d := t.with(key)
	if value == "" {
		d.Without(member)
	} else {
		d.JWK(member, value)
	}
	t.bad("jwk: "+name, dpopbind.CheckJWK, description, d)
}

func (t *table) keyTypes() {
	t.good("a good proof by ES256", t.draft())
	t.good("a good proof by EdDSA", t.with(keyEdDSA()))
	t.good("a good proof by EdDSA under its name Ed25519", t.with(keyEdDSA()).Header("alg", `"Ed25519"`))
	t.good("a good proof by PS256", t.with(keyPS256()))
	t.good("a good proof by RS256", t.with(keyRS256()))

	t.bad("jwk: empty", dpopbind.CheckJWK, "jwk: the member kty is missing", t.draft().Header("jwk", "{}"))
	t.jwkRow(keyES256(), "kty missing", "jwk: the member kty is missing", "kty", "")
	t.jwkRow(keyES256(), "kty a number", "jwk: the member kty is missing or not a string", "kty", "2")
	t.jwkRow(keyES256(), "kty in lower case", "jwk: the key type 'ec' is not supported", "kty", `"ec"`)
	t.jwkRow(keyES256(), "kty unknown", "jwk: the key type 'AKP' is not supported", "kty", `"AKP"`)
	t.jwkRow(keyES256(), "kty with quotes", "jwk: the key type '??' is not supported", "kty", `"\"\\"`)
	t.bad("jwk: symmetric", dpopbind.CheckJWK, "jwk: the key is symmetric",
		t.draft().Header("jwk", `{"kty":"oct","k":"AAAA"}`))
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		t.jwkRow(keyES256(), "private member "+name, "jwk: the member "+name+" belongs to a private key", name, `"AA"`)
	}
	t.jwkRow(keyRS256(), "private member of an RSA key", "belongs to a private key", "d", `"AA"`)
	t.jwkRow(keyEdDSA(), "private member of an OKP key", "belongs to a private key", "d", `"AA"`)
	t.jwkRow(keyES256(), "private member that is null", "belongs to a private key", "d", `null`)
	t.good("jwk: other members", t.draft().JWK("kid", `"k"`).JWK("alg", `"ES256"`).JWK("use", `"sig"`).
		JWK("key_ops", `["verify"]`).JWK("x5c", `["MIIB"]`).JWK("ext", "true").JWK("unknown", `{"n":{}}`))
}

func (t *table) ec() {
	key := keyES256()
	x, y := key.jwk.get("x"), key.jwk.get("y")
	xb := must(base64.RawURLEncoding.DecodeString(x))
	const curve, size = "jwk: the curve of an EC key must be P-256", "must be the unpadded base64url encoding of 32 bytes"
	row := func(name, description, member, value string) { t.jwkRow(key, name, description, member, value) }
	row("EC without crv", curve, "crv", "")
	row("EC with crv a number", curve, "crv", "256")
	row("EC with crv secp256k1", curve, "crv", `"secp256k1"`)
	row("EC with crv Ed25519", curve, "crv", `"Ed25519"`)
	row("EC with crv in lower case", curve, "crv", `"p-256"`)
	row("EC without x", "jwk: x "+size, "x", "")
	row("EC without y", "jwk: y "+size, "y", "")
	row("EC with x a number", "jwk: x "+size, "x", "1")
	row("EC with an empty x", "jwk: x "+size, "x", `""`)
	row("EC with a short x", "jwk: x "+size, "x", text(b64(string(xb[1:]))))
	row("EC with a long x", "jwk: x "+size, "x", text(b64("\x00"+string(xb))))
	row("EC with padding", "jwk: x "+size, "x", text(x+"="))
	row("EC with a line break", "jwk: y "+size, "y", text(y[:9]+`\n`+y[9:]))
	row("EC with stray bits", "jwk: y "+size, "y", text(stray(y)))
	row("EC off the curve", "not a point of the curve P-256", "y", text(x))
	row("EC with x beyond the field", "not a point of the curve P-256", "x", text(b64(string(bytes.Repeat([]byte{0xff}, 32)))))
	t.bad("jwk: EC point (0, 0)", dpopbind.CheckJWK, "not a point of the curve P-256",
		t.draft().JWK("x", text(b64(string(make([]byte, 32))))).JWK("y", text(b64(string(make([]byte, 32))))))

	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	point := string(must(p384.PublicKey.Bytes()))
	t.bad("jwk: EC on P-384", dpopbind.CheckJWK, curve, t.draft().JWK("crv", `"P-384"`).
		JWK("x", text(b64(point[1:49]))).JWK("y", text(b64(point[49:]))))
}

func (t *table) okp() {
	const size, order = "jwk: x must be the unpadded base64url encoding of 32 bytes", "not a point of large order"
	key := keyEdDSA()
	x := key.jwk.get("x")
	row := func(name, description, member, value string) { t.jwkRow(key, name, description, member, value) }
	row("OKP without crv", "the curve of an OKP key must be Ed25519", "crv", "")
	row("OKP with crv Ed448", "the curve of an OKP key must be Ed25519", "crv", `"Ed448"`)
	row("OKP with crv X25519", "the curve of an OKP key must be Ed25519", "crv", `"X25519"`)
	row("OKP without x", size, "x", "")
	row("OKP with a short x", size, "x", text(x[:42]))
	row("OKP with stray bits", size, "x", text(stray(x)))

	// The y coordinates of the points of small order, in little endian.
	y8 := hexInt("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826")
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	plus := func(a *big.Int, b int64) *big.Int { return new(big.Int).Add(a, big.NewInt(b)) }
	sign := new(big.Int).Lsh(big.NewInt(1), 255)
	for _, c := range []struct {
		name string
		y    *big.Int
	}{
		{"of order 1", big.NewInt(1)},
		{"of order 1 with a sign", plus(sign, 1)},
		{"of order 2", plus(p, -1)},
		{"of order 4", big.NewInt(0)},
		{"of order 4 with a sign", sign},
		{"of order 8", y8},
		{"of order 8 with a sign", new(big.Int).Or(sign, y8)},
		{"of order 8, the other", new(big.Int).Sub(p, y8)},
		{"of order 1, not canonical", plus(p, 1)},
		{"of order 4, not canonical", p},
		{"not canonical", plus(p, 3)},
		{"of all ones", plus(new(big.Int).Lsh(sign, 1), -1)},
		{"off the curve", big.NewInt(2)},
	} {
		row("OKP point "+c.name, order, "x", text(b64(string(reversed(c.y.FillBytes(make([]byte, 32)))))))
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

func (t *table) rsa() {
	const encoding = "must be the unpadded base64url encoding of an integer in as few bytes as possible"
	const size, exponent = "jwk: an RSA key must have 2048 to 4096 bits", "jwk: the RSA exponent e must be odd"
	key := keyRS256()
	n := string(must(base64.RawURLEncoding.DecodeString(key.jwk.get("n"))))
	row := func(name, description, member, value string) {
		t.jwkRow(key, "RSA with "+name, description, member, value)
	}
	modulus := func(bits uint) string { // odd, and of that many bits
		m := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return text(b64(string(m.SetBit(m, 0, 1).Bytes())))
	}
	row("no n", "jwk: n "+encoding, "n", "")
	row("no e", "jwk: e "+encoding, "e", "")
	row("e a number", "jwk: e "+encoding, "e", "65537")
	row("an empty n", "jwk: n "+encoding, "n", `""`)
	row("an empty e", "jwk: e "+encoding, "e", `""`)
	row("n after a zero byte", "jwk: n "+encoding, "n", text(b64("\x00"+n)))
	row("e after a zero byte", "jwk: e "+encoding, "e", `"AAEAAQ"`)
	row("padding in n", "jwk: n "+encoding, "n", text(key.jwk.get("n")+"=="))
	row("stray bits in n", "jwk: n "+encoding, "n", text(stray(key.jwk.get("n"))))
	row("1024 bits", size, "n", modulus(1024))
	row("2047 bits", size, "n", modulus(2047))
	row("4097 bits", size, "n", modulus(4097))
	row("an even modulus", "jwk: the RSA modulus n is even", "n", text(b64(n[:len(n)-1]+"\x02")))
	row("the exponent 1", exponent, "e", `"AQ"`)
	row("the exponent 3", exponent, "e", `"Aw"`)
	row("the exponent 65535", exponent, "e", text(b64("\xff\xff")))
	row("an even exponent", exponent, "e", text(b64("\x01\x00\x02")))
	row("an exponent of 32 bits", exponent, "e", text(b64("\x80\x00\x00\x01")))
	row("an exponent of 72 bits", exponent, "e", text(b64("\x01\x00\x00\x00\x00\x00\x01\x00\x01")))
}
