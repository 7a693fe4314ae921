package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
)

func TestGatewaySeesAllOfAnActiveToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key, "scope", "CXS").string("access_token")
	claims := verified(t, i, token)
	a := i.introspect(gateway, token)
	want := map[string]any{
		"active": true, "scope": "CXS", "client_id": client.ID, "sub": client.ID, "aud": labels, "iss": issuer,
		"jti": claims["jti"], "iat": claims["iat"], "nbf": claims["iat"], "exp": claims["exp"],
		"token_type": "DPoP", "cnf": map[string]any{"jkt": key.JKT()},
	}
	if diff := cmp.Diff(want, a.json); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", a.header)
	}
}

func TestInactiveHasOneAnswer(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	ratesGateway := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})
	token := i.token(client, key).string("access_token")
	foreign := elsewhere.instance().token(elsewhere.client(authz.Client{}), key).string("access_token")

	parts := strings.Split(token, ".")
	for _, c := range []struct {
		name   string
		caller registered
		token  string
	}{
		{"nonsense", gateway, "nonsense"},
		{"a NUL", gateway, "\x00"},
		{"60 KiB", gateway, strings.Repeat("a", 60<<10)},
		{"a token of another server", gateway, foreign},
		{"unsigned", gateway, parts[0] + "." + parts[1] + "."},
		{"padded", gateway, token + "="},
		{"with a line break", gateway, token + "\n"},
		{"with a space", gateway, " " + token},
		{"the last character changed", gateway, token[:len(token)-1] + "_"},
		{"the claims alone", gateway, parts[1]},
		{"of a resource that the caller does not front", ratesGateway, token},
		{"by the client that it was issued to", client, token},
	} {
		t.Run(c.name, func(t *testing.T) {
			if i.active(c.caller, c.token) {
				t.Error("active")
			}
		})
	}
	if !i.active(gateway, token) {
		t.Error("the token itself is inactive")
	}
}

func TestExpiredTokenIsInactiveToTheSecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	exp := time.Unix(int64(verified(t, i, token)["exp"].(float64)), 0)
	i.advance(exp.Add(-2 * time.Second).Sub(i.now()))
	if !i.active(gateway, token) {
		t.Error("inactive two seconds before exp")
	}
	i.advance(exp.Sub(i.now()))
	if i.active(gateway, token) {
		t.Error("active at exp")
	}
}

func TestIntrospectionNeedsAnAuthenticatedCallerAndAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway := w.instance(), w.gateway()
	byPost := w.client(authz.Client{ID: "post-gateway", AuthMethod: authz.ClientSecretPost, Introspects: []string{labels}})
	for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
		for _, c := range []struct {
			name   string
			caller registered
			form   url.Values
			status int
			code   string
		}{
			{"no credentials", registered{}, url.Values{"token": {"x"}}, 401, "invalid_client"},
			{"wrong secret", registered{gateway.Client, "azs_x"}, url.Values{"token": {"x"}}, 401, "invalid_client"},
			{"a method that is not its own", byPost, url.Values{"token": {"x"}}, 401, "invalid_client"},
			{"no token", gateway, url.Values{"token_type_hint": {"access_token"}}, 400, "invalid_request"},
			{"an empty token", gateway, url.Values{"token": {""}}, 400, "invalid_request"},
			{"two tokens", gateway, url.Values{"token": {"x", "y"}}, 400, "invalid_request"},
			{"by its own method", registered{}, url.Values{"token": {"x"}, "client_id": {byPost.ID}, "client_secret": {byPost.secret}}, 200, ""},
			{"an unknown hint", gateway, url.Values{"token": {"x"}, "token_type_hint": {"nonsense"}}, 200, ""},
		} {
			t.Run(path+" "+c.name, func(t *testing.T) {
				a := i.do(i.post(path, c.caller, c.form))
				if a.status != c.status || a.string("error") != c.code {
					t.Errorf("%d %s", a.status, a.body)
				}
				if c.status == 401 && a.header.Get("WWW-Authenticate") == "" {
					t.Error("no challenge")
				}
				if c.status >= 400 {
					checkErrorForm(t, a)
				}
			})
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/oauth/introspect?token=x", nil)
	r.SetBasicAuth(gateway.ID, gateway.secret)
	if a := i.do(r); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d %s", a.status, a.body)
	}
}
