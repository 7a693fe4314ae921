package authz_test

import (
	"net/http"
	"testing"

	"github.com/cargokey/authz/authz"
)

func TestScopeAndResourceAreResolvedAgainstTheGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	one := w.client(authz.Client{ID: "one", Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:create", "label:read"}}}})
	two := w.client(authz.Client{ID: "two", Grants: []authz.Grant{
		{Resource: labels, Scopes: []string{"label:create", "label:read", "shared"}},
		{Resource: rates, Scopes: []string{"rate:read", "shared"}},
	}})
	none := w.gateway()

	for _, c := range []struct {
		name            string
		client          registered
		scope, resource string
		wantScope       string // empty: an error
		wantResource    string
		wantError       string
	}{
		{"one grant, nothing asked", one, "", "", "label:create label:read", labels, ""},
		{"one grant, a part", one, "label:read", "", "label:read", labels, ""},
		{"order is the client's", one, "label:read label:create", "", "label:read label:create", labels, ""},
		{"doubles are dropped", one, "label:read label:read", "", "label:read", labels, ""},
		{"spaces are separators only", one, "  label:read  ", "", "label:read", labels, ""},
		{"resource named", one, "", labels, "label:create label:read", labels, ""},
		{"scope of the resource, not granted", one, "CXS", "", "", "", "invalid_scope"},
		{"scope unknown", one, "nothing", "", "", "", "invalid_scope"},
		{"scope in another case", one, "Label:read", "", "", "", "invalid_scope"},
		{"one good, one bad", one, "label:read nothing", "", "", "", "invalid_scope"},
		{"comma is no separator", one, "label:read,label:create", "", "", "", "invalid_scope"},
		{"resource unknown", one, "", "https://elsewhere.test", "", "", "invalid_target"},
		{"resource not granted", one, "", rates, "", "", "invalid_target"},
		{"resource with a slash more", one, "", labels + "/", "", "", "invalid_target"},
		{"resource relative", one, "", "labels", "", "", "invalid_target"},
		{"resource with fragment", one, "", labels + "#x", "", "", "invalid_target"},
		{"two grants, nothing asked", two, "", "", "", "", "invalid_target"},
		{"two grants, scopes of one", two, "rate:read", "", "rate:read", rates, ""},
		{"two grants, scopes of the other", two, "label:create shared", "", "label:create shared", labels, ""},
		{"two grants, scope of both", two, "shared", "", "", "", "invalid_target"},
		{"two grants, scope of both, resource named", two, "shared", rates, "shared", rates, ""},
		{"two grants, one scope of each", two, "rate:read label:read", "", "", "", "invalid_target"},
		{"two grants, scope unknown", two, "nothing", "", "", "", "invalid_scope"},
		{"two grants, resource alone", two, "", rates, "rate:read shared", rates, ""},
		{"two grants, scope of the other resource", two, "label:read", rates, "", "", "invalid_scope"},
		{"no grant", none, "", "", "", "", "unauthorized_client"},
		{"no grant, asked all the same", none, "label:read", labels, "", "", "unauthorized_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			form := clientCredentials
			if c.scope != "" {
				form = with(form, "scope", c.scope)
			}
			if c.resource != "" {
				form = with(form, "resource", c.resource)
			}
			a := i.do(i.tokenRequest(c.client, key, form))
			if c.wantError != "" {
				if a.status != http.StatusBadRequest || a.string("error") != c.wantError {
					t.Errorf("%d %s, want %s", a.status, a.body, c.wantError)
				}
				return
			}
			if a.status != http.StatusOK || a.string("scope") != c.wantScope {
				t.Fatalf("%d %s, want scope %q", a.status, a.body, c.wantScope)
			}
			if aud := verified(t, i, a.string("access_token"))["aud"]; aud != c.wantResource {
				t.Errorf("aud is %v, want %s", aud, c.wantResource)
			}
		})
	}
}

func TestBearerNeedsTheLeaveOfResourceAndClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	w.resource(&authz.Resource{URI: "https://strict.test", Scopes: []string{"s"}})
	grants := []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}, {Resource: "https://strict.test", Scopes: []string{"s"}}}
	lax := w.client(authz.Client{ID: "lax", AllowBearer: true, Grants: grants})
	strict := w.client(authz.Client{ID: "strict", Grants: grants})
	gateway := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})

	for _, c := range []struct {
		name     string
		client   registered
		resource string
		proof    bool
		want     string // token_type, or empty
	}{
		{"both admit it", lax, rates, false, "Bearer"},
		{"both admit it, proof sent", lax, rates, true, "DPoP"},
		{"the resource does not", lax, "https://strict.test", false, ""},
		{"the client does not", strict, rates, false, ""},
		{"neither does", strict, "https://strict.test", false, ""},
		{"neither does, proof sent", strict, "https://strict.test", true, "DPoP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := newKey(t)
			if !c.proof {
				key = nil
			}
			a := i.do(i.tokenRequest(c.client, key, with(clientCredentials, "resource", c.resource)))
			if c.want == "" {
				if a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
					t.Errorf("%d %s", a.status, a.body)
				}
				return
			}
			if a.status != http.StatusOK || a.string("token_type") != c.want {
				t.Fatalf("%d %s", a.status, a.body)
			}
			claims := verified(t, i, a.string("access_token"))
			if _, bound := claims["cnf"]; bound != c.proof {
				t.Errorf("cnf is %v", claims["cnf"])
			}
			if c.resource == rates {
				if got := i.introspect(gateway, a.string("access_token")).string("token_type"); got != c.want {
					t.Errorf("introspected token_type is %q", got)
				}
			}
		})
	}
}
