package clientassertion_test

import (
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

func TestOnlyUsablePublicSetsAreRegistered(t *testing.T) {
	es, rsa := signers()["ES256"], signers()["PS256"]
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	for _, row := range []struct{ name, doc, want string }{ // want "": it is registered
		{"one key", set(es.JWK("")), ""},
		{"without kid and use", set(es.JWK("none")), ""},
		{"one kid for two types of key", set(es.JWK("kid k"), rsa.JWK("kid k")), ""},
		{"beside one for encryption", set(es.JWK(""), rsa.JWK(`"use":"enc"`)), ""},

		{"no JSON", "", "is not valid JSON"},
		{"a bare key", es.JWK(""), "has no list of keys"},
		{"a list", "[]", "is not a JSON object"},
		{"keys no list", `{"keys":{}}`, "has no list of keys"},
		{"no keys", set(), "has no keys"},
		{"keys twice", `{"keys":[],"keys":[]}`, "has the member 'keys' twice"},
		{"33 keys", set(strings.Split(strings.Repeat("{} ", 33)[:98], " ")...), "has more than 32 keys"},
		{"65537 bytes", set(es.JWK("")) + strings.Repeat(" ", 65537), "is longer than 65536 bytes"},
		{"a private key", set(es.JWK(`"d":"AA"`)), "key 1: it is a private or a symmetric key"},
		{"a private key beside a good one", set(es.JWK(""), rsa.JWK(`"d":"AA"`)), "key 2: it is a private or a symmetric key"},
		{"a private key for encryption", set(es.JWK(""), rsa.JWK(`"use":"enc","dp":"AA"`)), "key 2: it is a private or a symmetric key"},
		{"a symmetric key", set(`{"kty":"oct","k":"AA"}`), "it is a private or a symmetric key"},
		{"RSA of 1024 bits", set(assertiontest.NewSigner("PS256", 1024).JWK("")), "an RSA key must have 2048 to 4096 bits"},
		{"for RS256", set(rsa.JWK(`"alg":"RS256"`)), "the algorithm RS256 is not among"},
		{"for encryption", set(es.JWK(`"use":"enc"`)), "its use is not one of a key that verifies signatures"},
		{"for signing", set(es.JWK(`"key_ops":["sign"]`)), "its key_ops are not those"},
		{"on P-384", set(`{"kty":"EC","crv":"P-384"}`), "must be P-256"},
		{"one kid twice", set(es.JWK("kid k"), assertiontest.NewSigner("ES256").JWK("kid k")), "has two keys of the kid 'k'"},
	} {
		keys, err := clientassertion.RegistrableKeys([]byte(row.doc))
		switch {
		case row.want == "" && (err != nil || len(keys) == 0):
			t.Errorf("%s: %v", row.name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// FuzzKeys reads what a client's host may answer.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(assertiontest.Set(signers()["ES256"], signers()["EdDSA"], signers()["PS256"])))
	f.Add([]byte(`{"keys":[` + signers()["ES256"].JWK(`"use":"sig","key_ops":["verify"],"x5c":["AA=="]`) + `,{"kty":"oct","k":"AA"},null]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, err := clientassertion.Keys(doc)
		if err != nil {
			return
		}
		for _, k := range keys {
			if len(k.Thumbprint) != 43 || len(k.KID) > 256 || k.Alg != "" && !k.Fits(k.Alg) {
				t.Fatalf("%q: a key of odd members: %+v", doc, k)
			}
		}
		if registered, err := clientassertion.RegistrableKeys(doc); err == nil && (len(registered) == 0 || len(registered) > len(keys)) {
			t.Fatalf("%q: %d of %d keys are registered", doc, len(registered), len(keys))
		}
	})
}
