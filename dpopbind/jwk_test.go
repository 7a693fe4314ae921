package dpopbind

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/strictjose"
)

func parseJWK(jwk string) (*publicKey, error) {
	o, err := strictjose.ParseObject([]byte(jwk))
	if err != nil {
		return nil, err
	}
	return parsePublicJWK(o)
}

func TestDescriptionsAreBoundedAndPrintable(t *testing.T) {
	e := refuse(CheckHTU, "%s and %s", strictjose.Quote("\"\\\x00\nä\u2028"+strings.Repeat("x", 999)), strings.Repeat("y", 999))
	if len(e.Description) != maxDescription || !strings.HasPrefix(e.Description, "'??????xx") || strings.ContainsAny(e.Description, "\"\\\n\x00") {
		t.Error(e.Description)
	}
}

func FuzzJWK(f *testing.F) {
	f.Add([]byte(`{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte(`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`))
	f.Add([]byte(`{"kty":"RSA","n":"0vx7","e":"AQAB","d":null}`))
	f.Add(strictjose.CanonicalRSA(b64.EncodeToString(bytes.Repeat([]byte{0xff}, 256)), "AQAB"))
	f.Add([]byte(`{"kty":"oct","k":"AA"}`))
	f.Fuzz(func(t *testing.T, jwk []byte) {
		key, err := parseJWK(string(jwk))
		if err != nil {
			return
		}
		// What is accepted has one canonical form, which is the key.
		again, err := parseJWK(string(key.Canonical))
		if err != nil || again.Thumbprint != key.Thumbprint || !bytes.Equal(again.Canonical, key.Canonical) {
			t.Fatalf("%s\ndoes not come back from\n%s: %v", jwk, key.Canonical, err)
		}
		encoded, _, err := encodePublicKey(key.Key)
		if err != nil || !bytes.Equal(encoded, key.Canonical) {
			t.Fatalf("%s\nis encoded as\n%s: %v", key.Canonical, encoded, err)
		}
		_ = fmt.Sprint(key.Key)
	})
}
