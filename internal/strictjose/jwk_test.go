package strictjose

import (
	"crypto/ed25519"
	"crypto/rand"
	"math/big"
	"testing"
)

func parseJWK(jwk string) (*PublicKey, error) {
	o, err := ParseObject([]byte(jwk))
	if err != nil {
		return nil, err
	}
	return ParsePublicJWK(o)
}

func TestThumbprintsAreThoseOfTheRFCs(t *testing.T) {
	for _, row := range []struct{ name, jwk, jkt string }{
		{
			"RFC 7638 §3.1",
			`{"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}`,
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		},
		{
			"RFC 8037 A.3",
			`{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
		},
		{
			"RFC 9449 §6.1",
			`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`,
			"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
		},
	} {
		key, err := parseJWK(row.jwk)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
		} else if key.Thumbprint != row.jkt {
			t.Errorf("%s: got %s, want %s", row.name, key.Thumbprint, row.jkt)
		}
	}
}

func TestRSAKeysAreAcceptedFrom2048To4096Bits(t *testing.T) {
	for bits, ok := range map[uint]bool{2041: false, 2047: false, 2048: true, 3072: true, 4096: true, 4097: false, 4104: false} {
		for _, e := range []string{"AQAB", "f____w"} { // the bounds of the exponent
			n := new(big.Int).Lsh(big.NewInt(1), bits-1)
			n.SetBit(n, 0, 1)
			_, err := parseJWK(string(CanonicalRSA(Base64.EncodeToString(n.Bytes()), e)))
			if (err == nil) != ok {
				t.Errorf("%d bits, e %s: %v", bits, e, err)
			}
		}
	}
}

// onEd25519 is the definition: some x solves -x² + y² = 1 + dx²y².
func onEd25519(y *big.Int) bool {
	yy := new(big.Int).Mul(y, y)
	denominator := new(big.Int).Mul(yy, edD)
	denominator.Add(denominator, big.NewInt(1))
	denominator.ModInverse(denominator.Mod(denominator, edP), edP)
	xx := yy.Sub(yy, big.NewInt(1))
	xx.Mul(xx, denominator).Mod(xx, edP)
	return new(big.Int).ModSqrt(xx, edP) != nil
}

func TestEd25519PointsAreToldFromOtherBytes(t *testing.T) {
	for range 50 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !isEd25519Point(pub) {
			t.Errorf("a generated key is refused: %x", pub)
		}
	}
	on := 0
	for i := range 300 {
		y := big.NewInt(int64(i + 2)) // 0 and 1 are of small order
		if i >= 100 {
			b := make([]byte, 31)
			_, _ = rand.Read(b)
			y.SetBytes(b)
		}
		le := y.FillBytes(make([]byte, 32))
		for i, j := 0, 31; i < j; i, j = i+1, j-1 {
			le[i], le[j] = le[j], le[i]
		}
		want := onEd25519(y)
		if isEd25519Point(le) != want {
			t.Errorf("y = %v: on the curve is %v", y, want)
		}
		if want {
			on++
		}
	}
	if on < 100 || on > 200 {
		t.Errorf("%d of 300 are on the curve", on)
	}
}
