package authz_test

import (
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

func TestOfAKeySetOnlyWhatIsUsedIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	s := assertiontest.NewSigner("ES256")
	numbers := `"z":[` + strings.Repeat("1e131071,", 400) + `1],"x5c":["AA=="]`
	set := `{"issuer":"x","keys":[` + s.JWK(numbers) + `,{"kty":"RSA"}],"n":1e131071}`
	for _, method := range []authz.AuthMethod{authz.PrivateKeyJWT, authz.SelfSignedTLSClientAuth} {
		whole := set
		if method == authz.SelfSignedTLSClientAuth {
			whole = strings.Replace(set, `,{"kty":"RSA"}`, "", 1)
		}
		c := w.client(authz.Client{ID: "by-" + strings.ReplaceAll(string(method), "_", "-"), AuthMethod: method, JWKS: []byte(whole)})
		if method == authz.PrivateKeyJWT {
			if a := i.assertedToken(asserting{c.Client, s}, key); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		for _, part := range []string{"1e1", "issuer", "RSA", "0000"} {
			if w.count(`select count(*) from authz.clients where id = '`+c.ID+`' and jwks like '%`+part+`%'`) != 0 {
				t.Errorf("%s: %q is stored", method, part)
			}
		}
		if n := w.count(`select max(octet_length(jwks)) from authz.clients`); n > 300 {
			t.Errorf("%s: %d bytes are stored", method, n)
		}
	}
}

func TestKeysForCertificatesAreRegisteredOnlyIfTheyCanBeRead(t *testing.T) {
	t.Parallel()
	c := authz.Client{ID: "x", AuthMethod: authz.SelfSignedTLSClientAuth, Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}}
	s := assertiontest.NewSigner("ES256")
	for set, want := range map[string]string{
		`{"keys":[` + s.JWK("") + `]}`:                            "",
		`{"KEYS":[` + s.JWK("") + `]}`:                            "has no list of keys",
		`{"keys":[` + s.JWK(`"use":"enc"`) + `]}`:                 "its use is not one",
		`{"keys":[` + s.JWK("") + `],"old":{"kty":"EC","d":"A"}}`: "private or a symmetric key",
	} {
		c.JWKS = []byte(set)
		if err := c.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
}
