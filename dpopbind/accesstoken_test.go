package dpopbind_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// present sends a token with a good proof for it.
func (a *api) present(t testing.TB, token string) answer {
	t.Helper()
	return a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token))
}

func seconds(offset int64) string { return fmt.Sprint(now.Unix() + offset) }

func TestEachAccessTokenIsJudgedAsItSays(t *testing.T) {
	a := newAPI(t, nil)
	good := func() *jwt { return a.as.token(a.key.JKT()) }
	claim := func(name, value string) string { return good().claim(name, value).String() }
	head := func(name, value string) string { return good().head(name, value).String() }
	part := func(f func(h, p, s string) string) string {
		p := strings.Split(good().String(), ".")
		return f(p[0], p[1], p[2])
	}
	jkt := a.key.JKT()
	other := newIssuerKey("k1")
	aud := `"` + apiResource + `"`
	rows := []struct{ name, token, refused string }{
		{"good", good().String(), ""},
		{"typ with application/", head("typ", `"application/at+jwt"`), ""},
		{"typ in capitals", head("typ", `"AT+JWT"`), ""},
		{"aud a list of one", claim("aud", "["+aud+"]"), ""},
		{"aud a list of two", claim("aud", `["https://other.example",`+aud+"]"), ""},
		{"scope with others", claim("scope", `"a label:read b"`), ""},
		{"nbf now", claim("nbf", seconds(0)), ""},
		{"nbf within the skew", claim("nbf", seconds(15)), ""},
		{"iat within the skew", claim("iat", seconds(15)), ""},
		{"exp within the skew", claim("exp", seconds(-14)), ""},
		{"exp with a fraction", claim("exp", seconds(1)+".5"), ""},
		{"unknown members", good().claim("x", `{"y":[1]}`).head("jku", `"https://evil.example"`).String(), ""},
		{"no kid, one key", head("kid", ""), ""},

		{"typ JWT", head("typ", `"JWT"`), "typ must be at+jwt"},
		{"typ missing", head("typ", ""), "typ must be at+jwt"},
		{"typ of a proof", head("typ", `"dpop+jwt"`), "typ must be at+jwt"},
		{"typ a list", head("typ", `["at+jwt"]`), "typ must be at+jwt"},
		{"typ with a space", head("typ", `"at+jwt "`), "typ must be at+jwt"},
		{"typ with text/", head("typ", `"text/at+jwt"`), "typ must be at+jwt"},
		{"crit empty", head("crit", "[]"), "critical header"},
		{"crit with a known name", head("crit", `["exp"]`), "critical header"},
		{"b64 false", head("b64", "false"), "critical header"},
		{"alg none", unsigned(good(), "none"), "algorithm that is not accepted"},
		{"alg None", unsigned(good(), "None"), "algorithm that is not accepted"},
		{"alg HS256 with the public key as secret", hmacSigned(good(), a.as.key.jwk()), "algorithm that is not accepted"},
		{"alg missing", head("alg", ""), "algorithm that is not accepted"},
		{"alg a number", head("alg", "1"), "algorithm that is not accepted"},
		{"alg ES384", head("alg", `"ES384"`), "algorithm that is not accepted"},
		{"alg of another key type", head("alg", `"RS256"`), "does not publish"},
		{"kid unknown", head("kid", `"k2"`), "does not publish"},
		{"kid empty", head("kid", `""`), "kid must be a string"},
		{"kid a number", head("kid", "1"), "kid must be a string"},
		{"kid too long", head("kid", `"`+strings.Repeat("k", 257)+`"`), "kid must be a string"},
		{"signed by another key of this kid", signedBy(good(), other), "signature does not verify"},
		{"signed by a key in its own header", signedBy(good().head("jwk", other.jwk()), other), "signature does not verify"},
		{"signed by the client's key", part(func(h, p, _ string) string { return h + "." + p + "." + strings.Repeat("A", 86) }), "signature does not verify"},
		{"no signature", part(func(h, p, _ string) string { return h + "." + p + "." }), "signature does not verify"},
		{"a short signature", part(func(h, p, s string) string { return h + "." + p + "." + s[:84] }), "signature does not verify"},
		{"the claims of another token", part(func(h, _, s string) string {
			return h + "." + strings.Split(claim("sub", `"admin"`), ".")[1] + "." + s
		}), "signature does not verify"},

		{"two segments", part(func(h, p, _ string) string { return h + "." + p }), "compact serialization"},
		{"four segments", part(func(h, p, s string) string { return h + "." + p + "." + s + ".x" }), "compact serialization"},
		{"five segments, as a JWE", part(func(h, p, s string) string { return h + "." + p + "." + s + ".x.y" }), "compact serialization"},
		{"an opaque token", "AbCdEfGhIjKl", "compact serialization"},
		{"padding", part(func(h, p, s string) string { return h + "." + p + "." + s + "==" }), "canonical base64url"},
		{"standard base64", part(func(h, p, s string) string { return h + "." + p + ".+" + s[1:] }), "canonical base64url"},
		{"stray bits in the signature", part(func(h, p, s string) string { return h + "." + p + "." + s[:85] + "B" }), "canonical base64url"},
		{"stray bits in the header", part(func(_, p, s string) string { return "e31." + p + "." + s }), "canonical base64url"},
		{"too long", claim("pad", `"`+strings.Repeat("a", 8000)+`"`), "too long"},
		{"not JSON", part(func(h, _, s string) string { return h + ".AAAA." + s }), "malformed or ambiguous"},
		{"an array", part(func(h, _, s string) string { return h + ".W10." + s }), "malformed or ambiguous"},
		{"empty segments", "..", "malformed or ambiguous"},
		{"alg twice", twice(good(), "alg", `"none"`), "malformed or ambiguous"},
		{"a claim twice", also(good(), "aud", `"x"`), "malformed or ambiguous"},
		{"a claim in another case", also(good(), "AUD", `"x"`), "malformed or ambiguous"},
		{"a claim twice, once escaped", also(good(), `\u0065xp`, "1"), "malformed or ambiguous"},
		{"cnf.jkt twice", claim("cnf", `{"jkt":"x","jkt":"`+jkt+`"}`), "malformed or ambiguous"},
		{"an unpaired surrogate", claim("x", `"\ud800"`), "malformed or ambiguous"},

		{"iss of another", claim("iss", `"https://evil.example"`), "another issuer"},
		{"iss with a slash", claim("iss", `"`+a.as.URL+`/"`), "another issuer"},
		{"iss missing", claim("iss", ""), "another issuer"},
		{"iss a list", claim("iss", `["`+a.as.URL+`"]`), "another issuer"},
		{"aud of another", claim("aud", `"https://other.example"`), "another resource"},
		{"aud with a slash", claim("aud", `"`+apiResource+`/"`), "another resource"},
		{"aud in another case", claim("aud", `"`+strings.ToUpper(apiResource)+`"`), "another resource"},
		{"aud missing", claim("aud", ""), "another resource"},
		{"aud empty", claim("aud", "[]"), "another resource"},
		{"aud null", claim("aud", "null"), "another resource"},
		{"aud an object", claim("aud", `{"a":`+aud+"}"), "another resource"},
		{"aud a list with a number", claim("aud", "["+aud+",1]"), "another resource"},
		{"aud a list in a list", claim("aud", "[["+aud+"]]"), "another resource"},
		{"aud of too many", claim("aud", "["+strings.Repeat(aud+",", 64)+aud+"]"), "another resource"},
		{"aud a prefix", claim("aud", `"`+apiResource+`.evil"`), "another resource"},

		{"exp missing", claim("exp", ""), "exp must be a time"},
		{"exp a string", claim("exp", `"`+seconds(60)+`"`), "exp must be a time"},
		{"exp null", claim("exp", "null"), "exp must be a time"},
		{"exp negative", claim("exp", "-1"), "exp must be a time"},
		{"exp beyond all times", claim("exp", "1e300"), "exp must be a time"},
		{"exp past, at the skew", claim("exp", seconds(-15)), "has expired"},
		{"exp long past", claim("exp", "0"), "has expired"},
		{"iat missing", claim("iat", ""), "iat must be a time"},
		{"iat a string", claim("iat", `"1"`), "iat must be a time"},
		{"iat in the future", claim("iat", seconds(16)), "issued in the future"},
		{"nbf a string", claim("nbf", `"1"`), "nbf must be a time"},
		{"nbf in the future", claim("nbf", seconds(16)), "not valid yet"},
		{"jti missing", claim("jti", ""), "jti must be"},
		{"jti empty", claim("jti", `""`), "jti must be"},
		{"jti a number", claim("jti", "7"), "jti must be"},
		{"client_id missing", claim("client_id", ""), "client_id must be"},
		{"client_id a list", claim("client_id", `["svc"]`), "client_id must be"},
		{"sub missing", claim("sub", ""), "sub must be"},
		{"sub too long", claim("sub", `"`+strings.Repeat("s", 2049)+`"`), "sub must be"},
		{"scope a list", claim("scope", `["label:read"]`), "scope must be a string"},
		{"scope null", claim("scope", "null"), "scope must be a string"},
		{"scope with two spaces", claim("scope", `"label:read  x"`), "scope is malformed"},
		{"scope with a space at its end", claim("scope", `"label:read "`), "scope is malformed"},
		{"scope with a tab", claim("scope", `"label:read\tx"`), "scope is malformed"},
		{"scope with a quote", claim("scope", `"label:read \""`), "scope is malformed"},

		{"cnf missing", claim("cnf", ""), "not bound to a key"},
	}
	for _, cnf := range []string{
		"null", "true", "1", `"` + jkt + `"`, "[]", `["` + jkt + `"]`, "{}", `{"jkt":""}`, `{"jkt":null}`, `{"jkt":1}`,
		`{"jkt":["` + jkt + `"]}`, `{"jkt":{"jkt":"` + jkt + `"}}`, `{"jkt":"` + jkt[:42] + `"}`, `{"jkt":"` + jkt + `A"}`,
		`{"jkt":"` + jkt + `="}`, `{"jkt":"` + jkt + `\n"}`, `{"JKT":"` + jkt + `"}`, `{"x5t#S256":"` + jkt + `"}`,
		`{"jkt":"` + jkt + `","x5t#S256":"` + jkt + `"}`, `{"jkt":"` + jkt + `","jwk":{}}`, `{"kid":"k"}`,
	} {
		rows = append(rows, struct{ name, token, refused string }{"cnf " + cnf, claim("cnf", cnf), "cnf is not a DPoP binding"})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := a.present(t, row.token)
			if row.refused == "" {
				got.expect(t, http.StatusOK, "")
				return
			}
			got.expect(t, http.StatusUnauthorized, "invalid_token")
			if !strings.Contains(got.description, row.refused) {
				t.Errorf("the description is %q, want %q", got.description, row.refused)
			}
		})
	}
}

