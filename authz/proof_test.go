package authz_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

// Every proof of the library's table, at the token endpoint.
func TestProofTableAtTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(), w.client(authz.Client{})
	cases := prooftest.Cases(i.now(), http.MethodPost, tokenEndpoint)
	if len(cases) < 120 {
		t.Fatalf("only %d cases", len(cases))
	}
	accepted := 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			r := i.post("/oauth/token", client, clientCredentials)
			r.Header["Dpop"] = c.Headers
			a := i.do(r)
			if c.Check == "" {
				accepted++
				if a.status != http.StatusOK || a.string("token_type") != "DPoP" {
					t.Errorf("%d %s", a.status, a.body)
				}
				return
			}
			if a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
				t.Errorf("%d %s; want %s", a.status, a.body, c.Check)
			}
			if !strings.Contains(a.string("error_description"), c.Description) {
				t.Errorf("%q does not say %q", a.string("error_description"), c.Description)
			}
			checkErrorForm(t, a)
		})
	}
	if n := w.count("select count(*) from authz.spent_proofs"); n != accepted || accepted == 0 {
		t.Errorf("%d proofs are spent, %d were accepted", n, accepted)
	}
}
