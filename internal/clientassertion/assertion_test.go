package clientassertion_test

import (
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/strictjose"
)

const issuer = "https://auth.carrier.test"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newChecker(t testing.TB, audiences ...string) *clientassertion.Checker {
	t.Helper()
	c, err := clientassertion.New(clientassertion.Config{
		Audiences: append([]string{issuer}, audiences...), ClockSkew: 15 * time.Second, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signers are made once: an RSA key takes its time.
var signers = sync.OnceValue(func() map[string]*assertiontest.Signer {
	all := map[string]*assertiontest.Signer{}
	for _, alg := range []string{"ES256", "EdDSA", "Ed25519", "PS256", "RS256"} {
		all[alg] = assertiontest.NewSigner(alg)
	}
	return all
})

func draft(alg string) *assertiontest.Draft {
	return assertiontest.New(signers()[alg], "label-service", issuer, now)
}

func setOf(t testing.TB, jwks ...string) []strictjose.SetKey {
	t.Helper()
	keys, err := clientassertion.Keys([]byte(`{"keys":[` + strings.Join(jwks, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestGoodAssertionsHold(t *testing.T) {
	second := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for name, d := range map[string]*assertiontest.Draft{
		"ES256":                   draft("ES256"),
		"EdDSA":                   draft("EdDSA"),
		"Ed25519":                 draft("Ed25519"),
		"PS256":                   draft("PS256"),
		"no kid":                  draft("ES256").Header("kid", ""),
		"no typ":                  draft("ES256").Header("typ", ""),
		"typ JWT":                 draft("ES256").Header("typ", `"JWT"`),
		"no iat":                  draft("ES256").Claim("iat", ""),
		"iat and nbf long ago":    draft("ES256").Claim("iat", "1").Claim("nbf", "1"),
		"iat and nbf 10 s ahead":  draft("ES256").Claim("iat", second(10*time.Second)).Claim("nbf", second(10*time.Second)),
		"exp 5 min and skew":      draft("ES256").Claim("exp", second(5*time.Minute+15*time.Second)),
		"exp just within skew":    draft("ES256").Claim("exp", second(-14*time.Second)),
		"exp with a fraction":     draft("ES256").Claim("exp", second(time.Minute)+".5"),
		"a jti of 256 bytes":      draft("ES256").Claim("jti", `"`+strings.Repeat("j", 256)+`"`),
		"unknown members":         draft("ES256").Header("x", "[1]").Claim("y", `{"z":null}`),
		"keys in the header":      draft("ES256").Header("jwk", `{"kty":"oct"}`).Header("jku", `"http://evil.test"`).Header("x5c", `[]`),
		"the claim is an escape":  draft("ES256").Claim("iss", `"label\u002dservice"`),
		"the other s of ES256":    draft("ES256").Rewrite(assertiontest.OtherS),
		"EdDSA by an Ed25519 key": draft("EdDSA").Header("alg", `"Ed25519"`),
	} {
		a, err := newChecker(t).Check(d.String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		signer := d.Signer()
		key, err := a.VerifyBy(setOf(t, signer.JWK("")))
		if err != nil || key.Thumbprint != signer.Thumbprint() || a.ClientID() != "label-service" {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
}

// hostile are assertions that anyone may send, and the check that each fails.
func hostile() []struct {
	name  string
	check clientassertion.Check
	text  string
} {
	type row = struct {
		name  string
		check clientassertion.Check
		text  string
	}
	second := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	good := func() *assertiontest.Draft { return draft("ES256") }
	rewrite := func(f func(string) string) string { return good().Rewrite(f).String() }
	const (
		format, json, typ, crit, alg, kid = clientassertion.CheckFormat, clientassertion.CheckJSON, clientassertion.CheckTyp, clientassertion.CheckCrit, clientassertion.CheckAlg, clientassertion.CheckKID
		iss, sub, aud, exp, iat, nbf, jti = clientassertion.CheckIss, clientassertion.CheckSub, clientassertion.CheckAud, clientassertion.CheckExp, clientassertion.CheckIAT, clientassertion.CheckNBF, clientassertion.CheckJTI
	)
	rows := []row{
		{"empty", format, ""},
		{"two segments", format, "e30.e30"},
		{"four segments", format, rewrite(func(s string) string { return s + ".e30" })},
		{"JSON serialization", format, `{"payload":"e30"}`},
		{"8193 bytes", format, good().Claim("x", `"`+strings.Repeat("x", 8193)+`"`).String()},
		{"a line break at the end", format, rewrite(func(s string) string { return s + "\n" })},
		{"a line break within", format, rewrite(func(s string) string { return s[:10] + "\r\n" + s[10:] })},
		{"a space in front", format, rewrite(func(s string) string { return " " + s })},
		{"padding", format, rewrite(func(s string) string { return s + "==" })},
		{"stray bits in the signature", format, rewrite(assertiontest.StrayBits)},
		{"standard base64", format, rewrite(func(s string) string { return strings.Replace(s, ".", "+/.", 1) })},

		{"header no object", json, good().HeaderJSON(`[]`).String()},
		{"header with alg twice", json, good().HeaderJSON(`{"alg":"ES256","alg":"ES256"}`).String()},
		{"header with alg in two cases", json, good().HeaderJSON(`{"alg":"ES256","ALG":"none"}`).String()},
		{"claims with iss twice", json, good().ClaimsJSON(`{"iss":"label-service","iss":"other"}`).String()},
		{"claims with a name escaped twice", json, good().ClaimsJSON(`{"aud":"a","\u0061ud":"b"}`).String()},
		{"claims no UTF-8", json, good().ClaimsJSON("{\"iss\":\"\xff\"}").String()},
		{"claims deep", json, good().Claim("x", strings.Repeat("[", 9)+strings.Repeat("]", 9)).String()},
		{"something after the claims", json, good().ClaimsJSON(`{} {}`).String()},

		{"typ dpop+jwt", typ, good().Header("typ", `"dpop+jwt"`).String()},
		{"typ at+jwt", typ, good().Header("typ", `"at+jwt"`).String()},
		{"typ empty", typ, good().Header("typ", `""`).String()},
		{"typ a number", typ, good().Header("typ", `1`).String()},
		{"crit", crit, good().Header("crit", `["exp"]`).String()},
		{"crit empty", crit, good().Header("crit", `[]`).String()},
		{"crit null", crit, good().Header("crit", `null`).String()},
		{"b64 false", crit, good().Header("b64", `false`).String()},
		{"b64 true", crit, good().Header("b64", `true`).String()},

		{"alg none", alg, good().Header("alg", `"none"`).String()},
		{"alg nOnE", alg, good().Header("alg", `"nOnE"`).String()},
		{"alg HS256", alg, good().Header("alg", `"HS256"`).String()},
		{"alg RS256", alg, draft("RS256").String()},
		{"alg ES384", alg, good().Header("alg", `"ES384"`).String()},
		{"alg es256", alg, good().Header("alg", `"es256"`).String()},
		{"alg missing", alg, good().Header("alg", "").String()},
		{"alg a list", alg, good().Header("alg", `["ES256"]`).String()},
		{"kid a number", kid, good().Header("kid", `1`).String()},
		{"kid empty", kid, good().Header("kid", `""`).String()},
		{"kid of 257 bytes", kid, good().Header("kid", `"`+strings.Repeat("k", 257)+`"`).String()},

		{"iss missing", iss, good().Claim("iss", "").String()},
		{"iss a list", iss, good().Claim("iss", `["label-service"]`).String()},
		{"iss empty", iss, good().Claim("iss", `""`).Claim("sub", `""`).String()},
		{"iss of 257 bytes", iss, good().Claim("iss", `"`+strings.Repeat("i", 257)+`"`).String()},
		{"sub missing", sub, good().Claim("sub", "").String()},
		{"sub another", sub, good().Claim("sub", `"other"`).String()},
		{"sub in another case", sub, good().Claim("sub", `"Label-Service"`).String()},
		{"aud missing", aud, good().Claim("aud", "").String()},
		{"aud a list of it", aud, good().Claim("aud", `["`+issuer+`"]`).String()},
		{"aud the token endpoint", aud, good().Claim("aud", `"`+issuer+`/oauth/token"`).String()},
		{"aud with a slash", aud, good().Claim("aud", `"`+issuer+`/"`).String()},
		{"aud in upper case", aud, good().Claim("aud", `"HTTPS://AUTH.carrier.test"`).String()},
		{"aud another server", aud, good().Claim("aud", `"https://other.test"`).String()},
		{"aud empty", aud, good().Claim("aud", `""`).String()},

		{"exp missing", exp, good().Claim("exp", "").String()},
		{"exp a string", exp, good().Claim("exp", `"`+second(time.Minute)+`"`).String()},
		{"exp null", exp, good().Claim("exp", `null`).String()},
		{"exp negative", exp, good().Claim("exp", `-1`).String()},
		{"exp huge", exp, good().Claim("exp", `1e300`).String()},
		{"exp past, skew included", exp, good().Claim("exp", second(-15*time.Second)).String()},
		{"exp more than 5 min ahead", exp, good().Claim("exp", second(5*time.Minute+16*time.Second)).String()},
		{"iat a string", iat, good().Claim("iat", `"1"`).String()},
		{"iat ahead", iat, good().Claim("iat", second(16*time.Second)).String()},
		{"nbf a string", nbf, good().Claim("nbf", `"1"`).String()},
		{"nbf ahead", nbf, good().Claim("nbf", second(16*time.Second)).String()},

		{"jti missing", jti, good().Claim("jti", "").String()},
		{"jti empty", jti, good().Claim("jti", `""`).String()},
		{"jti a number", jti, good().Claim("jti", `1`).String()},
		{"jti of 257 bytes", jti, good().Claim("jti", `"`+strings.Repeat("j", 257)+`"`).String()},
	}
	return rows
}

func TestEachFlawOfAnAssertionIsRefusedByItsCheck(t *testing.T) {
	c, rows := newChecker(t), hostile()
	for _, row := range rows {
		a, err := c.Check(row.text)
		var refused *clientassertion.Error
		if !errors.As(err, &refused) || refused.Check != row.check || a != nil {
			t.Errorf("%s: got %v, want the check %s", row.name, err, row.check)
		}
	}
	if len(rows) < 50 {
		t.Errorf("only %d rows", len(rows))
	}
}

func TestSignaturesHoldByTheClientsKeysOnly(t *testing.T) {
	c := newChecker(t)
	one, rsaKey := signers()["ES256"], signers()["PS256"]
	other, weak := assertiontest.NewSigner("ES256"), assertiontest.NewSigner("PS256", 1024)
	const key, signature = clientassertion.CheckKey, clientassertion.CheckSignature
	flip := func(s string) string {
		b, _ := base64.RawURLEncoding.DecodeString(s[strings.LastIndexByte(s, '.')+1:])
		b[len(b)-1] ^= 1
		return s[:strings.LastIndexByte(s, '.')+1] + base64.RawURLEncoding.EncodeToString(b)
	}
	noSalt := func(input string) []byte {
		return rsaKey.SignWith(input, &rsa.PSSOptions{SaltLength: 0, Hash: crypto.SHA256})
	}
	for _, row := range []struct {
		name  string
		draft *assertiontest.Draft
		keys  []string
		check clientassertion.Check // "": it holds
	}{
		{"its key among others", draft("ES256"), []string{other.JWK(""), rsaKey.JWK(""), one.JWK("")}, ""},
		{"no kid in either", draft("ES256").Header("kid", ""), []string{other.JWK("none"), one.JWK("none")}, ""},
		{"no kid in the assertion", draft("ES256").Header("kid", ""), []string{other.JWK(""), one.JWK("")}, ""},
		{"the kid of two types of key", draft("ES256").Header("kid", `"k"`), []string{rsaKey.JWK("kid k"), one.JWK("kid k")}, ""},
		{"use sig", draft("ES256"), []string{one.JWK(`"use":"sig"`)}, ""},
		{"key_ops verify", draft("ES256"), []string{one.JWK(`"key_ops":["verify"]`)}, ""},
		{"an alg of its own", draft("ES256"), []string{one.JWK(`"alg":"ES256"`)}, ""},
		{"beside unusable keys", draft("ES256"), []string{`{"kty":"EC","crv":"P-521"}`, `{"kty":"XX"}`, `{"kty":"oct","k":"AA"}`, `[]`, `1`, weak.JWK(""), one.JWK("")}, ""},

		{"no keys", draft("ES256"), nil, key},
		{"an unknown kid", draft("ES256").Header("kid", `"unknown"`), []string{one.JWK("")}, key},
		{"a kid, of keys without", draft("ES256"), []string{one.JWK("none")}, key},
		{"the kid in another case", draft("ES256").Header("kid", `"K"`), []string{one.JWK("kid k")}, key},
		{"use enc", draft("ES256"), []string{one.JWK(`"use":"enc"`)}, key},
		{"use SIG", draft("ES256"), []string{one.JWK(`"use":"SIG"`)}, key},
		{"key_ops without verify", draft("ES256"), []string{one.JWK(`"key_ops":["sign"]`)}, key},
		{"another alg in the key", draft("PS256"), []string{rsaKey.JWK(`"alg":"RS256"`)}, key},
		{"alg of another type", draft("ES256").Header("alg", `"PS256"`), []string{one.JWK("")}, key},
		{"a private key in the set", draft("ES256"), []string{one.JWK(`"d":"AA"`)}, key},
		{"RSA of 1024 bits", assertiontest.New(weak, "label-service", issuer, now), []string{weak.JWK("")}, key},

		{"another key of the same kid", draft("ES256").Header("kid", `"k"`), []string{other.JWK("kid k")}, signature},
		{"a bit flipped", draft("ES256").Rewrite(flip), []string{one.JWK("")}, signature},
		{"the wrong size", draft("ES256").Signature(func(string) []byte { return make([]byte, 63) }), []string{one.JWK("")}, signature},
		{"none at all", draft("ES256").Signature(func(string) []byte { return nil }), []string{one.JWK("")}, signature},
		{"zeros", draft("ES256").Signature(func(string) []byte { return make([]byte, 64) }), []string{one.JWK("")}, signature},
		{"PSS without a salt", draft("PS256").Signature(noSalt), []string{rsaKey.JWK("")}, signature},
		{"PKCS #1 v1.5 under PS256", draft("PS256").Signature(func(in string) []byte { return rsaKey.SignWith(in, crypto.SHA256) }), []string{rsaKey.JWK("")}, signature},
		{"other claims", draft("ES256").Rewrite(assertiontest.OtherClaims), []string{one.JWK("")}, signature},
	} {
		a, err := c.Check(row.draft.String())
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		_, err = a.VerifyBy(setOf(t, row.keys...))
		var refused *clientassertion.Error
		if errors.As(err, &refused); err != nil && refused.Check != row.check || err == nil && row.check != "" {
			t.Errorf("%s: got %v, want %q", row.name, err, row.check)
		}
	}
}

func TestFewSignaturesAreVerifiedForOneAssertion(t *testing.T) {
	a, err := newChecker(t).Check(draft("ES256").Header("kid", "").String())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for range 5 {
		keys = append(keys, assertiontest.NewSigner("ES256").JWK(""))
	}
	keys = append(keys, signers()["ES256"].JWK(""))
	if _, err := a.VerifyBy(setOf(t, keys...)); err == nil {
		t.Error("a sixth key was tried")
	}
	if _, err := a.VerifyBy(setOf(t, keys[1:]...)); err != nil {
		t.Errorf("the fifth key was not tried: %v", err)
	}
}

func TestAJTIIsOneClientsAndOneMeaning(t *testing.T) {
	c := newChecker(t)
	name := func(d *assertiontest.Draft) [32]byte {
		a, err := c.Check(d.String())
		if err != nil {
			t.Fatal(err)
		}
		return a.SpendKey()
	}
	one := name(draft("ES256").Claim("jti", `"one"`))
	if name(draft("EdDSA").Claim("jti", `"\u006fne"`).Claim("exp", fmt.Sprint(now.Unix()+9))) != one {
		t.Error("another key, another exp or an escape makes another name")
	}
	for what, other := range map[string]*assertiontest.Draft{
		"another jti":    draft("ES256").Claim("jti", `"two"`),
		"another client": assertiontest.New(signers()["ES256"], "rate-service", issuer, now).Claim("jti", `"one"`),
		"a shifted edge": assertiontest.New(signers()["ES256"], "label-serviceo", issuer, now).Claim("jti", `"ne"`),
	} {
		if name(other) == one {
			t.Errorf("%s has the same name", what)
		}
	}
}

func TestOtherAudiencesHoldWhereTheyAreConfigured(t *testing.T) {
	text := draft("ES256").Claim("aud", `"`+issuer+`/oauth/token"`).String()
	if _, err := newChecker(t, issuer+"/oauth/token").Check(text); err != nil {
		t.Error(err)
	}
}

func TestAheadIsBoundedWhateverTheSkew(t *testing.T) {
	for skew, want := range map[time.Duration]time.Duration{time.Second: 10 * time.Second, 5 * time.Minute: time.Minute} {
		c, err := clientassertion.New(clientassertion.Config{Audiences: []string{issuer}, ClockSkew: skew, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		for d, ok := range map[time.Duration]bool{want: true, want + time.Second: false} {
			for _, claim := range []string{"iat", "nbf"} {
				_, err := c.Check(draft("ES256").Claim(claim, fmt.Sprint(now.Add(d).Unix())).String())
				if (err == nil) != ok {
					t.Errorf("skew %s, %s %s ahead: %v", skew, claim, d, err)
				}
			}
		}
	}
}

func TestAnAssertionPrintsNothingOfItself(t *testing.T) {
	a, err := newChecker(t).Check(draft("ES256").Claim("jti", `"telltale"`).String())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", a, *a, *a, a), a.LogValue().String()} {
		if strings.Contains(text, "telltale") || strings.Contains(text, "label-service") {
			t.Error(text)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, row := range hostile() {
		f.Add(row.text)
	}
	for alg := range signers() {
		f.Add(draft(alg).String())
	}
	c := newChecker(f)
	keys := setOf(f, signers()["ES256"].JWK(""), signers()["EdDSA"].JWK(""), signers()["PS256"].JWK(""))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := c.Check(text)
		var refused *clientassertion.Error
		if err != nil {
			if !errors.As(err, &refused) || refused.Description == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if a.ClientID() == "" || a.Expires().Before(now.Add(-15*time.Second)) || a.Expires().After(now.Add(c.Window())) {
			t.Fatalf("%q: accepted with odd claims", text)
		}
		if _, err := a.VerifyBy(keys); err != nil && !errors.As(err, &refused) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzClaims goes deeper than FuzzCheck: it fuzzes the two JSON documents.
func FuzzClaims(f *testing.F) {
	for _, row := range hostile() {
		if part := strings.Split(row.text, "."); len(part) == 3 {
			header, _ := base64.RawURLEncoding.DecodeString(part[0])
			claims, _ := base64.RawURLEncoding.DecodeString(part[1])
			f.Add(header, claims)
		}
	}
	c := newChecker(f)
	f.Fuzz(func(t *testing.T, header, claims []byte) {
		enc := base64.RawURLEncoding.EncodeToString
		text := enc(header) + "." + enc(claims) + "." + enc(make([]byte, 64))
		var refused *clientassertion.Error
		if a, err := c.Check(text); err != nil && !errors.As(err, &refused) || err == nil && a.ClientID() == "" {
			t.Fatalf("%s %s: %v", header, claims, err)
		}
	})
}

// What may have been signed before a moment is not taken for signed after it.
func TestAnAssertionWithoutAnIATMayBeAsOldAsItsExpAllows(t *testing.T) {
	for name, c := range map[string]struct {
		draft *assertiontest.Draft
		want  time.Time
	}{
		"iat":    {draft("ES256").Claim("iat", fmt.Sprint(now.Add(-3*time.Second).Unix())), now.Add(-3 * time.Second)},
		"no iat": {draft("ES256").Claim("iat", "").Claim("exp", fmt.Sprint(now.Add(time.Minute).Unix())), now.Add(time.Minute - clientassertion.MaxLifetime)},
	} {
		a, err := newChecker(t).Check(c.draft.String())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !a.SignedAt().Equal(c.want.Truncate(time.Second)) {
			t.Errorf("%s: signed at %s, want %s", name, a.SignedAt(), c.want)
		}
	}
}
