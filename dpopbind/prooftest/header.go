package prooftest

import (
	"strconv"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

// json is what makes the two JSON documents ambiguous or none at all.
func (t *table) json() {
	deep := strings.Repeat("[", 12) + strings.Repeat("]", 12)
	for _, doc := range []struct{ name, description, json string }{
		{"not JSON", "is not valid JSON", `{"typ":`},
		{"two documents", "is not valid JSON", `{} {}`},
		{"a byte order mark", "is not valid JSON", "\ufeff{}"},
		{"a trailing comma", "is not valid JSON", `{"a":1,}`},
		{"a comment", "is not valid JSON", `{"a":1/**/}`},
		{"single quotes", "is not valid JSON", `{'a':1}`},
		{"a control character in a string", "is not valid JSON", "{\"a\":\"\x01\"}"},
		{"an array", "is not a JSON object", `[]`},
		{"a string", "is not a JSON object", `"dpop+jwt"`},
		{"null", "is not a JSON object", `null`},
		{"invalid UTF-8", "is not valid UTF-8", "{\"a\":\"\xff\"}"},
		{"an overlong UTF-8 sequence", "is not valid UTF-8", "{\"a\":\"\xc0\xaf\"}"},
		{"an unpaired surrogate in a value", "has a string with an unpaired surrogate", `{"a":"\ud800"}`},
		{"an unpaired surrogate in a name", "has a string with an unpaired surrogate", `{"\udc00":1}`},
		{"a doubled member of a nested object", "has the member 'b' twice", `{"a":[{"b":1,"b":1}]}`},
		{"too deep a nesting", "is nested deeper than 8", `{"a":` + deep + `}`},
		{"too many members", "has an object of more than 64 members", manyMembers(65)},
	} {
		t.bad("header: "+doc.name, dpopbind.CheckJSON, "header "+doc.description, t.draft().HeaderJSON(doc.json))
		t.bad("payload: "+doc.name, dpopbind.CheckJSON, "payload "+doc.description, t.draft().ClaimsJSON(doc.json))
	}
	t.bad("header: typ twice", dpopbind.CheckJSON, "the member 'typ' twice", t.draft().AlsoHeader("typ", `"dpop+jwt"`))
	t.bad("header: alg twice", dpopbind.CheckJSON, "the member 'alg' twice", t.draft().AlsoHeader("alg", `"none"`))
	t.bad("header: jwk twice", dpopbind.CheckJSON, "the member 'jwk' twice", t.draft().AlsoHeader("jwk", `{}`))
	t.bad("header: alg twice, once escaped", dpopbind.CheckJSON, "the member 'alg' twice",
		t.draft().AlsoHeader(`\u0061lg`, `"none"`))
	t.bad("header: alg in another case", dpopbind.CheckJSON, "the member 'Alg' twice", t.draft().AlsoHeader("Alg", `"none"`))
	t.bad("header: jwk with a Kelvin sign", dpopbind.CheckJSON, "the member 'jw?' twice", t.draft().AlsoHeader(`jw\u212a`, `{}`))
	t.bad("jwk: x twice", dpopbind.CheckJSON, "the member 'x' twice", t.draft().AlsoJWK("x", `"AA"`))
	t.bad("jwk: kty in another case", dpopbind.CheckJSON, "the member 'KTY' twice", t.draft().AlsoJWK("KTY", `"oct"`))
	for _, name := range []string{"jti", "htm", "htu", "iat"} {
		t.bad("payload: "+name+" twice", dpopbind.CheckJSON, "the member '"+name+"' twice",
			t.draft().AlsoClaim(name, `"other"`))
	}
	t.bad("payload: htu in another case", dpopbind.CheckJSON, "the member 'HTU' twice", t.draft().AlsoClaim("HTU", `"x"`))
	t.good("escapes in names and values",
		t.draft().Without("typ").Header(`t\u0079p`, `"dpop\u002bjwt"`).Without("jti").Claim(`\u006ati`, `"\ud83d\ude00\/\n"`))
	t.good("white space in the JSON", t.draft().AlsoHeader("pad", " \t\r\n [ 1 , 2 ] ").AlsoClaim("pad", " {\n} "))
}

func manyMembers(n int) string {
	var f fields
	for i := range n {
		f.set("m"+strconv.Itoa(i), "0")
	}
	return f.json()
}

func (t *table) header() {
	bad := func(name string, check dpopbind.Check, description, member, value string) {
		d := t.draft()
		if value == "" {
			d.Without(member)
		} else {
			d.Header(member, value)
		}
		t.bad("header: "+name, check, description, d)
	}
	const typ, alg, crit, jwk = dpopbind.CheckTyp, dpopbind.CheckAlg, dpopbind.CheckCrit, dpopbind.CheckJWK
	bad("typ missing", typ, "typ: must be dpop+jwt", "typ", "")
	bad("typ JWT", typ, "typ: must be dpop+jwt", "typ", `"JWT"`)
	bad("typ of an access token", typ, "typ: must be dpop+jwt", "typ", `"at+jwt"`)
	bad("typ in capitals", typ, "typ: must be dpop+jwt", "typ", `"DPOP+JWT"`)
	bad("typ with application/", typ, "typ: must be dpop+jwt", "typ", `"application/dpop+jwt"`)
	bad("typ with a space", typ, "typ: must be dpop+jwt", "typ", `"dpop+jwt "`)
	bad("typ a list", typ, "typ: must be dpop+jwt", "typ", `["dpop+jwt"]`)
	bad("typ null", typ, "typ: must be dpop+jwt", "typ", `null`)

	const offered = "alg: must be one of ES256, EdDSA, PS256, RS256, Ed25519"
	bad("alg missing", alg, offered, "alg", "")
	for _, name := range []string{
		"none", "None", "", "es256", "HS256", "HS512", "ES384", "ES512", "ES256K", "PS512", "RS512", "RS1", "Ed448", "RSA-OAEP",
	} {
		bad("alg "+text(name), alg, offered, "alg", text(name))
	}
	bad("alg a number", alg, offered, "alg", "256")
	bad("alg a list", alg, offered, "alg", `["ES256"]`)
	bad("EdDSA with an EC key", alg, "alg: EdDSA does not fit the key in jwk, which is of type EC", "alg", `"EdDSA"`)
	bad("RS256 with an EC key", alg, "alg: RS256 does not fit", "alg", `"RS256"`)
	t.bad("header: ES256 with an RSA key", alg, "of type RSA", t.with(keyRS256()).Header("alg", `"ES256"`))
	t.bad("header: PS256 with an OKP key", alg, "of type OKP", t.with(keyEdDSA()).Header("alg", `"PS256"`))

	bad("crit empty", crit, "leave crit out", "crit", `[]`)
	bad("crit null", crit, "leave crit out", "crit", `null`)
	bad("crit with a known name", crit, "leave crit out", "crit", `["alg"]`)
	bad("crit with a claim", crit, "leave crit out", "crit", `["exp"]`)
	bad("crit a string", crit, "leave crit out", "crit", `"b64"`)
	bad("b64 true", crit, "leave b64 out", "b64", `true`)
	bad("b64 false without crit", crit, "leave b64 out", "b64", `false`)
	t.bad("header: b64 with crit", crit, "leave crit out", t.draft().Header("crit", `["b64"]`).Header("b64", "false"))

	const noJWK = "jwk: the header has no JWK object"
	bad("jwk missing", jwk, noJWK, "jwk", "")
	bad("jwk null", jwk, noJWK, "jwk", `null`)
	bad("jwk a string", jwk, noJWK, "jwk", `"{}"`)
	bad("jwk a list", jwk, noJWK, "jwk", `[{}]`)
	t.bad("header: a kid instead of a jwk", jwk, noJWK, t.draft().Without("jwk").Header("kid", `"k"`))
	t.bad("header: jku and x5c instead of a jwk", jwk, noJWK,
		t.draft().Without("jwk").Header("jku", `"https://evil.example/jwks"`).Header("x5c", `["MIIB"]`))

	t.good("header: unknown members", t.draft().Header("x", `{"y":[1,{"z":null}]}`).Header("kid", `"k"`).
		Header("jku", `"https://evil.example/jwks"`).Header("x5c", `["MIIB"]`).Header("cty", `"x"`))
}
