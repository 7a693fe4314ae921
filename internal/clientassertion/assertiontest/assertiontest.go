// Package assertiontest makes client assertions for tests, good ones and others.
// Nothing outside of tests uses it.
package assertiontest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Signer is a client's key.
type Signer struct {
	alg, kid string
	key      crypto.Signer
	members  string // of its public JWK
}

// NewSigner makes a key for an algorithm, RSA of 2048 bits if no other number is given.
func NewSigner(alg string, bits ...int) *Signer {
	s := &Signer{alg: alg, kid: rand.Text()}
	switch alg {
	case "ES256":
		k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		point := must(k.PublicKey.Bytes())
		s.key, s.members = k, `"kty":"EC","crv":"P-256","x":"`+b64(point[1:33])+`","y":"`+b64(point[33:])+`"`
	case "EdDSA", "Ed25519":
		public, k, err := ed25519.GenerateKey(rand.Reader)
		must(public, err)
		s.key, s.members = k, `"kty":"OKP","crv":"Ed25519","x":"`+b64(public)+`"`
	case "PS256", "RS256":
		k := must(rsa.GenerateKey(rand.Reader, append(bits, 2048)[0]))
		s.key, s.members = k, `"kty":"RSA","n":"`+b64(k.N.Bytes())+`","e":"AQAB"`
	default:
		panic("assertiontest: no key for " + alg)
	}
	return s
}

// KID is the key's kid.
func (s *Signer) KID() string { return s.kid }

// Private is the private key.
func (s *Signer) Private() crypto.Signer { return s.key }

// JWK is the public key. More is: nothing; "none" for no kid; "kid" and another
// one; or members to add.
func (s *Signer) JWK(more string) string {
	switch other, isKID := strings.CutPrefix(more, "kid "); {
	case more == "none":
		return `{` + s.members + `}`
	case isKID:
		return `{` + s.members + `,"kid":"` + other + `"}`
	case more != "":
		return `{` + s.members + `,"kid":"` + s.kid + `",` + more + `}`
	}
	return `{` + s.members + `,"kid":"` + s.kid + `"}`
}

// Thumbprint is RFC 7638's.
func (s *Signer) Thumbprint() string {
	return must(strictjose.ParsePublicJWK(must(strictjose.ParseObject([]byte(s.JWK("")))))).Thumbprint
}

// Set is a JWKS of public keys.
func Set(signers ...*Signer) string {
	var keys []string
	for _, s := range signers {
		keys = append(keys, s.JWK(""))
	}
	return `{"keys":[` + strings.Join(keys, ",") + `]}`
}

// SignWith signs as a private key does by other options than the algorithm's.
func (s *Signer) SignWith(input string, opts crypto.SignerOpts) []byte {
	digest := sha256.Sum256([]byte(input))
	return must(s.key.Sign(rand.Reader, digest[:], opts))
}

func (s *Signer) sign(input string) []byte {
	switch s.alg {
	case "ES256":
		return encodeECDSA(decodeECDSA(s.SignWith(input, crypto.SHA256)))
	case "PS256":
		return s.SignWith(input, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case "RS256":
		return s.SignWith(input, crypto.SHA256)
	}
	return ed25519.Sign(s.key.(ed25519.PrivateKey), []byte(input))
}

// Draft is an assertion in the making: good as it comes from New, and then spoiled.
type Draft struct {
	signer         *Signer
	header, claims []member
	headerJSON     string // when set, instead of header
	claimsJSON     string
	rewrite        func(string) string
	signature      func(input string) []byte
}

type member struct{ name, value string }

// New is a good assertion, with a jti of its own.
func New(s *Signer, clientID, audience string, now time.Time) *Draft {
	return &Draft{
		signer: s,
		header: []member{{"alg", text(s.alg)}, {"typ", `"client-authentication+jwt"`}, {"kid", text(s.kid)}},
		claims: []member{
			{"iss", text(clientID)}, {"sub", text(clientID)}, {"aud", text(audience)}, {"jti", text(rand.Text())},
			{"iat", strconv.FormatInt(now.Unix(), 10)}, {"exp", strconv.FormatInt(now.Unix()+60, 10)},
		},
	}
}

// Signer is the key that it is signed by.
func (d *Draft) Signer() *Signer { return d.signer }

// Header sets a member of the header to a raw JSON value; "" removes it.
func (d *Draft) Header(name, value string) *Draft { d.header = set(d.header, name, value); return d }

// Claim sets a claim to a raw JSON value; "" removes it.
func (d *Draft) Claim(name, value string) *Draft { d.claims = set(d.claims, name, value); return d }

// HeaderJSON replaces the whole header.
func (d *Draft) HeaderJSON(json string) *Draft { d.headerJSON = json; return d }

// ClaimsJSON replaces all claims.
func (d *Draft) ClaimsJSON(json string) *Draft { d.claimsJSON = json; return d }

// Rewrite changes the assertion after it is signed.
func (d *Draft) Rewrite(f func(string) string) *Draft { d.rewrite = f; return d }

// Signature replaces the signature.
func (d *Draft) Signature(f func(input string) []byte) *Draft { d.signature = f; return d }

// String signs it.
func (d *Draft) String() string {
	header, claims := d.headerJSON, d.claimsJSON
	if header == "" {
		header = object(d.header)
	}
	if claims == "" {
		claims = object(d.claims)
	}
	input := b64([]byte(header)) + "." + b64([]byte(claims))
	sign := d.signature
	if sign == nil {
		sign = d.signer.sign
	}
	signed := input + "." + b64(sign(input))
	if d.rewrite != nil {
		signed = d.rewrite(signed)
	}
	return signed
}

func set(members []member, name, value string) []member {
	var out []member
	done := value == ""
	for _, m := range members {
		if m.name == name {
			if done {
				continue
			}
			m.value, done = value, true
		}
		out = append(out, m)
	}
	if !done {
		out = append(out, member{name, value})
	}
	return out
}

func object(members []member) string {
	var list []string
	for _, m := range members {
		list = append(list, text(m.name)+":"+m.value)
	}
	return "{" + strings.Join(list, ",") + "}"
}

// OtherS replaces s by n-s in a signature by ES256: the other one that anyone can make.
func OtherS(assertion string) string {
	at := strings.LastIndexByte(assertion, '.') + 1
	signature := must(base64.RawURLEncoding.DecodeString(assertion[at:]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return assertion[:at] + b64(encodeECDSA(r, s.Sub(elliptic.P256().Params().N, s)))
}

// StrayBits sets bits of the last character that encode nothing: of an ES256
// signature it encodes two bits.
func StrayBits(assertion string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(assertion) - 1
	return assertion[:last] + string(alphabet[strings.IndexByte(alphabet, assertion[last])|1])
}

// OtherClaims adds a claim after the signature was made.
func OtherClaims(assertion string) string {
	part := strings.Split(assertion, ".")
	claims := string(must(base64.RawURLEncoding.DecodeString(part[1])))
	return part[0] + "." + b64([]byte(strings.TrimSuffix(claims, "}")+`,"x":0}`)) + "." + part[2]
}

func decodeECDSA(der []byte) (r, s *big.Int) {
	var signature struct{ R, S *big.Int }
	must(asn1.Unmarshal(der, &signature))
	return signature.R, signature.S
}

func encodeECDSA(r, s *big.Int) []byte {
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func text(s string) string { return `"` + s + `"` }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// must is for what cannot fail: the library's own keys and randomness.
func must[T any](v T, err error) T {
	if err != nil {
		panic("assertiontest: " + err.Error())
	}
	return v
}
