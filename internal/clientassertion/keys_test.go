package clientassertion_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/strictjose"
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
		{"a private key beside the keys", `{"keys":[` + es.JWK("") + `],"old":{"kty":"EC","d":"AA"}}`, "the member 'old' beside its keys: it is a private or a symmetric key"},
		{"a symmetric key beside the keys", `{"keys":[` + es.JWK("") + `],"old":{"kty":"oct"}}`, "the member 'old' beside its keys"},
		{"a private member beside the keys", `{"d":"AA","keys":[` + es.JWK("") + `]}`, "the member 'd' beside its keys"},
		{"other members beside the keys", `{"keys":[` + es.JWK("") + `],"issuer":"x","more":{"d ":1},"n":1e9}`, ""},
		{"five without a kid", set(without(5)...), ""},
		{"six without a kid", set(without(6)...), "has a key without a kid after 5 others of the type EC"},
		{"one without a kid after five with one", set(append(withKIDs(5), es.JWK("none"))...), "has a key without a kid after 5 others of the type EC"},
		{"one without a kid before five with one", set(append([]string{es.JWK("none")}, withKIDs(5)...)...), ""},
		{"one without a kid of another type", set(append(withKIDs(5), rsa.JWK("none"))...), ""},
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

// without makes keys that have no kid.
func without(n int) (keys []string) {
	for range n {
		keys = append(keys, assertiontest.NewSigner("ES256").JWK("none"))
	}
	return keys
}

func withKIDs(n int) (keys []string) {
	for i := range n {
		keys = append(keys, assertiontest.NewSigner("ES256").JWK(fmt.Sprintf("kid k%d", i)))
	}
	return keys
}

func TestSetsForCertificatesAreRegisteredOnlyWhole(t *testing.T) {
	es, rsa := signers()["ES256"], signers()["PS256"]
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	for _, row := range []struct{ name, doc, want string }{ // want "": it is registered
		{"two keys", set(es.JWK(""), rsa.JWK(`"x5c":["AA=="]`)), ""},
		{"of an algorithm that signs no assertions", set(rsa.JWK(`"alg":"RS256"`)), ""},
		{"eight without a kid", set(without(8)...), ""},
		{"33 keys", set(without(33)...), "has more than 32 keys"},
		{"keys twice, in two cases", `{"keys":[` + es.JWK("") + `],"KEYS":[]}`, "twice"},
		{"KEYS", `{"KEYS":[` + es.JWK("") + `]}`, "has no list of keys"},
		{"for encryption", set(es.JWK(""), rsa.JWK(`"use":"enc"`)), "key 2: its use is not one"},
		{"a private key", set(es.JWK(`"d":"AA"`)), "it is a private or a symmetric key"},
		{"a symmetric key beside", set(es.JWK(""), `{"kty":"oct","k":"AA"}`), "it is a private or a symmetric key"},
		{"a private key beside the keys", `{"keys":[` + es.JWK("") + `],"old":{"kty":"EC","d":"AA"}}`, "beside its keys"},
		{"on P-384", set(es.JWK(""), `{"kty":"EC","crv":"P-384"}`), "key 2: jwk: the curve of an EC key must be P-256"},
		{"an x5c of no certificate", set(es.JWK(`"x5c":["?"]`)), "has no certificate in the x5c of key 1"},
		{"an empty x5c", set(es.JWK(`"x5c":[]`)), "has no certificate in the x5c of key 1"},
		{"no keys", set(), "has no keys"},
		{"65537 bytes", set(es.JWK("")) + strings.Repeat(" ", 65537), "is longer than 65536 bytes"},
	} {
		keys, err := clientassertion.RegistrableCertificateKeys([]byte(row.doc))
		switch {
		case row.want == "" && (err != nil || len(keys) == 0):
			t.Errorf("%s: %v", row.name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// What is stored of a set is read as the same keys.
func readsAsWritten(t *testing.T, keys []strictjose.SetKey) {
	t.Helper()
	stored, err := strictjose.MarshalKeySet(keys)
	if err != nil {
		t.Fatal(err)
	}
	again, err := clientassertion.Keys(stored)
	if err != nil {
		t.Fatalf("%s: %v", stored, err)
	}
	if !reflect.DeepEqual(keys, again) {
		t.Fatalf("%s: %+v became %+v", stored, keys, again)
	}
}

// FuzzKeys reads what a client's host may answer.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(assertiontest.Set(signers()["ES256"], signers()["EdDSA"], signers()["PS256"])))
	f.Add([]byte(`{"keys":[` + signers()["ES256"].JWK(`"use":"sig","key_ops":["verify"],"x5c":["AA=="]`) + `,{"kty":"oct","k":"AA"},null]}`))
	f.Add([]byte(`{"keys":[` + signers()["PS256"].JWK(`"alg":"PS256","kid":"<\u2028\"","x5c":["AA==","?"]`) + `,` + signers()["EdDSA"].JWK("none") + `]}`))
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
		for _, registrable := range []func([]byte) ([]strictjose.SetKey, error){clientassertion.RegistrableKeys, clientassertion.RegistrableCertificateKeys} {
			registered, err := registrable(doc)
			if err != nil {
				continue
			}
			if len(registered) == 0 || len(registered) > len(keys) {
				t.Fatalf("%q: %d of %d keys are registered", doc, len(registered), len(keys))
			}
			readsAsWritten(t, registered)
		}
	})
}
