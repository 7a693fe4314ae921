package dpopbind_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// signers has a private key for each algorithm.
func signers(t testing.TB) map[dpopbind.Algorithm]crypto.Signer {
	t.Helper()
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[dpopbind.Algorithm]crypto.Signer{
		dpopbind.ES256: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		dpopbind.EdDSA: ed,
		dpopbind.PS256: rsaKey,
		dpopbind.RS256: rsaKey,
	}
}

func TestAProofOfEachAlgorithmIsAcceptedHereAndByGoJose(t *testing.T) {
	for alg, signer := range signers(t) {
		key := must(dpopbind.NewKey(signer, alg))
		raw := must(key.Proof(method, tokenURL+"?q=%zz#f", now, dpopbind.ProofOptions{AccessToken: "token", Nonce: "n-1"}))
		p := must(newChecker(t, now).CheckWithToken(raw, newTarget(t, method, tokenURL), "token"))
		if err := p.VerifySignature(); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if p.JKT() != key.JKT() || p.Nonce() != "n-1" || p.Algorithm() != alg || key.Algorithm() != alg || len(p.JTI()) < 22 {
			t.Errorf("%s: read back with another meaning", alg)
		}

		jws := must(jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)}))
		header := jws.Signatures[0].Header
		payload, err := jws.Verify(header.JSONWebKey)
		if err != nil {
			t.Fatalf("%s: go-jose: %v", alg, err)
		}
		var got map[string]any
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"jti": p.JTI(), "htm": method, "htu": tokenURL, "iat": float64(now.Unix()), "nonce": "n-1",
			"ath": "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if header.ExtraHeaders["typ"] != "dpop+jwt" || !header.JSONWebKey.IsPublic() {
			t.Errorf("%s: wrong header %v", alg, header)
		}
	}
}