func unsigned(d *jwt, alg string) string { return d.head("alg", `"`+alg+`"`).input() + "." }

// hmacSigned is the confusion of a public key with a shared secret.
func hmacSigned(d *jwt, secret string) string {
	input := d.head("alg", `"HS256"`).input()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func signedBy(d *jwt, key issuerKey) string { d.key = key; return d.String() }

func twice(d *jwt, name, value string) string {
	d.header = append(d.header, [2]string{name, value})
	return d.String()
}

func also(d *jwt, name, value string) string {
	d.claims = append(d.claims, [2]string{name, value})
	return d.String()
}

func TestEachAlgorithmIsTakenWithItsOwnKeyOnly(t *testing.T) {
	a := newAPI(t, nil)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big := must(rsa.GenerateKey(rand.Reader, 2048))
	keys := []issuerKey{a.as.key, {"k2", "EdDSA", edwards}, {"k3", "PS256", big}, {"k4", "RS256", must(rsa.GenerateKey(rand.Reader, 2048))}}
	var jwks []string
	for _, key := range keys {
		jwks = append(jwks, key.jwk())
	}
	a.as.publish(jwks...)
	token := func(sign, name issuerKey) string {
		return signedBy(a.as.token(a.key.JKT()).head("alg", `"`+sign.alg+`"`).head("kid", `"`+name.kid+`"`), sign)
	}
	for _, key := range keys {
		a.present(t, token(key, key)).expect(t, http.StatusOK, "")
		for _, other := range keys {
			if other.kid != key.kid {
				a.present(t, token(key, other)).expect(t, http.StatusUnauthorized, "invalid_token")
			}
		}
	}
	// EdDSA and Ed25519 are one algorithm (RFC 9864 §2.2).
	byName := issuerKey{"k2", "Ed25519", edwards}
	a.present(t, token(byName, byName)).expect(t, http.StatusOK, "")
	// The same RSA key by the algorithm that it is not published for.
	confused := issuerKey{"k3", "RS256", big}
	a.present(t, token(confused, confused)).expect(t, http.StatusUnauthorized, "invalid_token")
}

func TestKeysThatAreNotFitToVerifyAreLeftOut(t *testing.T) {
	a := newAPI(t, nil)
	weak := issuerKey{"k1", "RS256", must(rsa.GenerateKey(rand.Reader, 1024))}
	p384 := issuerKey{"k1", "ES256", must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))}
	edit := func(old, new string) string { return strings.Replace(a.as.key.jwk(), old, new, 1) }
	for name, row := range map[string]struct {
		key  issuerKey
		jwks []string
	}{
		"weak RSA":                   {weak, []string{weak.jwk()}},
		"P-384":                      {p384, []string{p384.jwk()}},
		"for encryption":             {a.as.key, []string{edit(`"use":"sig"`, `"use":"enc"`)}},
		"use a list":                 {a.as.key, []string{edit(`"use":"sig"`, `"use":["sig"]`)}},
		"key_ops without verify":     {a.as.key, []string{edit(`"use":"sig"`, `"key_ops":["sign"]`)}},
		"private":                    {a.as.key, []string{edit(`"use":"sig"`, `"d":"AA"`)}},
		"by another algorithm":       {a.as.key, []string{edit(`"alg":"ES256"`, `"alg":"ES512"`)}},
		"of another type's alg":      {a.as.key, []string{edit(`"alg":"ES256"`, `"alg":"RS256"`)}},
		"with a kid that is none":    {a.as.key, []string{edit(`"kid":"k1"`, `"kid":1`)}},
		"two of one name":            {a.as.key, []string{a.as.key.jwk(), newIssuerKey("k1").jwk()}},
		"three of one name":          {a.as.key, []string{a.as.key.jwk(), newIssuerKey("k1").jwk(), a.as.key.jwk()}},
		"symmetric":                  {a.as.key, []string{`{"kty":"oct","k":"AAAA","kid":"k1"}`}},
		"none at all":                {a.as.key, nil},
		"not objects":                {a.as.key, []string{`null`, `1`, `[]`, `"x"`}},
		"without a kid, under a kid": {a.as.key, []string{edit(`"kid":"k1",`, "")}},
	} {
		a.clock.advance(2 * dpopbind.KeysFreshMax)
		a.as.publish(row.jwks...)
		d := a.as.token(a.key.JKT()).head("alg", `"`+row.key.alg+`"`)
		d.claim("exp", fmt.Sprint(a.clock.now().Add(time.Hour).Unix()))
		got := a.present(t, signedBy(d, row.key))
		if got.status != http.StatusUnauthorized || got.code != "invalid_token" || !strings.Contains(got.description, "does not publish") {
			t.Errorf("%s: got %d %s (%s)", name, got.status, got.code, got.description)
		}
	}
	for name, jwk := range map[string]string{
		"no alg and no use":    edit(`,"alg":"ES256","use":"sig"`, ""),
		"key_ops with verify":  edit(`"use":"sig"`, `"key_ops":["verify"]`),
		"among useless others": `{"kty":"oct","k":"AAAA","kid":"k1"},null,` + a.as.key.jwk() + `,{"kty":"AKP","kid":"k1"}`,
	} {
		a.clock.advance(2 * dpopbind.KeysFreshMax)
		a.as.publish(jwk)
		d := a.as.token(a.key.JKT()).claim("exp", fmt.Sprint(a.clock.now().Add(time.Hour).Unix()))
		if got := a.present(t, d.String()); got.status != http.StatusOK {
			t.Errorf("%s: got %d %s (%s)", name, got.status, got.code, got.description)
		}
	}
}

