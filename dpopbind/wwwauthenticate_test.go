package dpopbind

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnErrorIsFoundInTheChallengeOfItsScheme(t *testing.T) {
	for value, want := range map[string]bool{
		`DPoP error="use_dpop_nonce"`:                                            true,
		`dpop ERROR = use_dpop_nonce`:                                            true,
		`DPoP error="use\_dpop_nonce"`:                                           true,
		`Bearer realm="x", DPoP algs="ES256", error="use_dpop_nonce"`:            true,
		`Negotiate YII/a==, DPoP , error="use_dpop_nonce"`:                       true,
		`DPoP realm="a, error=b", error_description="x", error="use_dpop_nonce"`: true,
		`Bearer error="use_dpop_nonce", DPoP algs="ES256"`:                       false,
		`DPoP error="invalid_token"`:                                             false,
		`DPoP error_description="error=\"use_dpop_nonce\""`:                      false,
		`DPoP realm="Bearer error=use_dpop_nonce"`:                               false,
		`DPoP error="use_dpop_nonce`:                                             false,
		`error="use_dpop_nonce"`:                                                 false,
		`DPoP`:                                                                   false,
		``:                                                                       false,
		`,,,=="\`:                                                                false,
	} {
		if got := hasChallenge(http.Header{"Www-Authenticate": {"Basic", value}}, "use_dpop_nonce", "DPoP"); got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Basic realm="a, b", DPoP error="use_dpop_nonce", algs="ES256"`)
	f.Add(`Negotiate a/b==, x`)
	f.Add("\\\"=,")
	f.Fuzz(func(t *testing.T, value string) {
		for _, p := range challengeParams(value) {
			if !isToken(p.name) || len(p.value) > len(value) || p.scheme != "" && !strings.Contains(value, p.scheme) {
				t.Errorf("%q has %+v", value, p)
			}
		}
	})
}
