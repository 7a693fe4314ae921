package prooftest

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
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Draft is a proof in the making: good as it comes from New, and then spoiled.
// Member names and values are raw JSON, so that anything can be written, and
// nothing is checked. Names go without quotes.
type Draft struct {
	key     signer
	jwk     fields
	header  fields
	claims  fields
	headerJ string // when set, instead of header
	claimsJ string // when set, instead of claims
	rawSig  func(input string) []byte
	rewrite func(proof string) string
}

type fields []field

type field struct{ name, value string }

// New returns a good proof for a request, signed with a fixed ES256 key.
func New(now time.Time, method, url string) *Draft {
	return newDraft(keyES256(), now, method, url)
}

func newDraft(key signer, now time.Time, method, url string) *Draft {
	d := &Draft{key: key, jwk: append(fields(nil), key.jwk...)}
	d.header = fields{{"typ", `"dpop+jwt"`}, {"alg", text(key.alg)}, {"jwk", ""}}
	d.claims = fields{
		{"jti", text(rand.Text())},
		{"htm", text(method)},
		{"htu", text(url)},
		{"iat", strconv.FormatInt(now.Unix(), 10)},
	}
	return d
}

// text quotes a string that needs no escapes.
func text(s string) string { return `"` + s + `"` }

// Header sets a member of the JOSE header.
func (d *Draft) Header(name, value string) *Draft { d.header.set(name, value); return d }

// Claim sets a claim.
func (d *Draft) Claim(name, value string) *Draft { d.claims.set(name, value); return d }

// JWK sets a member of the header's jwk.
func (d *Draft) JWK(name, value string) *Draft { d.jwk.set(name, value); return d }

// Without removes a member from the header, the jwk and the claims.
func (d *Draft) Without(name string) *Draft {
	d.header.drop(name)
	d.jwk.drop(name)
	d.claims.drop(name)
	return d
}

// AlsoHeader adds a member to the JOSE header, even if it is there already.
func (d *Draft) AlsoHeader(name, value string) *Draft {
	d.header = append(d.header, field{name, value})
	return d
}

// AlsoClaim adds a claim, even if it is there already.
func (d *Draft) AlsoClaim(name, value string) *Draft {
	d.claims = append(d.claims, field{name, value})
	return d
}

// AlsoJWK adds a member to the jwk, even if it is there already.
func (d *Draft) AlsoJWK(name, value string) *Draft {
	d.jwk = append(d.jwk, field{name, value})
	return d
}

// HeaderJSON replaces the whole JOSE header.
func (d *Draft) HeaderJSON(json string) *Draft { d.headerJ = json; return d }

// ClaimsJSON replaces the whole payload.
func (d *Draft) ClaimsJSON(json string) *Draft { d.claimsJ = json; return d }

// Rewrite changes the proof after it is signed.
func (d *Draft) Rewrite(f func(proof string) string) *Draft { d.rewrite = f; return d }

// Signature replaces the signature.
func (d *Draft) Signature(f func(input string) []byte) *Draft { d.rawSig = f; return d }

// String signs the draft and returns the proof.
func (d *Draft) String() string {
	header, claims := d.headerJ, d.claimsJ
	if header == "" {
		h := append(fields(nil), d.header...)
		for i := range h {
			if h[i].name == "jwk" && h[i].value == "" {
				h[i].value = d.jwk.json()
			}
		}
		header = h.json()
	}
	if claims == "" {
		claims = d.claims.json()
	}
	input := b64(header) + "." + b64(claims)
	sign := d.rawSig
	if sign == nil {
		sign = d.key.sign
	}
	proof := input + "." + b64(string(sign(input)))
	if d.rewrite != nil {
		proof = d.rewrite(proof)
	}
	return proof
}

func (f *fields) set(name, value string) {
	for i := range *f {
		if (*f)[i].name == name {
			(*f)[i].value = value
			return
		}
	}
	*f = append(*f, field{name, value})
}

func (f *fields) drop(name string) {
	kept := (*f)[:0]
	for _, m := range *f {
		if m.name != name {
			kept = append(kept, m)
		}
	}
	*f = kept
}

func (f fields) get(name string) string {
	for _, m := range f {
		if m.name == name {
			return strings.Trim(m.value, `"`)
		}
	}
	return ""
}

func (f fields) json() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(m.name) + ":" + m.value)
	}
	b.WriteByte('}')
	return b.String()
}

// hash is the base64url encoding of a SHA-256 hash, as in ath and jkt.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return b64(string(sum[:]))
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signer is a private key that signs as JWS does, with its public JWK.
type signer struct {
	alg  string
	jwk  fields
	sign func(input string) []byte
}

// jkt is the thumbprint of the key (RFC 7638 §3): its jwk has the required
// members only.
func (s signer) jkt() string {
	sorted := slices.Clone(s.jwk)
	slices.SortFunc(sorted, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return hash(sorted.json())
}

// The keys are made once a process; RSA keys are too slow to make more often.
var (
	keyES256 = sync.OnceValue(newES256)
	keyEdDSA = sync.OnceValue(newEdDSA)
	keyRSA   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

func newES256() signer {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	point := string(must(k.PublicKey.Bytes()))
	return signer{
		alg: "ES256",
		jwk: fields{
			{"kty", `"EC"`}, {"crv", `"P-256"`}, {"x", text(b64(point[1:33]))}, {"y", text(b64(point[33:]))},
		},
		sign: func(input string) []byte {
			r, s := parseECDSA(signECDSA(k, input))
			out := make([]byte, 64)
			r.FillBytes(out[:32])
			s.FillBytes(out[32:])
			return out
		},
	}
}

func signECDSA(k *ecdsa.PrivateKey, input string) []byte {
	digest := sha256.Sum256([]byte(input))
	return must(ecdsa.SignASN1(rand.Reader, k, digest[:]))
}

func parseECDSA(der []byte) (r, s *big.Int) {
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(der, &sig))
	return sig.R, sig.S
}

func newEdDSA() signer {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	must(pub, err)
	return signer{
		alg:  "EdDSA",
		jwk:  fields{{"kty", `"OKP"`}, {"crv", `"Ed25519"`}, {"x", text(b64(string(pub)))}},
		sign: func(input string) []byte { return ed25519.Sign(priv, []byte(input)) },
	}
}

func rsaSigner(alg string, opts crypto.SignerOpts) signer {
	k := keyRSA()
	return signer{
		alg: alg,
		jwk: fields{{"kty", `"RSA"`}, {"n", text(b64(string(k.N.Bytes())))}, {"e", `"AQAB"`}},
		sign: func(input string) []byte {
			digest := sha256.Sum256([]byte(input))
			return must(k.Sign(rand.Reader, digest[:], opts))
		},
	}
}

func keyPS256() signer {
	return rsaSigner("PS256", &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
}

func keyRS256() signer { return rsaSigner("RS256", crypto.SHA256) }

// must is for what cannot fail: the library's own keys and randomness.
func must[T any](v T, err error) T {
	if err != nil {
		panic("prooftest: " + err.Error())
	}
	return v
}

func hexInt(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic("prooftest: not hexadecimal")
	}
	return n
}