// FuzzAccessToken fuzzes both documents of a token that is well signed, and its
// bytes: what gets through is from the issuer, for this resource, for this key.
func FuzzAccessToken(f *testing.F) {
	a := newAPI(f, nil)
	decode := base64.RawURLEncoding.DecodeString
	for _, d := range []*jwt{
		a.as.token(a.key.JKT()), a.as.token(""), a.as.token(a.key.JKT()).claim("aud", `["x","`+apiResource+`"]`),
		a.as.token(a.key.JKT()).head("crit", "[]"), a.as.token("x"), a.as.token(a.key.JKT()).claim("exp", "0"),
	} {
		part := strings.Split(d.input(), ".")
		f.Add(must(decode(part[0])), must(decode(part[1])), "")
	}
	f.Add([]byte("{}"), []byte("{}"), "a.b.c")
	f.Add([]byte("{}"), []byte("{}"), a.token())
	f.Fuzz(func(t *testing.T, header, claims []byte, token string) {
		if token == "" {
			input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
			token = input + "." + base64.RawURLEncoding.EncodeToString(a.as.key.sign(input))
		}
		w := a.serve(http.Header{"Authorization": {"DPoP " + token}, "Dpop": {a.proof(token)}})
		switch w.Code {
		case http.StatusOK:
			if !strings.Contains(w.Body.String(), a.key.JKT()) {
				t.Errorf("%q got through with %s", claims, w.Body)
			}
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