func TestAProofMadeByGoJoseIsAccepted(t *testing.T) {
	for alg, signer := range signers(t) {
		opts := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
		s := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: signer}, opts))
		claims := fmt.Sprintf(`{"jti":"j","htm":%q,"htu":%q,"iat":%d}`, method, tokenURL, now.Unix())
		raw := must(must(s.Sign([]byte(claims))).CompactSerialize())
		if _, err := accept(newChecker(t, now), []string{raw}, newTarget(t, method, tokenURL)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func TestAThumbprintIsThatOfGoJose(t *testing.T) {
	for alg, signer := range signers(t) {
		key := must(dpopbind.NewKey(signer, alg))
		want := must((&jose.JSONWebKey{Key: signer.Public()}).Thumbprint(crypto.SHA256))
		if got := key.JKT(); got != base64.RawURLEncoding.EncodeToString(want) {
			t.Errorf("%s: jkt %s", alg, got)
		}
		var public jose.JSONWebKey
		if err := public.UnmarshalJSON(key.PublicJWK()); err != nil || !public.IsPublic() {
			t.Errorf("%s: go-jose does not read the public JWK: %v", alg, err)
		}
	}
}

func TestAKeySurvivesItsJWK(t *testing.T) {
	for alg, signer := range signers(t) {
		key := must(dpopbind.NewKey(signer, alg))
		parsed := must(dpopbind.ParseKey(must(key.MarshalPrivateJWK())))
		if parsed.JKT() != key.JKT() || parsed.Algorithm() != alg {
			t.Errorf("%s: came back as %v", alg, parsed)
		}
	}
}

func TestAKeyWithoutAlgorithmTakesItsNaturalOne(t *testing.T) {
	for alg, signer := range signers(t) {
		want := alg
		if alg == dpopbind.RS256 {
			want = dpopbind.PS256
		}
		if got := must(dpopbind.NewKey(signer, "")).Algorithm(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := must(dpopbind.GenerateKey()).Algorithm(); got != dpopbind.ES256 {
		t.Errorf("a generated key has %s", got)
	}
}

func TestUnusableSignersAreRefused(t *testing.T) {
	s := signers(t)
	// The standard library's own minimum is below that of RFC 7518.
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	if _, err := dpopbind.NewKey(small, ""); err == nil || !strings.Contains(err.Error(), "2048 to 4096 bits") {
		t.Errorf("RSA with 1024 bits: %v", err)
	}
	for name, f := range map[string]func() (*dpopbind.Key, error){
		"none": func() (*dpopbind.Key, error) { return dpopbind.NewKey(nil, "") },
		"P-384": func() (*dpopbind.Key, error) {
			return dpopbind.NewKey(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "")
		},
		"RS256 with EC":     func() (*dpopbind.Key, error) { return dpopbind.NewKey(s["ES256"], "RS256") },
		"ES256 with RSA":    func() (*dpopbind.Key, error) { return dpopbind.NewKey(s["PS256"], "ES256") },
		"unknown algorithm": func() (*dpopbind.Key, error) { return dpopbind.NewKey(s["ES256"], "HS256") },
		"unknown key":       func() (*dpopbind.Key, error) { return dpopbind.NewKey(oddSigner{}, "") },
		"short Ed25519":     func() (*dpopbind.Key, error) { return dpopbind.NewKey(oddSigner{pub: ed25519.PublicKey("x")}, "") },
		"empty RSA":         func() (*dpopbind.Key, error) { return dpopbind.NewKey(oddSigner{pub: &rsa.PublicKey{}}, "") },
		"empty ECDSA":       func() (*dpopbind.Key, error) { return dpopbind.NewKey(oddSigner{pub: &ecdsa.PublicKey{}}, "") },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBadJWKsAreRefusedAndNotRepeated(t *testing.T) {
	key := must(must(dpopbind.GenerateKey()).MarshalPrivateJWK())
	other := must(must(dpopbind.GenerateKey()).MarshalPrivateJWK())
	member := func(jwk []byte, name string) string {
		var m map[string]string
		if err := json.Unmarshal(jwk, &m); err != nil {
			t.Fatal(err)
		}
		return m[name]
	}
	d := member(key, "d")
	foreign := strings.ReplaceAll(string(key), d, member(other, "d"))
	for name, jwk := range map[string]string{
		"empty":         "",
		"not JSON":      d,
		"cut":           string(key[:len(key)-1]),
		"public":        string(must(dpopbind.GenerateKey()).PublicJWK()),
		"symmetric":     `{"kty":"oct","k":"` + d + `"}`,
		"another d":     foreign,
		"a short d":     strings.ReplaceAll(string(key), d, d[:20]),
		"a bad alg":     strings.ReplaceAll(string(key), `"ES256"`, `"HS256"`),
		"a d as kty":    `{"kty":"` + d + `"}`,
		"a d as a name": `{"kty":"EC","` + d + `":1}`,
	} {
		k, err := dpopbind.ParseKey([]byte(jwk))
		if err == nil {
			t.Errorf("%s: accepted as %v", name, k)
		} else if strings.Contains(err.Error(), d[:12]) {
			t.Errorf("%s: the error holds key material: %v", name, err)
		}
	}
}

func TestNeitherLogsNorFormatsRevealAKey(t *testing.T) {
	key := must(dpopbind.GenerateKey())
	var private struct{ D string }
	if err := json.Unmarshal(must(key.MarshalPrivateJWK()), &private); err != nil {
		t.Fatal(err)
	}
	scalar := must(base64.RawURLEncoding.DecodeString(private.D))
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", key, "value", *key)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		fmt.Fprintf(&out, verb+verb, key, *key)
	}
	if err := json.NewEncoder(&out).Encode([]any{key, *key}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{private.D, fmt.Sprintf("%x", scalar), fmt.Sprint(scalar), "PrivateKey"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the output holds %q:\n%s", secret, &out)
		}
	}
	if !strings.Contains(out.String(), key.JKT()) {
		t.Error("the output does not name the key")
	}
	var zero dpopbind.Key
	fmt.Fprint(&out, zero, zero.LogValue())
}

// oddSigner signs as badly as it is told to.
type oddSigner struct {
	pub crypto.PublicKey
	sig []byte
	err error
}

func (s oddSigner) Public() crypto.PublicKey { return s.pub }

func (s oddSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.sig, s.err }

func TestAForeignSignerIsUsedButNotExported(t *testing.T) {
	priv := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	key := must(dpopbind.NewKey(struct{ crypto.Signer }{priv}, ""))
	raw := must(key.Proof(method, tokenURL, now, dpopbind.ProofOptions{}))
	if err := check(t, raw).VerifySignature(); err != nil {
		t.Error(err)
	}
	if _, err := key.MarshalPrivateJWK(); err == nil {
		t.Error("exported")
	}
}

func TestABrokenSignerMakesNoProof(t *testing.T) {
	pub := &must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey
	for name, s := range map[string]oddSigner{
		"failing":         {err: errors.New("out of order")},
		"empty":           {},
		"fixed size":      {sig: make([]byte, 64)},
		"zero r":          {sig: []byte("\x30\x06\x02\x01\x00\x02\x01\x01")},
		"negative s":      {sig: []byte("\x30\x06\x02\x01\x01\x02\x01\xff")},
		"trailing bytes":  {sig: []byte("\x30\x06\x02\x01\x01\x02\x01\x01\x00")},
		"indefinite form": {sig: []byte("\x30\x80\x02\x01\x01\x02\x01\x01\x00\x00")},
		"padded r":        {sig: []byte("\x30\x07\x02\x02\x00\x01\x02\x01\x01")},
		"r of 264 bits":   {sig: []byte("\x30\x26\x02\x21\x01" + strings.Repeat("\x00", 32) + "\x02\x01\x01")},
		"three integers":  {sig: []byte("\x30\x09\x02\x01\x01\x02\x01\x01\x02\x01\x01")},
	} {
		s.pub = pub
		key := must(dpopbind.NewKey(s, ""))
		if raw, err := key.Proof(method, tokenURL, now, dpopbind.ProofOptions{}); err == nil {
			t.Errorf("%s: made %s", name, raw)
		}
	}
}

func TestNoProofIsMadeForABadRequest(t *testing.T) {
	key := must(dpopbind.GenerateKey())
	for _, row := range []struct{ method, uri, nonce string }{
		{"", tokenURL, ""},
		{`"`, tokenURL, ""},
		{method, "", ""},
		{method, "/token", ""},
		{method, "https://user@as.example/token", ""},
		{method, `https://as.example/"`, ""},
		{method, tokenURL, `"`},
		{method, tokenURL, "a b"},
		{method, tokenURL, "\\"},
	} {
		if raw, err := key.Proof(row.method, row.uri, now, dpopbind.ProofOptions{Nonce: row.nonce}); err == nil {
			t.Errorf("%v: made %s", row, raw)
		}
	}
}

func TestNoTwoProofsHaveOneJTI(t *testing.T) {
	key := must(dpopbind.GenerateKey())
	seen := map[string]bool{}
	for range 200 {
		jti := check(t, must(key.Proof(method, tokenURL, now, dpopbind.ProofOptions{}))).JTI()
		if seen[jti] {
			t.Fatal("a jti came twice")
		}
		seen[jti] = true
	}
}
